"""The two recursions behind Partial Model Collapse, exact and simulated, on a finite set of answers.

They say what the method does when nothing else interferes: no statistical error beyond the stated sampling, no
approximation error, no parameters shared between questions. The exact recursions renormalise at every step, because
rounding errors of the total mass grow like K^t otherwise.

Source: arXiv 2507.04219 (the warm-up and the statement); arXiv 2407.09499 (the form of the preference-guided step).
"""

import math
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.special import factorial

Vector = NDArray[np.float64]

DEMO_COUNTS = np.array([5.0, 10, 20, 15, 10, 10, 5, 10, 10, 5])
"""The authors' ten colours: how many items of each there are at the start. The last seven are retained."""
DEMO_RETAINED = np.array([0.0, 0, 0, 15, 10, 10, 5, 10, 10, 5])


def warm_up_expected(start: Vector, retained: Vector, n: int, rounds: int) -> Vector:
    """Expected categorical distribution after `rounds` refits on n own samples and the retained items.

        E[p_t(i)] = α^t p_0(i) + (1 − α^t) c_i / N_r,   α = n / (n + N_r),   N_r = Σ c_i

    `retained` holds the counts c_i, 0 for what is to be forgotten: its mass decays as α^t.
    """
    total = retained.sum()
    decay = (n / (n + total)) ** rounds
    return np.asarray(decay * start + (1 - decay) * retained / total)


def warm_up_step(p: Vector, retained: Vector, n: int, rng: np.random.Generator) -> Vector:
    """One simulated refit: p'(i) = (X_i + c_i) / (n + N_r) with X ~ Multinomial(n, p)."""
    return np.asarray((rng.multinomial(n, p) + retained) / (n + retained.sum()))


def preference_weights(p: Vector, reward: Vector, k: int, temperature: float = 1.0) -> Vector:
    """H_K(x), by which one preference-guided round multiplies the probability of x; exact.

        H_K(x) = E over x_1 … x_{K−1} ~ p of  K e^{r(x)/τ} / (e^{r(x)/τ} + Σ_i e^{r(x_i)/τ})

    Enumerates how the K − 1 rivals (at least one) spread over the distinct rewards.
    """
    levels, level, mass = _by_level(p, reward)
    # Only differences of rewards matter; e^700 stands for infinity, because 0 rivals of infinite strength are still none.
    strength = np.exp(np.minimum(700.0, (levels[:, None] - levels[None, :]) / temperature))
    spread = np.array([np.bincount(some, minlength=len(levels)) for some in combinations_with_replacement(range(len(levels)), k - 1)])
    chance = factorial(k - 1) * (mass**spread / factorial(spread)).prod(1)
    return np.asarray((chance @ (k / (1.0 + spread @ strength)))[level])


def preference_step(p: Vector, reward: Vector, k: int, temperature: float = 1.0) -> Vector:
    """One exact round of choosing among k by Bradley–Terry: p'(x) = p(x) · H_K(x), renormalised."""
    return _normal(p * preference_weights(p, reward, k, temperature))


def preference_simulated(p: Vector, reward: Vector, k: int, temperature: float, n: int, rng: np.random.Generator) -> Vector:
    """The same round with n groups of k samples: the shares of the chosen ones. Temperature 0 takes the best, ties at random."""
    groups = rng.choice(len(p), size=(n, k), p=p)
    # Gumbel noise turns an argmax into a Bradley–Terry choice; without temperature it only breaks ties.
    noise = rng.gumbel(size=groups.shape)
    best = (reward[groups] / temperature + noise).argmax(1) if temperature else np.lexsort((noise, reward[groups]))[:, -1]
    return np.bincount(groups[np.arange(n), best], minlength=len(p)) / n


def argmax_step(p: Vector, reward: Vector, k: int) -> Vector:
    """One exact round of choosing the best of k, ties by chance: p'(x) = p(x) · (F(r)^K − F(r−)^K) / (F(r) − F(r−)).

    F is the distribution function of the reward; within one reward the shares stay as they were.
    """
    _, level, mass = _by_level(p, reward)
    won = np.diff(np.cumsum(mass) ** k, prepend=0.0)
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
    weak = math.exp(-gap / temperature)
    return k * weak / (k - 1 + weak)


def expected_reward(p: Vector, reward: Vector) -> float:
    """E[e^r]."""
    return float(p @ np.exp(reward))


def least_gain(p: Vector, reward: Vector, k: int) -> float:
    """What one round at τ = 1 adds to E[e^r] at least: ((K − 1) / K) · Var(e^r) / e^{r*}, r* the highest reward."""
    worth = np.exp(reward)
    return float((k - 1) / k * (p @ (worth - p @ worth) ** 2) / worth.max())


def _by_level(p: Vector, reward: Vector) -> tuple[Vector, NDArray[np.intp], Vector]:
    """The distinct rewards, which of them each answer has, and the probability of each."""
    levels, level = np.unique(reward, return_inverse=True)
    return levels, level, np.asarray(np.bincount(level, weights=p), dtype=float)


def _normal(p: Vector) -> Vector:
    return np.asarray(p / p.sum())
