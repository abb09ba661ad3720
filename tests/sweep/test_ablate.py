"""One knob at a time: every value a configuration of a sweep, and what is drawn of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the extra `sweep` is not installed")

from scripts.keep_sweep import keep
from tests.sweep.conftest import NONE, scores, told
from tests.test_cli import call
from tests.test_front import curve, metrics, reference, trial
from unsay import audit
from unsay.research.ablate import ablation, read_values
from unsay.research.ablate_report import ablated, page, picture
from unsay.research.sweep import launch
from unsay.research.sweep import trial as trials
from unsay.research.sweep.worker import begin
from unsay.store.files import read_jsonl, write_text

TWO = ("--over", "pmc.samples=1,2", "--over", "train.rounds=2,1", "--seeds", "1", "--set", "train.learning_rate=1e-2")


@pytest.fixture(scope="module")
def recipe(file: Path) -> str:
    return str(file.parent / "recipe.toml")


@pytest.fixture(scope="module")
def done(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "done"
    call("ablate", recipe, "--out", str(out), "--set", "train.rounds=1", *TWO)
    return out


def test_every_value_is_run_and_drawn(done: Path) -> None:
    found = json.loads((done / "ablation.json").read_text())
    assert {knob: [point["value"] for point in points] for knob, points in found["knobs"].items()} == {
        "pmc.samples": [1, 2],
        "train.rounds": [1, 2],
    }
    points = [point for some in found["knobs"].values() for point in some]
    assert all(point["seeds"].keys() == {"0"} for point in points)
    assert all(point["mean"].keys() >= {"utility", "utility_heldout", "greedy_keyword_recall"} for point in points)
    rounds = {
        str(path.parents[1].relative_to(done)): [row["round"] for row in read_jsonl(path)] for path in done.glob("*/*/seed-0/curve.jsonl")
    }
    assert rounds == {"pmc.samples/000": [1], "pmc.samples/001": [1], "train.rounds/000": [2], "train.rounds/001": [1]}
    assert "## train.rounds" in (done / "ablation.md").read_text()
    for knob in rounds:
        assert all((done / f"{knob.partition('/')[0]}.{kind}").stat().st_size for kind in ("svg", "png"))


def test_a_recipe_without_over_is_told_what_is_missing(file: Path) -> None:
    for name in ("demo", str(file.with_name("recipe.toml"))):
        assert "to run one, say what varies: --over KNOB=VALUE,VALUE" in call("ablate", name, code=2)


def test_a_kept_ablation_is_drawn_alike(done: Path, tmp_path: Path) -> None:
    keep(done, tmp_path / "kept.jsonl.xz")
    call("ablate", str(tmp_path / "kept.jsonl.xz"), "--out", str(tmp_path / "again"))
    for name in ("ablation.json", "ablation.md", "pmc.samples.svg"):
        assert (tmp_path / "again" / name).read_text() == (done / name).read_text()


def test_it_goes_on_where_it_broke_off(recipe: str, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off at a look, it goes on with the same command, and has the numbers of one that was not."""
    looks, real = [0], audit.run

    def second(*arguments: Any, **more: Any) -> Any:
        looks[0] += 1
        if looks[0] == 2:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    shutil.copytree(done / "recorded", tmp_path / "out" / "recorded")
    over = ["pmc.samples=1,2"]
    settings = ["train.learning_rate=1e-2", "train.rounds=1"]
    with monkeypatch.context() as patch:
        patch.setattr(trials.audit, "run", second)
        with pytest.raises(KeyboardInterrupt):
            launch.work(ablation(recipe, over, tmp_path / "out", settings, seeds=1), NONE)
    assert "running" in {one["state"] for one in told(tmp_path / "out").values()}
    assert launch.work(ablation(recipe, over, tmp_path / "out", settings, seeds=1), NONE) > 0
    made, straight = scores(tmp_path / "out"), scores(done)
    for kind in ("curves", "trials"):
        assert made[kind] == {place: straight[kind][place] for place in made[kind]} != {}
    more = ablation(recipe, ["pmc.samples=1,2,3", "pmc.top_p=0.5,1"], tmp_path / "out", settings, seeds=1)
    assert ablation(recipe, over, tmp_path / "three").sweep.seeds == (0, 1, 2)
    assert {name: more.wanted(name) for name in more.sweep.methods} == {"pmc.samples": 3, "pmc.top_p": 2}, "more may follow"


def test_at_a_constant_rate_one_run_stands_for_all_rounds(recipe: str, done: Path, tmp_path: Path) -> None:
    constant = ["train.schedule=constant", "train.learning_rate=1e-2"]
    for name in ("one", "each"):
        shutil.copytree(done / "recorded", tmp_path / name / "recorded")
    one = ablation(recipe, ["train.rounds=1,3"], tmp_path / "one", constant, seeds=1)
    launch.work(one, NONE)
    assert list(told(tmp_path / "one")) == ["train.rounds/000"]
    each = replace(
        one, folder=tmp_path / "each", sweep=replace(one.sweep, looks={}), chosen={"train.rounds": [{"train.rounds": n} for n in (1, 3)]}
    )
    begin(each)
    launch.work(each, NONE)
    assert len(told(tmp_path / "each")) == 2

    def seen(folder: Path) -> list[tuple[Any, Any]]:
        return [(point.value, point.seeds) for point in ablated(folder).knobs["train.rounds"]]

    assert [value for value, _ in seen(tmp_path / "one")] == [1, 3]
    assert seen(tmp_path / "one") == seen(tmp_path / "each")


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ("pmc.samples=5", "takes at least two values, each once"),
        ("pmc.samples=5,5", "takes at least two values, each once"),
        ("train.rounds=2,2.5", "takes whole numbers above 0"),
        ("pmc.sample=1,2", "unknown key 'pmc.sample'"),
        ("pmc.top_p=0.5,1.5", "--over pmc.top_p, 1.5: pmc.top_p"),
        ("npo.beta=0.1,0.2", "the method is pmc, so it would change nothing"),
        ("seed=1,2", "seed cannot be set in a sweep"),
        ("watch.limit=1,2", "no rows are watched"),
        ("train.averaging=0.5,1", "`unsay par` turns the dial"),
        ("files.strings=Quarzwald,Ada", "may be secret"),
        ("=1,2", "--over takes a knob and its values"),
        ("pmc.samples", "--over takes a knob and its values"),
    ],
)
def test_a_mistake_is_named_before_any_work(recipe: str, tmp_path: Path, over: str, said: str) -> None:
    assert said in call("ablate", recipe, "--out", str(tmp_path / "out"), "--over", over, code=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("listed", "values"),
    [
        ("{overlap=1}, {overlap=0.5, diversity=0.5}", [{"overlap": 1}, {"overlap": 0.5, "diversity": 0.5}]),
        ("none, 0.0", ["none", 0.0]),
        ("true,false", [True, False]),
        ('"a,b","c"', ["a,b", "c"]),
    ],
)
def test_values_are_toml_or_bare_words(listed: str, values: list[Any]) -> None:
    assert read_values(f"a.b={listed}") == ("a.b", values)


def test_bars_go_from_the_least_seed_to_the_largest(tmp_path: Path) -> None:
    """Settings 1 and 10 with two seeds each; a third fell apart."""
    for number, (value, qualities) in enumerate({1: (40, 60), 10: (70, 90)}.items()):
        trial(tmp_path, "pmc.samples", number, [curve([metrics(quality, 95)]) for quality in qualities])
        note = json.loads((tmp_path / "pmc.samples" / f"{number:03d}" / "trial.json").read_text())
        write_text(tmp_path / "pmc.samples" / f"{number:03d}" / "trial.json", json.dumps(note | {"settings": {"pmc.samples": value}}))
    trial(tmp_path, "pmc.samples", 2, [[]], "failed", "the loss is no number")
    note = json.loads((tmp_path / "pmc.samples" / "002" / "trial.json").read_text())
    write_text(tmp_path / "pmc.samples" / "002" / "trial.json", json.dumps(note | {"settings": {"pmc.samples": 100}}))
    reference(tmp_path, metrics(10, 95, 1.0), metrics(90, 95, 0.0))
    found = ablated(tmp_path)
    first, second = found.knobs["pmc.samples"]
    assert first.of("unlearn_quality") == [40, 60]
    assert (first.value, second.value) == (1, 10)
    assert found.reference("retain_model", "unlearn_quality") == 90
    assert "| 1 | 50.0 (40.0–60.0) | 95.0 |" in page(found)
    assert "- pmc.samples = 100: the loss is no number" in page(found)
    (axes,) = picture(found, "pmc.samples").axes
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "10"]
