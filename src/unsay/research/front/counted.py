"""Which checkpoints count: within what a run was given, and within the bounds on what they score."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from unsay.config import ConfigError
from unsay.research.front.curves import Configuration, Sweeps
from unsay.tables import near

OVER = 1.1
"""What a run may cost, in its budgets, and count in full: rounds are whole, and take longer at times than when they were planned."""


@dataclass(frozen=True)
class Bounds:
    """What a checkpoint may cost and score, as the mean over its seeds."""

    at_most: Mapping[str, float]
    """Metric → the most it may score, on its own scale. What was not scored on it does not count."""
    budget: float | None = None
    """The most seconds it may cost; `None`: the budget of its own sweep and a tenth; 0: whatever it cost."""

    def cost(self, sweeps: Sweeps, folder: str) -> float:
        if self.budget is None:
            return OVER * sweeps.budgets.get(folder, float("inf"))
        return self.budget or float("inf")


def counted(sweeps: Sweeps, bounds: Bounds) -> tuple[Sweeps, tuple[str, ...]]:
    """The sweeps without the checkpoints that are out of bounds, and a line about each bound that something was out of.

    A configuration left without any stays: it was tried. Raises `ConfigError` for a metric that no curve has, or where nothing is left.
    """
    _scored(sweeps, bounds.at_most)
    dear: Counter[str] = Counter()
    out = 0

    def passing(one: Configuration) -> Configuration:
        nonlocal out
        marks = {step.checkpoint for curve in one.curves.values() for step in curve}
        cheap = {mark for mark in marks if _cost(one, mark, sweeps.currency) <= bounds.cost(sweeps, one.folder)}
        dear[one.method] += len(marks - cheap)
        good = {mark for mark in cheap if _within(one, mark, bounds.at_most)}
        out += len(cheap - good)
        curves = {seed: tuple(step for step in curve if step.checkpoint in good) for seed, curve in one.curves.items()}
        return replace(one, curves=curves)

    left = {name: tuple(map(passing, some)) for name, some in sweeps.configurations.items()}
    if not any(curve for some in left.values() for one in some for curve in one.curves.values()):
        named = ", ".join([*(["cost"] if dear.total() else []), *bounds.at_most])
        raise ConfigError(
            f"no checkpoint in {', '.join(sweeps.folders)} is within the bounds on {named}; raise them, "
            "--at-most for what is scored and --budget for what it cost (0: whatever it did)"
        )
    return replace(sweeps, configurations=left), tuple(_lines(bounds, dear, out))


def _scored(sweeps: Sweeps, names: Mapping[str, float]) -> None:
    every = (one for some in sweeps.configurations.values() for one in some)
    scored = {name for one in every for curve in one.curves.values() for step in curve for name in step.metrics}
    for name in names:
        if name not in scored:
            raise ConfigError(f"no curve has a metric {name!r} to bound: {near(name, scored)}")


def _cost(one: Configuration, mark: int, currency: str) -> float:
    return fmean(getattr(step, currency) for curve in one.curves.values() for step in curve if step.checkpoint == mark)


def _within(one: Configuration, mark: int, at_most: Mapping[str, float]) -> bool:
    return all((value := one.at(mark, name)) is not None and value <= most for name, most in at_most.items())


def _lines(bounds: Bounds, dear: Counter[str], out: int) -> Iterator[str]:
    if dear.total():
        limit = "more than a tenth over the budget" if bounds.budget is None else f"more than {bounds.budget:g} seconds"
        whose = ", ".join(f"{number} of {name}" for name, number in sorted(dear.items()) if number)
        yield f"checkpoints that cost {limit} do not count: {whose}"
    if bounds.at_most:
        told = " and ".join(f"{name} at most {most:g}" for name, most in bounds.at_most.items())
        yield f"only checkpoints with {told} count: {out} do not"
