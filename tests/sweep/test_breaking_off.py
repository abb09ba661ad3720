"""A sweep that breaks off anywhere leaves the same."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the extra `sweep` is not installed")

from tests.sweep.conftest import NONE, begun, scores, told
from unsay.research.sweep import launch, trial, worker
from unsay.run import Watchers
from unsay.store.files import read_jsonl
from unsay.store.folder import RunFolder


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Every n-th file that is put into its place is not."""
    counted = [0, 0]

    def failing(real: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def put(source: Any, target: Any) -> None:
            counted[0] += 1
            if counted[1] and counted[0] % counted[1] == 0 and "optuna" not in str(source):
                raise Crash  # (Optuna's own lock, left behind, is taken over after half a minute)
            real(source, target)

        return put

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))

    def every(n: int) -> None:
        counted[:] = [0, n]

    yield every
    every(0)


@pytest.mark.slow
@pytest.mark.parametrize(("every", "settings"), [(19, ("seeds=[0]", 'methods=["gd"]')), (17, ())], ids=["one", "all"])
def test_a_sweep_that_breaks_off_again_and_again_leaves_the_same(
    file: Path, finished: Path, recorded: Path, crashing: Callable[[int], None], every: int, settings: tuple[str, ...]
):
    crashing(every)
    crashes = 0
    while True:
        try:
            launch.work(begun(file, recorded, *settings), NONE)
            break
        except Crash:
            crashes += 1
            assert crashes < 100, "no progress"
    assert crashes > 1
    straight = scores(finished)
    for kind in ("curves", "audits"):
        made = scores(recorded)[kind]
        assert made == {path: straight[kind][path] for path in made} != {}
    assert {one["state"] for one in told(recorded).values()} == {"complete"}


def test_a_curve_goes_on_between_two_checkpoints(file: Path, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """7 rounds are saved after 2, 4, 6 and 7, and looked at after 2, 5 and 7. Broken off in the sixth, they go on from the fourth."""
    monkeypatch.setattr(trial, "_rounds", lambda *_: 7)
    small = ("seeds=[0]", 'methods=["gd"]')
    shutil.copytree(recorded, tmp_path / "straight")
    launch.work(begun(file, tmp_path / "straight", *small), NONE)

    def steps(done: int, total: int, text: str) -> None:
        if done == 6 and text.startswith("loss"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.work(begun(file, recorded, *small), Watchers(steps=steps))
    curve = recorded / "gd" / "000" / "seed-0" / "curve.jsonl"
    assert [point["round"] for point in read_jsonl(curve)] == [2, 5]
    launch.work(begun(file, recorded, *small), NONE)
    assert [point["round"] for point in read_jsonl(curve)] == [2, 5, 7]
    assert scores(recorded) == scores(tmp_path / "straight")


@pytest.mark.slow
def test_a_run_that_ends_at_the_floor_ends_there_too_when_it_goes_on(
    file: Path, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Looked at and given up after round 5, broken off before that was kept: it goes on from round 4 and ends after round 5."""
    monkeypatch.setattr(trial, "_rounds", lambda *_: 7)
    utility = iter([90.0, 10.0, 90.0, 10.0])
    monkeypatch.setattr(trial, "summarise", lambda *of: {"utility": next(utility)})
    monkeypatch.setattr(trial, "summary", lambda run, which: {"utility": 90.0})
    monkeypatch.setattr(worker, "_references", lambda shared, recorded: None)
    small = ("seeds=[0]", 'methods=["gd"]', "floor=0.5", "keep=true")
    shutil.copytree(recorded, tmp_path / "straight")
    launch.work(begun(file, tmp_path / "straight", *small), NONE)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(trial.train.__globals__, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            launch.work(begun(file, recorded, *small), NONE)
    launch.work(begun(file, recorded, *small), NONE)
    prints = [RunFolder(out / "gd" / "000" / "seed-0").manifest().checkpoint for out in (recorded, tmp_path / "straight")]
    assert prints[0] == prints[1]
    assert prints[0] is not None
    assert prints[0].rounds == 5
    assert told(recorded)["gd/000"]["state"] == "pruned"


COMMAND = [sys.executable, "-c", "from unsay.cli import main; main()", "sweep"]


@pytest.mark.slow
def test_killed_workers_leave_the_same(file: Path, finished: Path, tmp_path: Path):
    """A real process, killed after 6, 7, 9, ... seconds, until one of them ends by itself, however busy the machine is."""
    kills = 0
    for patience in (6 * 1.2**i for i in range(30)):
        process = subprocess.Popen([*COMMAND, str(file), "--out", str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=patience)
            assert process.returncode == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
    assert kills
    assert scores(tmp_path / "out") == scores(finished)


@pytest.mark.slow
def test_two_processes_share_a_sweep(file: Path, finished: Path, tmp_path: Path):
    command = [*COMMAND, str(file), "--out", str(tmp_path / "out")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    logs = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], logs
    lines = [line for log in logs for line in log.splitlines()]
    begun_lines = [line.partition(":")[0] for line in lines if re.match(r"(gd|idle) 000: ", line)]
    assert sorted(begun_lines) == ["gd 000", "idle 000"], "each once"
    assert scores(tmp_path / "out") == scores(finished)
