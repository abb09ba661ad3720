"""Appends what a benchmark has measured to history.jsonl: one line for each release and benchmark.

python benchmarks/sampler.py --json > sampler.json
python benchmarks/history.py sampler sampler.json --machine "two cores of an AMD EPYC, quiet"
"""

import argparse
import json
from datetime import date
from pathlib import Path

from unsay import __version__

HISTORY = Path(__file__).parent / "history.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description="Append a benchmark's result to history.jsonl.")
    parser.add_argument("benchmark", help="its name")
    parser.add_argument("result", type=Path, help="what it printed with --json")
    parser.add_argument("--machine", required=True, help="the machine and its state, in words")
    args = parser.parse_args()
    result = json.loads(args.result.read_text(encoding="utf-8"))
    figures = {key: value for key, value in result.items() if key.endswith("_ratio")}
    line = {
        "release": __version__,
        "benchmark": args.benchmark,
        "date": date.today().isoformat(),
        "machine": args.machine,
        "figures": figures,
    }
    with HISTORY.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
