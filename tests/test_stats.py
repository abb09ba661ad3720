"""The bounds against published or hand-made numbers, and a small simulation of their coverage."""

import math

import numpy as np
import pytest

from unsay import stats


@pytest.mark.parametrize(
    ("n", "questions", "expected"),
    [(20, 1, 0.206), (100, 1, 0.045), (1000, 1, 0.0046), (20, 400, 0.411), (100, 400, 0.101), (1000, 400, 0.011)],
)
def test_what_clean_answers_certify(n: int, questions: int, expected: float) -> None:
    assert stats.certify(n, 0.99, questions) == pytest.approx(expected, abs=5 * 10 ** -(len(str(expected)) - 1))
    assert stats.certify(n, 0.99, questions) == pytest.approx(1 - (0.01 / questions) ** (1 / n)), "the closed form for no leak"


def test_clopper_pearson() -> None:
    assert stats.clopper_pearson_upper(5, 5) == 1.0, "all leaked: no bound"
    assert stats.clopper_pearson_upper(0, 1, 0.95) == pytest.approx(0.95)
    low, high = stats.binomial_interval(1, 10, 0.95)
    assert (low, high) == (pytest.approx(0.0025, abs=1e-4), pytest.approx(0.4450, abs=1e-4)), "the textbook interval for 1 of 10"
    assert stats.binomial_interval(0, 10).low == 0.0
    assert stats.binomial_interval(10, 10).high == 1.0
    assert stats.binomial_interval(0, 10).high == pytest.approx(1 - 0.025**0.1)


def test_dkw_survival() -> None:
    epsilon = math.sqrt(math.log(100) / 200)
    found = stats.dkw_survival_upper([0.0] * 50 + [0.5] * 50, [0.0, 0.25, 0.5], 0.99)
    assert found.tolist() == pytest.approx([0.5 + epsilon, 0.5 + epsilon, epsilon]), "strictly above: 50, 50 and 0 of 100"
    assert stats.dkw_survival_upper([1.0], 0.0) == 1.0, "never above 1"


def test_anderson_mean() -> None:
    epsilon = math.sqrt(math.log(100) / 200)
    assert stats.anderson_mean_upper([0.0] * 100, 0.99) == pytest.approx(epsilon), "all zero: what DKW leaves above"
    assert stats.anderson_mean_upper([1.0] * 3) == 1.0
    sample = np.random.default_rng(0).beta(1, 4, 60)
    grid = np.linspace(0, 1, 200_001)
    assert stats.anderson_mean_upper(sample) == pytest.approx(stats.dkw_survival_upper(sample, grid).mean(), abs=1e-4), "the integral"


def test_empirical_bernstein() -> None:
    assert stats.empirical_bernstein_upper([0.0] * 1001, 0.99) == pytest.approx(7 * math.log(200) / 3000), "no variance: the last term"
    assert stats.empirical_bernstein_upper([0.0]) == 1.0, "one sample has no variance"
    assert stats.empirical_bernstein_upper([0.0, 1.0]) == 1.0


def test_leak_at_k() -> None:
    assert stats.leak_at_k(10, 1, 1) == pytest.approx(0.1)
    assert stats.leak_at_k(4, 2, 2) == pytest.approx(5 / 6), "1 − C(2,2) / C(4,2)"
    assert stats.leak_at_k(10, 0, 5) == 0.0
    assert stats.leak_at_k(10, 6, 5) == 1.0, "only four clean answers for five draws"
    assert stats.leak_at_k(100_000, 3, 50_000) == pytest.approx(0.875, abs=1e-4), "no overflow"
    with pytest.raises(ValueError, match="k = 11"):
        stats.leak_at_k(10, 1, 11)


def test_paired_bootstrap() -> None:
    assert stats.paired_bootstrap([0.5, 0.7], [0.3, 0.5]) == (pytest.approx(0.2), pytest.approx(0.2), pytest.approx(0.2)), "pairs agree"
    rng = np.random.default_rng(0)
    base = rng.random(100)
    found = stats.paired_bootstrap(base + rng.normal(0.1, 0.1, 100), base, seed=3)
    assert found.low < 0.1 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1 / 10, rel=0.25), "the spread of the differences, not of the scores"
    assert stats.paired_bootstrap(base, 1 - base, seed=3) == stats.paired_bootstrap(base, 1 - base, seed=3), "same seed, same interval"
    with pytest.raises(ValueError, match="paired"):
        stats.paired_bootstrap([1.0], [1.0, 2.0])


def test_coverage() -> None:
    rng = np.random.default_rng(0)
    n, confidence, p = 40, 0.9, 0.15
    counts = rng.binomial(n, p, 400)
    assert stats.coverage_holds([stats.clopper_pearson_upper(int(c), n, confidence) >= p for c in counts], confidence)
    samples = rng.beta(1, 3, (400, n))
    for bound in (stats.anderson_mean_upper, stats.empirical_bernstein_upper):
        assert stats.coverage_holds([bound(sample, confidence) >= 0.25 for sample in samples], confidence)
    at = np.linspace(0, 1, 101)
    above = (1 - at) ** 3
    assert stats.coverage_holds([bool(np.all(stats.dkw_survival_upper(s, at, confidence) >= above)) for s in samples], confidence)
    assert not stats.coverage_holds([sample.mean() >= 0.25 for sample in samples], confidence), "the mean itself bounds nothing"


@pytest.mark.parametrize("bad", [[], [0.5, float("nan")], [1.1], [[0.5]]])
def test_samples_are_checked(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"sample|scores"):
        stats.anderson_mean_upper(bad)


def test_arguments_are_checked() -> None:
    for call in (
        lambda: stats.clopper_pearson_upper(3, 2),
        lambda: stats.clopper_pearson_upper(0, 0),
        lambda: stats.certify(10, 1.0),
        lambda: stats.certify(10, 0.9, 0),
        lambda: stats.dkw_survival_upper([0.5], 0.1, 0.4),
    ):
        with pytest.raises(ValueError, match=r"trials|confidence|questions"):
            call()
