"""The figures on side effects, from made-up findings whose numbers one can see."""

import json
from pathlib import Path

import pytest

from scripts import side_effects
from unsay.types import Finding


def findings(words: list[float], least: list[float]) -> list[Finding]:
    return [Finding("drift", "token_probability", value, f"token {i}", "built-in") for i, value in enumerate(words)] + [
        Finding("multiple_choice", metric, value, f"q{i:02}")
        for i, hit in enumerate(least)
        for metric, value in (("least", hit), ("most", 0.0), ("chance", 0.25), ("min_probability", i / 100))
    ]


def test_words_are_held_against_the_retain_model_and_against_the_model_before(tmp_path: Path) -> None:
    told = side_effects.measured({
        "before": findings([0.9, 0.5, 0.1], [0.0] * 16),
        "retain_model": findings([0.5, 0.5, 0.1], [0.0] * 16),
        "npo": findings([0.0, 0.5, 0.1], [1.0] * 8 + [0.0] * 8),
    })  # fmt: skip
    change = told["npo"]["drift"]["retain_model"]
    assert (change["words"], change["mean"], change["fell by 0.25"]) == (3, pytest.approx(-0.5 / 3), pytest.approx(1 / 3))
    assert sum(change["histogram"]) == 3
    assert -1 <= change["low"] < change["mean"] < change["high"] <= 1
    assert told["npo"]["drift"]["before"]["mean"] == pytest.approx(-0.3)
    assert [mean for mean, _, _ in told["npo"]["by quantile"]["least"]] == [1.0, 0.0], "the least likely options first"
    assert told["npo"]["multiple choice"] == {"least": 0.5, "most": 0.0, "chance": 0.25}
    assert list(told["retain_model"]["drift"]) == ["before"]
    side_effects.draw(json.loads(json.dumps(told)), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
