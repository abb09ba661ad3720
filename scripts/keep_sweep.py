"""Copies out of a sweep's folder what a front needs, and what the sweep needs to go on: no texts, no weights.

    python scripts/keep_sweep.py runs/sweep-people results/people
    unsay front results/people

Of the last checkpoint's fuller audit the numbers are kept, in the last line of the curve. Trials that were not finished are left out.
"""

import argparse
import json
import shutil
from pathlib import Path

from unsay.files import jsonl, read_jsonl, write_text
from unsay.folder import read_findings
from unsay.summary import summarise

WHOLE = ("sweep.toml", "recipe.toml", "chosen.json", "reference.json", "optuna.log")


def keep(source: Path, target: Path) -> int:
    """Copy one sweep; how many curves it has."""
    target.mkdir(parents=True, exist_ok=True)
    for name in WHOLE:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    curves = 0
    for file in sorted(source.glob("*/*/trial.json")):
        if json.loads(file.read_text(encoding="utf-8"))["state"] == "running":
            continue
        write_text(target / file.relative_to(source), file.read_text(encoding="utf-8"))
        for curve in sorted(file.parent.glob("seed-*/curve.jsonl")):
            points = read_jsonl(curve)
            audit = curve.parent / "audit" / "after.jsonl"
            if points and audit.exists():
                fuller = {key: round(value, 5) for key, value in summarise(read_findings(audit)).items() if value is not None}
                points[-1]["metrics"] = fuller | points[-1]["metrics"]
            write_text(target / curve.relative_to(source), jsonl(points))
            curves += 1
    return curves


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep what a front needs of a sweep.")
    parser.add_argument("source", type=Path, help="the sweep's folder")
    parser.add_argument("target", type=Path, help="where to keep it")
    args = parser.parse_args()
    print(f"{keep(args.source, args.target)} curves in {args.target}")


if __name__ == "__main__":
    main()
