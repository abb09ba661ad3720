"""Attacks the last checkpoints of some of a sweep's trials with further probes, and the retain model once, and tells the numbers.

    python scripts/probe_trials.py runs/sweep-people runs/probed pmc/006 npo/005 --set relearn.n=4
    python scripts/probe_trials.py ... --keep runs/sweep-people/probes.jsonl    # from where keep_sweep.py takes it

The sweep must have kept its checkpoints (`keep = true`). Every run is copied into a folder of its own, so the sweep stays as it
was; what has been probed before in the same way is not probed again. Copies hold vaults: keep their folder to yourself, or remove it.
"""

import argparse
import shutil
from pathlib import Path
from statistics import mean

from unsay.config import load
from unsay.measure.summary import summarise
from unsay.run import Watchers, run_audit
from unsay.store.files import jsonl, write_text
from unsay.store.folder import RunFolder, read_findings

PROBES = ("multiple_choice", "likelihood", "drift", "relearn")
RETAIN_MODEL = "retain_model"


def probe(run: Path, copy: Path, which: str, settings: list[str]) -> Path:
    """The findings of one run's model, after or the retain model, made now or before."""
    file = RunFolder(copy).audit_file(which)
    probed = copy / f"probed-{which}"
    told = "\n".join(settings)
    if not probed.exists() or probed.read_text(encoding="utf-8") != told:
        if not copy.exists():
            part = copy.with_name(f"{copy.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(run, part)
            part.rename(copy)
        run_audit(load(run / "recipe.toml", settings), RunFolder(copy), which, Watchers(), cache=False)
        write_text(probed, told)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description="Probe the last checkpoints of a sweep's trials further.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("out", type=Path, help="folder for the copies")
    parser.add_argument("trials", nargs="+", help="method/number")
    parser.add_argument("--probes", nargs="+", default=PROBES)
    parser.add_argument("--set", action="append", default=[], help="a knob of a probe")
    parser.add_argument("--keep", type=Path, help="write the numbers here, a line for each run")
    args = parser.parse_args()
    probes = ", ".join(f'"{name}"' for name in args.probes)
    settings = [*args.set, f"audit.probes=[{probes}]"]
    retain_model, lines = None, []
    for trial in args.trials:
        numbers: list[dict[str, float]] = []
        for run in sorted((args.sweep / trial).glob("seed-*")):
            copy = args.out / trial / run.name
            if retain_model is None:
                retain_model = read_findings(probe(run, args.out / RETAIN_MODEL, RETAIN_MODEL, settings))
                found = {key: round(value, 4) for key, value in summarise(retain_model).items() if value is not None}
                lines.append({"trial": RETAIN_MODEL, "run": "", "metrics": found})
                print(RETAIN_MODEL, found, flush=True)
            findings = read_findings(probe(run, copy, "after", settings))
            found = {key: round(value, 4) for key, value in summarise(findings, retain_model=retain_model).items() if value is not None}
            lines.append({"trial": trial, "run": run.name, "metrics": found})
            numbers.append(found)
        if not numbers:
            parser.error(f"{args.sweep / trial} has no runs")
        shared = set.intersection(*map(set, numbers))
        print(trial, len(numbers), {key: round(mean(one[key] for one in numbers), 3) for key in numbers[0] if key in shared}, flush=True)
    if args.keep:
        write_text(args.keep, jsonl(lines))


if __name__ == "__main__":
    main()
