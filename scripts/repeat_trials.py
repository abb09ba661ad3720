"""Trains some of a sweep's trials again, with the rounds that each had: the same models, where only their curves were kept.

    python scripts/keep_sweep.py --back results/people.jsonl.xz runs/kept
    python scripts/repeat_trials.py runs/kept runs/repeated pmc/006 npo/005
    python scripts/probe_trials.py runs/repeated runs/probed pmc/006 npo/005 --probes sampling --set sampling.n=100

A sweep that is run again would fit the rounds to the seconds of the machine and the hour. Models and data are needed where the sweep
had them. What is done is not done again; the run folders hold vaults: keep them to yourself, or remove them.
"""

import argparse
import json
import shutil
from pathlib import Path

from unsay.config import recipe_path
from unsay.research.sweep.spec import load_sweep
from unsay.run import Watchers, open_folder, run_record, run_train
from unsay.store.folder import RunFolder


def repeat(kept: Path, trial: str, out: Path) -> None:
    """Every seed of one trial, each as a run folder under `out`/`trial`."""
    sweep, told = load_sweep(kept / "sweep.toml"), json.loads((kept / trial / "trial.json").read_text(encoding="utf-8"))
    rounds = {"train.rounds": told["rounds"], "train.save_every": told["rounds"], "train.max_minutes": None, "watch.rows": 0}
    for seed in sweep.seeds:
        recipe = sweep.recipe_of(recipe_path(sweep.recipe), told["method"], told["settings"], {"seed": seed, **rounds})
        folder = RunFolder(out / trial / f"seed-{seed}")
        with folder.claimed():
            open_folder(recipe, folder)
            if not folder.done("record"):
                run_record(recipe, folder, Watchers())
            if not folder.done("train"):
                run_train(recipe, folder, Watchers())
        shutil.rmtree(folder.state, ignore_errors=True)
        print(f"{trial}, seed {seed}: {told['rounds']} rounds in {folder.path}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train trials of a sweep again, with the rounds that they had.")
    parser.add_argument("kept", type=Path, help="the sweep's folder, whole or as keep_sweep.py --back makes it")
    parser.add_argument("out", type=Path, help="folder for the runs")
    parser.add_argument("trials", nargs="+", help="method/number")
    args = parser.parse_args()
    for trial in args.trials:
        repeat(args.kept, trial, args.out)


if __name__ == "__main__":
    main()
