"""Keeps the numbers of single runs, without any text: metrics and changes of their report.json, in one file.

    python scripts/keep_runs.py results/runs.json texts=runs/passages benchmark-gemma=runs/gemma

A name that is there already is replaced, the others stay. scripts/reproduction.py reads them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from unsay.store.files import write_text


def kept(run: Path) -> dict[str, Any]:
    """What was measured: by metric the value of each model, and after − before with its interval. Raises `OSError`, `ValueError`."""
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    metrics = {key: found for key, of in report["metrics"].items() if (found := {m: v for m, v in of.items() if v is not None})}
    return {"audited": report["identity"]["dates"]["audited"], "metrics": metrics, "changes": report["changes"]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the numbers of single runs.")
    parser.add_argument("file", type=Path)
    parser.add_argument("runs", nargs="+", help="NAME=RUN")
    args = parser.parse_args()
    found = json.loads(args.file.read_text(encoding="utf-8")) if args.file.exists() else {}
    for text in args.runs:
        name, _, run = text.partition("=")
        found[name] = kept(Path(run))
    write_text(args.file, json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
