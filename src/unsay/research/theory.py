"""What the theory of Partial Model Collapse says, beside the same thing simulated: `unsay theory`.

Two recursions on a finite set of answers, exact and simulated: what the method does when nothing else interferes (no error but that of
sampling, no parameters shared between questions). Each finding has one number by the formula and one that was made without it, by
sampling, by gradient descent or by iterating the exact step, and the largest difference that chance allows.

Sources: arXiv 2507.04219 (the warm-up and the statement); arXiv 2407.09499 (the form of the preference-guided step).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import factorial

from unsay.report.pictures import MUTED
from unsay.research.written import table
from unsay.research.written import write as written

Vector = NDArray[np.float64]

DEMO_COUNTS = np.array([5.0, 10, 20, 15, 10, 10, 5, 10, 10, 5])
"""The authors' ten colours: how many items of each there are at the start. The last seven are retained."""
DEMO_RETAINED = np.array([0.0, 0, 0, 15, 10, 10, 5, 10, 10, 5])
ROUNDS = 30
START = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
"""A model that tells: half of its answers are the secret, the last one shares nothing with it."""
REWARD = np.array([0.0, 0.3, 0.5, 0.7, 1.0])
RETAINED = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
"""What retain data says to another question, in a model that answers both alike: it pulls toward the same words."""
_RUNS, _GROUPS = 400, 20_000
_TINY = 1e-9


# -- the recursions: the exact ones renormalise at every step, because rounding errors of the total mass grow like K^t otherwise ------


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


# -- what is checked -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One statement: what the formula says, what was found without it, and how far they may lie apart."""

    statement: str
    expected: float
    found: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return abs(self.expected - self.found) <= self.tolerance


@dataclass(frozen=True)
class Curve:
    """A number by round, exact and simulated, in one of the page's panels."""

    panel: str
    name: str
    exact: Sequence[float]
    simulated: Sequence[float] = ()


@dataclass(frozen=True)
class Theory:
    """Everything on the page."""

    findings: Sequence[Finding]
    curves: Sequence[Curve]


def shown(seed: int = 0) -> Theory:
    """Every statement checked with random numbers of this seed."""
    rng = np.random.default_rng(seed)
    every = [*_warm_up(rng), *_preference(rng), *_best_of_k(rng), *_shared()]
    return Theory([one for one in every if isinstance(one, Finding)], [one for one in every if isinstance(one, Curve)])


def _warm_up(rng: np.random.Generator) -> Iterator[Finding | Curve]:
    """Refitting on own samples and fixed retain items: what is not retained dies out as α^t."""
    start, n = DEMO_COUNTS / DEMO_COUNTS.sum(), 100
    exact = [warm_up_expected(start, DEMO_RETAINED, n, t) for t in range(ROUNDS + 1)]
    p, means = np.tile(start, (_RUNS, 1)), [start]
    for _ in range(ROUNDS):
        p = np.array([warm_up_step(one, DEMO_RETAINED, n, rng) for one in p])
        means.append(p.mean(0))
    for name, chosen in (("forgotten", slice(0, 3)), ("retained", slice(3, None))):
        yield Curve("Refitting on own samples", name, *([float(x[chosen].sum()) for x in some] for some in (exact, means)))
    # The standard error of a share in one run is at most .05 (n = 100); four of the mean's are allowed.
    slack = 4 * 0.05 / _RUNS**0.5
    alpha = n / (n + float(DEMO_RETAINED.sum()))
    yield Finding("mass of what is not retained after 5 rounds: α^5 of what it was", 0.35 * alpha**5, float(means[5][:3].sum()), slack)
    yield Finding("share of the most frequent retained answer after 30 rounds", float(exact[-1][3]), float(means[-1][3]), slack)
    yield Finding(
        "share of runs in which what is not retained has died out after 30 rounds", 1.0, float((p[:, :3].sum(1) == 0).mean()), 0.05
    )


def _preference(rng: np.random.Generator) -> Iterator[Finding | Curve]:
    """Keeping one of K by Bradley–Terry: the expected reward rises in every round, toward the best."""
    short = 0.0
    for k, temperature in ((2, 0.3), (5, 0.3), (5, 1.0), (10, 1.0)):
        exact = sampled = START
        rewards: list[tuple[float, float]] = [(expected_reward(START, REWARD),) * 2]
        for _ in range(ROUNDS):
            after = preference_step(exact, REWARD, k, temperature)
            if temperature == 1.0:
                short = max(short, least_gain(exact, REWARD, k) - expected_reward(after, REWARD) + expected_reward(exact, REWARD))
            exact = after
            sampled = preference_simulated(sampled, REWARD, k, temperature, _GROUPS, rng)
            rewards.append((expected_reward(exact, REWARD), expected_reward(sampled, REWARD)))
        name = f"K = {k}, τ = {temperature:g}"
        yield Curve("Keeping one of K: E[e^r]", name, *zip(*rewards, strict=True))
        yield Finding(f"E[e^r] after 5 rounds, {name}", *rewards[5], 0.03)
        if (k, temperature) == (5, 1.0):
            near = np.array([_TINY, 0, 0, 0, 1 - _TINY])
            shrunk = preference_step(near, np.array([0.7, 0, 0, 0, 1.0]), k)[0] / _TINY
            yield Finding("factor by which what is .3 worse than the best shrinks near it, K = 5, τ = 1", rate(5, 0.3), float(shrunk), 1e-6)
    yield Finding("largest shortfall of a round's gain in E[e^r] behind ((K − 1)/K) · Var(e^r) / e^r*", 0.0, short, _TINY)
    yield Finding("E[e^r] in the end, K = 10, τ = 1: that of the best answer", float(np.exp(1.0)), rewards[-1][1], 0.01)
    yield Finding(
        "variance of e^r in the end, K = 10, τ = 1", 0.0, float(sampled @ np.exp(REWARD) ** 2 - expected_reward(sampled, REWARD) ** 2), 0.01
    )


def _best_of_k(rng: np.random.Generator) -> Iterator[Finding | Curve]:
    """Keeping the best of K: the best answer takes over doubly exponentially."""
    for k in (2, 5):
        exact = sampled = START
        best = [(START[-1],) * 2]
        for _ in range(5):
            exact, sampled = argmax_step(exact, REWARD, k), preference_simulated(sampled, REWARD, k, 0.0, _GROUPS, rng)
            best.append((float(exact[-1]), float(sampled[-1])))
        yield Curve("Keeping the best of K: share of the best", f"K = {k}", *zip(*best, strict=True))
        yield Finding(f"share of the best answer after 2 rounds, K = {k}: 1 − (1 − p)^(K²)", argmax_mass(START[-1], k, 2), best[2][1], 0.03)


def _shared() -> Iterator[Finding | Curve]:
    """λ matters only where questions share parameters. A table of logits, one row for each question, is fitted by gradient descent to
    what best-of-5 keeps of the forget question plus λ times the retain data; or one row serves both questions.

    Alone, the forget question's row goes where best-of-5 goes, whatever λ. Shared, it settles between: (q + λ r) / (1 + λ).
    """
    for weight in (0.5, 1.5, 5.0):
        alone, one = START, START
        masses = [(float(START[0]),) * 2]
        apart = 0.0
        for _ in range(10):
            kept = argmax_step(alone, REWARD, 5)
            alone = fitted(np.stack([alone, RETAINED]), np.stack([kept, weight * RETAINED]))[0]
            apart = max(apart, float(abs(alone - kept).max()))
            mixed = argmax_step(one, REWARD, 5) + weight * RETAINED
            one = fitted(one[None], mixed[None])[0]
            apart = max(apart, float(abs(one - mixed / (1 + weight)).max()))
            masses.append((float(alone[0]), float(one[0])))
        for name, values in zip(("alone", "shared"), zip(*masses, strict=True), strict=True):
            yield Curve("Parameters of its own, or shared: share of the secret", f"{name}, λ = {weight:g}", values)
        yield Finding(f"distance of gradient descent from q, and from (q + λ r) / (1 + λ), λ = {weight:g}", 0.0, apart, 1e-3)


def fitted(start: Vector, targets: Vector) -> Vector:
    """[Q, X] the distributions that gradient descent on Σ −targets · log softmax(logits) comes to. `targets` [Q, X] need not sum to 1:
    their sum is the weight of a question."""
    logits = np.log(np.maximum(start, 1e-6))
    for _ in range(1500):
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        logits -= (targets.sum(1, keepdims=True) * p - targets) / np.maximum(1.0, targets.sum(1, keepdims=True))
    return np.asarray(p)


def write(theory: Theory, out: Path) -> list[Path]:
    """theory.md, theory.json and the picture, each whole. Raises `WriteError`."""
    record = {
        "findings": [asdict(one) | {"agrees": one.agrees} for one in theory.findings],
        "curves": [asdict(one) for one in theory.curves],
    }
    return written(out, "theory", markdown(theory), record, {"theory": lambda: drawn(theory)})


def markdown(theory: Theory) -> str:
    """One page: every statement with both numbers."""
    rows = [
        (one.statement, f"{one.expected:.4g}", f"{one.found:.4g}", f"{one.tolerance:.2g}", "yes" if one.agrees else "**no**")
        for one in theory.findings
    ]
    told = table(("statement", "formula", "found", "may differ by", "agrees"), rows)
    return f"# What the theory says, and what happens\n\n![exact and simulated](theory.png)\n\n{told}\n"


def drawn(theory: Theory) -> Figure:
    """A panel for each part: exact lines, simulated dots."""
    names = list(dict.fromkeys(curve.panel for curve in theory.curves))
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    for axes, name in zip(np.ravel(figure.subplots(2, 2)), names, strict=True):
        curves = [curve for curve in theory.curves if curve.panel == name]
        for curve in curves:
            (line,) = axes.plot(curve.exact, label=curve.name, linestyle="--" if curve.name.startswith("alone") else "-")
            if curve.simulated:
                axes.plot(curve.simulated, "o", markersize=3, color=line.get_color())
        axes.set_title(name)
        axes.set_xlabel("round", color=MUTED)
        axes.margins(y=0.1)
        axes.legend(ncols=2 if len(curves) > 4 else 1)
    return figure
