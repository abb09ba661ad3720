"""The bounds against published or hand-made numbers, and simulations of their coverage (long ones are marked slow)."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from unsay import stats


@pytest.mark.parametrize(
    ("n", "questions", "expected"),
    [(20, 1, 0.206), (100, 1, 0.045), (1000, 1, 0.0046), (20, 400, 0.411), (100, 400, 0.101), (1000, 400, 0.011)],
)
def test_what_clean_answers_certify(n: int, questions: int, expected: float) -> None:
    bound = stats.clopper_pearson_upper(0, n, 1 - 0.01 / questions)
    assert bound == pytest.approx(expected, abs=5 * 10 ** -(len(str(expected)) - 1))
    assert bound == pytest.approx(1 - (0.01 / questions) ** (1 / n)), "the closed form for no leak"


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


def test_an_interval_of_independent_shares_is_nearly_the_exact_one() -> None:
    exact, found = stats.binomial_interval(12, 40), stats.mean_interval([1.0] * 12 + [0.0] * 28)
    assert found.mean == 0.3
    assert (found.low, found.high) == (pytest.approx(exact.low, abs=0.01), pytest.approx(exact.high, abs=0.01))


@pytest.mark.parametrize(("value", "n"), [(0.0, 40), (1.0, 40), (0.0, 2)])
def test_questions_that_all_score_alike_leave_room_for_others(value: float, n: int) -> None:
    found, exact = stats.mean_interval([value] * n), stats.binomial_interval(round(value * n), n)
    assert (found.low, found.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    half, same = stats.mean_interval([0.5] * n), stats.mean_interval([0.0] * n, scale=(-1, 1))
    assert 0 < half.low < 0.5 < half.high < 1
    assert (same.low, same.high) == (pytest.approx(exact.low - exact.high if not value else -0.088, abs=1e-3), pytest.approx(-same.low))


def test_the_questions_of_one_subject_count_as_one_where_they_score_alike() -> None:
    values, groups = [1.0] * 8 + [0.0] * 32, [f"person {i // 8}" for i in range(40)]
    clustered, alone = stats.mean_interval(values, groups), stats.mean_interval(values)
    assert clustered.high > 0.7, "one person of five: exact to .72, and Student's t is wider"
    assert alone.high < 0.4
    assert stats.mean_interval(values, ["one"] * 40) == alone, "nothing is known about other subjects"
    assert stats.mean_interval(values, [""] * 40) == alone


def test_sets_count_alike_whatever_their_size() -> None:
    values, sets = [1.0] * 90 + [0.0] * 10, ["a"] * 90 + ["b"] * 10
    found = stats.mean_interval(values, strata=sets)
    assert found.mean == 0.5
    assert found.low < 0.5 < found.high
    assert stats.mean_interval(values).mean == pytest.approx(0.9)
    for bad in ({"strata": ["a"]}, {"groups": ["a"]}):
        with pytest.raises(ValueError, match="a set for each"):
            stats.mean_interval(values, **bad)
    with pytest.raises(ValueError, match="at least two"):
        stats.mean_interval([1.0])


def test_a_share_is_shown_to_be_chance_within_a_margin_and_what_would_have_been_seen_is_told() -> None:
    low, high = stats.binomial_interval(10, 40, 0.9)
    assert stats.equal_within(10, 40, 0.2) == pytest.approx(max(0.2 - low, high - 0.2))
    assert stats.equal_within(100, 400, 0.25) < stats.equal_within(10, 40, 0.25)
    rate = stats.detectable_rate(40, 0.2)
    assert rate is not None
    draws = np.random.default_rng(0).binomial(40, rate, 4000)
    assert np.mean([stats.binomial_interval(int(hits), 40).low > 0.2 for hits in draws]) == pytest.approx(0.8, abs=0.02)
    assert stats.detectable_rate(1, 0.2) is None


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


def test_independent_scores() -> None:
    rng = np.random.default_rng(2)
    p, n, alone = rng.normal(1, 1, 40), rng.normal(0, 1, 40), [str(i) for i in range(40)]
    apart = stats.independent_scores(p, n, alone, [f"other {i}" for i in range(40)])
    assert 30 < apart < 55, "about as many as there are"
    assert stats.independent_scores(np.repeat(p, 5), np.repeat(n, 5), np.repeat(alone, 5), np.repeat(alone, 5)) == pytest.approx(
        stats.independent_scores(p, n, alone, alone)
    ), "five copies of a score say no more than one"
    wins = np.array([[float(a > b) for b in n] for a in p])
    moved = (wins.mean(1) - wins.mean()) / 40 + (wins.mean(0) - wins.mean()) / 40
    newcombe = stats.independent_scores(p, n, alone, alone) * (student.ppf(0.975, 39) / norm.ppf(0.975)) ** 2
    area = wins.mean()
    spread = area * (1 - area) / newcombe**2 * (1 + (newcombe - 1) * ((1 - area) / (2 - area) + area / (1 + area)))
    assert spread == pytest.approx(40 / 39 * float(moved @ moved)), "its formula gives the variance between groups"
    assert stats.independent_scores([1, 2], [-1, -2], ["a", "b"], ["a", "b"]) == 2, "wholly apart: the groups count"
    assert stats.independent_scores([1, 2], [0, 3], ["a", "a"], ["b", "c"]) == 1, "one group says nothing about others"
    with pytest.raises(ValueError, match="needs a group"):
        stats.independent_scores([1], [0, 3], ["a"], ["b"])


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
    """Differences of the same questions, on a scale of their own."""
    while True:
        found = stats.mean_interval(np.clip(rng.normal(0.1, 0.2, 40), -1, 1), scale=(-1, 1), confidence=CONFIDENCE)
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


def areas_of_groups(rng: np.random.Generator) -> Iterator[bool]:
    """Ten people with eight questions each, on either side, whose scores hang together by half: Φ(1/√2) again. Counted question by
    question, the interval holds the area in 61 % of 1,000 replications."""
    true, of = 0.5 * (1 + math.erf(0.5)), [str(i // 8) for i in range(80)]
    while True:
        p, n = (middle + (rng.normal(0, 1, 80) + np.repeat(rng.normal(0, 1, 10), 8)) / math.sqrt(2) for middle in (1, 0))
        count = stats.independent_scores(p, n, of, [f"other {name}" for name in of], CONFIDENCE)
        low, high = stats.area_interval(stats.roc_auc(p, n), count, count, CONFIDENCE)
        yield low <= true <= high


BOUNDS = (leaks, leaks_of_all, shares, survival, anderson, paired, areas, areas_of_shares, areas_of_groups)


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


def subjects(rng: np.random.Generator, share: float, groups: int, values: list[float], chances: list[float]) -> list[float]:
    """Eight questions a subject: with the chance √share each takes the value of its subject, else one of its own, so that the correlation
    within a subject is `share` and the mean stays what it is."""
    own, shared = (rng.choice(values, (groups, width), p=chances) for width in (8, 1))
    found: list[float] = np.where(rng.random((groups, 8)) < math.sqrt(share), shared, own).ravel().tolist()
    return found


KINDS = {"shares": ([0.0, 1.0], [0.5, 0.5]), "recall": ([0.0, 0.25, 0.5, 1.0], [0.7, 0.1, 0.1, 0.1])}


def held(kind: str, share: float, groups: int, clustered: bool, replications: int) -> float:
    """How often the 95 % interval holds the mean."""
    rng, (values, chances) = np.random.default_rng(1), KINDS[kind]
    names = [str(i // 8) for i in range(8 * groups)] if clustered else []
    intervals = [stats.mean_interval(subjects(rng, share, groups, values, chances), names) for _ in range(replications)]
    return float(np.mean([found.low <= np.dot(values, chances) <= found.high for found in intervals]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.16, 0.84])
@pytest.mark.parametrize("groups", [2, 5, 30])
def test_coverage_where_questions_of_one_subject_score_alike(kind: str, share: float, groups: int) -> None:
    assert held(kind, share, groups, True, 200) >= 0.92 - 3 * math.sqrt(0.92 * 0.08 / 200)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.16, 0.84])
@pytest.mark.parametrize("groups", [2, 3, 5, 10, 30])
def test_coverage_of_groups_over_many_replications(kind: str, share: float, groups: int) -> None:
    assert held(kind, share, groups, True, 10_000) >= 0.92


def test_without_the_groups_an_interval_claims_too_much() -> None:
    assert held("shares", 0.84, 5, False, 400) < 0.7


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
        lambda: stats.clopper_pearson_upper(0, 10, 1.0),
        lambda: stats.dkw_survival_upper([0.5], 0.1, 0.4),
    ):
        with pytest.raises(ValueError, match=r"trials|confidence"):
            call()
