"""Who runs what: contenders that take turns, workers that share, what goes on from what was chosen."""

import json
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the extra `sweep` is not installed")

import optuna

from tests.sweep.conftest import NONE, begun, settings_of, told
from tests.test_cli import call
from unsay.config import ConfigError
from unsay.research.front.curves import read
from unsay.research.sweep import launch, worker
from unsay.research.sweep.spec import Sweep
from unsay.research.sweep.trial import Outcome
from unsay.research.sweep.worker import Shared


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Configurations that take no time: only the handing out is real."""
    ran: list[str] = []

    def run(sweep: Sweep, path: Path, name: str, drawn: dict[str, Any], place: Path, recorded: object) -> Outcome:
        ran.append(f"{name} {place.name}")
        time.sleep(0.01)
        return Outcome(drawn["train.learning_rate"])

    monkeypatch.setattr(worker, "run_configuration", run)
    monkeypatch.setattr(worker, "_references", lambda shared, recorded: None)
    monkeypatch.setattr(worker, "_unusable", lambda shared, claim: "")
    monkeypatch.setattr(worker, "give_back", lambda: None)
    return ran


def test_contenders_take_turns_and_the_first_configuration_is_the_given_one(file: Path, tmp_path: Path, instant: list[str]):
    launch.work(begun(file, tmp_path, "configurations=2"), NONE)
    assert instant == ["gd 000", "idle 000", "gd 001", "idle 001"]
    assert settings_of(tmp_path)["gd/000"] == {"train.learning_rate": 1e-3, "gd.retain_weight": 2.0}
    assert 1e-4 <= settings_of(tmp_path)["idle/000"]["train.learning_rate"] <= 1e-2


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_two_workers_share_and_do_nothing_twice(file: Path, tmp_path: Path, instant: list[str], sampler: str):
    one = begun(file, tmp_path, "configurations=6", f"sampler={sampler}")
    threads = [threading.Thread(target=launch.work, args=(one, NONE)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(instant) == sorted(f"{name} {number:03d}" for name in ("gd", "idle") for number in range(6))
    rates = [one["train.learning_rate"] for one in settings_of(tmp_path).values()]
    assert len(set(rates)) == 12, "no two workers draw the same"


def test_what_is_drawn_depends_on_nobody_else(file: Path, tmp_path: Path, instant: list[str]):
    """Alone, in the other order, grown later: the same values under the same number."""
    launch.work(begun(file, tmp_path / "a", "configurations=4"), NONE)
    launch.work(begun(file, tmp_path / "b", 'methods=["idle"]'), NONE)
    launch.work(begun(file, tmp_path / "b", 'methods=["idle", "gd"]', "configurations=4"), NONE)
    assert settings_of(tmp_path / "a") == settings_of(tmp_path / "b")
    launch.work(begun(file, tmp_path / "c", "configurations=4", "seed=1"), NONE)
    assert settings_of(tmp_path / "a")["idle/003"] != settings_of(tmp_path / "c")["idle/003"]


@pytest.mark.parametrize("setting", ['methods=["gd"]', "budget=2", "space.gd.gd.retain_weight=[1.0, 2.0]"])
def test_a_folder_takes_more_of_the_same_and_nothing_else(file: Path, tmp_path: Path, instant: list[str], setting: str):
    launch.work(begun(file, tmp_path, "configurations=2"), NONE)
    with pytest.raises(ConfigError, match=r"another sweep \(sweep.toml differs"):
        begun(file, tmp_path, *(("configurations=2",) if not setting.startswith("configurations") else ()), setting)
    assert launch.work(begun(file, tmp_path, "configurations=2"), NONE) == 0


def test_a_recipe_that_was_changed_is_another_sweep(file: Path, tmp_path: Path):
    shutil.copytree(file.parent, tmp_path / "files")
    begun(tmp_path / "files" / "sweep.toml", tmp_path / "out")
    with (tmp_path / "files" / "recipe.toml").open("a") as recipe:
        recipe.write("\n[paraphrase]\nn = 1\n")
    with pytest.raises(ConfigError):
        begun(tmp_path / "files" / "sweep.toml", tmp_path / "out")


def test_a_sweep_of_an_older_version_goes_on(file: Path, tmp_path: Path):
    begun(file, tmp_path / "out")
    with (tmp_path / "out" / "recipe.toml").open("a") as recipe:
        recipe.write("\n[diversity]\norder = 4\n")  # no knob any more
    begun(file, tmp_path / "out")
    with (tmp_path / "out" / "recipe.toml").open("a") as recipe:
        recipe.write("\n[diversity]\norder = 2\n")
    with pytest.raises(ConfigError, match=r"diversity\.order = 2 in recipe\.toml"):
        begun(file, tmp_path / "out")


def test_a_recipe_that_changes_under_a_worker_stops_it(file: Path, tmp_path: Path, instant: list[str], monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(file.parent, tmp_path / "files")
    shared = begun(tmp_path / "files" / "sweep.toml", tmp_path / "out", "configurations=2")

    def run(sweep: Sweep, path: Path, *_: object) -> Outcome:
        path.write_text(path.read_text() + "\n[paraphrase]\nn = 1\n")
        return Outcome(0.5)

    monkeypatch.setattr(worker, "run_configuration", run)
    with pytest.raises(ConfigError, match=r"recipe\.toml differs"):
        launch.work(shared, NONE)
    assert [one["state"] for one in told(tmp_path / "out").values()] == ["complete"], "what was done before it changed stays"


def test_what_its_worker_has_just_finished_is_not_taken_again(
    file: Path, tmp_path: Path, instant: list[str], monkeypatch: pytest.MonkeyPatch
):
    shared = begun(file, tmp_path, "configurations=1", 'methods=["gd"]')
    studies = shared.studies()
    claim = worker._claim(shared, studies)
    assert claim is not None
    locked = worker._locked

    def just_then(*asked: Any) -> Any:
        """Between this worker's look into the journal and its hand on the lock, the other one finishes."""
        if claim.lock.is_locked:
            worker._settle(shared.studies()["gd"], claim, Outcome(0.5))
            claim.lock.release()
        return locked(*asked)

    monkeypatch.setattr(worker, "_locked", just_then)
    assert worker._claim(shared, shared.studies()) is None
    assert locked(shared, "gd", 0) is not None, "and its lock is let go"


def test_what_was_chosen_goes_on_with_more_of_it(file: Path, tmp_path: Path, instant: list[str]):
    one, other = {"train.learning_rate": 1e-3, "gd.retain_weight": 2.0}, {"gd.retain_weight": 1.0, "train.learning_rate": 2e-3}
    plain = begun(file, tmp_path / "plain")

    def chosen(methods: Sequence[str], **configurations: Sequence[dict[str, float]]) -> Shared:
        sweep = replace(plain.sweep, methods=tuple(methods))
        return replace(plain, folder=tmp_path / "out", sweep=sweep, chosen=configurations)

    launch.begin(chosen(["gd"], gd=[one]))
    launch.begin(chosen(["gd"], gd=[dict(reversed(one.items()))]))
    launch.begin(chosen(["idle", "gd"], idle=[{"train.learning_rate": 1e-4}], gd=[one, other]))
    for less in ([other, one], [one], []):
        with pytest.raises(ConfigError, match=r"chosen\.json differs"):
            launch.begin(chosen(["idle", "gd"], idle=[{"train.learning_rate": 1e-4}], gd=less))
    with pytest.raises(ConfigError, match=r"chosen\.json differs"):
        launch.begin(replace(chosen(["idle", "gd"]), chosen=None))


def test_optuna_reads_the_journal(file: Path, tmp_path: Path, instant: list[str], monkeypatch: pytest.MonkeyPatch):
    outcomes = iter([Outcome(0.25), Outcome(0.1, pruned="low"), FloatingPointError("gone")])

    def run(*_: object) -> Outcome:
        found = next(outcomes)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(worker, "run_configuration", run)
    launch.work(begun(file, tmp_path, "configurations=3", 'methods=["gd"]'), NONE)
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.log"))
    study = optuna.load_study(study_name="gd", storage=optuna.storages.JournalStorage(journal))
    assert [(one.state.name, one.value) for one in study.trials] == [("COMPLETE", 0.25), ("PRUNED", None), ("FAIL", None)]
    assert [one.params for one in study.trials] == list(settings_of(tmp_path).values())
    assert [(one["state"], one["why"]) for one in told(tmp_path).values()] == [
        ("complete", ""),
        ("pruned", "low"),
        ("failed", "FloatingPointError: gone"),
    ]


def test_sweep_then_front_then_what_it_chose(file: Path, finished: Path, recorded: Path, tmp_path: Path):
    front, small = tmp_path / "front", ("--set", "seeds=[0]", "--set", "seed=9")
    assert "idle" in call("front", str(finished), "--out", str(front), "--budget", "0")
    chosen = json.loads((front / "front.json").read_text())["chosen"]
    call("sweep", str(file), "--out", str(recorded), "--from", str(front / "front.json"), *small)
    assert settings_of(recorded) == settings_of(finished) == {f"{name}/000": some[0]["settings"] for name, some in chosen.items()}
    assert {name: len(some) for name, some in read([recorded]).configurations.items()} == {"gd": 1, "idle": 1}
    assert "chosen.json differs" in call("sweep", str(file), "--out", str(recorded), *small, code=2)
    other = ("--from", str(front / "front.json"), "--set", 'methods=["npo"]')
    assert "chose nothing for 'npo'" in call("sweep", str(file), "--out", str(tmp_path / "other"), *other, code=2)


def test_jobs_are_described_as_submitit_wants_them(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    submitit = pytest.importorskip("submitit", reason="the extra `sweep` is not installed")
    one = begun(file, tmp_path / "out")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no worker could be started on slurm: .*srun"):
        launch.submit(one, 2, "slurm", [])
    with pytest.raises(ConfigError, match="did you mean 'slurm'"):
        launch.submit(one, 2, "slrum", [])
    with pytest.raises(ConfigError, match="--slurm takes key=value"):
        launch.submit(one, 2, "local", ["gpu"])
    with pytest.raises(ConfigError, match="Unknown argument 'partitoin'"):
        launch.submit(one, 2, "local", ["slurm_partitoin=gpu"])
    with pytest.raises(ConfigError, match="mem_gb"):
        launch.submit(one, 2, "local", ["mem_gb=much"])
    # What a batch script would say, from submitit itself, with an `srun` that is never called.
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    scripts: list[str] = []

    def submitted(self: Any, delayed: Any) -> list[Any]:
        scripts.append(self._executor._make_submission_file_text("run", "id"))
        raise RuntimeError("not sent")

    monkeypatch.setattr(submitit.AutoExecutor, "_internal_process_submissions", submitted)
    with pytest.raises(ConfigError, match="not sent"):
        launch.submit(one, 1, "slurm", ["slurm_partition=gpu", "gpus_per_node=1", "mem_gb=16", "timeout_min=90"])
    for line in ("--partition=gpu", "--gpus-per-node=1", "--mem=16GB", "--time=90", "--job-name=unsay-sweep"):
        assert f"#SBATCH {line}" in scripts[0]
