"""Which checkpoints count: within what a run was given, and within the bounds on what they score."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf

from unsay.config import ConfigError
from unsay.research.front.curves import Configuration, Sweeps
from unsay.tables import near

OVER = 1.1
"""What a run may cost, in its budgets, and count in full: rounds are whole, and take longer at times than when they were planned."""


def counted(sweeps: Sweeps, at_most: Mapping[str, float], budget: float | None = None) -> tuple[Sweeps, tuple[str, ...]]:
    """The sweeps without the checkpoints that cost or score too much as the mean over their seeds, and a line about each such bound.

    `at_most`: metric → the most it may score; what was not scored on it does not count. `budget`: the most seconds; `None`: the budget of
    its own sweep and a tenth; 0: whatever it cost. Raises `ConfigError` for a metric that no curve has, or where nothing is left.
    """
    scored = {name for step in sweeps.steps for name in step.metrics}
    if unknown := [name for name in at_most if name not in scored]:
        raise ConfigError(f"no curve has a metric {unknown[0]!r} to bound: {near(unknown[0], scored)}")
    dear: Counter[str] = Counter()
    out = 0

    def passing(one: Configuration) -> Configuration:
        nonlocal out
        limit = OVER * sweeps.budgets.get(one.folder, inf) if budget is None else budget or inf
        cheap = {mark for mark in one.checkpoints if one.cost(mark, sweeps.currency) <= limit}
        good = {mark for mark in cheap if all((v := one.at(mark, name)) is not None and v <= most for name, most in at_most.items())}
        dear[one.method] += len(one.checkpoints) - len(cheap)
        out += len(cheap - good)
        curves = {seed: tuple(step for step in curve if step.checkpoint in good) for seed, curve in one.curves.items()}
        return replace(one, curves=curves)

    left = replace(sweeps, configurations={name: tuple(map(passing, some)) for name, some in sweeps.configurations.items()})
    if not left.steps:
        named = ", ".join([*(["cost"] if dear.total() else []), *at_most])
        raise ConfigError(
            f"no checkpoint in {', '.join(sweeps.folders)} is within the bounds on {named}; raise them, "
            "--at-most for what is scored and --budget for what it cost (0: whatever it did)"
        )
    return left, tuple(_lines(at_most, budget, dear, out))


def _lines(at_most: Mapping[str, float], budget: float | None, dear: Counter[str], out: int) -> Iterator[str]:
    if dear.total():
        limit = "more than a tenth over the budget" if budget is None else f"more than {budget:g} seconds"
        whose = ", ".join(f"{number} of {name}" for name, number in sorted(dear.items()) if number)
        yield f"checkpoints that cost {limit} do not count: {whose}"
    if at_most:
        told = " and ".join(f"{name} at most {most:g}" for name, most in at_most.items())
        yield f"only checkpoints with {told} count: {out} do not"
