"""One configuration: its curve, what it costs, where it ends, what it leaves."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the extra `sweep` is not installed")

from tests.sweep.conftest import NONE, begun, told
from unsay import audit
from unsay.config import ConfigError, Recipe
from unsay.research.front.curves import read
from unsay.research.sweep import launch, trial
from unsay.run import Watchers
from unsay.store.files import read_jsonl
from unsay.store.folder import RunFolder
from unsay.train import monitor, train


def test_a_curve_has_its_checkpoints_each_with_what_it_cost(finished: Path):
    curves = list(finished.glob("*/*/seed-*/curve.jsonl"))
    assert len(curves) == 4
    for path in curves:
        points = read_jsonl(path)
        assert [(point["checkpoint"], point["round"]) for point in points] == [(1, 1), (2, 2), (3, 3)]
        costs = [point["cpu_seconds"] for point in points]
        assert costs == sorted(costs)
        recording = RunFolder(path.parent).manifest().cpu_seconds["record"]
        assert costs[0] > recording > 0
        assert points[-1]["metrics"].keys() >= {"utility", "utility_heldout", "greedy_keyword_recall", "paraphrase_keyword_recall"}


def test_what_was_recorded_is_shared(finished: Path):
    """Two seeds, two recordings, for four runs; each run has them as its own files."""
    shelves = [path for path in (finished / "recorded").glob("*/*") if path.is_dir()]
    assert sorted(path.name for path in shelves) == ["seed-0", "seed-1"]
    for path in finished.glob("*/*/seed-*"):
        if path.is_dir() and path.parents[1].name != "recorded":
            source = next(shelf for shelf in shelves if shelf.name == path.name)
            for name in ("vault/baseline.jsonl", "audit/before.jsonl"):
                assert (path / name).read_bytes() == (source / name).read_bytes()
                assert (path / name).stat().st_ino != (source / name).stat().st_ino
            assert (path / "vault").stat().st_mode & 0o777 == 0o700
            seconds = [RunFolder(one).manifest().seconds["record"] for one in (path, source)]
            assert seconds[0] == seconds[1]


def test_nothing_heavy_is_left(finished: Path):
    runs = finished / "gd" / "000"
    assert sorted(path.name for path in runs.iterdir()) == [".lock", "seed-0", "seed-1", "trial.json"]
    assert not list(finished.rglob("*.safetensors"))
    assert not list(finished.rglob("optimizer.pt"))
    assert not list(finished.rglob("*.partial"))


def test_the_last_checkpoint_is_asked_the_final_probes_besides(finished: Path):
    rows = read_jsonl(finished / "gd" / "000" / "seed-0" / "audit" / "after.jsonl")
    assert {row["probe"] for row in rows} == {"sampling"}
    assert [one.curves["0"][-1].metrics["sampling_worst_keyword_recall"] for one in read([finished]).configurations["gd"]] == [0.0]


def test_looking_costs_nothing(file: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch):
    real, slow = audit.run, 0.3

    def looked(*arguments: Any, **more: Any) -> Any:
        end = time.process_time() + slow
        while time.process_time() < end:
            pass
        return real(*arguments, **more)

    monkeypatch.setattr(trial.audit, "run", looked)
    launch.work(begun(file, recorded, 'methods=["idle"]', "seeds=[0]"), NONE)
    run = recorded / "idle" / "000" / "seed-0"
    points = read_jsonl(run / "curve.jsonl")
    assert len(points) == 3
    assert points[-1]["cpu_seconds"] - RunFolder(run).manifest().cpu_seconds["record"] < 2 * slow


def test_no_curve_ends_because_the_recipe_has_enough(file: Path, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(monitor, "shares_told", lambda visits, sampler: (0.0, 0.0))
    shutil.copy(file, tmp_path / "sweep.toml")
    (tmp_path / "recipe.toml").write_text(file.with_name("recipe.toml").read_text() + "[watch]\nenough = 1\n")
    launch.work(begun(tmp_path / "sweep.toml", recorded, 'methods=["idle"]', "seeds=[0]"), NONE)
    assert [point["round"] for point in read_jsonl(recorded / "idle" / "000" / "seed-0" / "curve.jsonl")] == [1, 2, 3]


def test_a_curve_is_of_the_trained_weights(file: Path, recorded: Path, tmp_path: Path):
    shutil.copy(file, tmp_path / "sweep.toml")
    text = file.with_name("recipe.toml").read_text()
    assert "[train]\n" in text
    (tmp_path / "recipe.toml").write_text(text.replace("[train]\n", "[train]\naveraging = 1.1\n"))
    launch.work(begun(tmp_path / "sweep.toml", recorded, 'methods=["idle"]', "seeds=[0]"), NONE)
    assert RunFolder(recorded / "idle" / "000" / "seed-0").recipe().train.averaging == 1


@pytest.mark.parametrize(
    ("recording", "costs", "settings", "rounds", "note"),
    [
        (4.0, (8.0, 10.0), ["budget=30"], 10, ""),
        (1.0, (2.0, 4.0), ["budget=4", "checkpoints=3"], 3, "3 rounds of gd 000, one for each checkpoint, take 7 s"),
    ],
    ids=["6 s went into preparing: 20 are left for rounds of 2 s", "fewer fit than there are checkpoints"],
)
def test_rounds_fill_the_budget(
    file: Path,
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    recording: float,
    costs: tuple[float, ...],
    settings: list[str],
    rounds: int,
    note: str,
):
    looks, told = iter(costs), []

    def train(recipe: Any, folder: Any, watch: Callable[..., bool]) -> None:
        for done in (1, 2):
            watch(None, None, done, trial.Cost(0.0, next(looks)))

    monkeypatch.setattr(trial, "train", train)
    monkeypatch.setattr(trial.Recorded, "cost", lambda self, recipe: trial.Cost(0.0, recording))
    one = begun(file, recorded, *settings)
    place = recorded / "gd" / "000"
    trial.note(place, settings={})
    shelves = trial.Recorded(recorded / "recorded", one.sweep.asked, Watchers(note=told.append))
    assert trial._rounds(one.sweep, one.recipe, "gd", one.sweep.first_configuration("gd"), place, shelves) == rounds
    assert not (place / "pilot").exists()
    assert any(note in line and "budget of 4 s" in line for line in told) if note else not told


def test_below_the_floor_a_configuration_ends(file: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch):
    """Said to have been useful before, the tiny model falls below half of that at its first checkpoint."""
    monkeypatch.setattr(trial, "summary", lambda run, which: {"utility": 90.0})
    launch.work(begun(file, recorded, "floor=0.5", 'methods=["gd"]'), NONE)
    one = told(recorded)["gd/000"]
    assert one["state"] == "pruned"
    assert "below the floor of 45.0 with seed 0, checkpoint 1" in one["why"]
    assert [path.parent.name for path in recorded.glob("gd/*/seed-*/curve.jsonl")] == ["seed-0"]
    assert len(read_jsonl(recorded / "gd" / "000" / "seed-0" / "curve.jsonl")) == 1


def test_a_configuration_that_fails_is_told_and_the_sweep_goes_on(file: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch):
    def breaks(recipe: Recipe, *rest: object, **more: object) -> None:
        if recipe.method == "gd":
            raise FloatingPointError("the loss is not finite")
        train(recipe, *rest, **more)

    monkeypatch.setattr(trial, "train", breaks)
    launch.work(begun(file, recorded, "seeds=[0]"), NONE)
    failed, other = told(recorded)["gd/000"], told(recorded)["idle/000"]
    assert failed["state"] == "failed"
    assert failed["why"].startswith("FloatingPointError: ")
    assert not list((recorded / "gd").rglob("optimizer.pt"))
    assert other["state"] == "complete"
    assert launch.work(begun(file, recorded, "seeds=[0]"), NONE) == 0


def test_what_is_wrong_with_the_machine_fails_no_configuration(file: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch):
    def gone(*_: object, **__: object) -> None:
        raise ConfigError("cannot load model")

    one = begun(file, recorded)
    with monkeypatch.context() as patch:
        patch.setattr(trial, "train", gone)
        with pytest.raises(ConfigError, match="cannot load model"):
            launch.work(one, NONE)
    assert {name: one["state"] for name, one in told(recorded).items()} == {"gd/000": "running"}


def test_planted_weights_are_shared_and_copied_where_they_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = tmp_path / "model.safetensors"
    source.write_bytes(b"weights")
    trial._share(str(source), str(tmp_path / "linked.safetensors"))
    assert (tmp_path / "linked.safetensors").stat().st_ino == source.stat().st_ino

    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    trial._share(str(source), str(tmp_path / "copied.safetensors"))
    assert (tmp_path / "copied.safetensors").read_bytes() == b"weights"
    assert (tmp_path / "copied.safetensors").stat().st_ino != source.stat().st_ino
