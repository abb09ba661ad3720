"""What a round over many questions takes on many processes, projected from what `unsay doctor` measured here. Nothing runs.

    unsay doctor demo --json > runs/doctor.json
    python scripts/projection.py runs/doctor.json --asked 40 --rounds 52 --rows 320 --length 80 --step 40 --questions 100000

The recipe's own are `--asked` (its forget questions), `--rounds`, `--rows` (`sample.rows`), `--length` (tokens of its longest answers)
and `--step` (rows of an optimizer step). A round is one visit to every question. On N processes

    sampling = decoding steps · their fixed part + tokens / N · what a token takes
               (steps: tokens / rows / N, but never fewer than the longest answer has tokens)
    training = steps · their fixed part + tokens / N · what a token takes      (N at most the rows of a step)

A process pays the fixed part of a step whatever its share of the rows; moving weights and gradients comes on top. docs/scaling.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

PROCESSES = (1, 8, 64, 1000)


def round_seconds(doctor: dict[str, Any], args: argparse.Namespace, n: int) -> tuple[float, float]:
    """Seconds that each of n processes is busy with one round: sampling, training."""
    cost, (train,) = doctor["seconds_per_unit"]["cpu"], (stage for stage in doctor["stages"] if stage["name"] == "train")
    count = {unit: many / args.rounds / args.asked * args.questions for unit, many in train["counts"].items()}

    def spent(*units: str) -> float:
        return sum(count[unit] * cost[unit] for unit in units)

    steps = max(count["decoded token"] / args.rows / n, args.length)
    sampling = steps * cost["decode step"] + spent("decoded token", "drawn token", "read batch", "read token") / n
    return sampling, spent("micro-batch", "update") + spent("trained token") / min(n, args.step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("doctor", type=Path, help="what `unsay doctor RECIPE --json` wrote")
    for name in ("asked", "rounds", "rows", "length", "step", "questions"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    doctor = json.loads(args.doctor.read_text())
    cost, model = doctor["seconds_per_unit"]["cpu"], doctor["model"]
    print(f"weights: {model['parameters'] * model['itemsize'] / 1e6:,.0f} MB")
    row = cost["decoded token"] + cost["drawn token"]
    print(f"the fixed part of a decoding step is as much as {cost['decode step'] / row:.0f} rows")
    print("\n| stage | processor seconds a question |\n|---|---|")
    for stage in doctor["stages"]:
        print(f"| {stage['name']} | {stage['cpu_seconds'] / args.asked:.3g} |")
    print("\n| processes | sampling, s | training, s | speed-up of sampling | of the round |\n|---|---|---|---|---|")
    alone = round_seconds(doctor, args, 1)
    for n in PROCESSES:
        sampling, training = round_seconds(doctor, args, n)
        print(f"| {n:,} | {sampling:,.3g} | {training:,.3g} | {alone[0] / sampling:.3g} | {sum(alone) / (sampling + training):.3g} |")


if __name__ == "__main__":
    main()
