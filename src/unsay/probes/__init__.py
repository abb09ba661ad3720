"""How a model is attacked. One probe is one file here (or a close family), one line in `unsay.tables.PROBES`, one test.

Contract: a frozen dataclass whose fields are its knobs, called `probe(subject, case) -> Sequence[Finding]`. Its docstring
ends "Does not cover: …". What could not be run is a Finding with value `None` and a note, never 0. Every finding has
`probe` = its name in the table, `example` = the id of the question ("" for the whole model), and a value in [0, 1].

Beside its knobs it declares, as class attributes, what becomes of its findings; nothing else knows a probe by name:

* `metrics`: the numbers of the report, each a `unsay.metric.Metric`
* `title`: what the pages call it; its name where it says none
* `tested`: its clause of the claim, with {settings}, {count} of them, {n} answers and {questions}; "" where it attacks nothing
* `by_setting`: `Finding.metric` of the number that the report shows setting by setting
* `variants`: what its settings are, in words, for the sentence about what lies outside them
* `certified`: how it asks, in words, where it samples and yields `leak_rate`, so that its bounds are told
* `judged`: whether its answers are held against the case's reference judge

The metrics of the findings, and what their settings are, stand in docs/probes.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Protocol

from unsay.lm.subject import Subject
from unsay.metric import Metric
from unsay.tables import PROBES, entries, lookup
from unsay.types import Case, Finding


class Probe(Protocol):
    metrics: ClassVar[tuple[Metric, ...]]

    def __call__(self, subject: Subject, case: Case) -> Sequence[Finding]: ...


@dataclass(frozen=True)
class Declared:
    """What a probe says of itself; see the contract."""

    title: str = ""
    metrics: tuple[Metric, ...] = ()
    tested: str = ""
    by_setting: str = ""
    variants: str = ""
    certified: str = ""
    judged: bool = False


def declared_by(kind: Any) -> Declared:
    """The class attributes of the contract, of a probe or its class."""
    return Declared(**{name: getattr(kind, name) for name in Declared.__dataclass_fields__ if hasattr(kind, name)})


@cache
def declared() -> Mapping[str, Declared]:
    """By name, of every probe that is installed: first those that come with unsay, in the order of their table."""
    names = [*PROBES, *(name for name in entries("probe") if name not in PROBES)]
    found = {}
    for name in names:
        one = declared_by(lookup("probe", name))
        metrics = tuple(metric.of_probe(name) for metric in one.metrics)
        found[name] = replace(one, title=one.title or name.replace("_", " ").capitalize(), metrics=metrics)
    return found
