"""Median and worst of every metric over several finished runs, and which policy lines failed in how many.

for s in 0 1 2 3 4; do unsay demo --seed $s --out runs/demo-$s; done
python scripts/across_seeds.py runs/demo-*
"""

import json
import sys
from collections import Counter
from pathlib import Path
from statistics import median

HIGHER_IS_BETTER = ("utility", "wellformed", "distinct", "neighbour", "unknown_entity", "unlearn")


def main(folders: list[str]) -> None:
    reports = [json.loads((Path(folder) / "report.json").read_text(encoding="utf-8")) for folder in folders]
    print(f"{'after, ' + str(len(reports)) + ' runs':28} median   worst  retain  before")
    for name in reports[0]["metrics"]:
        values = [report["metrics"][name] for report in reports]
        after = [value["after"] for value in values if value["after"] is not None]
        if not after:
            continue
        worst = min(after) if name.startswith(HIGHER_IS_BETTER) else max(after)
        beside = [
            median(v[which] for v in values) if values[0][which] is not None else float("nan") for which in ("retain_model", "before")
        ]
        print(f"{name:28} {median(after):6.3f}  {worst:6.3f}  {beside[0]:6.3f}  {beside[1]:6.3f}")
    failed = Counter(line["name"] for report in reports for line in report["policy"]["lines"] if not line["passed"])
    print("\nfailed policy lines:", ", ".join(f"{name} {count}/{len(reports)}" for name, count in failed.items()) or "none")
    for stage in reports[0]["seconds"]:
        print(f"{stage:28} {median(report['seconds'].get(stage, 0) for report in reports):6.1f} s")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
