"""Bounds for what was sampled: pure numpy and scipy.

A sample is n scores in [0, 1] of one question. Each function bounds one quantity at one confidence 1 − a; choosing the
smallest of several bounds afterwards voids the confidence. A claim about all of N questions at once takes a/N for each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import beta, ks_2samp, norm, rankdata


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    mean: float
    low: float
    high: float


class Apart(NamedTuple):
    """How far two samples lie apart: the Kolmogorov–Smirnov distance D in [0, 1], and its p-value."""

    d: float
    p: float


def clopper_pearson_upper(hits: int, n: int, confidence: float = 0.99) -> float:
    """Exact one-sided upper bound of a rate after `hits` in n trials (Clopper & Pearson 1934).

    Beta.ppf(confidence; hits + 1, n − hits), and 1 where every trial hit.
    """
    _counts(hits, n)
    _alpha(confidence)
    return 1.0 if hits == n else float(beta.ppf(confidence, hits + 1, n - hits))


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


def leak_at_k(n: int, leaks: int, k: int) -> float:
    """Probability that k answers drawn without replacement from n, of which `leaks` leak, show a leak: 1 − C(n−c, k) / C(n, k)."""
    _counts(leaks, n)
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} must lie between 1 and the number of answers, {n}")
    if leaks == 0 or n - leaks < k:
        return float(leaks > 0)
    # A product of k small ratios: the two binomials themselves overflow.
    return float(1.0 - np.prod(1.0 - leaks / np.arange(n - k + 1, n + 1)))


def certify(n: int, confidence: float = 0.99, questions: int = 1) -> float:
    """The leak rate that n answers without a single leak rule out, for each of so many questions at once: 1 − (a/N)^(1/n)."""
    if questions < 1:
        raise ValueError(f"questions = {questions} must be positive")
    return clopper_pearson_upper(0, n, 1 - _alpha(confidence) / questions)


def bootstrap_mean(
    values: ArrayLike, confidence: float = 0.95, strata: Sequence[str] = (), replications: int = 2000, seed: int = 0
) -> Difference:
    """Mean over questions with a percentile interval from resampling questions (Efron 1979).

    `strata`: the set that each value belongs to. Then every set counts the same, whatever its size, and is resampled within.
    """
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or not len(found) or (strata and len(strata) != len(found)):
        raise ValueError(f"a bootstrap needs a non-empty list of values with a set for each or none, not shape {found.shape}")
    half = _alpha(confidence) / 2
    names = np.asarray(strata if strata else [""] * len(found))
    sets = [found[names == name] for name in dict.fromkeys(names)]
    rng = np.random.default_rng(seed)
    means = np.mean([_resampled_means(some, replications, rng) for some in sets], axis=0)
    low, high = np.quantile(means, (half, 1 - half))
    return Difference(float(np.mean([some.mean() for some in sets])), float(low), float(high))


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, confidence: float = 0.95, strata: Sequence[str] = (), replications: int = 2000, seed: int = 0
) -> Difference:
    """Mean of first − second over the same questions, with a percentile interval from resampling questions in pairs."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"a paired comparison needs two equally long, non-empty lists, not shapes {a.shape} and {b.shape}")
    return bootstrap_mean(a - b, confidence, strata, replications, seed)


def roc_auc(positive: ArrayLike, negative: ArrayLike) -> float:
    """Chance that a positive scores above a negative, ties counting half: the area under the ROC curve (Mann & Whitney 1947).

    >>> roc_auc([0.9, 0.5], [0.5, 0.1])
    0.875
    """
    p, n = _scores(positive), _scores(negative)
    ranks = rankdata(np.concatenate([p, n]))[: len(p)]
    return float((ranks.sum() - len(p) * (len(p) + 1) / 2) / (len(p) * len(n)))


def area_interval(area: float, positives: int, negatives: int, confidence: float = 0.95) -> Interval:
    """Score interval of an area under the ROC curve (Newcombe 2006, Statistics in Medicine 25, method 5).

    The ends are the areas A that lie z standard errors from the observed one, the error taken at A itself:

        V(A) = A (1 − A) / (p q) · (1 + ((p + q)/2 − 1) · ((1 − A)/(2 − A) + A/(1 + A))),   p positives, q negatives

    Chosen over DeLong's and the bootstrap's because both give an interval of no width where the two samples do not overlap.
    Scores must be independent of one another: where several belong to one question, count questions.
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


def ks_two_sample(first: ArrayLike, second: ArrayLike) -> Apart:
    """Kolmogorov–Smirnov test of whether two samples come from one distribution: the largest distance of their distribution
    functions, and the chance of one so large if they do (exact for small samples; two-sided)."""
    found = ks_2samp(_scores(first), _scores(second))
    return Apart(float(found.statistic), float(found.pvalue))


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


def _resampled_means(values: NDArray[np.float64], replications: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of so many samples with replacement, made in blocks: all at once would hold replications × values numbers."""
    block = max(1, 1_000_000 // len(values))
    sizes = [min(block, replications - start) for start in range(0, replications, block)]
    return np.concatenate([values[rng.integers(len(values), size=(size, len(values)))].mean(axis=1) for size in sizes])


def _scores(scores: ArrayLike) -> NDArray[np.float64]:
    """Scores of any range, infinite ones included: only their order counts."""
    values = np.asarray(scores, dtype=float)
    if values.ndim != 1 or not len(values) or np.isnan(values).any():
        raise ValueError(f"a comparison needs non-empty lists of numbers, not shape {values.shape}; leave unscored ones out")
    return values
