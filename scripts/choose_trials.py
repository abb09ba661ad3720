"""Writes some of a sweep's configurations down as a choice, for `unsay sweep --from`: to run just these, or these and something else.

    python scripts/choose_trials.py results/people.jsonl.xz runs/chosen.json pmc/006 npo/005         # just these
    python scripts/choose_trials.py results/people.jsonl.xz runs/all.json --times retain_weight=2.5  # every one, with another weight

Contenders keep the order of the trials named; in the new sweep they are numbered anew, from 000. Their rounds are fitted to the
budget anew, too: to have the same models again, repeat_trials.py.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from unsay.research.front.curves import read
from unsay.store.files import write_text


def choose(sweep: Path, trials: list[str], factors: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """Contender → its configurations, with where each comes from. Raises `SystemExit` for a trial or a knob that is not there."""
    found: dict[str, list[dict[str, Any]]] = {}
    used: set[str] = set()
    there = {one.place: one for some in read([sweep]).configurations.values() for one in some}
    for trial in trials or there:
        if trial not in there:
            raise SystemExit(f"{sweep} has no trial {trial}")
        one = there[trial]
        settings = dict(one.settings)
        for knob in settings:
            name = knob.rpartition(".")[2]
            if name in factors:
                settings[knob] *= factors[name]
                used.add(name)
        found.setdefault(one.method, []).append({"folder": str(sweep), "number": one.number, "settings": settings})
    if missing := sorted(factors.keys() - used):
        raise SystemExit(f"--times {missing[0]}: none of these trials searched it")
    return found


def factor(text: str) -> tuple[str, float]:
    """`knob=number` of the command line."""
    knob, _, number = text.partition("=")
    return knob, float(number)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write configurations of a sweep down as a choice.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, or the file kept of it")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("trials", nargs="*", help="method/number; all when none is named")
    parser.add_argument("--times", action="append", type=factor, default=[], help="multiply a searched knob, such as retain_weight=2.5")
    args = parser.parse_args()
    found = choose(args.sweep, args.trials, dict(args.times))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, json.dumps({"chosen": found}, indent=1, ensure_ascii=False) + "\n")
    print(f"{sum(map(len, found.values()))} configurations of {len(found)} contenders in {args.out}")


if __name__ == "__main__":
    main()
