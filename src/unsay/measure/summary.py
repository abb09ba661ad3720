"""Findings → the numbers of the report, as the probes declare them; `None` where nothing was scored.

`unlearn_quality` and the two utilities are 0–100, as in the paper; everything else is 0–1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean

from unsay import metric, probes
from unsay.config import ConfigError
from unsay.metric import Metric, Values, Whole, mean
from unsay.types import Finding

_TOLD = 0.05
"""Least distance between the model before and the retain model at which a number tells one from the other."""


@cache
def metrics() -> Mapping[str, Metric]:
    """Every number of the report by its key, in the order of the probes. Raises `ConfigError` where two probes declare one key."""
    found: dict[str, Metric] = {}
    for name, declared in probes.declared().items():
        for one in declared.metrics:
            if one.key in found:
                raise ConfigError(f"the probe {name!r} declares the metric {one.key!r}, which another probe has; give it another key")
            found[one.key] = one
    return found


@cache
def probe_of() -> Mapping[str, str]:
    """The probe that yields each number."""
    return {one.key: name for name, declared in probes.declared().items() for one in declared.metrics}


def summarise(findings: Iterable[Finding], before: Iterable[Finding] = (), retain_model: Iterable[Finding] = ()) -> dict[str, float | None]:
    """Metric → value on one model. `before` and `retain_model`: the same audit of other models, for the numbers that compare two.

    >>> summarise([Finding("greedy", "keyword_recall", 0.25, "q1"), Finding("greedy", "keyword_recall", None,
    "q2")])["greedy_keyword_recall"]
    0.25
    """
    scored = [finding for finding in findings if finding.value is not None]
    means, whole = questions(scored), wholes(scored, before, retain_model)
    return {key: (whole[key].value if key in whole else None) if one.compute else mean(means[key]) for key, one in metrics().items()}


def wholes(findings: Iterable[Finding], before: Iterable[Finding] = (), retain_model: Iterable[Finding] = ()) -> dict[str, Whole]:
    """The numbers that are no mean over questions; what was not measured is left out."""
    models = [[finding for finding in some if finding.value is not None] for some in (findings, before, retain_model)]
    found = {key: one.compute(models[0], models[1], models[2]) for key, one in metrics().items() if one.compute}
    return {key: whole for key, whole in found.items() if whole is not None}


def questions(findings: Iterable[Finding]) -> dict[str, Values]:
    """The values behind every number that is a mean over questions, with one look at the findings."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.probe, finding.metric), []).append(finding)
    of = probe_of()
    return {
        key: metric.by_question(of[key], one, kinds.get((of[key], one.finding), ())) for key, one in metrics().items() if not one.compute
    }


def by_question(findings: Iterable[Finding], key: str) -> Values:
    """The values whose mean the number is: of every question that was scored, each on the scale of the number."""
    return metric.by_question(probe_of()[key], metrics()[key], findings)


def farthest(findings: Iterable[Finding], others: Iterable[Finding], key: str) -> tuple[float, float] | None:
    """`unsay.metric.farthest` of the number with this key."""
    return metric.farthest(probe_of()[key], metrics()[key], findings, others)


@dataclass(frozen=True)
class NeverKnew:
    """How near a model comes to one that never knew: having forgotten more than that one is as far off as having forgotten less."""

    index: float
    """1 − the mean of `apart`: 1 cannot be told from the retain model by these numbers, 0 is as far from it as the model before."""
    apart: Mapping[str, float]
    """Metric → |after − retain model| / |before − retain model|, at most 1."""

    @property
    def worst(self) -> str:
        """The metric on which it is farthest off."""
        return max(self.apart, key=lambda key: self.apart[key])


def never_knew(values: Mapping[str, Mapping[str, float | None]]) -> NeverKnew | None:
    """From metric → value `before`, `after` and `retain_model`. A metric on which the retain model and the model before are less than
    `_TOLD` apart tells
    nothing of forgetting and takes no part; `None` where none is left.

    >>> never_knew({"greedy_keyword_recall": {"before": 1.0, "after": 0.25, "retain_model": 0.0}}).index
    0.75
    """
    apart = {}
    for key in (key for key, one in metrics().items() if one.forgotten):
        before, after, retain_model = (values.get(key, {}).get(which) for which in ("before", "after", "retain_model"))
        if before is not None and after is not None and retain_model is not None and abs(before - retain_model) >= _TOLD:
            apart[key] = min(1.0, abs(after - retain_model) / abs(before - retain_model))
    return NeverKnew(1 - fmean(apart.values()), apart) if apart else None
