"""Bounds for what was sampled: pure numpy and scipy.

A sample is n scores in [0, 1] of one question. Each function bounds one quantity at one confidence 1 − a; choosing the
smallest of several bounds afterwards voids the confidence. A claim about all of N questions at once takes a/N for each.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom, norm, rankdata
from scipy.stats import t as student

_ROUNDING = 1e-20
"""A variance below this is zero, up to rounding."""
_POWER = 0.8


class Interval(NamedTuple):
    low: float
    high: float


class Estimate(NamedTuple):
    mean: float
    low: float
    high: float


@lru_cache(maxsize=4096)
def clopper_pearson_upper(hits: int, n: int, confidence: float = 0.99) -> float:
    """Exact one-sided upper bound of a rate after `hits` in n trials (Clopper & Pearson 1934).

    Beta.ppf(confidence; hits + 1, n − hits), and 1 where every trial hit.
    """
    _counts(hits, n)
    _alpha(confidence)
    return 1.0 if hits == n else float(beta.ppf(confidence, hits + 1, n - hits))


@lru_cache(maxsize=4096)
def binomial_interval(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Exact two-sided Clopper–Pearson interval of a rate: half of the error on each side."""
    _counts(hits, n)
    half = _alpha(confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(half, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - half, hits + 1, n - hits))
    return Interval(low, high)


def dkw_survival_upper(samples: ArrayLike, at: ArrayLike, confidence: float = 0.99) -> NDArray[np.float64]:
    """Upper bound of P(X > x) for every x of `at`, simultaneously: 1 − F_n(x) + sqrt(ln(1/a) / 2n), at most 1.

    Dvoretzky–Kiefer–Wolfowitz with Massart's constant (1990); one-sided, which needs a ≤ 1/2.
    """
    values = np.sort(_unit(samples))
    above = 1.0 - np.searchsorted(values, np.asarray(at, dtype=float), side="right") / len(values)
    return np.minimum(1.0, above + _dkw(len(values), confidence))


def anderson_mean_upper(samples: ArrayLike, confidence: float = 0.99) -> float:
    """Upper bound of the mean (Anderson 1969): the DKW bound of the survival function integrated over [0, 1].

        ∫ min(1, 1 − F_n(x) + ε) dx = 1 − Σ_i max(0, i/n − ε) · (x_(i+1) − x_(i)),   x_(n+1) = 1,  ε = sqrt(ln(1/a) / 2n)

    Exact from the order statistics, no grid.
    """
    values: NDArray[np.float64] = np.sort(_unit(samples))
    n = len(values)
    below = np.maximum(0.0, np.arange(1, n + 1) / n - _dkw(n, confidence))
    return 1.0 - float(np.sum(below * np.diff(values, append=1.0)))


@lru_cache(maxsize=4096)
def leak_at_k(n: int, leaks: int, k: int) -> float:
    """Probability that k answers drawn without replacement from n, of which `leaks` leak, show a leak: 1 − C(n−c, k) / C(n, k)."""
    _counts(leaks, n)
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} must lie between 1 and the number of answers, {n}")
    if leaks == 0 or n - leaks < k:
        return float(leaks > 0)
    # A product of k small ratios: the two binomials themselves overflow.
    return float(1.0 - np.prod(1.0 - leaks / np.arange(n - k + 1, n + 1)))


def mean_interval(
    values: ArrayLike,
    groups: Sequence[str] = (),
    strata: Sequence[str] = (),
    scale: tuple[float, float] = (0.0, 1.0),
    confidence: float = 0.95,
) -> Estimate:
    """Mean over questions with an interval that holds for few questions too, and for questions in groups that score alike.

    `groups`: the subject of each question; one without ("") is a group of its own, and where all have one subject, each counts alone.
    `strata`: the set that each value belongs to; every set counts the same, whatever its size. `scale`: the least and the largest value.

    The interval is the exact one of a share (Clopper & Pearson 1934) with as many trials n* as would give the mean p the variance V
    that it has between groups (Korn & Graubard 1998, Survey Methodology 24). With G groups, S sets and everything on the scale 0 to 1:

        V = G / (G − S) · Σ_g (Σ_{i in g} w_i (y_i − mean of its set))²,     n* = p (1 − p) / V · (z / t_{G − S})²

    w is the weight of a question in the mean, t Student's quantile. Where all values are alike, V = 0 says nothing: up to
    1 − (a/2)^(1/G) of all groups may then be unlike those that were seen, and lie at either end of the scale.
    Chosen by simulation over Student's t and over the bootstrap of groups, percentile and BCa (docs/lab-log.md).

    >>> [round(end, 2) for end in mean_interval([0.0] * 10)]
    [0.0, 0.0, 0.31]
    """
    found = np.asarray(values, dtype=float)
    n, half, (least, most) = len(found), _alpha(confidence) / 2, scale
    if found.ndim != 1 or n < 2 or any(names and len(names) != n for names in (groups, strata)):
        raise ValueError(f"an interval needs at least two values with a group and a set for each or none, not shape {found.shape}")
    of = np.unique(np.asarray(strata), return_inverse=True)[1] if len({*strata}) > 1 else np.zeros(n, int)
    members = np.arange(n)
    if len({*groups}) > 1:
        numbers: dict[str | int, int] = {}
        members = np.array([numbers.setdefault(name or i, len(numbers)) for i, name in enumerate(groups)])
    sizes = np.bincount(of)
    means = np.bincount(of, found) / sizes
    moved = np.bincount(members, (found - means[of]) / (sizes * len(sizes))[of])
    mean, free = float(means.mean()), max(1, len(moved) - len(sizes))
    variance = float(np.sum(moved**2)) * len(moved) / free / (most - least) ** 2
    p = (mean - least) / (most - least)
    if variance < _ROUNDING or not 0 < p < 1:
        unseen = 1 - half ** (1 / (free + 1))
        return Estimate(mean, mean - unseen * (mean - least), mean + unseen * (most - mean))
    trials = p * (1 - p) / variance * (norm.ppf(half) / student.ppf(half, free)) ** 2
    hits = p * trials
    low, high = beta.ppf(half, hits, trials - hits + 1), beta.ppf(1 - half, hits + 1, trials - hits)
    return Estimate(mean, least + float(low) * (most - least), least + float(high) * (most - least))


def equal_within(hits: int, n: int, target: float, confidence: float = 0.95) -> float:
    """The smallest margin within which a rate is shown to equal `target`, by two one-sided exact tests (Schuirmann 1987): the farther
    end of the interval of 1 − 2a lies that far from it. Not to find a difference shows nothing; this does.

    >>> round(equal_within(10, 40, 0.25), 2)
    0.14
    """
    low, high = binomial_interval(hits, n, 1 - 2 * _alpha(confidence))
    return max(target - low, high - target)


def detectable_rate(n: int, target: float, confidence: float = 0.95) -> float | None:
    """The smallest rate above `target` that n trials find to differ from it with a power of .8: the exact interval of the rate lies above
    the target with that chance. `None` where no rate is found.

    >>> round(detectable_rate(40, 0.2), 2)
    0.4
    """
    _counts(0, n)
    least = next((hits for hits in range(n + 1) if binomial_interval(hits, n, confidence).low > target), None)
    if least is None:
        return None
    return float(brentq(lambda rate: binom.sf(least - 1, n, rate) - _POWER, target, 1.0))


def roc_auc(positive: ArrayLike, negative: ArrayLike) -> float:
    """Chance that a positive scores above a negative, ties counting half: the area under the ROC curve (Mann & Whitney 1947).

    >>> roc_auc([0.9, 0.5], [0.5, 0.1])
    0.875
    """
    p, n = _scores(positive), _scores(negative)
    ranks = rankdata(np.concatenate([p, n]))[: len(p)]
    return float((ranks.sum() - len(p) * (len(p) + 1) / 2) / (len(p) * len(n)))


def area_interval(area: float, positives: float, negatives: float, confidence: float = 0.95) -> Interval:
    """Score interval of an area under the ROC curve (Newcombe 2006, Statistics in Medicine 25, method 5).

    The ends are the areas A that lie z standard errors from the observed one, the error taken at A itself:

        V(A) = A (1 − A) / (p q) · (1 + ((p + q)/2 − 1) · ((1 − A)/(2 − A) + A/(1 + A))),   p positives, q negatives

    Chosen over DeLong's and the bootstrap's because both give an interval of no width where the two samples do not overlap.
    Scores must be independent of one another; where they are not, `independent_scores` says how many to count.
    """
    if not 0 <= area <= 1 or positives < 1 or negatives < 1:
        raise ValueError(f"an area of {area} over {positives} and {negatives} scores is none")
    z = float(norm.ppf(1 - _alpha(confidence) / 2))

    def beyond(a: float) -> float:
        """Squared distance less z² times the variance; its sign tells inside from outside."""
        spread = 1 + ((positives + negatives) / 2 - 1) * ((1 - a) / (2 - a) + a / (1 + a))
        return float((area - a) ** 2 - z * z * a * (1 - a) / (positives * negatives) * spread)

    # An area of 0 or 1 is itself a root, of no error; the end that is sought lies away from it.
    low = 0.0 if area == 0 else float(brentq(beyond, 0.0, min(area, 1 - 1e-12)))
    high = 1.0 if area == 1 else float(brentq(beyond, max(area, 1e-12), 1.0))
    return Interval(low, high)


def independent_scores(
    positive: ArrayLike, negative: ArrayLike, positive_of: Sequence[str], negative_of: Sequence[str], confidence: float = 0.95
) -> float:
    """How many independent scores on each side would give the area under the ROC curve the variance V that it has between groups
    (Obuchowski 1997, Biometrics 53). `positive_of` and `negative_of`: the group of each score; a group may have scores on both sides.

    With P and N scores, G groups on the side that has fewer of them, A the area, and v = the share of the other side that a score wins
    against (a tie is half a win):

        V = G / (G − 1) · Σ_g (Σ_{positives i of g} (v_i − A) / P + Σ_{negatives j of g} (v_j − A) / N)²

    times (z / t_{G − 1})² for the few groups. Where the two sides are wholly apart, V = 0 says nothing, and the groups count.
    """
    p, n = _scores(positive), _scores(negative)
    if len(p) != len(positive_of) or len(n) != len(negative_of):
        raise ValueError("each score needs a group")
    area, few = roc_auc(p, n), min(len({*positive_of}), len({*negative_of}))
    if few < 2:
        return 1.0
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*positive_of, *negative_of]))}
    moved = np.concatenate([(_wins(p, n) - area) / len(p), (1 - _wins(n, p) - area) / len(n)])
    sums = np.bincount([numbers[name] for name in [*positive_of, *negative_of]], moved)
    variance = few / (few - 1) * float(sums @ sums)
    if variance < _ROUNDING:
        return float(few)
    # Newcombe's variance of m against m scores, solved for m.
    plain, alike = area * (1 - area), (1 - area) / (2 - area) + area / (1 + area)
    m = (plain * alike + ((plain * alike) ** 2 + 4 * variance * plain * (1 - alike)) ** 0.5) / (2 * variance)
    half = _alpha(confidence) / 2
    return float(max(1.0, m * (norm.ppf(half) / student.ppf(half, few - 1)) ** 2))


def _wins(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the others that each score wins against; a tie is half a win."""
    others = np.sort(others)
    return (np.searchsorted(others, some, "left") + np.searchsorted(others, some, "right")) / (2 * len(others))


def _alpha(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} must lie strictly between 0 and 1")
    return 1 - confidence


def _dkw(n: int, confidence: float) -> float:
    a = _alpha(confidence)
    if a > 0.5:
        raise ValueError(f"confidence = {confidence} must be at least 0.5 for this bound")
    return float(np.sqrt(np.log(1 / a) / (2 * n)))


def _counts(hits: int, n: int) -> None:
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is not a count of trials")


def _unit(samples: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(samples, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"a sample is a non-empty list of scores, not shape {values.shape}")
    # Written so that NaN fails too.
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError("the bounds hold for scores in [0, 1] only; leave unscored ones out")
    return values


def _scores(scores: ArrayLike) -> NDArray[np.float64]:
    """Scores of any range, infinite ones included: only their order counts."""
    values = np.asarray(scores, dtype=float)
    if values.ndim != 1 or not len(values) or np.isnan(values).any():
        raise ValueError(f"a comparison needs non-empty lists of numbers, not shape {values.shape}; leave unscored ones out")
    return values
