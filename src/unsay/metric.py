"""A metric: one number of the report, declared beside the probe whose findings it is made of.

Most are the mean of one value a question: the metric says which findings make that value (`finding`, `where`, `of`) and how several
of one question become one (`fold`). A few compute themselves from everything that was found (`compute`). Summary, policy, report,
comparison and search iterate over these declarations and know no probe by name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import NamedTuple

from unsay.packed import Packed
from unsay.types import Finding

LOWER, HIGHER, CHANCE, RETAIN_MODEL, EITHER = "lower", "higher", "chance", "retain_model", ""
"""Which way is good: `EITHER` has no good direction of its own."""

GIVES_AWAY = "What it still gives away"
SLIPS = "How often it slips"
VERBATIM = "What it repeats word for word"
LIKELIHOODS = "What can be read from likelihoods"
MEMBERSHIP = "Can one tell which answer it was taught?"
HIDDEN = "What its hidden states hold"
COMES_BACK = "How cheaply it comes back"
FEWER_BITS = "In fewer bits"
EARLIER = "What earlier requests took away"
ANSWERS = "What the answers are"
COST = "What it cost"
FURTHER = "Further measures"
PAPER = "For comparison with the paper"
HEADINGS = (GIVES_AWAY, SLIPS, VERBATIM, LIKELIHOODS, MEMBERSHIP, HIDDEN, COMES_BACK, FEWER_BITS, EARLIER, ANSWERS, COST, FURTHER, PAPER)
"""Of the report's tables, in this order; a heading that is not among them comes after."""

Values = dict[tuple[str, str], float]
"""(set, question) → value. Only the utilities have sets, which count the same whatever their size; elsewhere the set is ""."""
Findings = Sequence[Finding]


class Whole(NamedTuple):
    """A number that is no mean over questions, and how many examples stand behind it."""

    value: float
    n: int


@dataclass(frozen=True)
class Metric:
    """One number: how it is made, what it is called, and where it is shown."""

    key: str
    """Its name in report.json and in policies."""
    title: str
    says: str
    """One line for the reader of the report."""
    better: str = EITHER
    group: str = FURTHER
    """Heading of the table that it stands in; "" leaves it out of the tables."""

    probe: str = field(default="", kw_only=True)
    """Name of the probe that declares it; filled in where declarations are read (`unsay.probes.declared`)."""
    finding: str = ""
    """`Finding.metric` of the findings that it is made of; empty: its key without the probe's name (`greedy_longest_run`)."""
    where: Callable[[str], bool] = lambda setting: True
    """Which settings take part."""
    fold: str = "mean"
    """Over the settings of a question: `mean`, or `worst`, the largest. `hardest` takes the one setting whose mean over the
    questions is largest; `sets` keeps the settings apart as sets of questions."""
    of: Callable[[Finding], float | None] = lambda finding: finding.value
    """What of the finding counts; `None` takes no part."""
    compute: Callable[[Findings, Findings, Findings], Whole | None] | None = None
    """For a number that is no mean over questions: made of all scored findings of the model, of the one before, and of the retain model."""

    top: float = 1.0
    """Upper end of the scale; the lower end is 0."""
    share: bool = False
    """The mean of noughts and ones, so that a binomial interval applies."""
    sampled: bool = False
    """Of one question, the share of its n answers that …: an exact bound applies to each."""
    unit: str = "questions"
    """What the number is a mean over."""
    area: bool = False
    """An area under a ROC curve, which has an interval of its own."""

    accident: str = ""
    """Key of the metric that says how much of this one the same answers score on the secrets of *other* questions."""
    case: str = ""
    """The case in which a policy's line on it applies; empty is always."""
    untold: str = ""
    """The note of a finding that says that the case does not hold for its question; empty where it holds if there are any findings."""
    forgotten: bool = False
    """Part of the never-knew index: of the forget questions, from 0 to 1, and different in a model that never knew."""
    tile: bool = False
    """Shown large on the first page of the report."""
    picture: str = ""
    """The picture that it is drawn in: `leaks`, the share of the secret's own words that came out, or `answers`, what they are."""
    claim: str = ""
    """Its clause of the claim, with {} in the place of the value."""

    def of_probe(self, name: str) -> "Metric":
        """As the probe of that name declares it: with its name, and with the findings that it is made of."""
        finding = self.finding if self.finding or self.compute else self.key.removeprefix(f"{name}_")
        return replace(self, probe=name, finding=finding)


leak = partial(Metric, better=LOWER, group=GIVES_AWAY)
"""How much of the secrets an attack draws out of the model."""


def by_question(metric: Metric, findings: Iterable[Finding]) -> Values:
    """The values whose mean the number is: of every question that was scored, each on the scale of the number."""
    values = _cells(metric, findings)
    if metric.fold == "sets":
        return values
    if metric.fold == "hardest":
        values = max(_by_setting(values).values(), key=lambda some: fmean(some.values()), default={})
    # Taken out one by one: of 100,000 both at once would take 20 MB.
    places = ((place if not place[0] else ("", place[1]), values.pop(place)) for place in [*values])
    return _folded(places, max if metric.fold == "worst" else fmean)


def farthest(metric: Metric, findings: Iterable[Finding], others: Iterable[Finding]) -> tuple[float, float] | None:
    """A `hardest` number on two models: both at the setting where the first lies farthest above the second, because the hardest of each
    may be two settings, and hide that. `None` where no setting is shared."""
    here, there = ({s: fmean(some.values()) for s, some in _by_setting(_cells(metric, f)).items()} for f in (findings, others))
    shared = [setting for setting in here if setting in there]
    chosen = max(shared, key=lambda setting: here[setting] - there[setting], default=None)
    return (here[chosen], there[chosen]) if chosen is not None else None


def mean(values: Mapping[tuple[str, str], float]) -> float | None:
    """Mean over the sets of their means; of one set its mean."""
    sets: dict[str, list[float]] = {}
    for (name, _), value in values.items():
        sets.setdefault(name, []).append(value)
    return fmean(fmean(some) for some in sets.values()) if sets else None


def of_kind(findings: Iterable[Finding], probe: str, metric: str) -> Iterable[Finding]:
    """The findings of one kind, one after the other."""
    if isinstance(findings, Packed):
        return findings.kind(probe, metric)
    return (f for f in findings if f.probe == probe and f.metric == metric)


def scored_by(findings: Iterable[Finding], probe: str, metric: str) -> list[Finding]:
    """The scored findings of one kind."""
    return [f for f in of_kind(findings, probe, metric) if f.value is not None]


def _cells(metric: Metric, findings: Iterable[Finding]) -> Values:
    """(setting, question) → value, of the findings that make the number."""
    kind = (f for f in of_kind(findings, metric.probe, metric.finding) if metric.where(f.setting))
    cells = _folded((((f.setting, f.example), value) for f in kind if (value := metric.of(f)) is not None), fmean)
    for place, value in cells.items():
        cells[place] = metric.top * value
    return cells


def _folded(values: Iterable[tuple[tuple[str, str], float]], fold: Callable[[Iterable[float]], float]) -> Values:
    """Place → value, several of one place folded. Most places have one: no list is held for those."""
    found: Values = {}
    several: dict[tuple[str, str], list[float]] = {}
    for place, value in values:
        if place in found:
            several.setdefault(place, [found[place]]).append(value)
        else:
            found[place] = value
    found.update((place, fold(some)) for place, some in several.items())
    return found


def _by_setting(values: Values) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for place, value in values.items():
        found.setdefault(place[0], {})[place] = value
    return found
