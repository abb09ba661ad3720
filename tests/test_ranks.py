"""Several processes do what one does: the same answers, the same weights up to rounding; none outlives the others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import small_run
from tests.mortal import Death, Mortal
from unsay.store.files import read_jsonl

QUESTIONS, ROUNDS = 5, 2
SETTINGS = [
    "method=pmc",
    "pmc.samples=3",
    f"train.rounds={ROUNDS}",
    "train.retain_rows=0",  # the last step of a round has one row: of three processes two have none
    "record.replay=4",
    'audit.probes=["greedy", "likelihood", "prefix_search"]',
    "prefix_search.rounds=2",
    "report.policy=",
]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    with Mortal(tmp_path_factory.mktemp("mortal")) as server:
        yield server


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    rows = tmp_path_factory.mktemp("rows")
    settings = [*small_run(tiny_folder, rows, QUESTIONS, 160), *SETTINGS]
    return ["own-questions", *(word for setting in settings for word in ("--set", setting))]


@pytest.fixture(scope="module")
def recorded(mortal: Mortal, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "run"
    done(mortal.run(["record", *settings, "--out", str(path)]))
    return path


@pytest.fixture(scope="module")
def alone(mortal: Mortal, recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by one process."""
    path = copied(recorded, tmp_path_factory.mktemp("alone"))
    done(mortal.run(["train", str(path)]))
    return path


def copied(recorded: Path, folder: Path) -> Path:
    return shutil.copytree(recorded, folder / "run")


def changed(path: Path, *settings: tuple[str, str, str]) -> None:
    """Knobs of a recorded run, in the first table that has them: (name, value before, value now)."""
    recipe = path / "recipe.toml"
    for name, before, now in settings:
        text = recipe.read_text()
        assert f"\n{name} = {before}\n" in text, name
        recipe.write_text(text.replace(f"\n{name} = {before}\n", f"\n{name} = {now}\n", 1))


def done(ended: Death) -> Death:
    assert ended.status == 0, ended.said
    return ended


def alike(
    mortal: Mortal,
    recorded: Path,
    out: Path,
    processes: str,
    environment: dict[str, str],
    *knobs: tuple[str, str, str],
    within: float = 1e-5,
) -> None:
    """One process and several train the same weights, up to rounding."""
    found = []
    for number in ("1", processes):
        path = copied(recorded, out / number)
        changed(path, *knobs)
        done(mortal.run(["train", str(path), "--processes", number], environment=environment))
        found.append(load_file(path / "checkpoint" / "model.safetensors"))
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], atol=within, rtol=0)


def same(path: Path, alone: Path) -> None:
    """Every text is the same; weights and losses are, up to rounding."""
    for name in ("baseline", "replay", f"method-state-{ROUNDS}"):
        assert (path / "vault" / f"{name}.jsonl").read_text() == (alone / "vault" / f"{name}.jsonl").read_text(), name
    for one, other in zip(*(read_jsonl(run / "train" / "steps.jsonl") for run in (path, alone)), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert name == "seconds" or value == pytest.approx(other[name], abs=1e-4), name
    ours, theirs = (load_file(run / "checkpoint" / "model.safetensors") for run in (path, alone))
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=0)


SPREAD = {"ACCELERATE_USE_FSDP": "true"}
"""As `accelerate launch --use_fsdp` has it."""
OFFLOADED = {"FSDP_OFFLOAD_PARAMS": "true"}
"""As `accelerate launch --fsdp_offload_params true` has it."""


def test_two_do_the_whole_run_that_one_does(mortal: Mortal, settings: list[str], alone: Path, tmp_path: Path) -> None:
    ended = done(mortal.run(["run", *settings, "--out", str(tmp_path / "run"), "--processes", "2"]))
    assert ended.said.count("report.html") == 1, "the first process alone says where it landed"
    same(tmp_path / "run", alone)
    done(mortal.run(["audit", str(alone), "--which", "after"]))
    findings = (read_jsonl(run / "audit" / "after.jsonl") for run in (tmp_path / "run", alone))
    for one, other in zip(*findings, strict=True):
        assert one.pop("value") == pytest.approx(other.pop("value"), abs=1e-5)
        assert one == other


def test_an_error_of_one_ends_all_with_one_message(mortal: Mortal, recorded: Path, tmp_path: Path) -> None:
    ended = mortal.run(["train", str(copied(recorded, tmp_path)), "--processes", "2"], breaks=1)
    assert ended.status == 70, ended.said
    assert ended.said.count("unsay: ") == 1, ended.said
    assert "MemoryError" in ended.said
    assert "a secret number" not in ended.said


def test_a_mistake_of_the_user_is_told_once(mortal: Mortal, tmp_path: Path) -> None:
    ended = mortal.run(["train", str(tmp_path), "--processes", "3"])
    assert ended.status == 2
    assert ended.said.count("unsay: ") == 1, ended.said


def test_shares_in_memory_are_for_weights_that_are_spread(mortal: Mortal, tmp_path: Path) -> None:
    ended = mortal.run(["train", str(tmp_path), "--processes", "2"], environment=OFFLOADED)
    assert ended.status == 2
    assert ended.said.count("unsay: ") == 1, ended.said
    assert "ACCELERATE_USE_FSDP" in ended.said


@pytest.mark.slow
def test_one_that_is_killed_ends_the_others_and_three_go_on(mortal: Mortal, recorded: Path, alone: Path, tmp_path: Path) -> None:
    command = ["train", str(copied(recorded, tmp_path)), "--processes"]
    ended = mortal.run([*command, "2"], kill=(1, f"train 2/{ROUNDS}"))
    assert ended.status == 128 + signal.SIGKILL, ended.said
    assert ended.said.count("unsay: ") == 1, ended.said
    assert "process 1 of 2 was ended by SIGKILL; the same command goes on" in ended.said
    done(mortal.run([*command, "3"]))
    same(tmp_path / "run", alone)


@pytest.mark.slow
def test_none_outlives_who_started_them(mortal: Mortal, settings: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done(mortal.run(["record", *settings, "--set", "train.rounds=200", "--out", str(run)]))
    command = [sys.executable, "-m", "unsay", "train", str(run), "--processes", "2"]
    parent = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while not (run / "train" / "steps.jsonl").exists():
        assert parent.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    parent.kill()
    parent.wait()
    while any(Path(f"/proc/{child}").exists() for child in children):
        time.sleep(0.1)
    assert children
    assert not (run / "checkpoint").exists(), "they went on to the end"


@pytest.mark.slow
def test_a_signal_stops_all_at_the_end_of_a_round_and_spread_ones_go_on(
    mortal: Mortal, recorded: Path, alone: Path, tmp_path: Path
) -> None:
    command = ["train", str(copied(recorded, tmp_path)), "--processes"]
    ended = mortal.run([*command, "2"], signals=[(f"train 1/{ROUNDS}", signal.SIGTERM)])
    assert ended.status == 128 + signal.SIGTERM, ended.said
    assert ended.said.count("unsay: stopping at the end of this round") == 1
    assert ended.said.count("unsay: stopped by SIGTERM after round") == 1
    assert ended.said.count("unsay: ") == 2, ended.said
    done(mortal.run([*command, "3"], environment=SPREAD))
    same(tmp_path / "run", alone)


@pytest.mark.slow
def test_shares_in_memory_are_trained_alike(mortal: Mortal, recorded: Path, alone: Path, tmp_path: Path) -> None:
    done(mortal.run(["train", str(copied(recorded, tmp_path)), "--processes", "2"], environment=SPREAD | OFFLOADED))
    same(tmp_path / "run", alone)


@pytest.mark.slow
def test_adapters_are_trained_by_several(mortal: Mortal, recorded: Path, tmp_path: Path) -> None:
    alike(mortal, recorded, tmp_path, "2", {}, ("rank", "0", "2"))
    assert (tmp_path / "2" / "run" / "adapter").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("knobs", [(), (("retain_loss", '"kl"', '"nll"'),)], ids=["kl", "nll"])
def test_a_spread_model_with_adapters_is_asked_untouched_by_all_or_by_none(
    mortal: Mortal, recorded: Path, tmp_path: Path, knobs: tuple[tuple[str, str, str], ...]
) -> None:
    """Of three processes one has the rows that are compared with the untouched model, which is the spread one itself."""
    alike(mortal, recorded, tmp_path, "3", SPREAD, ("rank", "0", "2"), ("batch", "2", "1"), ("retain_rows", "0", "1"), *knobs)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [{}, SPREAD], ids=["whole", "spread"])
def test_pairs_and_held_states_are_shared(mortal: Mortal, tmp_path: Path, spread: dict[str, str]) -> None:
    """The demo's own rows, for which a model must know something: pieces pushed away, and the states of all layers held."""
    sets = ["train.rounds=1", "train.passes=1", "record.replay=0", "record.near_misses=0", "lora.rank=2", "report.policy="]
    done(mortal.run(["record", "demo", *(word for one in sets for word in ("--set", one)), "--out", str(tmp_path / "run")]))
    alike(mortal, tmp_path / "run", tmp_path, "3", spread, within=1e-4)
    assert json.loads((tmp_path / "3" / "run" / "manifest.json").read_text())["exposure"]["baseline_reads"]["loss"] > 10, "no pair, no test"
