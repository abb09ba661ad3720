"""Points, the front among them, and the area that they dominate: a sort and a sum, for one set of points or many at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unsay.research.front.curves import NEVER_KNEW, Axis, Configuration

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """A pair of axes: forgetting across, usefulness upwards."""

    x: Axis
    y: Axis


_QUALITY, _HELDOUT = Axis("unlearn_quality", 100), Axis("utility_heldout", 100)
PLANES = {
    "quality": Plane(_QUALITY, Axis("utility", 100)),
    "recall": Plane(Axis("greedy_keyword_recall", flipped=True), _HELDOUT),
    "prefill": Plane(Axis("prefill_worst_keyword_recall", flipped=True), _HELDOUT),
    "never_knew": Plane(Axis(NEVER_KNEW), _HELDOUT),
}
AT_LEAST = Plane(_QUALITY, _HELDOUT)
"""Of the table of equal cost: the best y among points with at least so much x."""
SAID = Plane(Axis("greedy_keyword_recall"), Axis("greedy_keyword_recall"))
"""What is still said, lower is better: when it is halved."""


@dataclass(frozen=True)
class Point:
    configuration: Configuration
    checkpoint: int
    round: int
    x: float
    y: float
    cost: float
    """Seconds of training up to here, mean over the same seeds."""
    seeds: int


def points(configurations: Iterable[Configuration], plane: Plane, currency: str = "cpu_seconds") -> tuple[Point, ...]:
    """Every checkpoint that some seed reached and scored on both axes."""
    found = []
    for one in configurations:
        values = cube(one, plane, currency)
        reached = (~np.isnan(values[..., 0])).sum(axis=0)
        for (place, steps), (x, y, cost), seeds in zip(
            one.checkpoints.items(), means(values, np.ones((1, len(values))))[0], reached, strict=True
        ):
            if seeds:
                found.append(Point(one, place, steps[-1].round, float(x), float(y), float(cost), int(seeds)))
    return tuple(found)


def cube(one: Configuration, plane: Plane, currency: str) -> Array:
    """(seeds, checkpoints, 3): x, y and cost; all three NaN where a seed did not get there or was not scored on both axes."""
    places = {place: i for i, place in enumerate(one.checkpoints)}
    values = np.full((len(one.curves), len(places), 3), nan)
    for seed, curve in enumerate(one.curves.values()):
        for step in curve:
            x, y = plane.x.of(step.metrics), plane.y.of(step.metrics)
            if isfinite(x) and isfinite(y):
                values[seed, places[step.checkpoint]] = x, y, getattr(step, currency)
    return values


def means(values: Array, weights: ArrayLike) -> Array:
    """(draws, seeds) weights → (draws, checkpoints, 3) means over the seeds that are there; NaN where none is."""
    weights = np.asarray(weights, dtype=float)
    there = weights @ ~np.isnan(values[..., 0])
    sums = np.einsum("ds,sck->dck", weights, np.nan_to_num(values))
    found: Array = np.divide(sums, there[..., None], out=np.full_like(sums, nan), where=there[..., None] > 0)
    return found


def pareto(found: Iterable[Point]) -> tuple[Point, ...]:
    """The points that no other beats on both axes, from the most forgetting to the least; of equal ones the cheapest."""
    kept: list[Point] = []
    for point in sorted(found, key=lambda p: (-p.x, -p.y, p.cost)):
        if not kept or point.y > kept[-1].y:
            kept.append(point)
    return tuple(kept)


def hypervolume(xy: ArrayLike, cap: float = 1.0) -> Array:
    """Area that points in the unit square dominate, from (0, 0): (..., N, 2) → (...). Points with NaN add nothing.

    `cap`: x counts no further. The scale stays the unit square, so the capped area is at most `cap`.

    >>> float(hypervolume([(0.5, 1.0), (1.0, 0.5)]))
    0.75
    """
    return area(descending(np.asarray(xy, dtype=float)), cap)


def descending(xy: Array) -> Array:
    known = np.where(np.isnan(xy).any(axis=-1, keepdims=True), 0.0, xy)
    order = np.argsort(-known[..., 0], axis=-1, kind="stable")
    return np.take_along_axis(known, order[..., None], axis=-2)


def area(descending: Array, cap: float, budget: float = np.inf) -> Array:
    """Strips between neighbours in x, each as high as the highest point at its right end or beyond."""
    x = np.clip(descending[..., 0], 0, cap)
    y = np.clip(descending[..., 1], 0, 1)
    if isfinite(budget):
        y = np.where(descending[..., 2] <= budget, y, 0)  # on the axis: dominates nothing
    widths = x - np.concatenate([x[..., 1:], np.zeros_like(x[..., :1])], axis=-1)
    area: Array = (widths * np.maximum.accumulate(y, axis=-1)).sum(axis=-1)
    return area
