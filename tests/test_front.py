"""The front of a sweep: areas against counted cells, bars against enumerated resamples, and a made-up folder through the command."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tests.test_cli import call
from unsay import audit
from unsay.cli import comparing  # noqa: F401  (adds its command)
from unsay.config import ConfigError
from unsay.research.front import pictures as fronts
from unsay.research.front import tables
from unsay.research.front.area import PLANES, Point, hypervolume, pareto, points
from unsay.research.front.curves import Configuration, Step, read
from unsay.research.front.trade import chosen, front
from unsay.store.files import jsonl, write_text
from unsay.tables import METHODS
from unsay.types import Finding

Scores = Sequence[tuple[float, float]]
FEW = 200


def metrics(quality: float, utility: float, said: float = 0.5, heldout: float = 50.0, **more: float | None) -> dict[str, float | None]:
    return {"unlearn_quality": quality, "utility": utility, "greedy_keyword_recall": said, "utility_heldout": heldout, **more}


def curve(rows: Sequence[Mapping[str, float | None]], costs: Sequence[float] = (), gpu: float | None = None) -> list[dict[str, Any]]:
    costs = costs or [10.0 * (i + 1) for i in range(len(rows))]
    about = [{"checkpoint": i + 1, "round": 2 * i + 2, "seconds": 1.0, "cpu_seconds": cost} for i, cost in enumerate(costs)]
    return [line | {"gpu_seconds": gpu, "metrics": row} for line, row in zip(about, rows, strict=True)]


def trial(
    folder: Path, method: str, number: int, curves: Sequence[Sequence[Mapping[str, Any]]], state: str = "complete", why: str = ""
) -> Path:
    place = folder / method / f"{number:03d}"
    settings = {"train.learning_rate": 1e-4 * (number + 1)}
    about = {"method": method, "number": number, "settings": settings, "state": state, "why": why, "seeds": list(range(len(curves)))}
    write_text(place / "trial.json", json.dumps(about))
    for seed, lines in enumerate(curves):
        write_text(place / f"seed-{seed}" / "curve.jsonl", jsonl(lines))
    return place


def reference(
    folder: Path, before: Mapping[str, float | None] | None = None, retain_model: Mapping[str, float | None] | None = None
) -> None:
    found = {"before": before, "retain_model": retain_model}
    write_text(folder / "reference.json", json.dumps({which: {"0": one} for which, one in found.items() if one}))


def some(scores: Scores, number: int = 0) -> list[Point]:
    one = Configuration("sweep", f"pmc/{number}", "pmc", number, {}, "complete", "", 1, {})
    return [Point(one, i, i, x, y, cost=float(i), seeds=1) for i, (x, y) in enumerate(scores)]


def test_hypervolume_of_a_few_points():
    assert hypervolume([(0.5, 1.0), (1.0, 0.5)]) == 0.75
    assert hypervolume([(0.5, 1.0), (1.0, 0.5)], cap=0.75) == 0.625, "half as before, and a quarter of half the height"
    assert hypervolume([(0.5, 0.5), (0.25, 0.25)]) == 0.25, "a dominated point adds nothing"
    assert hypervolume([(0.5, 0.5), (np.nan, 1.0), (1.0, np.nan)]) == 0.25, "nor does one that was not scored"


def test_hypervolume_counts_the_cells_that_are_dominated():
    cells = (np.arange(40) + 0.5) / 40
    many = np.random.default_rng(0).integers(0, 41, size=(30, 12, 2)) / 40
    counted = [
        np.mean([any(x > a and y > b for x, y in scores) and a < cap for a in cells for b in cells])
        for scores, cap in zip(many, [1.0, 0.5] * 15, strict=True)
    ]
    assert [float(hypervolume(scores, cap)) for scores, cap in zip(many, [1.0, 0.5] * 15, strict=True)] == pytest.approx(counted)
    assert hypervolume(many).tolist() == pytest.approx([float(hypervolume(scores)) for scores in many]), "many sets at once"


def test_the_front_is_what_nothing_dominates():
    scores = [(float(x), float(y)) for x, y in np.random.default_rng(1).integers(0, 9, size=(40, 2)) / 8]
    better = {p for p in scores if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in scores)}
    found = [(p.x, p.y) for p in pareto(some(scores))]
    assert found == sorted(better, reverse=True)
    assert pareto(some([(0.5, 0.5), (0.5, 0.5)]))[0].cost == 0.0, "of equal ones the cheapest"


def test_a_point_is_the_mean_over_the_seeds_that_got_there(tmp_path: Path):
    longer, shorter = curve([metrics(40, 80), metrics(60, 70)]), curve([metrics(50, 90)], costs=[20.0])
    trial(tmp_path, "pmc", 0, [longer, shorter])
    first, second = points(read([tmp_path]).configurations["pmc"], PLANES["quality"])
    assert (first.x, first.y, first.cost, first.seeds) == (pytest.approx(0.45), pytest.approx(0.85), 15.0, 2)
    assert (second.x, second.y, second.cost, second.seeds, second.round) == (0.6, 0.7, 20.0, 1, 4)
    assert any("1 of 2 points are means over fewer seeds" in note for note in front([tmp_path], replications=FEW).notes)


def test_unscored_is_no_point(tmp_path: Path):
    trial(tmp_path, "pmc", 0, [curve([metrics(40, 80), {"unlearn_quality": 90.0, "utility": None}])])
    assert [p.checkpoint for p in points(read([tmp_path]).configurations["pmc"], PLANES["quality"])] == [1]
    assert set(front([tmp_path], replications=FEW).panels) == {"quality", "recall"}, "no panel where prefill was never asked"


def test_bars_come_from_seeds_and_from_configurations(tmp_path: Path):
    trial(tmp_path, "pmc", 0, [curve([metrics(40, 50)]), curve([metrics(80, 50)])])
    trial(tmp_path, "npo", 0, [curve([metrics(100, 50)])])
    trial(tmp_path, "npo", 1, [[]], "failed", "the loss is not finite")
    trial(tmp_path, "idk", 0, [curve([metrics(100, 50)])], "pruned")
    found = front([tmp_path])
    volumes = {name: reach.volume for name, reach in found.panels["quality"].methods.items()}
    assert volumes["pmc"].value == pytest.approx(0.3)
    assert volumes["pmc"].interval == (pytest.approx(0.2), pytest.approx(0.4)), "seeds twice the one or twice the other: a quarter each"
    assert volumes["npo"].value == 0.5
    assert volumes["npo"].interval == (0.0, 0.5), "a quarter of the resamples holds nothing but the failed one"
    assert volumes["idk"].interval is None, "one configuration, one seed: nothing to resample"
    assert any("nothing to resample" in note and note.endswith(": idk") for note in found.notes)
    assert volumes["npo"].above["idk"] == pytest.approx(3 / 8, abs=0.05), "ties in three of four, half of them counted"
    assert volumes["idk"].above["npo"] == pytest.approx(5 / 8, abs=0.05)
    assert volumes["npo"].above["pmc"] == pytest.approx(3 / 4, abs=0.05)
    reach = found.panels["quality"].methods["npo"]
    assert (reach.tries, reach.capped) == (2, None)
    assert reach.equal_tries == pytest.approx(0.25, abs=0.03), "one of two tries, one of which gave nothing"
    assert front([tmp_path]).panels == found.panels, "the same numbers, the same bars"


def test_forgetting_beyond_retain_model_does_not_count(tmp_path: Path):
    trial(tmp_path, "pmc", 0, [curve([metrics(60, 90), metrics(100, 50)])])
    reference(tmp_path, metrics(40, 90, 0.9), metrics(80, 90, 0.1))
    panel = front([tmp_path], replications=FEW).panels["quality"]
    assert (panel.before, panel.retain_model, panel.cap) == ((0.4, 0.9), (0.8, 0.9), 0.8)
    reach = panel.methods["pmc"]
    assert reach.volume.value == pytest.approx(0.6 * 0.9 + 0.4 * 0.5)
    assert reach.capped is not None
    assert reach.capped.value == pytest.approx(0.6 * 0.9 + 0.2 * 0.5)
    assert reach.by_cost[0][:2] == (10.0, pytest.approx(0.54)), "only the first checkpoint is affordable"
    assert reach.by_cost[-1][:2] == (20.0, pytest.approx(0.64))


def test_equal_cost(tmp_path: Path):
    reference(tmp_path, metrics(40, 90, 0.9, 90), metrics(80, 90, 0.1, 90))
    trial(tmp_path, "pmc", 0, [curve([metrics(50, 90, 0.6, 88), metrics(75, 90, 0.3, 85), metrics(90, 90, 0.1, 80)], [10, 30, 90])])
    trial(tmp_path, "idk", 0, [curve([metrics(65, 90, 0.45, 70), metrics(95, 90, 0.0, 60)], [20, 70])])
    found = front([tmp_path], replications=FEW)
    assert found.halved is not None
    assert (found.halved.configuration.method, found.halved.cost) == ("idk", 20.0), "0.45 is half of 0.9"
    table = [(row.budget, row.quality, *(point and point.y for point in row.best.values())) for row in found.rows]
    assert list(found.rows[0].best) == ["idk", "pmc"]
    assert table == [
        *((20.0, pytest.approx(60), 0.7, None), (20.0, pytest.approx(70), None, None)),
        *((40.0, pytest.approx(60), 0.7, 0.85), (40.0, pytest.approx(70), None, 0.85)),
        *((80.0, pytest.approx(60), 0.7, 0.85), (80.0, pytest.approx(70), 0.6, 0.85)),
        *((90.0, pytest.approx(60), 0.7, 0.85), (90.0, pytest.approx(70), 0.6, 0.85)),
    ]
    reference(tmp_path, metrics(40, 90, 0.9, 90))
    assert {row.quality for row in front([tmp_path], replications=FEW).rows} == {75.0, 90.0}, "without the retain model"
    reference(tmp_path)
    assert not front([tmp_path], replications=FEW).rows, "half of what, nobody knows"


def test_chosen_add_most_one_after_the_other():
    scores: list[Scores] = [[(0.4, 0.4)], [(0.9, 0.3)], [(0.5, 0.5)], [(0.3, 0.9), (0.1, 0.1)]]
    found = [point for number, own in enumerate(scores) for point in some(own, number)]
    assert [(c.configuration.number, pytest.approx(c.adds)) for c in chosen(found, 9)] == [(1, 0.27), (3, 0.18), (2, 0.04), (0, 0.0)]
    assert [c.configuration.number for c in chosen(found, 1, cap=0.6)] == [3], "0.3 of its width is beyond the retain model"
    assert chosen([], 3) == ()


def test_folders_are_pooled(tmp_path: Path):
    for name, quality, before in (("a", 50, 40), ("b", 75, 60)):
        trial(tmp_path / name, "pmc", 3, [curve([metrics(quality, 50)])])
        reference(tmp_path / name, metrics(before, 90))
    found = front([tmp_path / "a", tmp_path / "b", tmp_path / "a"], replications=FEW)
    assert found.panels["quality"].methods["pmc"].tries == 2, "trial 3 of two folders is two configurations; one folder counts once"
    assert len(found.chosen["pmc"]) == 2
    assert found.panels["quality"].before == (0.5, 0.9)
    assert any("differ" in note and "unlearn_quality" in note for note in found.notes)


def test_a_fuller_audit_fills_in_what_the_curve_did_not_score(tmp_path: Path):
    place = trial(tmp_path, "pmc", 0, [curve([metrics(40, 80), metrics(60, 70, 0.25, prefill_worst_keyword_recall=None)])])
    findings = [Finding("prefill", "worst_keyword_recall", 0.75, "q1", "yes"), Finding("greedy", "keyword_recall", 1.0, "q1")]
    audit.write(place / "seed-0" / "audit" / "after.jsonl", findings)
    (one,) = read([tmp_path]).configurations["pmc"]
    assert one.at(2, "prefill_worst_keyword_recall") == 0.75
    assert one.at(2, "greedy_keyword_recall") == 0.25, "two audits of different size must not stand on one axis"
    assert one.at(1, "prefill_worst_keyword_recall") is None
    assert [(p.checkpoint, p.x) for p in points([one], PLANES["prefill"])] == [(2, 0.25)]


def test_cost_is_one_currency_for_all(tmp_path: Path):
    trial(tmp_path, "pmc", 0, [curve([metrics(40, 80)], gpu=3.0)])
    assert front([tmp_path], replications=FEW).panels["quality"].methods["pmc"].points[0].cost == 3.0
    trial(tmp_path, "npo", 0, [curve([metrics(40, 80)])])
    found = front([tmp_path], replications=FEW)
    assert found.panels["quality"].methods["pmc"].points[0].cost == 10.0
    assert any("cost is CPU seconds for all" in note for note in found.notes)


def test_what_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere holds no curve of a sweep \(trials: none\)"):
        read([tmp_path / "nowhere"])
    place = trial(tmp_path, "pmc", 0, [curve([metrics(40, 80)])], "failed", "out of memory")
    with pytest.raises(ConfigError, match="trials: 1 failed"):
        read([tmp_path])
    trial(tmp_path, "pmc", 0, [curve([{"utility": 80.0}])])
    with pytest.raises(ConfigError, match="unlearn_quality with utility"):
        front([tmp_path])
    lines = jsonl(curve([metrics(40, 80)]))
    write_text(place / "seed-0" / "curve.jsonl", lines + lines[:50])
    with pytest.raises(ConfigError, match=r"seed-0/curve.jsonl, line 2 cannot be read .*not what a sweep writes"):
        read([tmp_path])
    write_text(place / "seed-0" / "curve.jsonl", lines.replace('"cpu_seconds"', '"time"'))
    with pytest.raises(ConfigError, match=r"line 1 cannot be read .*no 'cpu_seconds'"):
        read([tmp_path])
    trial(tmp_path, "pmc", 0, [curve([metrics(40, 80)])], "finished")
    with pytest.raises(ConfigError, match=r"trial.json cannot be read"):
        read([tmp_path])


def test_a_method_has_its_own_look():
    assert set(METHODS) <= set(fronts.METHODS), "a shipped method without a colour"
    assert len({colour for colour, _ in fronts.METHODS.values()}) == len({marker for _, marker in fronts.METHODS.values()}) == 9
    names = ["pmc", *(f"pmc-{i}" for i in range(30)), "npo"]
    looks = fronts.styles(names)
    assert len(set(looks.values())) == len(names), "two that look alike"
    few = fronts.styles([*fronts.METHODS, "pmc-counterfactual", "ours", "theirs", "mine"])
    assert len({colour for colour, _ in few.values()}) == len(few), "a colour of its own while there are any"
    assert looks["npo"] == fronts.METHODS["npo"]
    assert fronts.styles(["pmc-3"])["pmc-3"] == fronts.styles(["gd", "pmc-3", "zz"])["pmc-3"], "whoever stands beside it"


def test_a_contender_without_points_is_named_and_one_seed_has_no_band(tmp_path: Path):
    trial(tmp_path, "pmc", 0, [curve([metrics(60, 85)], costs=[20.0]), curve([metrics(70, 80)], costs=[9.0])])
    trial(tmp_path, "npo", 0, [curve([metrics(40, 90)])])
    trial(tmp_path, "npo", 1, [curve([metrics(70, 50)])])
    trial(tmp_path, "idk", 0, [[]], "failed", "the loss is not finite")
    found = front([tmp_path], replications=FEW)
    for figure in (fronts.fronts(found), fronts.by_cost(found)):
        for axes in figure.axes:
            assert [text.get_text() for text in axes.texts] == ["no point: idk"]
    bands = [axes.collections for axes in fronts.by_cost(found).axes]
    assert all(len(some) == 1 and tuple(some[0].get_facecolor()[0][:3]) == to_rgb(fronts.METHODS["pmc"][0]) for some in bands)
    for axes in fronts.by_cost(found).axes:
        axes.set_xlim(6, 25)
        ticks = [text.get_text() for text in axes.get_xticklabels(which="both")]
        assert "10" in ticks
        assert "20" in ticks
        assert not any("$" in tick or "×" in tick for tick in ticks), ticks


def test_the_command_leaves_pictures_tables_and_numbers(tmp_path: Path):
    sweep, out = tmp_path / "sweep", tmp_path / "out"
    reference(sweep, metrics(40, 90, 0.9, 90, prefill_worst_keyword_recall=0.9), metrics(80, 90, 0.1, 90, prefill_worst_keyword_recall=0.2))
    trial(sweep, "pmc", 0, [curve([metrics(65, 85, 0.4, 80, prefill_worst_keyword_recall=0.5)])])
    trial(sweep, "pmc", 1, [curve([metrics(99, 20, 0.0, 10, prefill_worst_keyword_recall=0.1)])], "pruned")
    trial(sweep, "npo", 4, [[]], "failed", "the loss is not finite")
    said = call("front", str(sweep), "--out", str(out))
    assert "npo 004 of" in said
    assert "failed: the loss is not finite" in said
    names = ["front-cost.png", "front-cost.svg", "front.json", "front.md", "front.png", "front.svg"]
    assert sorted(path.name for path in out.iterdir()) == names, "and nothing half-written beside them"
    assert (out / "front.png").read_bytes()[:4] == b"\x89PNG"
    drawn = (out / "front.svg").read_text()
    assert all(word in drawn for word in (">pmc<", ">npo<", ">retain model<", ">before<", "answer begun", fronts.METHODS["pmc"][0].lower()))
    found = json.loads((out / "front.json").read_text())
    assert found == json.loads(json.dumps(tables.as_json(front([sweep]))))
    assert [(one["number"], one["folder"], one["settings"]) for one in found["chosen"]["pmc"]] == [
        (0, str(sweep), {"train.learning_rate": 1e-4}),
        (1, str(sweep), {"train.learning_rate": 2e-4}),
    ]
    assert found["chosen_on"] == "recall"
    assert found["panels"]["quality"]["methods"]["pmc"]["hypervolume"]["value"] == pytest.approx(0.65 * 0.85 + 0.34 * 0.2)
    assert found["panels"]["prefill"]["methods"]["pmc"]["front"][0]["metrics"]["unlearn_quality"] == 99.0
    assert found["failed"] == [{"folder": str(sweep), "number": 4, "method": "npo", "why": "the loss is not finite"}]
    assert found["equal_cost"]["rows"][0]["best"] == {"npo": None, "pmc": found["equal_cost"]["halved"]}, (
        "65 is more than halfway from 40 to 80"
    )
    assert "| pmc | 1 complete, 1 pruned |" in (out / "front.md").read_text()
    again = fronts.write(front([sweep]), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [(out / path.name).read_bytes() for path in again], "the same numbers, the same bytes"


def test_the_command_prints_numbers_or_what_is_wrong(tmp_path: Path):
    trial(tmp_path, "pmc", 0, [curve([metrics(60, 85)])])
    assert json.loads(call("front", str(tmp_path), "--json"))["trials"] == {"pmc": {"complete": 1}}
    assert (tmp_path / "front.json").exists(), "in the first folder where no other is named"
    assert "holds no curve" in call("front", str(tmp_path / "pmc"), code=2)


def test_metrics_are_means_of_what_was_scored():
    steps = [(Step(1, 2, 1.0, None, {"multiple_choice_least": value}),) for value in (0.25, 0.75, None)]
    one = Configuration("s", "pmc/000", "pmc", 0, {}, "complete", "", 3, {str(i): c for i, c in enumerate(steps)})
    assert one.at(1, "multiple_choice_least") == 0.5
    assert one.at(1, "multiple_choice_most") is None


def test_what_costs_more_than_its_budget_does_not_count(tmp_path: Path):
    sweep = tmp_path / "sweep"
    trial(sweep, "npo", 0, [curve([metrics(60, 90), metrics(80, 90)], costs=[10.0, 22.0])])
    trial(sweep, "pmc", 0, [curve([metrics(60, 90), metrics(99, 90)], costs=[12.0, 23.0]), curve([metrics(60, 90)], costs=[12.0])])

    def volumes(budget: float | None = None) -> list[float]:
        return [reach.volume.value for reach in front([sweep], replications=FEW, budget=budget).panels["quality"].methods.values()]

    assert volumes() == pytest.approx([0.8 * 0.9, 0.99 * 0.9]), "no budget is known"
    write_text(sweep / "sweep.toml", "budget = 20.0\n")
    assert volumes() == pytest.approx([0.8 * 0.9, 0.6 * 0.9]), "a tenth over counts, more does not"
    assert volumes(budget=0) == pytest.approx([0.8 * 0.9, 0.99 * 0.9])
    assert volumes(budget=11) == pytest.approx([0.6 * 0.9, 0.0])
    found = front([sweep], replications=FEW)
    assert found.notes[0] == "checkpoints that cost more than a tenth over the budget do not count: 1 of pmc"
    out = ("--out", str(tmp_path / "out"))
    assert "cost more than 13 seconds do not count: 1 of npo, 1 of pmc" in call("front", str(sweep), "--budget", "13", *out)
    assert "is within the bounds on cost; raise them, --at-most for what is scored and --budget" in call(
        "front", str(sweep), "--budget", "1", *out, code=2
    )
    assert "give a number of seconds" in call("front", str(sweep), "--budget", "-1", *out, code=2)
    assert "where it goes" in call("front", str(sweep), "--budget", "30", code=2)
    write_text(sweep / "sweep.toml", "budget = true\n")
    assert "sweep.toml: budget is no number of seconds" in call("front", str(sweep), code=2)


def test_no_chance_is_told_where_nothing_could_be_resampled(tmp_path: Path):
    trial(tmp_path, "gd", 0, [curve([metrics(60, 90)])])
    trial(tmp_path, "npo", 0, [curve([metrics(80, 90)])])
    trial(tmp_path, "pmc", 0, [curve([metrics(60, 90)]), curve([metrics(90, 90)])])
    _, rows = tables.above(front([tmp_path], replications=FEW).panels["quality"])
    assert rows[0][:3] == ["gd", "–", "–"]
    assert rows[1][:3] == ["npo", "–", "–"]
    assert all(0 < float(cell) < 1 for cell in (rows[2][2], rows[1][3])), "pmc has two seeds"


def test_only_checkpoints_within_a_bound_count(tmp_path: Path):
    def said(quality: float, broken: float | None) -> dict[str, float | None]:
        return metrics(quality, 90, class_degenerate=broken)

    # Means over seeds: .0, .3 and none scored; the best two points of npo are noise or not known not to be.
    trial(
        tmp_path, "npo", 0, [curve([said(60, 0.0), said(99, 0.0), said(98, None)]), curve([said(60, 0.0), said(99, 0.6), said(98, None)])]
    )
    trial(tmp_path, "ga", 0, [curve([said(99, 1.0)])])
    assert front([tmp_path], replications=FEW).panels["quality"].methods["npo"].volume.value == pytest.approx(0.99 * 0.9)
    bound = front([tmp_path], replications=FEW, at_most={"class_degenerate": 0.05})
    assert bound.panels["quality"].methods["npo"].volume.value == pytest.approx(0.6 * 0.9)
    assert bound.panels["quality"].methods["ga"].volume.value == 0, "it was tried, and has nothing to show"
    assert bound.notes[0] == "only checkpoints with class_degenerate at most 0.05 count: 3 do not"
    assert "do not" in call("front", str(tmp_path), "--at-most", "class_degenerate=0.05", "--out", str(tmp_path / "out"))
    elsewhere = ("--out", str(tmp_path / "out"))
    for wrong in ("much", "=0.05", "class_degenerate=nan"):
        assert "give a metric and a number" in call("front", str(tmp_path), "--at-most", wrong, *elsewhere, code=2)
    assert "class_degenerate" in call("front", str(tmp_path), "--at-most", "class_degenerated=0.1", *elsewhere, code=2)
    assert "is within the bounds" in call("front", str(tmp_path), "--at-most", "unlearn_quality=1", *elsewhere, code=2)
    assert "where it goes" in call("front", str(tmp_path), "--at-most", "class_degenerate=0.05", code=2)


def test_the_never_knew_index_is_an_axis_where_the_sweep_knows_both_models(tmp_path: Path):
    """Forgetting further than the retain model is as far off as not forgetting as far."""
    trial(tmp_path, "pmc", 0, [curve([metrics(50, 90, said) for said in (0.5, 0.1, 0.0)])])
    assert "never_knew" not in front([tmp_path], replications=FEW).panels
    reference(tmp_path, metrics(50, 90, 0.9), metrics(90, 90, 0.1))
    panel = front([tmp_path], replications=FEW).panels["never_knew"]
    assert [point.x for point in panel.methods["pmc"].points] == [0.5, 1.0, 0.875]
    assert (panel.before, panel.retain_model) == ((0.0, 0.5), (1.0, 0.5))
