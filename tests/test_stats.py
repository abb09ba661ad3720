"""The bounds against published or hand-made numbers, and simulations of their coverage (long ones are marked slow)."""

import itertools
import math
from collections.abc import Callable, Iterator

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


def test_roc_auc() -> None:
    assert stats.roc_auc([0.9, 0.5], [0.5, 0.1]) == 0.875, "three of four pairs in order, one tie"
    assert stats.roc_auc([1, 1], [0, 0, 0]) == 1.0
    assert stats.roc_auc([-math.inf, 2], [0, 1]) == 0.5
    assert stats.roc_auc([3], [3]) == 0.5
    with pytest.raises(ValueError, match="unscored"):
        stats.roc_auc([float("nan")], [1.0])


def test_the_interval_of_an_area() -> None:
    low, high = stats.area_interval(0.8, 30, 40)
    z = 1.959964
    for end in (low, high):  # each end lies z standard errors of its own away
        variance = end * (1 - end) / 1200 * (1 + 34 * ((1 - end) / (2 - end) + end / (1 + end)))
        assert abs(0.8 - end) == pytest.approx(z * variance**0.5, rel=1e-6)
    assert low < 0.8 < high
    assert stats.area_interval(1.0, 40, 40).low == pytest.approx(0.950, abs=1e-3), "apart, and still of some width"
    assert stats.area_interval(0.0, 40, 40).high == pytest.approx(0.050, abs=1e-3), "the mirror image"
    with pytest.raises(ValueError, match="is none"):
        stats.area_interval(0.5, 0, 3)


def test_kolmogorov_smirnov() -> None:
    d, p = stats.ks_two_sample([1, 2, 3, 4], [3.5, 4.5, 5.5, 6.5])
    assert d == 0.75, "at 3, three of four against none"
    assert p == pytest.approx(16 / math.comb(8, 4)), "exact: 16 of the 70 orders lie at least so far apart"
    assert stats.ks_two_sample([0.1, 0.2], [0.1, 0.2]) == (0.0, 1.0)


def test_a_bootstrap_of_sets_counts_them_alike() -> None:
    found = stats.bootstrap_mean([1.0] * 90 + [0.0] * 10, strata=["a"] * 90 + ["b"] * 10)
    assert found == (0.5, 0.5, 0.5), "within a set nothing varies"
    assert stats.bootstrap_mean([1.0] * 90 + [0.0] * 10).mean == pytest.approx(0.9)
    with pytest.raises(ValueError, match="set for each"):
        stats.bootstrap_mean([1.0, 2.0], strata=["a"])


CONFIDENCE = 0.9
SHORT = 400


def leaks(rng: np.random.Generator) -> Iterator[bool]:
    """Clopper–Pearson, one-sided: the rate lies below the bound."""
    while True:
        yield stats.clopper_pearson_upper(int(rng.binomial(40, 0.15)), 40, CONFIDENCE) >= 0.15


def leaks_of_all(rng: np.random.Generator) -> Iterator[bool]:
    """The same for eight questions at once, each with an eighth of the error."""
    rates = np.linspace(0.02, 0.5, 8)
    while True:
        counts = rng.binomial(40, rates)
        yield all(stats.clopper_pearson_upper(int(c), 40, 1 - 0.1 / 8) >= rate for c, rate in zip(counts, rates, strict=True))


def shares(rng: np.random.Generator) -> Iterator[bool]:
    """Clopper–Pearson, two-sided."""
    while True:
        low, high = stats.binomial_interval(int(rng.binomial(40, 0.3)), 40, CONFIDENCE)
        yield low <= 0.3 <= high


def survival(rng: np.random.Generator) -> Iterator[bool]:
    """Dvoretzky–Kiefer–Wolfowitz, at every place at once."""
    at = np.linspace(0, 1, 101)
    while True:
        yield bool(np.all(stats.dkw_survival_upper(rng.beta(1, 3, 40), at, CONFIDENCE) >= (1 - at) ** 3))


def anderson(rng: np.random.Generator) -> Iterator[bool]:
    while True:
        yield stats.anderson_mean_upper(rng.beta(1, 3, 40), CONFIDENCE) >= 0.25


def paired(rng: np.random.Generator) -> Iterator[bool]:
    """The bootstrap's error vanishes with the number of questions; of 100 it is within the criterion."""
    while True:
        base = rng.beta(2, 2, 100)
        found = stats.paired_bootstrap(
            base + rng.normal(0.1, 0.2, 100), base, CONFIDENCE, replications=400, seed=int(rng.integers(1 << 30))
        )
        yield found.low <= 0.1 <= found.high


def areas(rng: np.random.Generator) -> Iterator[bool]:
    """Two normal distributions a standard deviation apart: the area is Φ(1/√2)."""
    true = 0.5 * (1 + math.erf(0.5))
    while True:
        low, high = stats.area_interval(stats.roc_auc(rng.normal(1, 1, 20), rng.normal(0, 1, 30)), 20, 30, CONFIDENCE)
        yield low <= true <= high


def areas_of_shares(rng: np.random.Generator) -> Iterator[bool]:
    """Scores of noughts and ones, nearly all tied."""
    while True:
        low, high = stats.area_interval(stats.roc_auc(rng.random(40) < 0.9, rng.random(40) < 0.2), 40, 40, CONFIDENCE)
        yield low <= 0.85 <= high


BOUNDS = (leaks, leaks_of_all, shares, survival, anderson, paired, areas, areas_of_shares)


def covered(trial: Callable[[np.random.Generator], Iterator[bool]], replications: int) -> bool:
    """Whether the share of replications that the bound covers is at least 1 − a, but for three standard errors."""
    held, a = list(itertools.islice(trial(np.random.default_rng(0)), replications)), 1 - CONFIDENCE
    return float(np.mean(held)) >= 1 - a - 3 * math.sqrt(a * (1 - a) / replications)


@pytest.mark.parametrize("trial", BOUNDS)
def test_coverage(trial: Callable[[np.random.Generator], Iterator[bool]]) -> None:
    assert covered(trial, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("trial", BOUNDS)
def test_coverage_over_many_replications(trial: Callable[[np.random.Generator], Iterator[bool]]) -> None:
    assert covered(trial, 20_000)


def test_the_criterion_of_coverage_can_fail() -> None:
    def mean(rng: np.random.Generator) -> Iterator[bool]:
        while True:
            yield float(rng.beta(1, 3, 40).mean()) >= 0.25

    def unshared(rng: np.random.Generator) -> Iterator[bool]:
        while True:
            counts = rng.binomial(40, np.full(8, 0.15))
            yield all(stats.clopper_pearson_upper(int(c), 40, CONFIDENCE) >= 0.15 for c in counts)

    assert not covered(mean, SHORT), "the mean itself bounds nothing"
    assert not covered(unshared, SHORT), "eight questions, each with the whole error"


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
