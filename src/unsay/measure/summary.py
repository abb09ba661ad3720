"""Findings → the numbers of the report, as the probes declare them; `None` where nothing was scored.

`unlearn_quality` and the two utilities are 0–100, as in the paper; everything else is 0–1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from unsay import probes
from unsay.config import ConfigError
from unsay.metric import Metric, Values, Whole, by_question, mean, of_kind
from unsay.packed import Packed
from unsay.probes.scoring import CLOSED, CONFIDENCE, NO_KEYWORDS
from unsay.stats import binomial_interval
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


def summarise(findings: Iterable[Finding], before: Iterable[Finding] = (), retain_model: Iterable[Finding] = ()) -> dict[str, float | None]:
    """Metric → value on one model. `before` and `retain_model`: the same audit of other models, for the numbers that compare two.

    >>> values = (0.25, None)
    >>> summarise([Finding("greedy", "keyword_recall", value, f"q{i}") for i, value in enumerate(values)])["greedy_keyword_recall"]
    0.25
    """
    scored = Packed.of(findings).scored()
    whole = wholes(scored, before, retain_model)
    # One after the other: of all numbers at once, the values of many questions take much room.
    return {
        key: (whole[key].value if key in whole else None) if one.compute else mean(by_question(one, scored))
        for key, one in metrics().items()
    }


def wholes(findings: Iterable[Finding], before: Iterable[Finding], retain_model: Iterable[Finding]) -> dict[str, Whole]:
    """The numbers that are no mean over questions; what was not measured is left out."""
    models = [Packed.of(some).scored() for some in (findings, before, retain_model)]
    found = {key: one.compute(models[0], models[1], models[2]) for key, one in metrics().items() if one.compute}
    return {key: whole for key, whole in found.items() if whole is not None}


def questions(findings: Iterable[Finding]) -> dict[str, Values]:
    """The values behind every number that is a mean over questions, with one look at the findings."""
    packed = Packed.of(findings)
    return {key: by_question(one, packed) for key, one in metrics().items() if not one.compute}


@dataclass(frozen=True)
class EachQuestion:
    """One number question by question, for a line that holds for each of them."""

    values: Mapping[str, Mapping[str, float]]
    proven: Mapping[str, float] | None = None
    """Question → rate that its answers after unlearning prove it to exceed, for a number that is `sampled`: 99 % sure of all at once."""
    provable: float = 1.0
    """The rate that could be proven of every question, if all of its answers leaked."""


def each_question(models: Mapping[str, Sequence[Finding]], key: str, ids: dict[str, str]) -> EachQuestion:
    """The number of every question on each model. `ids`: of the questions so far, so that each is there once, in however many numbers."""
    one = metrics()[key]
    values = {
        which: {ids.setdefault(example, example): value for (_, example), value in by_question(one, found).items()}
        for which, found in models.items()
    }
    if not one.sampled:
        return EachQuestion(values)
    kind = (f for f in of_kind(models["after"], one.probe, one.finding) if one.where(f.setting))
    rates = [(f.example, f.n, value) for f in kind if (value := one.of(f)) is not None and f.n]
    # One-sided, and each question in each setting takes its share of the error.
    confidence = 1 - 2 * (1 - CONFIDENCE) / max(1, len(rates))
    proven: dict[str, float] = {}
    provable: dict[str, float] = {}
    for example, n, value in rates:
        proven[example] = max(proven.get(example, 0.0), binomial_interval(round(value * n), n, confidence).low)
        provable[example] = max(provable.get(example, 0.0), binomial_interval(n, n, confidence).low)
    return EachQuestion(values, proven, min(provable.values(), default=1.0))


def asked(findings: Iterable[Finding]) -> dict[str, int]:
    """Metric → how many questions it was to be measured on, scored or not; left out where its probe did not run. A question
    for which the case of the metric does not hold (no paraphrase, no half of a secret) was not to be measured, nor was one whose
    answer has no keyword and that was scored by a choice instead: 0 where all are such."""
    packed = Packed.of(findings)
    closed = {f.example for probe, metric in packed.kinds if metric == CLOSED for f in packed.kind(probe, metric) if f.value is not None}
    found = {}
    for key, one in metrics().items():
        kind = (f for f in packed.kind(one.probe, one.finding) if f.example and one.where(f.setting))
        counted: dict[str, bool] = {}
        for f in (f for f in kind if not (one.untold and f.note == one.untold)):
            counted[f.example] = counted.get(f.example, False) or not (f.note == NO_KEYWORDS and f.example in closed)
        if counted:
            found[key] = sum(counted.values())
    return found
