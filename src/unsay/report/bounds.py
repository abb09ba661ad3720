"""What n sampled answers say about answers that were not sampled: bounds for every question, and for all of them at once.

A *case* is one question in one setting of a probe. A bound for one case holds with 99 % confidence if that case was chosen before
looking; for whoever looks first and then picks, all N cases must hold at once, so each takes an Nth of the error. Chosen beforehand:
Clopper–Pearson for the rate, Anderson for the mean, Dvoretzky–Kiefer–Wolfowitz for how often an answer says more than a given share.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from unsay.probes.scoring import CONFIDENCE, largest, leak_rates
from unsay.report.evidence import Evidence
from unsay.stats import anderson_mean_upper, clopper_pearson_upper, dkw_survival_upper, leak_at_k

SHARES = (0.25, 0.5, 0.75)
"""Shares of the secret for which the report bounds how often an answer says more."""

_Sample = tuple[tuple[float, int], ...]
"""Scores of single answers, and how often each occurred."""

VACUOUS = 0.995
"""A bound from here on rules nothing out, and is said so in words."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What is known of one case."""

    example: str
    setting: str
    n: int
    leaks: int
    one: float
    """Upper bound of its leak rate, for this case alone."""
    all: float
    """The same with all cases holding at once, as are the next two."""
    mean: float | None
    """Upper bound of the mean share of the secret that an answer says; `None` where the audit kept no single scores."""
    above: tuple[float, ...] | None
    """Upper bounds of the share of answers that say more than each of `SHARES`."""

    @property
    def rate(self) -> float:
        return self.leaks / self.n

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"above": dict(zip(map(str, SHARES), self.above, strict=True)) if self.above else None}


@dataclass(frozen=True)
class BoundRow:
    """All questions in one setting."""

    setting: str
    n: int
    """Fewest answers to a question."""
    questions: int
    clean: int
    worst: Bound
    leak_at: dict[int, float]
    """k → chance that k answers show a leak, mean over the questions."""
    mean: float | None
    """Largest bound of a mean, and of `Bound.above`."""
    above: tuple[float, ...] | None


def bounds(evidence: Evidence, probe: str = "sampling") -> list[Bound]:
    """One for every case of a sampling probe on the model after unlearning."""
    rates = leak_rates(evidence.findings["after"], probe)
    together = 1 - (1 - CONFIDENCE) / max(1, len(rates))
    # A finding `score` says that `n` answers scored its value, so that few lines keep every single score of a case. Cases of one
    # sample are many: it is there once.
    scores: dict[tuple[str, str], _Sample] = {}
    samples: dict[_Sample, _Sample] = {}
    for f in evidence.found(probe, "score"):
        sample = (*scores.get((f.example, f.setting), ()), (f.value or 0.0, f.n))
        scores[f.example, f.setting] = samples.setdefault(sample, sample)
    cases = ((f, round((f.value or 0.0) * f.n), scores.get((f.example, f.setting), ())) for f in rates)
    return [Bound(f.example, f.setting, f.n, leaks, *_bounds(leaks, f.n, sample, together)) for f, leaks, sample in cases]


@lru_cache(maxsize=4096)
def _bounds(leaks: int, n: int, sample: _Sample, together: float) -> tuple[float, float, float | None, tuple[float, ...] | None]:
    """`one`, `all`, `mean` and `above`."""
    one, every = (clopper_pearson_upper(leaks, n, confidence) for confidence in (CONFIDENCE, together))
    scores = [value for value, times in sample for _ in range(times)]
    if not scores:
        return one, every, None, None
    return one, every, anderson_mean_upper(scores, together), tuple(map(float, dkw_survival_upper(scores, SHARES, together)))


def rows(found: Sequence[Bound]) -> list[BoundRow]:
    """The bounds setting by setting: the question that fares worst speaks for all."""
    table = []
    for setting in dict.fromkeys(bound.setting for bound in found):
        some = [bound for bound in found if bound.setting == setting]
        n = min(bound.n for bound in some)
        leak_at = {k: fmean(leak_at_k(bound.n, bound.leaks, k) for bound in some) for k in dict.fromkeys((1, 10, n)) if k <= n}
        worst, clean = max(some, key=lambda bound: bound.all), sum(bound.leaks == 0 for bound in some)
        aboves = [bound.above for bound in some if bound.above is not None]
        above = tuple(map(max, zip(*aboves, strict=True))) if aboves else None
        table.append(BoundRow(setting, n, len(some), clean, worst, leak_at, largest(bound.mean for bound in some), above))
    return table
