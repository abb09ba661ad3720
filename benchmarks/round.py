"""A whole PMC round (answers, scores, targets, steps) against the same round written the obvious way (rounds.py).

Three of ours: `paper_step` asks the model anew at every step, as the other side does; `paper_round` asks once for the whole
round; `guarded_round`, the package's default preset, does more: prefixes, target filter, second tries, fluency.

    python benchmarks/round.py [--quick] [--json] [--model NAME] [--questions 40] [--k 5]
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from pairs import Report, arguments, per_second, ratio, settings_of, tell
from rounds import BATCH, Straightforward, our_rounds, recorded
from subject import PEOPLE, corpus, subject

WAYS = (("paper", "step"), ("paper", "round"), ("guarded", "round"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", PEOPLE, turns=5)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--k", type=int, default=5, help="answers per question (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="longest answer (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.quick:
        args.turns, args.questions, args.k, args.tokens = 1, 8, 2, 8
    torch.manual_seed(0)
    tested = subject(args.model, args.dtype)
    asked = corpus(tested.name)
    forget = asked.forget[: args.questions]
    steps = -(-len(forget) // BATCH)
    report = Report("round", settings_of(args, tested.name, questions=len(forget), k=args.k, tokens=args.tokens, steps=steps))
    with tempfile.TemporaryDirectory() as folder:
        base = recorded(Path(folder) / "base", tested, forget, asked.retain[:200], args.k, args.tokens)
        for preset, resample in WAYS[::2] if args.quick else WAYS:
            name = f"{preset}_{resample}"
            work = base.copy(Path(folder) / name, preset, resample)
            theirs = Straightforward(base)
            found: list[float] = []

            def between(theirs: Straightforward = theirs, found: list[float] = found) -> None:
                found.append(per_second(theirs.round))
                tell(f"straightforward: {found[-1]:.4g} questions/s")

            tell(f"ours, {name}")
            seconds = our_rounds(work, args.turns, between)
            rates = {"ours": [len(forget) / one for one in seconds], "straightforward": found[1:]}
            report.medians[f"{name}_s"] = statistics.median(seconds)
            report.rates(rates, "questions_per_s", f"{name}_")
            report.ratios[f"{name}_ratio"] = ratio(rates, "ours", "straightforward")
            report.counts[f"{name}_ratio"] = theirs.same_loss()
    report.show(args.json)


if __name__ == "__main__":
    main()
