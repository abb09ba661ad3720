"""Findings × thresholds → a verdict, line by line. A policy is a TOML file; the shipped ones lie in `policies/`.

    about = "What this policy is for."

    [[line]]
    name = "prefill"
    metric = "prefill_worst_keyword_recall"
    at_most = "retain_model + 0.05"
    why = "One sentence for the reader of the report."

A line with `when` applies in one case, and nowhere else: `"earlier"` where the run names earlier requests, `"partial secret"` where
there is
an answer that can be told by half (one of a single keyword cannot).

A line says `at_most`, `at_least` or `within_chance = true`. A limit is a number, or one of `before`, `retain_model`, `chance`,
`permuted`, alone or with one `+`, `-` or `*` and a number. `permuted` is what the same answers score on the secrets of other
questions, the comparison where no model is at hand that never knew; only the metrics that declare an `accident` have it.
Metrics are those of `unsay.measure.summary`, and `exposure.…` from the ledger.

What was not measured never passes: a line that applies and whose metric or limit is unscored fails, and says so.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsay.config import ConfigError, build
from unsay.config.build import named, one_of
from unsay.config.toml import parse
from unsay.measure.summary import metrics as every_metric
from unsay.stats import binomial_interval, detectable_rate, equal_within
from unsay.tables import near

EARLIER = "earlier"
POLICIES = Path(__file__).parent / "policies"

Metrics = Mapping[str, Mapping[str, float | None]]
"""Metric → its value on each model: `before`, `after`, `retain_model`."""

_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_LIMIT = re.compile(
    rf"\s*(?:(?P<number>{_NUMBER})|(?P<who>before|retain_model|chance|permuted)\s*(?:(?P<sign>[+*-])\s*(?P<by>{_NUMBER}))?)\s*"
)
_NOBODY: Mapping[str, int] = {}
_NOTHING: Mapping[str, tuple[float, float]] = {}
_MODELS = {"before": "model before", "after": "model after", "retain_model": "retain model"}
_ROUNDING = 1e-9
"""Means of equal things may differ in the last bits."""


def cases() -> tuple[str, ...]:
    """What `when` may say. It is read from what the run was asked to do, never from what a model scored."""
    return (EARLIER, *dict.fromkeys(one.case for one in every_metric().values() if one.case))


def permuted() -> dict[str, str]:
    """Metric → what the same answers score on the secrets of other questions."""
    return {key: one.accident for key, one in every_metric().items() if one.accident}


@dataclass(frozen=True)
class Line:
    """One threshold."""

    name: str
    metric: str
    at_most: str | None = None
    at_least: str | None = None
    within_chance: bool = False
    """Chance lies in the exact two-sided binomial interval of the observed share."""
    confidence: float = 0.95
    """Of that interval."""
    when: str = ""
    """The case that the line is for; empty is every run."""
    why: str = ""

    def __post_init__(self) -> None:
        if (self.at_most is not None) + (self.at_least is not None) + self.within_chance != 1:
            raise ConfigError(f"policy line {_short(self.name)} needs exactly one of at_most, at_least, within_chance = true")
        if not self.within_chance and not _LIMIT.fullmatch(self.limit):
            raise ConfigError(
                f"policy line {_short(self.name)}: {_short(self.limit)} is not a limit; write a number, or before, retain_model, chance "
                'or permuted, alone or with + - * and a number, as in "retain_model + 0.05"'
            )
        if "permuted" in self.limit and self.metric not in permuted():
            raise ConfigError(
                f"policy line {_short(self.name)}: {self.metric[:60]} has no permuted value; these have: {', '.join(permuted())}"
            )
        if self.when:
            one_of(f"policy line {_short(self.name)}: when", self.when, cases())
        if not 0 < self.confidence < 1:
            raise ConfigError(f"policy line {_short(self.name)}: confidence = {self.confidence} must lie between 0 and 1")

    @property
    def limit(self) -> str:
        """The right-hand side as written."""
        return self.at_most if self.at_most is not None else self.at_least if self.at_least is not None else "chance"

    @property
    def rule(self) -> str:
        """The line as a reader says it: `≤ retain_model + 0.05`."""
        return "holds chance" if self.within_chance else f"{'≤' if self.at_most is not None else '≥'} {self.limit}"


@dataclass(frozen=True)
class Policy:
    name: str
    lines: tuple[Line, ...]
    about: str = ""


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


def shipped() -> list[str]:
    return sorted(path.stem for path in POLICIES.glob("*.toml"))


def load(name: str) -> Policy:
    """A shipped policy by name, or one from a file. Raises `ConfigError`."""
    path = POLICIES / f"{name}.toml" if name in shipped() else Path(name)
    missing = f"report.policy = {named(name)} is neither a file nor a shipped policy: {near(name[:80], shipped())}"
    return read(path.stem, parse(path, missing))


def read(name: str, raw: Mapping[str, Any]) -> Policy:
    """A policy from the parsed TOML. A limit may be written as a number or as text."""
    unknown = raw.keys() - {"about", "line"}
    if unknown:
        raise ConfigError(f"policy {name!r}: unknown key {_short(min(unknown))}; known: about, line")
    rows = raw.get("line", [])
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"policy {name!r} has no [[line]]; an empty policy would pass anything")
    if not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f"policy {name!r}: line is a list of values; write each line as a table under its own [[line]]")
    texts = [{key: _written(value) if key in ("at_most", "at_least") else value for key, value in row.items()} for row in rows]
    for number, row in enumerate(texts, 1):
        missing = {"name", "metric"} - row.keys()
        if missing:
            raise ConfigError(f"policy {name!r}: line {number} has no {min(missing)}")
    lines = tuple(build(Line, row, f"{name}.line {number}") for number, row in enumerate(texts, 1))
    return Policy(name, lines, str(raw.get("about", "")))


def _written(limit: Any) -> Any:
    return str(limit) if isinstance(limit, float) or (isinstance(limit, int) and abs(limit) < 2**63) else limit


def _short(text: str) -> str:
    """A text of the policy as a message may show it: reports print these, so none is secret."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def evaluate(
    policy: Policy,
    metrics: Metrics,
    counts: Mapping[str, int],
    holding: Collection[str] | None = None,
    asked: Mapping[str, int] = _NOBODY,
    beside: Mapping[str, tuple[float, float]] = _NOTHING,
) -> list[LineResult]:
    """Every line of the policy that applies against the model after unlearning.

    `counts`: metric → how many examples stand behind it. `holding`: what of `cases` holds for this run (where nothing is said, all
    but earlier requests). `asked`: metric → how many examples it was to be measured on; where some could not be scored, the
    line says so. `beside`: metric → the model after unlearning and the retain model where they lie farthest apart (`summary.farthest`), for
    limits that name the retain model.

    >>> line = Line("prefill", "prefill_worst_keyword_recall", at_most="retain_model + 0.05")
    >>> evaluate(Policy("p", (line,)), {"prefill_worst_keyword_recall": {"after": 0.08, "retain_model": 0.04}}, {})[0].passed
    True
    """
    together = {key: {**values, **_pair(beside.get(key))} for key, values in metrics.items()}
    known = set(cases()) - {EARLIER} if holding is None else holding
    lines = [line for line in policy.lines if not line.when or line.when in known]
    return [_judge(line, together if "retain_model" in line.limit else metrics, counts, asked) for line in lines]


def _pair(found: tuple[float, float] | None) -> Mapping[str, float]:
    return {"after": found[0], "retain_model": found[1]} if found else {}


def passed(results: Sequence[LineResult]) -> bool:
    """Whether every line passed; no line at all is no pass."""
    return bool(results) and all(result.passed for result in results)


def _judge(line: Line, metrics: Metrics, counts: Mapping[str, int], asked: Mapping[str, int]) -> LineResult:
    value = metrics.get(line.metric, {}).get("after")
    limit, lacking = _resolve(line, metrics)
    result = LineResult(line.name, line.metric, line.rule, value, limit, False, why=line.why)
    if value is None:
        return dataclasses.replace(result, detail=f"unscored: {line.metric} was not measured after unlearning")
    if limit is None:
        return dataclasses.replace(result, detail=f"unscored: {lacking}")
    n, of = counts.get(line.metric, 0), asked.get(line.metric, 0)
    if not line.within_chance:
        over = value - limit if line.at_most is not None else limit - value
        return dataclasses.replace(result, passed=over <= _ROUNDING, detail=f"scored on {n:,} of {of:,} questions" if 0 < n < of else "")
    if n < 1:
        return dataclasses.replace(result, detail=f"unscored: nobody counted the examples behind {line.metric}")
    if binomial_interval(n, n, line.confidence).low <= limit:
        return dataclasses.replace(result, detail=f"unscored: of {n:,} examples even the worst outcome could be chance")
    low, high = binomial_interval(round(value * n), n, line.confidence)
    seen = f"{line.confidence:.0%} interval {low:.2f} to {high:.2f}, {n} examples taken as independent"
    detail = f"{seen}; {_power(round(value * n), n, limit, line.confidence)}"
    return dataclasses.replace(result, passed=low <= limit <= high, detail=detail)


def _power(hits: int, n: int, chance: float, confidence: float) -> str:
    """What the line can see: not to be told from chance is not yet to be chance."""
    least = detectable_rate(n, chance, confidence)
    seen = f"a true share of {least:.2f} fails four times in five" if least is not None else "no share above chance would fail"
    return f"shown to be chance within ±{equal_within(hits, n, chance, confidence):.2f}, and {seen}"


def _resolve(line: Line, metrics: Metrics) -> tuple[float | None, str]:
    """The limit as a number, or `None` and what it lacks."""
    match = _LIMIT.fullmatch(line.limit)
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
