"""The two recursions behind Partial Model Collapse, exact and simulated, on a finite set of answers.

They say what the method does when nothing else interferes: no statistical error beyond the stated sampling, no
approximation error, no parameters shared between questions. The exact recursions renormalise at every step, because
rounding errors of the total mass grow like K^t otherwise.

Source: arXiv 2507.04219 (the warm-up and the statement); arXiv 2407.09499 (the form of the preference-guided step).
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]

DEMO_COUNTS = (5, 10, 20, 15, 10, 10, 5, 10, 10, 5)
"""The authors' ten colours: how many items of each there are at the start. The last seven are retained."""
DEMO_RETAINED = (0, 0, 0, 15, 10, 10, 5, 10, 10, 5)


def warm_up_expected(start: ArrayLike, retained: ArrayLike, n: int, rounds: int) -> Vector:
    """Expected categorical distribution after `rounds` refits on n own samples and the retained items.

        E[p_t(i)] = α^t p_0(i) + (1 − α^t) c_i / N_r,   α = n / (n + N_r),   N_r = Σ c_i

    `retained` holds the counts c_i, 0 for what is to be forgotten: its mass decays as α^t. With nothing retained, α = 1.
    """
    p, counts = _distribution(start), np.asarray(retained, dtype=float)
    total = counts.sum()
    decay = (n / (n + total)) ** rounds
    return decay * p + (1 - decay) * counts / total if total else p


def warm_up_step(p: ArrayLike, retained: ArrayLike, n: int, rng: np.random.Generator) -> Vector:
    """One simulated refit: p'(i) = (X_i + c_i) / (n + N_r) with X ~ Multinomial(n, p)."""
    counts = np.asarray(retained, dtype=float)
    return np.asarray((rng.multinomial(n, _distribution(p)) + counts) / (n + counts.sum()))


def preference_weights(p: ArrayLike, reward: ArrayLike, k: int, temperature: float = 1.0) -> Vector:
    """H_K(x), by which one preference-guided round multiplies the probability of x; exact.

        H_K(x) = E over x_1 … x_{K−1} ~ p of  K e^{r(x)/τ} / (e^{r(x)/τ} + Σ_i e^{r(x_i)/τ})

    Enumerates how the K − 1 rivals spread over the distinct rewards: C(K − 2 + m, m − 1) cases for m of them. Raises
    `ValueError` past two million.
    """
    p, reward = _distribution(p), np.asarray(reward, dtype=float)
    _knobs(k, temperature)
    levels, level = np.unique(reward, return_inverse=True)
    mass = np.bincount(level, weights=p, minlength=len(levels))
    cases = math.comb(k - 2 + len(levels), len(levels) - 1)
    if cases > 2_000_000:
        raise ValueError(f"{cases} cases are too many to enumerate; use fewer rewards or samples, or preference_simulated")
    # Only differences of rewards matter; e^700 stands for infinity, because 0 rivals of infinite strength are still none.
    rival = np.exp(np.minimum(700.0, (levels[None, :] - levels[:, None]) / temperature))
    weights = np.zeros(len(levels))
    for counts in _compositions(k - 1, len(levels)):
        taken = np.asarray(counts)
        chance = math.factorial(k - 1) * float(np.prod(mass**taken)) / math.prod(math.factorial(c) for c in counts)
        weights += chance * k / (1.0 + rival @ taken)
    return weights[level]


def preference_step(p: ArrayLike, reward: ArrayLike, k: int, temperature: float = 1.0) -> Vector:
    """One exact round of choosing among k by Bradley–Terry: p'(x) = p(x) · H_K(x), renormalised."""
    p = _distribution(p)
    return _normal(p * preference_weights(p, reward, k, temperature))


def preference_simulated(p: ArrayLike, reward: ArrayLike, k: int, temperature: float, n: int, rng: np.random.Generator) -> Vector:
    """The same round with n groups of k samples: the shares of the chosen ones. Temperature 0 takes the best, ties at random."""
    p, reward = _distribution(p), np.asarray(reward, dtype=float)
    _knobs(k, temperature or 1.0)
    groups = rng.choice(len(p), size=(n, k), p=p)
    # Gumbel noise turns an argmax into a Bradley–Terry choice; without temperature it only breaks ties.
    noise = rng.gumbel(size=groups.shape)
    best = (reward[groups] / temperature + noise).argmax(1) if temperature else np.lexsort((noise, reward[groups]))[:, -1]
    return np.bincount(groups[np.arange(n), best], minlength=len(p)) / n


def argmax_step(p: ArrayLike, reward: ArrayLike, k: int) -> Vector:
    """One exact round of choosing the best of k, ties by chance: p'(x) = p(x) · (F(r)^K − F(r−)^K) / (F(r) − F(r−)).

    F is the distribution function of the reward; within one reward the shares stay as they were.
    """
    p, reward = _distribution(p), np.asarray(reward, dtype=float)
    _knobs(k, 1.0)
    levels, level = np.unique(reward, return_inverse=True)
    mass = np.bincount(level, weights=p, minlength=len(levels))
    upto = np.cumsum(mass)
    won = np.diff(upto**k, prepend=0.0)
    share = np.divide(won, mass, out=np.zeros_like(mass), where=mass > 0)
    return _normal(p * share[level])


def argmax_mass(best: float, k: int, rounds: int) -> float:
    """Mass on the highest reward after so many rounds of best-of-k: 1 − (1 − p*_0)^(K^t)."""
    return 1.0 if best == 1.0 else -math.expm1(k**rounds * math.log1p(-best))


def rate(k: int, gap: float, temperature: float = 1.0) -> float:
    """Factor by which the mass off the optimum shrinks per round, near it, for a reward lower by `gap`.

        ρ = K e^{−Δ/τ} / (K − 1 + e^{−Δ/τ})

    1 without a gap or with one sample (nothing moves), towards 0 as τ → 0.
    """
    _knobs(k, temperature)
    weak = math.exp(-gap / temperature)
    return k * weak / (k - 1 + weak)


def expected_reward(p: ArrayLike, reward: ArrayLike) -> float:
    """E[e^r]."""
    return float(_distribution(p) @ np.exp(np.asarray(reward, dtype=float)))


def least_gain(p: ArrayLike, reward: ArrayLike, k: int) -> float:
    """What one round at τ = 1 adds to E[e^r] at least: ((K − 1) / K) · Var(e^r) / e^{r*}, r* the highest reward."""
    p, worth = _distribution(p), np.exp(np.asarray(reward, dtype=float))
    mean = p @ worth
    return float((k - 1) / k * (p @ (worth - mean) ** 2) / worth.max())


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write `total` as an ordered sum of `parts` numbers from 0 on."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def _distribution(p: ArrayLike) -> Vector:
    values = np.asarray(p, dtype=float)
    if values.ndim != 1 or not np.all(values >= 0) or not np.isclose(values.sum(), 1.0):
        raise ValueError("a distribution is a list of numbers from 0 on that sum to 1")
    return values


def _normal(p: Vector) -> Vector:
    return np.asarray(p / p.sum())


def _knobs(k: int, temperature: float) -> None:
    if k < 1 or not temperature > 0:
        raise ValueError(f"k = {k} and temperature = {temperature} must be positive")
