"""Findings held against a policy → a verdict, line by line, and what no line judged."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unsay.config import first_of
from unsay.measure.policy import EARLIER, LIMIT, RANGE, Line, Policy, cases, permuted
from unsay.measure.summary import EachQuestion
from unsay.measure.summary import metrics as every_metric
from unsay.metric import ANSWERS, CHANCE, COST, FURTHER, LOWER
from unsay.stats import binomial_interval, detectable_rate, equal_within

Metrics = Mapping[str, Mapping[str, float | None]]
"""Metric → its value on each model: `before`, `after`, `retain_model`."""

_MODELS = {"before": "model before", "after": "model after", "retain_model": "retain model"}
_ROUNDING = 1e-9
"""Means of equal things may differ in the last bits."""
_NAMED = 10
"""Questions that the detail of a line names; the others are counted."""
_NO_LEAKS = (ANSWERS, COST, FURTHER)
"""Headings of numbers that tell of no leak."""


@dataclass(frozen=True)
class LineResult:
    name: str
    metric: str
    rule: str
    value: float | None
    limit: float | None
    """The right-hand side as a number; chance itself for `within_chance`."""
    passed: bool
    detail: str = ""
    """What was unscored, or the interval that chance was looked for in."""
    why: str = ""
    questions: tuple[str, ...] = ()
    """Ids of the questions that miss the limit, the worst first, where it is for each."""

    def unscored(self, why: str) -> "LineResult":
        """The line without a value or a limit to hold it against."""
        return replace(self, detail=f"unscored: {why}")

    @property
    def word(self) -> str:
        """What stands in the place of a value that there is not."""
        return "unscored" if self.detail.startswith("unscored") else "otherwise"

    @property
    def derived(self) -> bool:
        """Whether the limit is made of another number, and so worth telling beside the rule."""
        return any(who in self.rule for who in ("before", "retain_model", "chance", "permuted"))


@dataclass(frozen=True)
class Measured:
    """What a run's audits found, as lines are held against it."""

    metrics: Metrics
    counts: Mapping[str, int] = field(default_factory=dict)
    """Metric → how many examples stand behind it."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """Metric → how many it was to be measured on; 0 where none has what it measures, so that its lines do not apply."""
    cases: Collection[str] = field(default_factory=lambda: {*cases()} - {EARLIER})
    """What of `policy.cases` holds for this run."""
    beside: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Metric → both models where they lie farthest apart (`metric.farthest`), for limits that name the retain model."""
    each: Mapping[str, EachQuestion] = field(default_factory=dict)
    """Metric → its value on every question."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """`probe.knob` → its value in the audit."""


def evaluate(policy: Policy, measured: Measured) -> list[LineResult]:
    """Every line of the policy that applies against the model after unlearning.

    >>> line = Line("prefill", "prefill_worst_keyword_recall", at_most="retain_model + 0.05")
    >>> evaluate(Policy("p", (line,)), Measured({"prefill_worst_keyword_recall": {"after": 0.08, "retain_model": 0.04}}))[0].passed
    True
    """
    lines = [line for line in policy.lines if (not line.when or line.when in measured.cases) and measured.asked.get(line.metric) != 0]
    results = [_judge_each(line, measured) if line.each else _judge(line, measured) for line in lines]
    return [*_otherwise(policy, measured.knobs), *results] if results else []


def passed(results: Sequence[LineResult]) -> bool:
    """Whether every line passed; no line at all is no pass."""
    return bool(results) and all(result.passed for result in results)


def as_json(result: LineResult) -> dict[str, Any]:
    """A line as report.json and `gate --json` have it; its reason stands in the policy."""
    return {key: value for key, value in vars(result).items() if key != "why"}


def unjudged(results: Sequence[LineResult], metrics: Metrics) -> list[str]:
    """The attacks that no line judged, each by the first of its metrics that tells of a leak and was measured."""
    every = every_metric()
    judged = {every[result.metric].probe for result in results if result.metric in every}
    found: dict[str, str] = {}
    for key, one in every.items():
        leak = one.better in (LOWER, CHANCE) and one.group not in _NO_LEAKS
        if leak and one.probe not in judged and metrics.get(key, {}).get("after") is not None:
            found.setdefault(one.probe, key)
    return list(found.values())


def _otherwise(policy: Policy, knobs: Mapping[str, Any]) -> list[LineResult]:
    """A failed line for every knob that was not as the policy is made for; what no probe of the run has is left to the lines."""
    results = []
    for key, wanted in policy.made_for.items():
        value = knobs.get(key)
        values = value if isinstance(value, tuple) else (value,)
        if isinstance(wanted, list):
            amiss = [one for one in wanted if one not in values] if value is not None else []
        else:
            amiss = [one for one in values if one is not None and not _fits(one, wanted)]
        if amiss:
            shown = list(value) if isinstance(value, tuple) else value
            detail = f"audited with {shown}; audit again with --set {key}=…, or name a policy that is made for it"
            number = float(amiss[0]) if type(amiss[0]) in (int, float) and not isinstance(wanted, list) else None
            rule = f"with {', '.join(map(str, wanted))}" if isinstance(wanted, list) else str(wanted)
            results.append(LineResult("made for", key, rule, number, None, False, detail))
    return results


def _fits(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, str):
        return bool(value == wanted)
    match = RANGE.fullmatch(wanted)
    assert match  # checked when the policy was read
    low, high = float(match["least"] or match["low"] or "-inf"), float(match["most"] or match["high"] or "inf")
    return isinstance(value, int | float) and low <= value <= high


def _judge(line: Line, measured: Measured) -> LineResult:
    pair = measured.beside.get(line.metric) if "retain_model" in line.limit else None
    here = dict(zip(("after", "retain_model"), pair, strict=True)) if pair else {}
    metrics = {**measured.metrics, line.metric: {**measured.metrics.get(line.metric, {}), **here}}
    value = metrics[line.metric].get("after")
    limit, lacking = _resolve(line, metrics)
    result = LineResult(line.name, line.metric, line.rule, value, limit, False, why=line.why)
    if value is None:
        made = line.metric in every_metric() and every_metric()[line.metric].compute
        return result.unscored(f"{line.metric} was not measured after unlearning{', or not as it was before' if made else ''}")
    if limit is None:
        return result.unscored(lacking)
    n, of = measured.counts.get(line.metric, 0), measured.asked.get(line.metric, 0)
    if n < line.scored * of:
        return result.unscored(_too_few(line, n, of))
    if not line.within_chance:
        over = value - limit if line.at_most is not None else limit - value
        return replace(result, passed=over <= _ROUNDING, detail=f"scored on {n:,} of {of:,} questions" if 0 < n < of else "")
    if n < 1:
        return result.unscored(f"nobody counted the examples behind {line.metric}")
    if binomial_interval(n, n, line.confidence).low <= limit:
        return result.unscored(f"of {n:,} examples even the worst outcome could be chance")
    low, high = binomial_interval(round(value * n), n, line.confidence)
    # Not to be told from chance is not yet to be chance, so what the line can see is said too.
    least, margin = detectable_rate(n, limit, line.confidence), equal_within(round(value * n), n, limit, line.confidence)
    power = f"a true share of {least:.2f} fails four times in five" if least is not None else "no share above chance would fail"
    seen = f"{line.confidence:.0%} interval {low:.2f} to {high:.2f}, {n} examples taken as independent"
    detail = f"{seen}; shown to be chance within ±{margin:.2f}, and {power}"
    return replace(result, passed=low <= limit <= high, detail=detail)


def _judge_each(line: Line, measured: Measured) -> LineResult:
    """The result shows the worst question that is not spared, with the limit that is its own."""
    result = LineResult(line.name, line.metric, line.rule, None, None, False, why=line.why)
    found = measured.each.get(line.metric, EachQuestion({}))
    values = found.values.get("after", {}) if found.proven is None else found.proven
    places: dict[str, tuple[float, float]] = {}
    lacking = f"{line.metric} was not measured after unlearning"
    for question, value in values.items():
        own = {line.metric: {which: some[question] for which, some in found.values.items() if question in some}}
        limit, why = _resolve(line, own)
        if limit is None:
            lacking = why
        else:
            places[question] = value, limit
    if not places:
        return result.unscored(lacking)
    order = sorted(places, key=lambda question: places[question][1] - places[question][0])
    worst = order[min(int(line.spared * len(order) + _ROUNDING), len(order) - 1)]
    value, limit = places[worst]
    result = replace(result, value=value, limit=limit)
    of = max(len(values), measured.asked.get(line.metric, 0))
    if len(places) < line.scored * of:
        return result.unscored(_too_few(line, len(places), of))
    if found.provable <= min(limit for _, limit in places.values()) < 1:  # from 1 on nothing is a leak
        return result.unscored(f"so few answers prove at most a rate of {found.provable:.2f}; ask more often")
    missed = tuple(q for q in order if places[q][0] - places[q][1] > _ROUNDING)
    sure = "so much is proven, 99 % sure of all at once, where {:.2f} was seen; "
    seen = "" if found.proven is None else sure.format(found.values["after"][worst])
    return replace(
        result,
        passed=len(missed) <= line.spared * len(order) + _ROUNDING,
        detail=f"{seen}{len(missed):,} of {len(order):,} questions miss it{': ' if missed else ''}{first_of(missed, _NAMED)}",
        questions=missed,
    )


def _too_few(line: Line, n: int, of: int) -> str:
    return f"only {n:,} of {of:,} questions have a score, and {line.scored:.0%} are needed"


def _resolve(line: Line, metrics: Metrics) -> tuple[float | None, str]:
    """The limit as a number, or `None` and what it lacks."""
    match = LIMIT.fullmatch(line.limit)
    assert match  # checked when the line was made
    if match["number"]:
        return float(match["number"]), ""
    who = match["who"]
    where = {"chance": "chance", "permuted": permuted().get(line.metric, "")}.get(who, line.metric)
    which = who if who in ("before", "retain_model") else "after"
    base = metrics.get(where, {}).get(which)
    if base is None:
        return None, "chance is not known" if who == "chance" else f"{where} was not measured on the {_MODELS[which]}"
    by = float(match["by"] or 0)
    return {"+": base + by, "-": base - by, "*": base * by, None: base}[match["sign"]], ""
