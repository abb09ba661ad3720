"""What the file of a sweep may say, and what of it stays secret."""

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the extra `sweep` is not installed")


import unsay.research.sweep
from tests.sweep.conftest import SWEEP, begun
from tests.test_cli import call
from unsay.cli import comparing
from unsay.config import ConfigError, load, recipe_path, recipes_folder
from unsay.research.sweep.spec import load_sweep
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest


def test_a_shipped_sweep_says_where_its_models_come_from_and_a_way_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    said = call("sweep", "people", code=2)
    assert "model.name 'runs/world-1/target': there is no folder of that name" in said
    assert "python -m unsay.build_people --world 1 --out runs/world-1" in said
    (line,) = (line for line in said.splitlines() if "unsay sweep people --set" in line)
    settings = [setting for setting in line.split() if "=" in setting]
    shared = begun(recipes_folder() / "sweeps" / "people.toml", tmp_path / "out", *settings, "configurations=1")
    assert "people-target" in str(shared), "it runs without them"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("configuration=3", "did you mean 'configurations'"),
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
        ("settings.train.averaging=0.8", "[settings] train.averaging cannot be set in a sweep: curves look at what was trained"),
        ("looks.gb=[1, 2]", "[looks] = 'gb'"),
        ("budget=-1", "sweep.budget = -1.0"),
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
    assert all(sweep.first_configuration(name) or not sweep.distributions(name) for name in sweep.methods)


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
    recorded.note(Manifest(seed=0))
    begun(tmp_path / "sweep.toml", tmp_path / "out")
    named("Birkenhain")
    with pytest.raises(ConfigError, match="lies in the vaults"):
        begun(tmp_path / "sweep.toml", tmp_path / "out")


@pytest.mark.parametrize(("missing", "mended"), [("optuna", True), ("unsay.store.memory", False)])
def test_only_a_missing_extra_is_called_one(missing: str, mended: bool, monkeypatch: pytest.MonkeyPatch):
    for name in ("launch", "spec"):  # to be imported anew
        monkeypatch.delitem(sys.modules, f"unsay.research.sweep.{name}")
        monkeypatch.delattr(unsay.research.sweep, name)
    for name in [name for name in sys.modules if name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError if mended else ModuleNotFoundError):
        comparing.sweep("people")
