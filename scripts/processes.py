"""One run with one, two and three processes, and one with vLLM: the same answers? how far apart are losses and weights? how fast, in how
much memory?

    python scripts/processes.py runs/processes --recipe demo --set train.rounds=4 --set 'audit.probes=["greedy", "sampling"]' \
      --vllm DIR/bin/python      # an environment of scripts/vllm_env.sh

vLLM samples other answers, and training then has other targets: of its run the greedy answers before training are compared, and nothing
else. Prints a table for docs/scaling.md. Each run stands in a folder of its own below the first argument, and one that is there is not made
again. Times are those of this machine, with the load that it has meanwhile (the last column).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

VLLM = "vllm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1, help="OMP_NUM_THREADS of each process")
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter with vLLM, for one more run")
    given = parser.parse_args()
    for processes in given.processes:
        made(given, str(processes), sys.executable, "--processes", str(processes))
    if given.vllm:
        made(given, VLLM, given.vllm, "--set", f"engine.name={VLLM}")
    print(
        "| processes | same answers | largest loss difference | largest weight difference | answer tokens/s in the audit "
        "| training steps/s | peak memory of one, GB | seconds | processor seconds | load |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in (*map(str, given.processes), *([VLLM] if given.vllm else [])):
        print(f"| {' | '.join(row(given.folder, name, str(given.processes[0])))} |")


def made(given: argparse.Namespace, name: str, python: str, *further: str) -> None:
    out = given.folder / name
    if (out / "cost.json").exists():
        return
    command = [python, "-m", "unsay", "run", given.recipe, "--out", str(out), *further]
    command += [word for setting in given.settings for word in ("--set", setting)]
    load, before, start = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(given.threads)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = {
        "seconds": time.monotonic() - start,
        "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "load": (load + os.getloadavg()[0]) / 2,
    }
    (out / "cost.json").write_text(json.dumps(cost))


def row(folder: Path, name: str, first: str) -> list[str]:
    run, one, sampled_otherwise = folder / name, folder / first, name == VLLM
    manifest, cost = read(run / "manifest.json"), read(run / "cost.json")
    ours, theirs = answers(run), answers(one)
    losses = [[line["loss"] for line in lines(place / "train" / "steps.jsonl")] for place in (run, one)]
    weights = [load_file(place / "checkpoint" / "model.safetensors") for place in (run, one)]
    apart = max(float((weight.float() - weights[1][name].float()).abs().max()) for name, weight in weights[0].items())
    audits = sum(seconds for stage, seconds in manifest["seconds"].items() if stage.startswith("audit"))
    tokens = sum(len(answer[0]) for some in ours.values() for said in some.values() for answer in said)
    peak = max(stage["process"] for stage in manifest["peak_memory"].values())
    if sampled_otherwise:
        ours = {"before": {asked: said for asked, said in ours["before"].items() if json.loads(asked)[3] == 0}}
    pairs = [pair for which, some in ours.items() for asked, said in some.items() for pair in zip(said, theirs[which][asked], strict=True)]
    return [
        name,
        f"{sum(mine == its for mine, its in pairs):,} of {len(pairs):,}{' greedy ones before' if sampled_otherwise else ''}",
        "other targets" if sampled_otherwise else f"{max(abs(a - b) for a, b in zip(*losses, strict=True)):.1g}",
        "" if sampled_otherwise else f"{apart:.1g}",
        f"{tokens / audits:,.0f}",
        f"{len(losses[0]) / manifest['seconds']['train']:.2f}",
        f"{peak / 1e9:.2f}",
        f"{cost['seconds']:.0f}",
        f"{cost['processor']:.0f}",
        f"{cost['load']:.1f}",
    ]


def answers(run: Path) -> dict[str, dict[str, list[Any]]]:
    """All answers of the model before and of the one after, by what was asked."""
    manifest, found = read(run / "manifest.json"), {}
    for which in ("before", "after"):
        rows = lines(run / "vault" / "generations" / f"{manifest['answers'][which]['file']}.jsonl")
        asked = ((json.dumps(row["asked"]), row["said"]) for row in rows if "asked" in row)
        found[which] = {question: [said["answers"][draw] for draw in said["draws"]] for question, said in asked}
    return found


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
