"""The never-knew index: how near a model comes to one that never knew.

For each number that tells the model before from the retain model,

    d = |after − retain model| / |before − retain model|,  at most 1,

and the index is 1 − the mean d: 1 cannot be told from the retain model by these numbers, 0 is as far from it as the model before.
To have forgotten more than the retain model is as far off as to have forgotten less: both can be seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from unsay.measure.summary import metrics
from unsay.metric import Values
from unsay.stats import Interval, mean_interval
from unsay.types import MODELS

_TOLD = 0.05
"""Least distance between the model before and the retain model at which a number tells one from the other."""


@dataclass(frozen=True)
class NeverKnew:
    apart: Mapping[str, float]
    """Metric → d."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Metric → 95 % interval of its d; empty where nobody handed over the questions."""
    questions: int = 0
    """How many questions all three models were scored on; of the metric with the fewest."""

    @property
    def index(self) -> float:
        return 1 - fmean(self.apart.values())

    @property
    def interval(self) -> Interval | None:
        """95 %, from the ends of the intervals of d: too wide rather than too narrow, whatever the metrics have to do with one another."""
        if self.apart.keys() != self.intervals.keys():
            return None
        return Interval(1 - fmean(one.high for one in self.intervals.values()), 1 - fmean(one.low for one in self.intervals.values()))

    @property
    def worst(self) -> str:
        """The metric on which it is farthest off."""
        return max(self.apart, key=lambda key: self.apart[key])


def never_knew(values: Mapping[str, Mapping[str, float | None]]) -> NeverKnew | None:
    """From metric → value `before`, `after` and `retain_model`. `None` where no number tells the model before from the retain model.

    >>> never_knew({"greedy_keyword_recall": {"before": 1.0, "after": 0.25, "retain_model": 0.0}}).index
    0.75
    """
    apart = {}
    for key in (key for key, one in metrics().items() if one.forgotten):
        before, after, retain_model = (values.get(key, {}).get(which) for which in MODELS)
        if before is not None and after is not None and retain_model is not None and abs(before - retain_model) >= _TOLD:
            apart[key] = min(1.0, abs(after - retain_model) / abs(before - retain_model))
    return NeverKnew(apart) if apart else None


def by_question(found: Callable[[str, str], Values], groups: Mapping[str, str]) -> NeverKnew | None:
    """The same with intervals, over the questions that all three models were scored on. `found`: of a model and a metric, the value of
    each question, asked for metric by metric, so that nobody need hold all; `groups`: question → its group.

    The interval of a metric is that of the ratio r of two means, by what each question moves it by (the linearised ratio estimator):

        z_i = r + (a_i − r b_i) / mean b,    a = after − retain model,  b = before − retain model,  r = mean a / mean b
    """
    apart: dict[str, float] = {}
    intervals, counts = {}, []
    for key in (key for key, one in metrics().items() if one.forgotten):
        before, after, retain_model = (found(which, key) for which in MODELS)
        shared = [place for place in after if place in before and place in retain_model]
        if len(shared) < 2:
            continue
        values = [fmean(some[place] for place in shared) for some in (before, after, retain_model)]
        index = never_knew({key: dict(zip(MODELS, values, strict=True))})
        if index is None:
            continue
        way = values[0] - values[2]
        ratio = (values[1] - values[2]) / way
        moved = [ratio + (after[p] - retain_model[p] - ratio * (before[p] - retain_model[p])) / way for p in shared]
        _, low, high = mean_interval(moved, [groups.get(example, "") for _, example in shared], scale=(-1 / abs(way), 1 / abs(way)))
        nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        apart |= index.apart
        intervals[key] = Interval(min(1.0, nearest), min(1.0, max(abs(low), abs(high))))
        counts.append(len(shared))
    return NeverKnew(apart, intervals, min(counts)) if apart else None
