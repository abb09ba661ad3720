"""Numbers of training go to a tracker, if the recipe names one, and no text does."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.canaries import CANARIES, SMALL, options, place, say
from unsay.config import ConfigError, Recipe, TrainConfig
from unsay.train import tracking

pytest.importorskip("tensorboard", reason="tensorboard is not installed")


def test_tensorboard_gets_every_number_of_every_step_and_no_secret(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    given = place(tmp_path)
    assert say("run", given.recipe, "--out", given.run, *options(SMALL), "--set", "train.tracker=tensorboard") == 0
    events = given.run / "train" / "unsay"
    read = EventAccumulator(str(events))
    read.Reload()
    steps = (given.run / "train" / "steps.jsonl").read_text().splitlines()
    assert {"train/loss", "train/grad_norm"} <= set(read.Tags()["scalars"])
    assert len(read.Scalars("train/loss")) == len(steps)
    sent = b"".join(path.read_bytes() for path in events.rglob("*") if path.is_file())
    assert not [name for name, secret in CANARIES.items() if secret.encode() in sent]


def test_a_tracker_that_is_not_there_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch):
    recipe = Recipe(train=TrainConfig(tracker="wandb"))
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="'wandb' is not installed: pip install wandb"):
        tracking.check(recipe)
    tracking.check(replace(recipe, train=TrainConfig()))
    with pytest.raises(ConfigError, match=r"train\.tracker"):
        TrainConfig(tracker="paper")
