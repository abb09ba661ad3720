"""Several processes do what one does: the same answers, the same weights up to rounding; none outlives the others."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import small_run
from tests.mortal import Death, Mortal

QUESTIONS = 5
SETTINGS = [
    "method=pmc",
    "pmc.samples=3",
    "train.rounds=3",
    "train.retain_rows=0",  # the last step of a round has one row: of three processes two have none
    "record.replay=4",
    'audit.probes=["greedy", "likelihood"]',
    "report.policy=",
]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    with Mortal(tmp_path_factory.mktemp("mortal")) as server:
        yield server


@pytest.fixture(scope="module")
def command(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    rows = tmp_path_factory.mktemp("rows")
    settings = [*small_run(tiny_folder, rows, QUESTIONS, 160), *SETTINGS]
    return ["run", "own-questions", *(word for setting in settings for word in ("--set", setting))]


@pytest.fixture(scope="module")
def alone(mortal: Mortal, command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    path = tmp_path_factory.mktemp("alone") / "run"
    done(mortal.run([*command, "--out", str(path)]))
    return path


def done(ended: Death) -> Death:
    assert ended.status == 0, ended.said
    return ended


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def same(path: Path, alone: Path) -> None:
    """Every text is the same; weights and losses are, up to rounding."""
    for name in ("baseline", "replay", "method-state-3"):
        assert (path / "vault" / f"{name}.jsonl").read_text() == (alone / "vault" / f"{name}.jsonl").read_text(), name
    for which in ("before", "after"):
        for one, other in zip(*(lines(run / "audit" / f"{which}.jsonl") for run in (path, alone)), strict=True):
            assert one.pop("value") == pytest.approx(other.pop("value"), abs=1e-5)
            assert one == other
    for one, other in zip(*(lines(run / "train" / "steps.jsonl") for run in (path, alone)), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert {**one, "seconds": 0, "loss": 0, "forget": 0, "grad_norm": 0}.keys() == {**other, "seconds": 0}.keys()
    ours, theirs = (load_file(run / "checkpoint" / "model.safetensors") for run in (path, alone))
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=0)


SPREAD = {"ACCELERATE_USE_FSDP": "true"}
"""As `accelerate launch --use_fsdp` has it."""


@pytest.mark.parametrize(("processes", "environment"), [(2, {}), (3, {}), (3, SPREAD)], ids=["two", "three", "spread"])
def test_several_processes_do_what_one_does(
    processes: int, environment: dict[str, str], mortal: Mortal, command: list[str], alone: Path, tmp_path: Path
) -> None:
    words = [*command, "--out", str(tmp_path / "run"), "--processes", str(processes)]
    ended = done(mortal.run(words, environment=environment))
    same(tmp_path / "run", alone)
    assert ended.said.count("report.html") == 1, "the first process alone says where it landed"


def test_a_killed_process_ends_the_others_and_another_number_goes_on_spread(
    mortal: Mortal, command: list[str], alone: Path, tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "run")]
    ended = mortal.run([*command, *out, "--processes", "2"], kill=(1, "train 2/3"))
    assert ended.status == 128 + signal.SIGKILL, ended.said
    assert ended.said.count("unsay: ") == 1, ended.said
    assert "process 1 of 2 was ended by SIGKILL; the same command goes on" in ended.said
    done(mortal.run([*command, *out, "--processes", "3"], environment=SPREAD))
    same(tmp_path / "run", alone)


def test_a_signal_stops_all_at_the_end_of_a_round(mortal: Mortal, command: list[str], alone: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "run")]
    ended = mortal.run([*command, *out, "--processes", "2"], signals=[("train 1/3", signal.SIGTERM)])
    assert ended.status == 128 + signal.SIGTERM, ended.said
    assert ended.said.count("unsay: stopping at the end of this round") == 1
    assert ended.said.count("unsay: stopped by SIGTERM after round") == 1
    assert ended.said.count("unsay: ") == 2, ended.said
    done(mortal.run([*command, *out]))
    same(tmp_path / "run", alone)


def test_an_error_of_one_ends_all_with_one_message(mortal: Mortal, command: list[str], tmp_path: Path) -> None:
    ended = mortal.run([*command, "--out", str(tmp_path / "run"), "--processes", "2"], breaks=1)
    assert ended.status == 70, ended.said
    assert ended.said.count("unsay: ") == 1, ended.said
    assert "MemoryError" in ended.said
    assert "a secret number" not in ended.said


def test_a_mistake_of_the_user_is_told_once(mortal: Mortal, command: list[str], tmp_path: Path) -> None:
    ended = mortal.run([*command, "--out", str(tmp_path / "run"), "--processes", "2", "--set", "train.rounds=0"])
    assert ended.status == 2
    assert ended.said.count("unsay: ") == 1, ended.said


def test_adapters_are_trained_by_several(mortal: Mortal, command: list[str], tmp_path: Path) -> None:
    found = []
    for processes in ("1", "2"):
        out = tmp_path / processes
        settings = ["--set", "lora.rank=2", "--set", 'audit.probes=["greedy"]', "--out", str(out)]
        done(mortal.run([*command, *settings, "--processes", processes]))
        found.append(load_file(out / "checkpoint" / "model.safetensors"))
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], atol=1e-5, rtol=0)
