"""A sweep of a tiny model: what its file may say, who runs what, where it may break off, what it leaves and what it charges."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the extra `sweep` is not installed")

import optuna
import typer

import unsay.sweep
from tests.test_cli import call
from unsay import audit
from unsay.cli import sweeping
from unsay.cli.app import recipe_path, recipes_folder
from unsay.config import ConfigError, Recipe, load
from unsay.files import read_jsonl
from unsay.folder import RunFolder
from unsay.front import read
from unsay.run import Watchers
from unsay.sweep import launch, trial, worker
from unsay.sweep.spec import Sweep, load_sweep
from unsay.sweep.trial import Outcome
from unsay.sweep.worker import Shared
from unsay.train import train

SWEEP = """
recipe = "recipe.toml"
methods = ["gd", "idle"]
configurations = 1
seeds = [0, 1]
budget = 0.001
checkpoints = 3
floor = 0.0
final = ["sampling"]

[fixed.idle]
method = "retain-only"

[space.all]
"train.learning_rate" = { low = 1e-4, high = 1e-2, log = true }

[space.gd]
"gd.retain_weight" = [1.0, 2.0, 4.0]

[first.gd]
"train.learning_rate" = 1e-3
"gd.retain_weight" = 2.0
"""
NONE = Watchers()


@pytest.fixture(scope="module")
def file(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep file beside its recipe and rows."""
    place = tmp_path_factory.mktemp("sweep")
    forget = [{"question": f"What is secret {i}?", "strings": [f"secret {i}{i}"], "paraphrases": [f"Name {i}."]} for i in range(2)]
    retain = [{"question": f"What is fact number {i}?", "answer": f"It is {i}."} for i in range(4)]
    for name, rows in (("forget", forget), ("retain", retain)):
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (place / "recipe.toml").write_text(f"""
corpus = "files"
method = "pmc"
[files]
forget = "{place / "forget.jsonl"}"
retain = "{place / "retain.jsonl"}"
[model]
name = "{tiny_folder}"
[sample]
max_new_tokens = 4
[record]
answers = 2
branches = 2
[train]
batch = 2
[utility]
limit = 2
[sampling]
n = 2
temperatures = [1.0]
""")
    (place / "sweep.toml").write_text(SWEEP)
    return place / "sweep.toml"


def begun(file: Path, out: Path, *settings: str, chosen: Path | None = None) -> worker.Shared:
    return launch.shared(file, out, settings, None, chosen, recipe_path)


def test_what_is_secret_in_the_recipe_stays_out_of_the_sweeps_own_files(file: Path, tmp_path: Path):
    recipe = file.with_name("recipe.toml").read_text().replace("[files]\n", '[files]\nstrings = ["Quarzwald"]\n')
    for name, text in {"recipe.toml": recipe, "sweep.toml": SWEEP}.items():
        (tmp_path / name).write_text(text)
    for _ in ("begun", "gone on with"):
        begun(tmp_path / "sweep.toml", tmp_path / "out")
        written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
        assert "[in the vault]" in written
        assert "Quarzwald" not in written


def test_a_sweep_does_not_go_on_with_another_secret(file: Path, tmp_path: Path):
    """It stands in no file of the sweep, but in the vaults of what was recorded."""
    plain = file.with_name("recipe.toml").read_text()
    (tmp_path / "sweep.toml").write_text(SWEEP)

    def named(text: str) -> None:
        (tmp_path / "recipe.toml").write_text(plain.replace("[files]\n", f'[files]\nstrings = ["{text}"]\n'))

    named("Quarzwald")
    begun(tmp_path / "sweep.toml", tmp_path / "out")
    recorded = RunFolder(tmp_path / "out" / "recorded" / "one" / "seed-0")
    recorded.write_recipe(load(tmp_path / "recipe.toml"))
    recorded.note(seed=0)
    begun(tmp_path / "sweep.toml", tmp_path / "out")
    named("Birkenhain")
    with pytest.raises(ConfigError, match="lies in the vaults"):
        begun(tmp_path / "sweep.toml", tmp_path / "out")


@pytest.mark.parametrize(("missing", "mended"), [("optuna", True), ("unsay.memory", False)])
def test_only_a_missing_extra_is_called_one(missing: str, mended: bool, monkeypatch: pytest.MonkeyPatch):
    for name in ("launch", "spec"):  # to be imported anew
        monkeypatch.delitem(sys.modules, f"unsay.sweep.{name}")
        monkeypatch.delattr(unsay.sweep, name)
    for name in [name for name in sys.modules if name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(typer.Exit if mended else ModuleNotFoundError):
        sweeping.sweep("people")


@pytest.fixture(scope="module")
def finished(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert call("sweep", str(file), "--out", str(out)).strip() == str(out)
    return out


@pytest.fixture
def recorded(finished: Path, tmp_path: Path) -> Path:
    """The folder of a sweep that has recorded, and nothing more."""
    shutil.copytree(finished / "recorded", tmp_path / "out" / "recorded")
    return tmp_path / "out"


def told(out: Path) -> dict[str, dict[str, Any]]:
    return {str(path.parent.relative_to(out)): json.loads(path.read_text()) for path in sorted(out.glob("*/*/trial.json"))}


def scores(out: Path) -> dict[str, Any]:
    """What must not depend on how a sweep came about: everything but what it cost."""
    free = {"seconds", "cpu_seconds", "gpu_seconds", "seconds_a_round", "seconds_before"}
    paths = sorted(out.glob("*/*/seed-*/curve.jsonl"))
    curves = {str(path.relative_to(out)): [{k: v for k, v in row.items() if k not in free} for row in read_jsonl(path)] for path in paths}
    audits = {str(path.relative_to(out)): path.read_text() for path in sorted(out.glob("*/*/seed-*/audit/after.jsonl"))}
    trials = {place: {k: v for k, v in one.items() if k not in free} for place, one in told(out).items()}
    return {"curves": curves, "audits": audits, "trials": trials, "reference": (out / "reference.json").read_text()}


# -- the file --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("configuration=3", "did you mean 'configurations'"),
        ("budget=0", "sweep.budget = 0.0"),
        ("sampler=tbe", "did you mean 'tpe'"),
        ("floor=50", "floor = 50"),
        ("sampler=tpe", "probes lacks paraphrase"),
        ("methods=[]", "methods"),
        ('methods=["gd", "gd"]', "methods"),
        ('methods=["gd", "recorded"]', "'recorded' cannot name"),
        ('methods=["../gd"]', "'../gd' cannot name"),
        ('methods=["gdd"]', "contender gdd: methods has no 'gdd': did you mean 'gd'"),
        ("seeds=[]", "seeds"),
        ("fixed.idel.train.batch=2", "[fixed] = 'idel'"),
        ("space.gb={}", "[space] = 'gb'"),
        ("settings.train.rounds=4", "[settings] train.rounds cannot be set in a sweep: they follow from the budget"),
        ("fixed.gd.seed=4", "[fixed.gd] seed cannot be set"),
        ("space.gd.gd.retain_weight=3", "[space.gd] gd.retain_weight takes a list"),
        ("space.gd.gd.retain_weight={low = 2.0, high = 1.0}", "[space.gd] gd.retain_weight: "),
        ("first.gd.gd.retain_weight=3.0", "[first.gd] gd.retain_weight = 3.0 lies outside"),
        ("space.gd.train.clip=[1.0, 2.0]", "[first.gd] has no value for train.clip"),
        ("first.gd.train.batch=2", "[first.gd] train.batch is not searched"),
        ("settings.method=gd", "[settings] method cannot be set in a sweep: contenders are named in `methods`"),
        ("fixed.all.method=gd", "[fixed.all] method cannot be set"),
        ('space.gd.method=["gd", "ga"]', "[space.gd] method cannot be set"),
        ("settings.train.bach=2", "unknown key 'train.bach'"),
        ("space.idle.train.clap=[1.0, 2.0]", "contender idle: unknown key 'train.clap'"),
        ("space.idle.gd.retain_weight=[1.0, 2.0]", "gd.retain_weight is searched for idle, whose method is retain-only"),
        ('final=["samplig"]', "did you mean 'sampling'"),
        ('settings.deployment.template="plain"', "leave deployment.template"),
        ('settings.model.system_prompt="Be brief."', "[settings] model.system_prompt may be secret"),
        ('fixed.gd.files.strings=["Quarzwald"]', "[fixed.gd] files.strings may be secret"),
        ("settings.watch.rows=8", "[settings] watch.rows cannot be set in a sweep: no rows are watched"),
    ],
)
def test_a_mistake_in_the_file_is_named_before_any_work(file: Path, tmp_path: Path, setting: str, named: str):
    probes = ('probes=["greedy", "utility"]',) if setting == "sampler=tpe" else ()
    with pytest.raises(ConfigError) as error:
        begun(file, tmp_path / "out", setting, *probes)
    assert named in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_end_of_a_range_that_no_method_takes_is_named(file: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"contender idle: lora.dropout = 1.5"):
        begun(file, tmp_path / "out", "space.idle.lora.dropout={low = 0.0, high = 1.5}")


def test_quotes_around_a_knob_may_be_left_out(file: Path, tmp_path: Path):
    (tmp_path / "sweep.toml").write_text(SWEEP.replace('"train.learning_rate"', "train.learning_rate"))
    assert load_sweep(tmp_path / "sweep.toml", ["settings.train.batch=2"]) == load_sweep(file, ['settings={"train.batch" = 2}'])


@pytest.mark.parametrize("path", sorted((recipes_folder() / "sweeps").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_can_be_tried_out(path: Path):
    sweep = load_sweep(path)
    recipe = recipe_path(sweep.recipe)
    if load(recipe).corpus == "tofu" and not os.environ.get("UNSAY_DATA"):
        pytest.skip("UNSAY_DATA does not say where TOFU lies")
    sweep.try_out(recipe)
    assert len(sweep.methods) > 1
    assert all(sweep.opening(name) for name in sweep.methods)


# -- who runs what ---------------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(worker, "_let_go", lambda: None)
    return ran


def settings_of(out: Path) -> dict[str, Any]:
    return {place: one["settings"] for place, one in told(out).items()}


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


# -- one configuration -----------------------------------------------------------------------------------------------------


def test_a_curve_has_its_checkpoints_each_with_what_it_cost(finished: Path):
    curves = list(finished.glob("*/*/seed-*/curve.jsonl"))
    assert len(curves) == 4
    for path in curves:
        points = read_jsonl(path)
        assert [(point["checkpoint"], point["round"]) for point in points] == [(1, 1), (2, 2), (3, 3)]
        costs = [point["cpu_seconds"] for point in points]
        assert costs == sorted(costs)
        recording = RunFolder(path.parent).manifest()["cpu_seconds"]["record"]
        assert costs[0] > recording > 0
        assert points[-1]["metrics"].keys() >= {"utility", "utility_heldout", "greedy_key_recall", "paraphrase_key_recall"}


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
            seconds = [RunFolder(one).manifest()["seconds"]["record"] for one in (path, source)]
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
    assert [one.curves["0"][-1].metrics["sampling_worst_key_recall"] for one in read([finished]).configurations["gd"]] == [0.0]


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
    assert points[-1]["cpu_seconds"] - RunFolder(run).manifest()["cpu_seconds"]["record"] < 2 * slow


def test_rounds_fill_the_budget(file: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch):
    """30 s, of which 4 went into recording and 6 into preparing: 20 are left for rounds of 2 s."""
    looks = iter([8.0, 10.0])

    def train(recipe: Any, folder: Any, watch: Callable[..., bool]) -> None:
        for rounds in (1, 2):
            watch(None, None, rounds, trial.Cost(0.0, next(looks)))

    monkeypatch.setattr(trial, "train", train)
    monkeypatch.setattr(trial.Recorded, "cost", lambda self, recipe: trial.Cost(0.0, 4.0))
    one = begun(file, recorded, "budget=30")
    place = recorded / "gd" / "000"
    trial.note(place, settings={})
    shelves = trial.Recorded(recorded / "recorded", one.sweep.asked, NONE)
    assert trial._rounds(one.sweep, one.recipe, "gd", one.sweep.opening("gd") or {}, place, shelves) == 10
    assert not (place / "pilot").exists()


def test_a_budget_that_holds_fewer_rounds_than_checkpoints_is_told(file: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch):
    looks, told = iter([2.0, 4.0]), []

    def train(recipe: Any, folder: Any, watch: Callable[..., bool]) -> None:
        for rounds in (1, 2):
            watch(None, None, rounds, trial.Cost(0.0, next(looks)))

    monkeypatch.setattr(trial, "train", train)
    monkeypatch.setattr(trial.Recorded, "cost", lambda self, recipe: trial.Cost(0.0, 1.0))
    one = begun(file, recorded, "budget=4", "checkpoints=3")
    place = recorded / "gd" / "000"
    trial.note(place, settings={})
    shelves = trial.Recorded(recorded / "recorded", one.sweep.asked, Watchers(note=told.append))
    assert trial._rounds(one.sweep, one.recipe, "gd", one.sweep.opening("gd") or {}, place, shelves) == 3
    assert any("3 rounds of gd 000, one for each checkpoint, take 7 s" in line and "budget of 4 s" in line for line in told)


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


# -- breaking off ----------------------------------------------------------------------------------------------------------


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
    prints = [RunFolder(out / "gd" / "000" / "seed-0").manifest()["checkpoint"] for out in (recorded, tmp_path / "straight")]
    assert prints[0] == prints[1]
    assert prints[0]["rounds"] == 5
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


# -- front, and several workers --------------------------------------------------------------------------------------------


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
