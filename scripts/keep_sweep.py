"""Keeps of a sweep what a front needs, and what the sweep needs to go on, in one compressed file: no texts, no weights.

    python scripts/keep_sweep.py runs/sweep-people results/people.jsonl.xz
    unsay front results/people.jsonl.xz
    python scripts/keep_sweep.py --back results/people.jsonl.xz runs/sweep-people    # the folder again, for `unsay sweep` to go on

Of the last checkpoint's fuller audit the numbers are kept, in the last line of the curve. Trials that were not finished are left out.
The format stands in src/unsay/research/front/curves.py. The same sweep gives the same bytes.
"""

import argparse
import json
import lzma
from pathlib import Path
from typing import Any

from unsay.measure.summary import summarise
from unsay.store.files import jsonl, parse_jsonl, read_jsonl, write_bytes, write_text
from unsay.store.folder import read_findings

WHOLE = ("sweep.toml", "recipe.toml", "chosen.json", "reference.json", "optuna.log", "probes*.jsonl")


def curve(file: Path) -> list[dict[str, Any]]:
    """The checkpoints of one run, the last with what its fuller audit found besides."""
    points = read_jsonl(file)
    audit = file.parent / "audit" / "after.jsonl"
    if points and audit.exists():
        fuller = {key: round(value, 5) for key, value in summarise(read_findings(audit)).items() if value is not None}
        points[-1]["metrics"] = fuller | points[-1]["metrics"]
    return points


def keep(sweep: Path, target: Path) -> int:
    """Write a sweep's folder as one file; how many curves it has."""
    rows: list[dict[str, Any]] = [
        {file.name: file.read_text(encoding="utf-8") for pattern in WHOLE for file in sorted(sweep.glob(pattern))}
    ]
    for file in sorted(sweep.glob("*/*/trial.json")):
        trial = json.loads(file.read_text(encoding="utf-8"))
        if trial["state"] != "running":
            curves = sorted(file.parent.glob("seed-*/curve.jsonl"))
            rows.append(trial | {"curves": {one.parent.name.removeprefix("seed-"): curve(one) for one in curves}})
    write_bytes(target, lzma.compress(jsonl(rows).encode(), preset=9 | lzma.PRESET_EXTREME))
    return sum(len(row["curves"]) for row in rows[1:])


def back(kept: Path, sweep: Path) -> int:
    """Write the folder that a file was made of; how many curves it has."""
    files, *trials = parse_jsonl(lzma.decompress(kept.read_bytes()).decode())
    curves = 0
    for name, text in files.items():
        write_text(sweep / name, text)
    for trial in trials:
        place = sweep / trial["method"] / f"{trial['number']:03d}"
        for seed, points in trial.pop("curves").items():
            write_text(place / f"seed-{seed}" / "curve.jsonl", jsonl(points))
            curves += 1
        write_text(place / "trial.json", json.dumps(trial, indent=1, ensure_ascii=False) + "\n")
    return curves


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep what a front needs of a sweep in one file, or make the folder of it again.")
    parser.add_argument("source", type=Path, help="the sweep's folder; with --back, the file")
    parser.add_argument("target", type=Path, help="the file to write; with --back, the folder")
    parser.add_argument("--back", action="store_true", help="from the file to the folder")
    args = parser.parse_args()
    if args.back and args.target.exists():
        parser.error(f"{args.target} is there already")
    print(f"{(back if args.back else keep)(args.source, args.target)} curves in {args.target}")


if __name__ == "__main__":
    main()
