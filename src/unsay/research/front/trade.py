"""Methods against one another: hypervolume with bars, at equal cost, at equal numbers of tries, and what is worth taking on.

Intervals are bootstrap percentiles (95 %, Efron 1979) from resampling configurations with replacement, per method, and the seeds within
each. A failed configuration is drawn too and adds nothing. A resample may miss the best configuration, which draws an interval down; few
seeds drawn anew make some points lucky, which draws it up: the estimate need not lie in its middle.
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unsay.config import ConfigError
from unsay.research.front.area import (
    AT_LEAST,
    PLANES,
    SAID,
    Array,
    Plane,
    Point,
    area,
    cube,
    descending,
    hypervolume,
    means,
    pareto,
    points,
)
from unsay.research.front.counted import counted
from unsay.research.front.curves import STATES, Axis, Configuration, Sweeps, read
from unsay.stats import Interval

NO_RETAIN_MODEL = (75.0, 90.0)
"""Unlearn quality asked for in the table of equal cost where the retain model’s is not known."""
REPLICATIONS = 1000
_BUDGETS = 24
_BLOCK = 400_000
"""Points resampled at once."""


@dataclass(frozen=True)
class Volume:
    """A hypervolume, 0 to 1."""

    value: float
    interval: Interval | None
    """`None` where all resamples are alike (one configuration with one seed): no width would claim too much."""
    above: Mapping[str, float]
    """Other method → share of the resamples in which this one's is larger; ties count half."""


@dataclass(frozen=True)
class Reach:
    """What one method reaches on one pair of axes."""

    points: tuple[Point, ...]
    front: tuple[Point, ...]
    volume: Volume
    capped: Volume | None
    """With forgetting counted no further than the retain model’s; `None` where the retain model is not known."""
    tries: int
    equal_tries: float
    """Mean hypervolume (capped, where there is a retain model) of as many configurations as the method with the fewest tried."""
    by_cost: tuple[tuple[float, float, Interval], ...]
    """(budget, hypervolume of what costs at most so much, interval); capped, where there is a retain model."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    plane: Plane
    before: tuple[float, float] | None
    retain_model: tuple[float, float] | None
    cap: float | None
    """The retain model's forgetting; `None` where it is not known."""
    methods: Mapping[str, Reach]


@dataclass(frozen=True)
class CostRow:
    """At one budget and one least quality: each method's most useful point."""

    budget: float
    quality: float
    """0 to 100."""
    best: Mapping[str, Point | None]
    """x is unlearn quality, y held-out utility; `None` where no point of the method is good enough within the budget."""


@dataclass(frozen=True)
class Chosen:
    """A configuration worth taking on, and what it adds to the hypervolume of those chosen before it."""

    configuration: Configuration
    adds: float


@dataclass(frozen=True)
class Front:
    """Everything that is drawn and tabulated."""

    sweeps: Sweeps
    panels: Mapping[str, Panel]
    """By the names of `PLANES`; those that no point was scored on are left out."""
    states: Mapping[str, Mapping[str, int]]
    """Method → state of a trial → how many."""
    halved: Point | None
    """The first point, by cost, at which default answers say at most half of what they said before; x is what they say."""
    rows: tuple[CostRow, ...]
    """The table of equal cost; empty where nothing was halved."""
    chosen_on: str
    """Which panel; capped, where there is a retain model."""
    chosen: Mapping[str, tuple[Chosen, ...]]
    notes: tuple[str, ...]


def front(
    paths: Sequence[Path], replications: int = REPLICATIONS, at_most: Mapping[str, float] | None = None, budget: float | None = None
) -> Front:
    """From sweep folders to all of it. The same numbers give the same result. `at_most` and `budget` are those of `counted`.

    Raises `ConfigError` where a folder holds no curve, a file cannot be read, or nothing was scored on any pair of axes.
    """
    sweeps, bound = counted(read(paths), at_most or {}, budget)
    currency, methods = sweeps.currency, sweeps.configurations
    found = {key: {name: points(some, plane, currency) for name, some in methods.items()} for key, plane in PLANES.items()}
    scored = {key: each for key, each in found.items() if any(each.values())}
    if not scored:
        wanted = " or ".join(f"{plane.x.metric} with {plane.y.metric}" for plane in PLANES.values())
        raise ConfigError(f"no curve in {', '.join(sweeps.folders)} has a checkpoint scored on {wanted}; sweep with the probes they need")
    costs = [point.cost for each in scored.values() for some in each.values() for point in some]
    low, high = max(min(costs), 1e-3), max(*costs, 2e-3)
    # Evenly spaced as logarithms; the last is the cost of the dearest point.
    budgets = (*(float(budget) for budget in np.geomspace(low, high, _BUDGETS)[:-1]), high)
    panels = {key: _panel(sweeps, PLANES[key], each, budgets, replications) for key, each in scored.items()}
    halved = _halved(sweeps)
    on = "recall" if "recall" in panels else next(iter(panels))
    known = panels[on].cap
    cap = 1.0 if known is None else known
    return Front(
        sweeps=sweeps,
        panels=panels,
        states={
            name: {state: count for state in STATES if (count := Counter(c.state for c in some)[state])} for name, some in methods.items()
        },
        halved=halved,
        rows=tuple(_rows(sweeps, halved.cost)) if halved else (),
        chosen_on=on,
        chosen={name: chosen(reach.points, cap=cap) for name, reach in panels[on].methods.items()},
        notes=(*bound, *_notes(sweeps, scored)),
    )


def chosen(found: Sequence[Point], n: int = 3, cap: float = 1.0) -> tuple[Chosen, ...]:
    """The n configurations of a method that add most to the hypervolume of its points on a pair of axes, greedily. Where several add the
    same (nothing, once the front is complete), the one that dominates most by itself comes first."""
    sets: dict[tuple[str, str], list[Point]] = {}
    for point in found:
        sets.setdefault(point.configuration.name, []).append(point)
    taken: list[Chosen] = []
    held: list[tuple[float, float]] = [(0.0, 0.0)]
    while sets and len(taken) < n:
        base = float(hypervolume(held, cap))
        gains = {}
        for name, some in sets.items():
            own = [(p.x, p.y) for p in some]
            # Rounded, and never below nothing: the same area summed in another order must not decide.
            gains[name] = max(0.0, round(float(hypervolume(held + own, cap)) - base, 12)), float(hypervolume(own, cap))
        best = max(gains, key=lambda name: gains[name])
        some = sets.pop(best)
        held += [(p.x, p.y) for p in some]
        taken.append(Chosen(some[0].configuration, gains[best][0]))
    return tuple(taken)


def _panel(sweeps: Sweeps, plane: Plane, found: Mapping[str, tuple[Point, ...]], budgets: Sequence[float], replications: int) -> Panel:
    before, retain_model = (
        (x, y) if (x := sweeps.reference(which, plane.x)) is not None and (y := sweeps.reference(which, plane.y)) is not None else None
        for which in ("before", "retain_model")
    )
    known = sweeps.reference("retain_model", plane.x)
    cap = 1.0 if known is None else known  # 1 caps nothing
    cubes = {name: [cube(one, plane, sweeps.currency) for one in some] for name, some in sweeps.configurations.items()}
    # By name, so that a method's resamples do not depend on which others stand beside it.
    rngs = {name: np.random.default_rng([0, zlib.crc32(name.encode())]) for name in cubes}
    drawn = {name: _resampled(some, cap, budgets, replications, rngs[name]) for name, some in cubes.items()}
    fewest = min(map(len, cubes.values()))
    methods = {}
    for name, some in found.items():
        xy = np.array([(p.x, p.y, p.cost) for p in some]).reshape(-1, 3)
        by_cost = [float(area(descending(xy), cap, budget)) if len(xy) else 0.0 for budget in budgets]
        methods[name] = Reach(
            points=some,
            front=pareto(some),
            volume=_volume(xy, 1.0, name, {other: draws[0] for other, draws in drawn.items()}),
            capped=_volume(xy, cap, name, {other: draws[1] for other, draws in drawn.items()}) if known is not None else None,
            tries=len(cubes[name]),
            equal_tries=_equal_tries(cubes[name], cap, fewest, replications, rngs[name]),
            by_cost=tuple((b, v, _interval(draws)) for b, v, draws in zip(budgets, by_cost, drawn[name][2:], strict=True)),
        )
    return Panel(plane, before, retain_model, known, methods)


def _volume(xy: Array, cap: float, name: str, drawn: Mapping[str, Array]) -> Volume:
    mine = drawn[name]
    above = {other: float(np.mean((mine > its) + (mine == its) / 2)) for other, its in drawn.items() if other != name}
    band = _interval(mine)
    return Volume(float(hypervolume(xy[:, :2], cap)) if len(xy) else 0.0, band if band.low < band.high else None, above)


def _interval(draws: Array) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(float(low), float(high))


def _resampled(cubes: Sequence[Array], cap: float, budgets: Sequence[float], replications: int, rng: np.random.Generator) -> Array:
    """(2 + budgets, replications): hypervolume as it is, capped, and capped within each budget."""
    widest = max(1, *(values.shape[1] for values in cubes))
    block = max(1, _BLOCK // (len(cubes) * widest))
    parts = []
    for start in range(0, replications, block):
        drawn = rng.integers(len(cubes), size=(min(block, replications - start), len(cubes)))
        field = np.full((*drawn.shape, widest, 3), np.nan)
        for i, values in enumerate(cubes):
            seeds, places = len(values), drawn == i
            if seeds and places.any():
                weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=int(places.sum()))
                field[places, : values.shape[1]] = means(values, weights)
        sorted_once = descending(field.reshape(len(drawn), -1, 3))
        parts.append(np.stack([area(sorted_once, 1.0), area(sorted_once, cap), *(area(sorted_once, cap, b) for b in budgets)]))
    return np.concatenate(parts, axis=1)


def _equal_tries(cubes: Sequence[Array], cap: float, tries: int, replications: int, rng: np.random.Generator) -> float:
    """Mean hypervolume of so many of the configurations, drawn without replacement: more tries alone reach further."""
    flat = [means(values, np.ones((1, len(values))))[0, :, :2] for values in cubes]
    drawn = [range(tries)] if tries == len(cubes) else [sorted(rng.permutation(len(cubes))[:tries]) for _ in range(replications)]
    return float(np.mean([hypervolume(np.vstack([np.zeros((1, 2)), *(flat[i] for i in some)]), cap) for some in drawn]))


def _halved(sweeps: Sweeps) -> Point | None:
    before = sweeps.reference("before", SAID.x)
    if not before:
        return None
    said = [point for some in sweeps.configurations.values() for point in points(some, SAID, sweeps.currency)]
    return min((point for point in said if point.x <= before / 2), key=lambda point: point.cost, default=None)


def _rows(sweeps: Sweeps, first: float) -> list[CostRow]:
    """At the first budget, at each doubling of it, and with no limit."""
    found = {name: points(some, AT_LEAST, sweeps.currency) for name, some in sweeps.configurations.items()}
    dearest = max((point.cost for some in found.values() for point in some), default=0.0)
    budgets = [first]
    while 2 * budgets[-1] < dearest:
        budgets.append(2 * budgets[-1])
    budgets += [dearest] if dearest > first else []
    return [
        CostRow(budget, quality, {name: _best(some, budget, quality / 100) for name, some in found.items()})
        for budget in budgets
        for quality in least_qualities(sweeps)
    ]


def _best(found: Sequence[Point], budget: float, quality: float) -> Point | None:
    fit = (point for point in found if point.cost <= budget and point.x >= quality)
    return max(fit, key=lambda point: (point.y, point.x, -point.cost), default=None)


def least_qualities(sweeps: Sweeps) -> tuple[float, float]:
    """Halfway and three quarters of the way from the unlearn quality before to the retain model’s; else `NO_RETAIN_MODEL`."""
    before, retain_model = (sweeps.reference(which, AT_LEAST.x) for which in ("before", "retain_model"))
    if before is None or retain_model is None or retain_model <= before:
        return NO_RETAIN_MODEL
    return 100 * (before + (retain_model - before) / 2), 100 * (before + 3 * (retain_model - before) / 4)


def _notes(sweeps: Sweeps, scored: Mapping[str, Mapping[str, Sequence[Point]]]) -> list[str]:
    """What a reader must know before the numbers."""
    notes = []
    if sweeps.currency == "cpu_seconds" and any(step.gpu_seconds is not None for step in sweeps.steps):
        notes.append("some curves were trained on a GPU and some were not: cost is CPU seconds for all, which compares them badly")
    every = [point for some in next(iter(scored.values())).values() for point in some]
    short = sum(point.seeds < point.configuration.seeds for point in every)
    if short:
        notes.append(f"{short} of {len(every)} points are means over fewer seeds than their trial was given")
    alone = [name for name, some in sweeps.configurations.items() if len(some) == 1 and len(some[0].curves) < 2]
    if alone:
        notes.append(f"one configuration with one seed, so nothing to resample and no interval, nor chances to rely on: {', '.join(alone)}")
    for axis in (Axis("unlearn_quality", 100), Axis("utility", 100), SAID.x):
        starts = [value for folder in sweeps.folders if (value := sweeps.reference("before", axis, folder)) is not None]
        if starts and max(starts) - min(starts) > 0.05:
            notes.append(
                f"the folders' models before unlearning differ by more than 5 % of the scale in {axis.metric}: are they one experiment?"
            )
    if any(not some.get("before") for some in sweeps.references.values()):
        notes.append("a folder has no metrics of the model before unlearning (reference.json)")
    if not any(some.get("retain_model") for some in sweeps.references.values()):
        notes.append("the retain model is not known: forgetting is counted however far it goes")
    return notes
