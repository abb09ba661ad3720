"""The cost model: what a stage asks of a model, counted, times what each piece costs here. Pure arithmetic.

seconds = Σ_unit count(unit) · cost(unit)        + seconds of scoring texts, measured as they are
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import nnls

TRAINING = ("micro-batch", "trained token", "update")
UNITS = ("model load", "decode step", "decoded token", "drawn token", "read batch", "read token", *TRAINING)
"""What is counted; docs/doctor.md says what each is."""


@dataclass(frozen=True)
class Work:
    """Counts by unit, and the seconds of scoring texts (filters, rewards, findings), which no unit stands for."""

    counts: Mapping[str, float] = field(default_factory=dict)
    scoring: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        units = self.counts.keys() | other.counts.keys()
        return Work({unit: self[unit] + other[unit] for unit in units}, self.scoring + other.scoring)

    def __mul__(self, times: float) -> "Work":
        return Work({unit: count * times for unit, count in self.counts.items()}, self.scoring * times)

    def __getitem__(self, unit: str) -> float:
        return self.counts.get(unit, 0.0)

    def parts(self, rest: str) -> dict[str, "Work"]:
        """Training's steps apart from everything else, which is called `rest`."""
        others = Work({unit: n for unit, n in self.counts.items() if unit not in TRAINING}, self.scoring)
        return {rest: others, "steps": Work({unit: self[unit] for unit in TRAINING})}


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

    A unit that no measurement has comes out at 0.
    """
    units = [unit for unit in UNITS if any(work[unit] for work, _ in measured)]
    counts = np.array([[work[unit] / seconds for unit in units] for work, seconds in measured])
    # Columns of one size: tokens come in thousands, updates in ones.
    scale = counts.max(axis=0)
    found, _ = nnls(counts / scale, np.ones(len(measured)))
    return dict.fromkeys(UNITS, 0.0) | dict(zip(units, (found / scale).tolist(), strict=True))
