"""The page of the theory: formulas and simulations agree, and a formula that is wrong is found out."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.test_cli import call
from unsay.research import theory


def test_gradient_descent_finds_the_mixture() -> None:
    q, r = np.array([0.1, 0.2, 0.7]), np.array([0.5, 0.4, 0.1])
    start = np.full((1, 3), 1 / 3)
    assert theory.fitted(start, (q + 1.5 * r)[None])[0] == pytest.approx((q + 1.5 * r) / 2.5, abs=1e-6), "one row for two questions"
    apart = theory.fitted(np.repeat(start, 2, 0), np.stack([q, 5 * r]))
    assert apart[0] == pytest.approx(q, abs=1e-6), "a row of its own: the weight of the other question does not matter"


def test_the_page_says_what_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theory, "_RUNS", 100)
    call("theory", "--out", str(tmp_path), "--seed", "3")
    record = json.loads((tmp_path / "theory.json").read_text())
    assert {one["agrees"] for one in record["findings"]} == {True}
    assert (tmp_path / "theory.md").read_text().count("| yes |") == len(record["findings"])
    assert all((tmp_path / f"theory.{kind}").stat().st_size > 10_000 for kind in ("svg", "png"))
    monkeypatch.setattr(theory, "argmax_mass", lambda best, k, rounds: float(1 - (1 - best) ** (k * rounds)))
    said = call("theory", "--out", str(tmp_path), "--seed", "3", code=1)
    assert "DIFFERS" in said, "K·t is not K^t"
