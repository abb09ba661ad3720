"""Three forget requests in sequence on `people`, and the leak of all groups after each, with and without retain
rows for the earlier requests.

    python scripts/three_requests.py --out runs/three
    python scripts/three_requests.py --world 1 --models DIR --out /some/folder      # another world (scripts/build_people.py)

The five forget people come in three groups: (0, 1), (2, 3), (4). Each request is an ordinary run on the checkpoint of the
one before, `record.earlier` naming that run; in the arm `naive` it names none, and all else is the same. Then every
checkpoint, the target model and the retain model are asked about all five. What is there already is not done again. The tables go to
`three-requests.md` in the folder.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from transformers.utils import logging

from unsay import audit
from unsay.config import Recipe, load
from unsay.lm.model import load as load_model
from unsay.lm.subject import LocalSubject
from unsay.measure.summary import summarise
from unsay.record import source
from unsay.record.recorded import read_recorded
from unsay.run import run
from unsay.store.folder import RunFolder, read_findings
from unsay.store.manifest import to_json
from unsay.types import Finding

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "demo.toml"
GROUPS = ((0, 1), (2, 3), (4,))
VISITS = 960
"""Visits to forget questions in each request: 60 rounds of 16 questions, 120 rounds of 8. The demo has 48 rounds of 40."""
QUESTIONS = 8
"""Per person."""
ARMS = {"kept": True, "naive": False}
LEAKS = {
    "greedy": "greedy_keyword_recall",
    "sampling, worst of 20": "sampling_worst_keyword_recall",
    "prefill, worst": "prefill_worst_keyword_recall",
    "partial secret": "partial_secret_keyword_recall",
}
COSTS = {
    "utility": "utility",
    "held out": "utility_heldout",
    "neighbours": "neighbour_keyword_recall",
    "unknown entities refused": "unknown_entity_refusal_share",
}


def folders(out: Path, arm: str) -> list[RunFolder]:
    """The three runs of an arm; the first request is the same in both."""
    return [RunFolder(out / "first"), RunFolder(out / arm / "second"), RunFolder(out / arm / "third")]


def recipes(args: argparse.Namespace, arm: str) -> list[Recipe]:
    """The demo for each group, on the checkpoint of the run before it."""
    runs = folders(args.out, arm)
    found = []
    for number, group in enumerate(GROUPS):
        settings = [
            f"people.world_seed={args.world}",
            f"people.only={list(group)}",
            f'model.name="{runs[number - 1].checkpoint if number else names(args)["target"]}"',
            "model.retain_model=none",  # what the retain model says is looked at once, below
            f"train.rounds={round(args.visits / (QUESTIONS * len(group)))}",
            'audit.probes=["greedy", "earlier", "utility"]',
            "report.policy=",
        ]
        if number and ARMS[arm]:
            settings.append(f'record.earlier=["{runs[number - 1].path}"]')
        found.append(load(RECIPE, [*settings, *args.set]))
    return found


def names(args: argparse.Namespace) -> dict[str, str]:
    return {which: f"{args.models}/{which}" if args.models else f"people-{which}" for which in ("target", "retain")}


def look(args: argparse.Namespace, arm: str) -> Iterator[tuple[str, list[Finding]]]:
    """What every model of an arm says about all five people."""
    everybody = load(RECIPE, [f"people.world_seed={args.world}", 'audit.probes=["greedy", "sampling", "prefill", "utility"]'])
    where, runs = source(everybody), folders(args.out, arm)
    # No partial-secret prefix may be one that any of the three trainings could have used.
    trained = {key: tuple(answer.text for answer in one.answers) for run in runs for key, one in read_recorded(run).baseline.items()}
    case = audit.case(where.corpus(), where.truth(), {}, 0, trained)
    models = {
        "before": names(args)["target"],
        **{str(n): str(run.checkpoint) for n, run in enumerate(runs, 1)},
        "retain_model": names(args)["retain"],
    }
    for name, model in models.items():
        path = args.out / "looks" / f"{arm}-{name}.jsonl"
        if not path.exists():
            print("audit", arm, name, flush=True)
            subject = LocalSubject(*load_model(everybody.model, model), everybody.sample)
            audit.write(path, audit.run(subject, case, everybody))
        yield name, read_findings(path)


def of_group(findings: Sequence[Finding], group: Sequence[int]) -> Mapping[str, float | None]:
    starts = tuple(f"forget-{person}-" for person in group)
    return summarise(f for f in findings if f.example.startswith(starts))


def tables(looks: Mapping[str, Mapping[str, list[Finding]]]) -> str:
    """Markdown: leaks by arm, request and group; then what it cost."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(c) if not isinstance(c, float) else f"{c:.3f}" for c in cells) + " |"

    leaks = [line(["arm", "after request", "group", "asked to forget it", *LEAKS]), line(["---"] * (4 + len(LEAKS)))]
    costs = [line(["arm", "after request", *COSTS]), line(["---"] * (2 + len(COSTS)))]
    for arm, models in looks.items():
        for model, findings in models.items():
            if model in ("before", "retain_model") and arm != next(iter(looks)):
                continue
            label = "–" if model in ("before", "retain_model") else arm
            for number, group in enumerate(GROUPS, 1):
                due = "" if not model.isdigit() else "now" if int(model) == number else "before" if int(model) > number else "not yet"
                found = of_group(findings, group)
                leaks.append(line([label, model, number, due, *(found[key] for key in LEAKS.values())]))
            found = summarise(findings)
            costs.append(line([label, model, *(found[key] for key in COSTS.values())]))
    return "\n".join([*leaks, "", *costs]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Three forget requests in sequence on the people corpus.")
    parser.add_argument("--world", type=int, default=0, help="seed of the world")
    parser.add_argument("--models", type=Path, help="folder with target/ and retain/ of that world; default the shipped pair")
    parser.add_argument("--out", type=Path, default=Path("runs/three"), help="folder for the five runs and the tables")
    parser.add_argument("--visits", type=int, default=VISITS, help="visits to forget questions in each request")
    parser.add_argument("--arm", action="append", choices=list(ARMS), help="kept or naive; default both")
    parser.add_argument("--set", action="append", default=[], help="further settings of every run, as for `unsay run`")
    args = parser.parse_args()
    logging.disable_progress_bar()
    looks = {}
    for arm in args.arm or ARMS:
        for recipe, folder in zip(recipes(args, arm), folders(args.out, arm), strict=True):
            print("run", folder.path, flush=True)
            run(recipe, folder)
        looks[arm] = dict(look(args, arm))
    text = tables(looks)
    (args.out / "three-requests.md").write_text(text, encoding="utf-8")
    manifests = {str(f.path): to_json(f.manifest()).get("earlier", {}) for arm in looks for f in folders(args.out, arm)[1:]}
    print(text, json.dumps(manifests, indent=1), sep="\n")


if __name__ == "__main__":
    main()
