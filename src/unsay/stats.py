"""Bounds for what was sampled: pure numpy and scipy.

A sample is n scores in [0, 1] of one question. Each function bounds one quantity at one confidence 1 − a; choosing the
smallest of several bounds afterwards voids the confidence. A claim about all of N questions at once takes a/N for each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    mean: float
    low: float
    high: float


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


def empirical_bernstein_upper(samples: ArrayLike, confidence: float = 0.99) -> float:
    """Upper bound of the mean for large n (Maurer & Pontil 2009), at most 1; V is the unbiased sample variance.

    mean + sqrt(2 V ln(2/a) / n) + 7 ln(2/a) / (3 (n − 1))
    """
    values = _unit(samples)
    n = len(values)
    if n < 2:
        return 1.0
    log = np.log(2 / _alpha(confidence))
    return float(min(1.0, values.mean() + np.sqrt(2 * values.var(ddof=1) * log / n) + 7 * log / (3 * (n - 1))))


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


def paired_bootstrap(first: ArrayLike, second: ArrayLike, confidence: float = 0.95, replications: int = 2000, seed: int = 0) -> Difference:
    """Mean of first − second over the same questions, with a percentile interval from resampling questions in pairs."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"a paired comparison needs two equally long, non-empty lists, not shapes {a.shape} and {b.shape}")
    half = _alpha(confidence) / 2
    differences = a - b
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(differences, len(differences)).mean() for _ in range(replications)])
    low, high = np.quantile(means, (half, 1 - half))
    return Difference(float(differences.mean()), float(low), float(high))


def coverage_holds(covered: Sequence[bool], confidence: float) -> bool:
    """Whether a simulation of R replications agrees with a bound: share covered ≥ 1 − a − 3 sqrt(a (1 − a) / R)."""
    a = _alpha(confidence)
    return float(np.mean(covered)) >= 1 - a - 3 * np.sqrt(a * (1 - a) / len(covered))


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
