"""The pages of the paper's statements and of times are what the files in results/ say."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts import reproduction, run_rows
from unsay.research.ablate_report import Ablation, Point
from unsay.research.front.curves import Sweeps

ablations = reproduction.ablations


def test_pages_are_what_the_files_say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["reproduction.py", "--check"])
    assert reproduction.main() == 0, capsys.readouterr().out


def test_a_page_that_says_otherwise_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reproduction, "ROWS", reproduction.ROWS[3:4])
    monkeypatch.setattr("sys.argv", ["reproduction.py", "--check"])
    assert reproduction.main() == 1
    assert "reproduction.md" in capsys.readouterr().out


def test_every_statement_has_a_verdict() -> None:
    verdicts = [row.found()[1] for row in reproduction.ROWS]
    plain = (reproduction.YES, reproduction.NO, reproduction.NOT_RUN, ablations.OPEN)
    assert all(one in plain or one.startswith((reproduction.PARTLY, run_rows.NOT_SHOWN)) for one in verdicts)
    assert verdicts.count(reproduction.NO) >= 1, "a page on which all agrees would be none"


Seeds = Sequence[tuple[float, float]]
"""Quality and utility of each seed."""


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, dict[float, Seeds]]]:
    """Method → knob → value → what its seeds scored, in place of the kept ablations."""
    given: dict[str, dict[str, dict[float, Seeds]]] = {}

    def point(value: float, seeds: Seeds) -> Point:
        scored = {str(i): {"unlearn_quality": quality, "utility": utility} for i, (quality, utility) in enumerate(seeds)}
        return Point(value, scored, 1.0)

    def ablation(method: str) -> Ablation:
        knobs = {knob: tuple(point(*one) for one in values.items()) for knob, values in given[method].items()}
        return Ablation(knobs, (), Sweeps((), {}, {}, {}))

    monkeypatch.setattr(ablations, "ablation", ablation)
    return given


@pytest.mark.parametrize(
    ("low", "high", "traded", "costs"),
    [
        ([(90, 80), (80, 70)], [(80, 90), (70, 75)], "agrees", "**does not agree**"),
        ([(90, 80), (80, 70)], [(91, 90), (50, 75)], "partly: in the mean, not with every seed", "**does not agree**"),
        ([(90, 90), (80, 80)], [(95, 50), (85, 79)], "**does not agree**", "agrees"),
        ([(90, 90), (80, 80)], [(95, 50), (85, 81)], "**does not agree**", "partly: in the mean, not with every seed"),
    ],
)
def test_a_trade_must_hold_with_every_seed(found, low: Seeds, high: Seeds, traded: str, costs: str) -> None:
    found["pmc"] = {knob: {1: low, 4: high} for knob in ("pmc.retain_weight", "pmc.temperature")}
    assert ablations.traded(1, 4)[1] == traded
    assert ablations.costs("pmc.temperature", 1, 4)[1] == costs


@pytest.mark.parametrize(
    ("some", "many", "said"),
    [
        ([(70, 0), (72, 0)], [(60, 0), (90, 0)], "agrees"),
        ([(70, 0), (72, 0)], [(90, 0), (91, 0)], "partly: helps, and adds no variance"),
        ([(49, 0), (72, 0)], [(60, 0), (90, 0)], "**does not agree**"),
    ],
)
def test_more_samples_must_help_with_every_seed(found, some: Seeds, many: Seeds, said: str) -> None:
    found["pmc"] = {"pmc.samples": {1: [(50, 0), (60, 0)], 5: some, 20: many}}
    assert ablations.samples(1, 5, 20)[1] == said


@pytest.mark.parametrize(
    ("pmc", "npo", "said"),
    [
        ([(60, 0), (62, 0)], [(50, 0), (52, 0)], "agrees"),
        ([(49, 0), (72, 0)], [(50, 0), (52, 0)], "partly: in the mean, not with every seed"),
        ([(51, 0), (52, 0)], [(70, 0), (72, 0)], "**does not agree**"),
    ],
)
def test_rounds_help_whoever_gains_most(found, pmc: Seeds, npo: Seeds, said: str) -> None:
    start = [(50, 0), (51, 0)]
    found |= {name: {"train.rounds": {8: start, 32: end}} for name, end in (("pmc", pmc), ("npo", npo), ("simnpo", start))}
    assert ablations.plateaus(8, 32)[1] == said
