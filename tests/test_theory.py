"""The theory: literal numbers of the recursions, conservation of mass, agreement of the exact with the simulated; and its page, which finds
out a formula that is wrong."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_cli import call
from unsay.research import theory

P = np.array([0.5, 0.3, 0.15, 0.05])
R = np.array([0.0, 0.4, 0.4, 1.0])

distributions = st.lists(st.floats(0.01, 1), min_size=2, max_size=5).map(lambda xs: np.array(xs) / sum(xs))


def test_warm_up_forgets_at_a_known_rate() -> None:
    start = np.array(theory.DEMO_COUNTS) / 100
    found = theory.warm_up_expected(start, theory.DEMO_RETAINED, n=100, rounds=1)
    assert found[:3].sum() == pytest.approx(0.35 * 100 / 165), "the forgotten .35 decay by α = 100 / 165"
    assert found.sum() == pytest.approx(1)
    late = theory.warm_up_expected(start, theory.DEMO_RETAINED, n=100, rounds=200)
    assert late == pytest.approx(np.array(theory.DEMO_RETAINED) / 65), "only what is retained remains"


def test_warm_up_simulation_agrees_and_dies_out() -> None:
    rng = np.random.default_rng(0)
    start = np.array(theory.DEMO_COUNTS) / 100
    runs = np.array(
        [
            theory.warm_up_step(theory.warm_up_step(start, theory.DEMO_RETAINED, 100, rng), theory.DEMO_RETAINED, 100, rng)
            for _ in range(2000)
        ]
    )
    assert runs.mean(0) == pytest.approx(theory.warm_up_expected(start, theory.DEMO_RETAINED, 100, 2), abs=0.004)
    p = start
    for _ in range(60):
        p = theory.warm_up_step(p, theory.DEMO_RETAINED, 100, rng)
    assert p[:3].sum() == 0, "extinct for good"


def test_preference_weights_equal_enumeration() -> None:
    k, tau = 3, 0.7
    strength = np.exp(R / tau)
    expected = [
        sum(P[a] * P[b] * k * s / (s + strength[a] + strength[b]) for a, b in itertools.product(range(4), repeat=2)) for s in strength
    ]
    assert theory.preference_weights(P, R, k, tau) == pytest.approx(expected)
    assert P @ theory.preference_weights(P, R, k, tau) == pytest.approx(1), "mass is conserved before any renormalising"


def test_preference_simulation_agrees() -> None:
    rng = np.random.default_rng(0)
    assert theory.preference_simulated(P, R, 4, 0.5, 40_000, rng) == pytest.approx(theory.preference_step(P, R, 4, 0.5), abs=0.01)
    assert theory.preference_simulated(P, R, 4, 0.0, 40_000, rng) == pytest.approx(theory.argmax_step(P, R, 4), abs=0.01)


@settings(max_examples=40, deadline=None)
@given(distributions, st.integers(2, 5), st.integers(0, 1000))
def test_expected_reward_grows_by_the_promised_amount(p: np.ndarray, k: int, seed: int) -> None:
    reward = np.random.default_rng(seed).random(len(p))
    after = theory.preference_step(p, reward, k)
    assert after.sum() == pytest.approx(1)
    gain = theory.expected_reward(after, reward) - theory.expected_reward(p, reward)
    assert gain >= theory.least_gain(p, reward, k) - 1e-12


def test_collapse_reaches_the_best_and_nothing_else() -> None:
    p = P
    for _ in range(60):
        p = theory.preference_step(p, R, 5)
    worth = np.exp(R)
    assert theory.expected_reward(p, R) == pytest.approx(math.e, abs=1e-6), "E[e^r] → e^{r*}"
    assert p @ (worth - p @ worth) ** 2 == pytest.approx(0, abs=1e-5), "and the variance dies"
    assert p.sum() == pytest.approx(1), "renormalised, so that rounding cannot grow"


def test_rate_near_the_optimum() -> None:
    assert theory.rate(5, 0.3) == pytest.approx(0.781, abs=5e-4)
    assert theory.rate(1, 0.3) == pytest.approx(1), "one sample: nothing moves"
    assert theory.rate(5, 0.0) == pytest.approx(1), "no gap: nothing to prefer"
    near = np.array([1e-7, 1 - 1e-7])
    after = theory.preference_step(near, np.array([0.7, 1.0]), 5)
    assert after[0] / near[0] == pytest.approx(theory.rate(5, 0.3), abs=1e-5), "what the recursion does there"


def test_argmax_closed_form() -> None:
    p = P
    for _ in range(2):
        p = theory.argmax_step(p, R, 3)
    assert p[3] == pytest.approx(1 - 0.95**9), "1 − (1 − p)^(K^t)"
    assert theory.argmax_mass(0.05, 3, 2) == pytest.approx(1 - 0.95**9)
    assert theory.argmax_mass(1e-12, 5, 3) == pytest.approx(125e-12, rel=1e-9), "small masses keep their digits"
    assert theory.argmax_mass(0.0, 5, 9) == 0.0, "what is never sampled is never chosen"
    assert theory.argmax_mass(1.0, 5, 1) == 1.0
    assert p[1] / p[2] == pytest.approx(2), "ties keep their shares"


def test_small_temperature_is_argmax() -> None:
    # The same rewards without ties within reach of the temperature.
    assert theory.preference_step(P, R, 4, 1e-3) == pytest.approx(theory.argmax_step(P, R, 4), abs=1e-9)


def test_a_collapsed_start_does_not_move() -> None:
    stuck, reward = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert theory.preference_step(stuck, reward, 5).tolist() == [1.0, 0.0], "no sample differs: the boundary in practice"
    assert theory.argmax_step(stuck, reward, 5).tolist() == [1.0, 0.0]


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
