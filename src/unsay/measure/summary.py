"""Findings → the numbers of the report, as the probes declare them; `None` where nothing was scored.

`unlearn_quality` and the two utilities are 0–100, as in the paper; everything else is 0–1.
"""

from collections.abc import Iterable, Mapping
from functools import cache

from unsay import metric, probes
from unsay.config import ConfigError
from unsay.metric import Metric, Values, Whole, mean
from unsay.types import Finding


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
