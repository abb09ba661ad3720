"""On the line from the untouched to the trained weights: where the checkpoint lies, and that training does not notice."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import small_run
from tests.test_cli import call
from tests.test_train import begin, finish, interrupted
from unsay.config import ConfigError, load
from unsay.lm.adapters import Untouched
from unsay.lm.model import fingerprint
from unsay.report.evidence import read
from unsay.report.first import done
from unsay.run import Watchers, run_averaging
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest
from unsay.train import train

LORA = ("lora.rank=2", "train.learning_rate=1e-2")


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    rows = tmp_path_factory.mktemp("rows")
    return [*small_run(tiny_folder, rows, forget=3, retain=4), "train.rounds=3", "pmc.preset=paper", "pmc.samples=2"]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(("more", "share"), [((), 0.25), (LORA, 0.25), (LORA, 1.25), ((), 1.25)])
def test_part_of_the_way_and_beyond(tmp_path, settings, tiny_folder, more, share):
    finish(tmp_path / "whole", settings, *more)
    finish(tmp_path / "part", settings, *more, f"train.averaging={share}")
    before, whole, part = (tensors(path) for path in (tiny_folder, tmp_path / "whole/checkpoint", tmp_path / "part/checkpoint"))
    assert any((whole[name] - before[name]).abs().max() > 1e-3 for name in whole)
    for name in whole:
        torch.testing.assert_close(part[name], before[name] + share * (whole[name] - before[name]), atol=1e-6, rtol=1e-5)


def test_the_saved_adapters_are_those_of_the_checkpoint(tmp_path, settings):
    finish(tmp_path / "whole", settings, *LORA)
    finish(tmp_path / "part", settings, *LORA, "train.averaging=0.25")
    whole, part = (load_file(tmp_path / one / "adapter/adapter_model.safetensors") for one in ("whole", "part"))
    for name in whole:
        torch.testing.assert_close(part[name], whole[name] * (0.25 if "lora_B" in name else 1.0))


def test_in_half_precision_it_is_rounded_once(tmp_path, settings, tiny_folder):
    finish(tmp_path / "part", settings, "model.dtype=bfloat16", "train.averaging=0.5")
    exact = load_file(tmp_path / "part/train/state/round-3/weights.safetensors")
    before, part = tensors(tiny_folder), tensors(tmp_path / "part/checkpoint")
    for name, trained in exact.items():
        start = before[name].to(torch.bfloat16).float()
        assert part[name].equal(torch.lerp(start, trained, 0.5).to(torch.bfloat16))


def test_training_does_not_notice_and_the_watch_sees_what_would_be_shipped(tmp_path, settings):
    recipe, folder = begin(tmp_path / "part", settings, "train.averaging=0.25")
    seen = []

    def watch(model: object, *rest: object) -> bool:
        seen.append(fingerprint(model))
        return True

    train(recipe, folder, watch=watch)
    finish(tmp_path / "whole", settings)
    part, whole = (load_file(tmp_path / one / "train/state/round-3/weights.safetensors") for one in ("part", "whole"))
    assert all(part[name].equal(whole[name]) for name in whole)
    assert len(set(seen)) == 3
    assert seen[-1] == folder.manifest().checkpoint.fingerprint


def test_an_interrupted_run_ends_the_same(tmp_path, settings):
    straight = finish(tmp_path / "straight", settings, "train.averaging=0.5")
    assert interrupted(tmp_path / "stopped", settings, "train.averaging=0.5").manifest().checkpoint.fingerprint == straight


def test_a_finished_run_is_turned_without_training(tmp_path, settings):
    run = tmp_path / "run"
    whole = finish(run, settings)
    folder = RunFolder(run)
    folder.note(Manifest(seconds={"train": 60.0}, cpu_seconds={"train": 90.0}))
    steps = folder.steps_file.read_text()
    for file in (folder.audit_file("after"), folder.audit_file("before"), folder.report_html):
        file.parent.mkdir(exist_ok=True)
        file.write_text("")

    def turn(share: str) -> str:
        call("train", str(run), "--averaging", share)
        found = folder.manifest().checkpoint.fingerprint
        assert isinstance(found, str)
        return found

    part = turn("0.5")
    assert part == finish(tmp_path / "other", settings, "train.averaging=0.5") != whole
    assert folder.steps_file.read_text() == steps
    assert folder.recipe().train.averaging == 0.5
    assert folder.manifest().seconds["train"] == 60
    assert folder.manifest().cpu_seconds["train"] == 90
    assert not folder.audit_file("after").exists()
    assert not folder.report_html.exists()
    assert folder.audit_file("before").exists()
    assert ("Weights", "50% of the way from the untouched to the trained ones") in done(read(folder))
    assert turn("1") == whole


def test_turning_a_run_reads_no_retain_row(tmp_path, settings, monkeypatch):
    finish(tmp_path / "run", settings, "train.retain_loss=kl")
    folder = RunFolder(tmp_path / "run")
    folder.note(Manifest(seconds={"train": 1.0}))

    def remember(*_: object) -> None:
        raise AssertionError("the untouched model is read")

    monkeypatch.setattr(Untouched, "remember", remember)
    run_averaging(folder, 0.5, Watchers())
    assert folder.checkpoint.exists()
    with pytest.raises(AssertionError):
        finish(tmp_path / "new", settings, "train.retain_loss=kl")


def test_it_cannot_be_turned_without_the_trained_weights(tmp_path, settings):
    finish(tmp_path / "run", settings)
    folder = RunFolder(tmp_path / "run")
    folder.note(Manifest(seconds={"train": 1.0}))
    shutil.rmtree(folder.state)
    with pytest.raises(ConfigError, match="would have to be trained again"):
        run_averaging(folder, 0.5, Watchers())
    assert folder.checkpoint.exists()
    assert folder.recipe().train.averaging == 1


def test_it_is_not_turned_under_what_was_found_on_a_server(tmp_path, settings):
    whole = finish(tmp_path / "run", settings)
    folder = RunFolder(tmp_path / "run")
    folder.audit_file("endpoint").parent.mkdir(exist_ok=True)
    folder.audit_file("endpoint").write_text("")
    with pytest.raises(ConfigError, match="audit the endpoint again"):
        run_averaging(folder, 0.5, Watchers())
    assert folder.manifest().checkpoint.fingerprint == whole
    assert folder.recipe().train.averaging == 1


@pytest.mark.parametrize("share", [0, -0.5, 1.5, "nan"])
def test_a_share_is_above_zero_and_not_far_above_one(settings, share):
    with pytest.raises(ConfigError, match=r"train\.averaging"):
        load(None, [*settings, f"train.averaging={share}"])
