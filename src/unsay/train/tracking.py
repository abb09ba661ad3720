"""The numbers of each training step for a tracker, through accelerate; the log in train/steps.jsonl is written in any case."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator

from unsay.config import ConfigError, Recipe
from unsay.store.folder import RunFolder

_PROJECT = "unsay"
_SILENT = {"wandb": {"settings": {"console": "off", "x_disable_meta": True, "disable_code": True, "disable_git": True}}}
"""wandb would send the command line, which may hold a system message, what is printed, and the code."""


def check(recipe: Recipe) -> None:
    """Raises `ConfigError` where the tracker that the recipe names is not installed."""
    name = recipe.train.tracker
    if name != "none" and importlib.util.find_spec(name) is None:
        raise ConfigError(f"train.tracker = {name!r} is not installed: pip install {name}")


def accelerator_of(recipe: Recipe, folder: RunFolder) -> Accelerator:
    """Accelerate with the recipe's tracker, if it names one. TensorBoard's files lie in train/unsay."""
    name = recipe.train.tracker
    if name == "none":
        return Accelerator()
    accelerator = Accelerator(log_with=name, project_dir=folder.steps_file.parent)
    accelerator.init_trackers(_PROJECT, init_kwargs=_SILENT)
    return accelerator


def send(accelerator: Accelerator, line: Mapping[str, Any]) -> None:
    """Numbers of a line of the log (monitor.py). Ids, and the reason for a skipped step, stay here."""
    numbers = {f"train/{key}": value for key, value in line.items() if type(value) in (int, float) and key != "step"}
    accelerator.log(numbers, step=line["step"])


def end(accelerator: Accelerator) -> None:
    """Close the tracker. `Accelerator.end_training` would also part the processes, which go on together."""
    for tracker in accelerator.trackers:
        tracker.finish()
