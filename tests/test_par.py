"""Held-out at par: the dial is turned back as far as every forgetting line passes, and what is left there is told."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import small_run
from tests.test_cli import call
from unsay.config import AuditConfig, ConfigError, ReportConfig
from unsay.measure.verdict import LineResult
from unsay.research import par
from unsay.run import Watchers, run_averaging
from unsay.store.folder import RunFolder
from unsay.train import train
from unsay.train.resume import keep_weights

POLICY = """
[[line]]
name = "broken"
metric = "class_degenerate"
at_most = 1.0

[[line]]
name = "kept"
metric = "utility"
at_least = 101
"""


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("par")
    (folder / "policy.toml").write_text(POLICY)
    settings = [*small_run(tiny_folder, folder, forget=3, retain=8), "pmc.preset=paper", "pmc.samples=2", "train.rounds=2"]
    settings += [f'model.retain_model="{tiny_folder}"', 'audit.probes=["greedy", "utility"]', f'report.policy="{folder / "policy.toml"}"']
    (folder / "recipe.toml").write_text("")
    options = [option for setting in settings for option in ("--set", setting)]
    call("run", str(folder / "recipe.toml"), "--out", str(folder / "run"), *options)
    return folder / "run"


def point(share: float, held_out: float, forgets: bool) -> par.Point:
    line = LineResult("sampling", "sampling_worst_keyword_recall", "≤ retain_model", 0.0, 0.0, forgets)
    kept = LineResult("held out", "utility_heldout", "≥ before * 0.97", held_out, 97.0, held_out >= 97)
    return par.Point(share, {"utility_heldout": {"before": 100.0, "after": held_out, "retain_model": 100.0}}, [line, kept])


def test_of_the_points_that_forget_the_one_that_keeps_most():
    points = [point(1.0, 90, True), point(0.8, 98, False), point(0.9, 95, True), point(0.85, 94, True)]
    found = par.best(points)
    assert found is points[2]
    assert found.failed(forgetting=True) == []
    assert found.failed(forgetting=False) == ["held out"]
    assert points[1].failed(forgetting=True) == ["sampling"]
    assert par.best([point(1.0, 90, False)]) is None


def test_the_line_is_halved_until_one_step_is_left(run: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def judged(chosen, recipe, manifest, findings):
        share = asked[-1]
        return {"utility_heldout": {"after": 100 - share}}, [LineResult("s", "m", "≤ retain_model", share, 0.0, share >= 0.65)]

    monkeypatch.setattr(par, "judged", judged)
    points = par.at_par(RunFolder(run), progress=lambda text: asked.append(float(text.split()[-1])))
    assert [p.share for p in points] == sorted(asked, reverse=True)
    assert len(asked) <= 6, "four halvings of twenty steps, and the ends"
    best = par.best(points)
    assert best is not None
    assert best.share == 0.65


def test_where_the_trained_model_remembers_the_dial_goes_beyond_it(run: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def judged(chosen, recipe, manifest, findings):
        share = asked[-1]
        return {"utility_heldout": {"after": 100 - share}}, [LineResult("s", "m", "≤ retain_model", share, 0.0, share >= enough)]

    monkeypatch.setattr(par, "judged", judged)
    for enough, shares in ((1.1, [1.1, 1.05, 1.0]), (2.0, [1.25, 1.2, 1.15, 1.1, 1.05, 1.0])):
        asked.clear()
        points = par.at_par(RunFolder(run), progress=lambda text: asked.append(float(text.split()[-1])))
        assert [p.share for p in points] == shares
        assert par.best(points) == (points[0] if enough == 1.1 else None)


def test_the_search_for_a_prefix_is_spared_where_another_line_fails(run: Path, monkeypatch: pytest.MonkeyPatch):
    folder, asked = RunFolder(run), []
    policy = folder.path.parent / "search.toml"
    policy.write_text(f'{POLICY}[[line]]\nname = "found"\nmetric = "prefix_search_keyword_recall"\nat_most = 1.0\n')
    recipe = replace(folder.recipe(), audit=AuditConfig(("greedy", "utility", "prefix_search")), report=ReportConfig(str(policy)))
    monkeypatch.setattr(RunFolder, "recipe", lambda self: recipe)
    monkeypatch.setattr(par, "_asked", lambda recipe, probes, *rest: [*asked, asked.append(probes)][:0])

    def judged(chosen, recipe, manifest, findings):
        lines = [LineResult(line.name, line.metric, line.rule, 0.0, 1.0, line.name != "kept" and enough) for line in chosen.lines]
        return {"utility_heldout": {"after": 1.0}}, lines

    monkeypatch.setattr(par, "judged", judged)
    for enough in (False, True):
        asked.clear()
        points = par.at_par(folder)
        assert (("prefix_search",) in asked) == enough
        assert [line.name for line in points[0].lines] == (["broken", "kept", "found"] if enough else ["broken", "kept"])
        assert points[0].unasked == (() if enough else ("prefix_search",))


def test_the_command_says_it_for_every_run_and_changes_none(run: Path):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    found = json.loads(call("par", str(run), "--json"))
    (row,) = found["runs"]
    assert min(point["share"] for point in row["points"]) == 0.05, "a line that always holds lets the dial go back to its last step"
    assert row["failed"] == "kept"
    assert found["mean"] == row["held_out_at_par"]
    assert 0 <= row["wellformed"] <= 1
    assert {path: path.read_bytes() for path in before} == before
    assert "mean of 1 runs" in call("par", str(run))


def test_what_a_sweep_keeps_is_enough(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    keep_weights(RunFolder(tmp_path / "run"))
    assert not list((tmp_path / "run").rglob("optimizer.pt"))
    there, here = ([(p.share, p.held_out) for p in par.at_par(RunFolder(path))] for path in (tmp_path / "run", run))
    assert there == here


def test_what_a_sweep_keeps_can_be_turned(run: Path, tmp_path: Path):
    """Without an optimizer the state is no damaged one: it would be removed, and the run trained again."""
    for name in ("whole", "kept"):
        shutil.copytree(run, tmp_path / name)
    keep_weights(RunFolder(tmp_path / "kept"))
    turned = []
    for name in ("whole", "kept"):
        folder = RunFolder(tmp_path / name)
        run_averaging(folder, 0.5, Watchers())
        assert list(folder.state.glob("round-*")) == [folder.state / "round-2"]
        turned.append(folder.manifest().checkpoint)
    assert turned[0] == turned[1] != RunFolder(run).manifest().checkpoint
    assert not list((tmp_path / "kept").rglob("optimizer.pt")), "nothing was trained again"


def test_what_a_sweep_keeps_is_not_trained_on(run: Path, tmp_path: Path):
    """Without the optimizer's moments it would end elsewhere than a run of as many rounds."""
    shutil.copytree(run, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    keep_weights(folder)
    kept = {path: path.read_bytes() for path in folder.state.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"keeps no optimizer to go on with .*--out DIR"):
        train(folder.recipe(["train.rounds=3"]), folder)
    assert {path: path.read_bytes() for path in folder.state.rglob("*") if path.is_file()} == kept


def test_what_a_sweep_ended_early_and_keeps_loses_nothing_to_a_turn_that_is_refused(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    keep_weights(folder)
    folder.write_recipe(folder.recipe(["train.rounds=3"]))  # as where the utility fell below the floor after the second of three
    kept = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(ConfigError, match=r"keeps no optimizer to go on with .*--out DIR"):
        run_averaging(folder, 0.5, Watchers())
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path.name != ".lock"} == kept


def test_without_trained_weights_there_is_no_dial(run: Path, tmp_path: Path):
    (tmp_path / "run").mkdir()
    for path in run.rglob("*"):
        if "state" not in path.parts and path.is_file():
            target = tmp_path / "run" / path.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match="keeps no trained weights"):
        par.at_par(RunFolder(tmp_path / "run"))
    (tmp_path / "run/audit/before.jsonl").unlink()
    with pytest.raises(ConfigError, match="no audit of the model before"):
        par.at_par(RunFolder(tmp_path / "run"))


def test_a_retain_model_is_needed_where_the_policy_names_one(run: Path, tmp_path: Path):
    """Who has none, an operator most of the time, turns the dial by limits that are numbers."""
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/audit/retain_model.jsonl").unlink()
    row, with_one = (json.loads(call("par", str(path), "--json"))["runs"][0] for path in (tmp_path / "run", run))
    assert row["points"] == with_one["points"]
    assert row["never_knew"] is None
    with pytest.raises(ConfigError, match=r"demo compares with a retain model.*--policy default"):
        par.at_par(RunFolder(tmp_path / "run"), "demo")


def test_a_line_from_below_is_about_what_stays_unless_it_asks_for_chance() -> None:
    def line(metric: str, rule: str) -> LineResult:
        return LineResult("l", metric, rule, 0.0, 0.0, False)

    assert par.is_forgetting(line("prefill_worst_keyword_recall", "≤ retain_model + 0.05"))
    assert par.is_forgetting(line("closed_probability", "≥ 0.25")), "an answer that is always reversed tells it too"
    assert not par.is_forgetting(line("utility_heldout", "≥ before * 0.97"))


def test_the_command_says_what_was_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [replace(point(1.25, 90, False), unasked=("prefix_search",)), point(1.0, 95, False)]
    monkeypatch.setattr("unsay.research.par.at_par", lambda *_: points)
    assert "run forgets too little at 1.25, prefix_search not asked: sampling" in call("par", "run")
    (row,) = json.loads(call("par", "run", "--json"))["runs"]
    assert [one["unasked"] for one in row["points"]] == [["prefix_search"], []]


def test_a_path_is_said_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    line = {"run": "[old]/run", "share": 0.5, "failed": "a line, " * 20 + "[/b]", "held_out_at_par": 1.0, "points": []}
    monkeypatch.setattr("unsay.research.par.at_par", lambda *_: [])
    monkeypatch.setattr("unsay.cli.comparing._row", lambda *_: line)
    lines = call("par", "run").splitlines()
    assert lines[1].startswith("[old]/run")
    assert f"{line['run']} fails at 0.5: {line['failed']}" in lines
