"""The cost model: what a stage asks of a model, counted, times what each piece costs here. Pure arithmetic.

    seconds = Σ_unit count(unit) · cost(unit)        + seconds of scoring texts, measured as they are

`Work` is the count, `Costs` the prices. Units come in pairs, a fixed cost and a cost per token: a decoding step and a
decoded token, a batch read and a token read, a micro-batch and a trained token; and the optimizer's update.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import nnls

Lengths = tuple[int, int]
"""Of one row: tokens of its context, tokens of its answer."""

UNITS = {
    "decode step": "one token for every row that is still being written: the part that does not depend on the rows",
    "sampled token": "a row's share of a decoding step, drawn from the nucleus",
    "greedy token": "a row's share of a decoding step, the likeliest token taken",
    "read batch": "one forward pass without gradients: the part that does not depend on its tokens",
    "read token": "a token of such a pass, padding included",
    "micro-batch": "one forward and backward pass: the part that does not depend on its tokens",
    "trained token": "a token of such a pass, padding included",
    "update": "clipping, AdamW and the bookkeeping of one optimizer step, for every parameter that this recipe trains",
}
"""What is counted, and what it means."""


@dataclass(frozen=True)
class Work:
    """Counts by unit, and the seconds of scoring texts (gate, rewards, findings), which no unit stands for."""

    counts: Mapping[str, float] = field(default_factory=dict)
    scoring: float = 0.0
    """Seconds, as measured while counting."""

    def __add__(self, other: "Work") -> "Work":
        units = self.counts.keys() | other.counts.keys()
        return Work({unit: self.counts.get(unit, 0.0) + other.counts.get(unit, 0.0) for unit in units}, self.scoring + other.scoring)

    def __mul__(self, times: float) -> "Work":
        return Work({unit: count * times for unit, count in self.counts.items()}, self.scoring * times)

    def __getitem__(self, unit: str) -> float:
        return self.counts.get(unit, 0.0)


NOTHING = Work()


def total(works: Iterable[Work]) -> Work:
    return sum(works, NOTHING)


@dataclass(frozen=True)
class Costs:
    """Seconds for one of each unit, on the clock and of processor time."""

    wall: Mapping[str, float]
    cpu: Mapping[str, float]
    contention: float = 1.0
    """Seconds on the clock for a second of this process's own work, while it was measured: more than 1 beside other programs."""

    def seconds(self, work: Work) -> float:
        """Seconds on the clock, if the machine stays as busy as it was while the costs were measured."""
        return sum(count * self.wall[unit] for unit, count in work.counts.items()) + work.scoring * self.contention

    def cpu_seconds(self, work: Work) -> float:
        """Processor seconds over all threads, which other programs hardly change."""
        return sum(count * self.cpu[unit] for unit, count in work.counts.items()) + work.scoring


def fit(measured: Sequence[tuple[Work, float]]) -> dict[str, float]:
    """The cost of each unit from measurements (work, seconds): non-negative least squares on relative errors.

    A unit that no measurement has comes out at 0. Raises `ValueError` without measurements.
    """
    units = [unit for unit in UNITS if any(work[unit] for work, _ in measured)]
    if not measured or min(seconds for _, seconds in measured) <= 0:
        raise ValueError("nothing was measured, or something took no time")
    counts = np.array([[work[unit] / seconds for unit in units] for work, seconds in measured])
    # Columns of one size: tokens come in thousands, updates in ones.
    scale = counts.max(axis=0)
    found, _ = nnls(counts / scale, np.ones(len(measured)))
    return dict.fromkeys(UNITS, 0.0) | dict(zip(units, (found / scale).tolist(), strict=True))


def decoding(context: int, prompts: int, lengths: Sequence[int], greedy: Sequence[bool], shrink: float = 0.8) -> Work:
    """One batch of answers: `prompts` contexts padded to `context` tokens, one row per length (tokens written, end included).

    Finished rows ride along until more than a fifth of the batch has finished, as in `unsay.sample`.

    >>> decoding(7, 1, [2, 2, 5], [False] * 3).counts
    {'read batch': 1, 'read token': 7, 'decode step': 5, 'sampled token': 9, 'greedy token': 0}
    """
    rows = sorted(zip(lengths, greedy, strict=True), reverse=True)
    alive, steps, tokens = len(rows), 0, {True: 0, False: 0}
    for step in range(1, max(lengths) + 1):
        steps += 1
        for _, kind in rows[:alive]:
            tokens[kind] += 1
        left = sum(length > step for length, _ in rows[:alive])
        if left < shrink * alive:
            alive = left
    return Work(
        {
            "read batch": 1,
            "read token": prompts * context,
            "decode step": steps,
            "sampled token": tokens[False],
            "greedy token": tokens[True],
        }
    )


def reading(lengths: Sequence[Lengths], batch: int = 32) -> Work:
    """Scoring rows of these lengths without gradients, as `subject.row_logprobs` batches them."""
    order = sorted(lengths, key=lambda pair: (pair[1], pair[0]))
    groups = [order[start : start + batch] for start in range(0, len(order), batch)]
    return Work({"read batch": len(groups), "read token": sum(map(padded, groups))})


def training(lengths: Sequence[Lengths], parts: int = 1, updates: float = 1.0) -> Work:
    """One optimizer step over rows of these lengths in `parts` micro-batches; `updates` weighs its update.

    >>> training([(5, 2), (3, 4)]).counts
    {'micro-batch': 1, 'trained token': 18, 'update': 1.0}
    """
    if not lengths:
        return NOTHING
    order = sorted(lengths, key=lambda pair: (pair[1], pair[0]))
    size = -(-len(order) // parts)
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    return Work({"micro-batch": len(groups), "trained token": sum(map(padded, groups)), "update": updates})


def padded(rows: Sequence[Lengths]) -> int:
    """Tokens of a batch: contexts padded on the left, answers on the right."""
    return len(rows) * (max(context for context, _ in rows) + max(answer for _, answer in rows)) if rows else 0
