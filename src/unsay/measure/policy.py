"""Policies: the thresholds that findings are held against, line by line (`verdict.py`). TOML files; the shipped ones lie in `policies/`.

    [[line]]
    name = "prefill"
    metric = "prefill_worst_keyword_recall"         one of `unsay.measure.summary`, or `exposure.…` from the ledger
    at_most = "retain_model + 0.05"

What a line may say stands in docs/run-folder.md, "Policies". What was not measured never passes, nor does a run that was audited
otherwise than the policy is `made_for`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unsay.config import ConfigError, build
from unsay.config.build import named, one_of, share
from unsay.config.toml import parse
from unsay.measure.summary import metrics as every_metric
from unsay.tables import entries, lookup, near

EARLIER = "earlier"
LIMITED = "audit.limit"
"""May stand in `made_for` beside the probes' knobs: 0 where every forget question is asked."""
POLICIES = Path(__file__).parent / "policies"

_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
LIMIT = re.compile(
    rf"\s*(?:(?P<number>{_NUMBER})|(?P<who>before|retain_model|chance|permuted)\s*(?:(?P<sign>[+*-])\s*(?P<by>{_NUMBER}))?)\s*"
)
RANGE = re.compile(rf"(?:at least (?P<least>{_NUMBER})|at most (?P<most>{_NUMBER})|(?P<low>{_NUMBER}) to (?P<high>{_NUMBER}))")


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
    each: bool = False
    """The limit is for every question, not for the mean over them."""
    spared: float = 0.0
    """Share of the questions, rounded down, that may miss it: lucky guesses."""
    scored: float = 0.9
    """Least share of the questions asked that must have a score."""
    when: str = ""
    """The case that the line is for; empty is every run."""
    why: str = ""

    def __post_init__(self) -> None:
        line = f"policy line {_short(self.name)}"
        if (self.at_most is not None) + (self.at_least is not None) + self.within_chance != 1:
            raise ConfigError(f"{line} needs exactly one of at_most, at_least, within_chance = true")
        if not self.within_chance and not LIMIT.fullmatch(self.limit):
            raise ConfigError(
                f"{line}: {_short(self.limit)} is not a limit; write a number, or before, retain_model, chance "
                'or permuted, alone or with + - * and a number, as in "retain_model + 0.05"'
            )
        if "permuted" in self.limit and self.metric not in permuted():
            raise ConfigError(f"{line}: {self.metric[:60]} has no permuted value; these have: {', '.join(permuted())}")
        if self.each and (self.at_most is None or "chance" in self.limit or "permuted" in self.limit):
            raise ConfigError(f"{line}: each = true needs at_most with a number, before or retain_model")
        if self.spared and not self.each:
            raise ConfigError(f"{line}: spared is for a line with each = true")
        share(line, spared=self.spared, scored=self.scored)
        if self.when:
            one_of(f"{line}: when", self.when, cases())
        if not 0 < self.confidence < 1:
            raise ConfigError(f"{line}: confidence = {self.confidence} must lie between 0 and 1")

    @property
    def limit(self) -> str:
        """The right-hand side as written."""
        return self.at_most if self.at_most is not None else self.at_least if self.at_least is not None else "chance"

    @property
    def rule(self) -> str:
        """The line as a reader says it: `≤ retain_model + 0.05`."""
        if self.within_chance:
            return "holds chance"
        spared = f" but {self.spared:.0%}" if self.spared else ""
        return f"{'≤' if self.at_most is not None else '≥'} {self.limit}{f' for each question{spared}' if self.each else ''}"


@dataclass(frozen=True)
class Policy:
    name: str
    lines: tuple[Line, ...]
    made_for: Mapping[str, Any] = field(default_factory=dict)
    """`probe.knob`, or `LIMITED`, → what it must be in the audit: a range in words, the value itself, or a list of what it must hold."""


def shipped() -> list[str]:
    return sorted(path.stem for path in POLICIES.glob("*.toml"))


def load(name: str) -> Policy:
    """A shipped policy by name, or one from a file. Raises `ConfigError`."""
    path = POLICIES / f"{name}.toml" if name in shipped() else Path(name)
    missing = f"report.policy = {named(name)} is neither a file nor a shipped policy: {near(name[:80], shipped())}"
    return read(path.stem, parse(path, missing))


def read(name: str, raw: Mapping[str, Any]) -> Policy:
    """A policy from the parsed TOML. A limit may be written as a number or as text."""
    unknown = raw.keys() - {"about", "line", "made_for"}
    if unknown:
        raise ConfigError(f"policy {name!r}: unknown key {_short(min(unknown))}; known: about, line, made_for")
    rows = raw.get("line", [])
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"policy {name!r} has no [[line]]; an empty policy would pass anything")
    if not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f"policy {name!r}: line is a list of values; write each line as a table under its own [[line]]")
    lines = []
    for number, row in enumerate(rows, 1):
        if missing := {"name", "metric"} - row.keys():
            raise ConfigError(f"policy {name!r}: line {number} has no {min(missing)}")
        texts = {key: _written(value) if key in ("at_most", "at_least") else value for key, value in row.items()}
        lines.append(build(Line, texts, f"{name}.line {number}"))
    return Policy(name, tuple(lines), _made_for(name, raw.get("made_for", {})))


def _made_for(name: str, raw: Any) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConfigError(f'policy {name!r}: made_for is a table of knobs, as in "sampling.n" = "at least 10"')
    for key, value in raw.items():
        probe, _, knob = key.partition(".")
        if key != LIMITED and (probe not in entries("probe") or knob not in lookup("probe", probe).__dataclass_fields__):
            raise ConfigError(f'policy {name!r}: made_for names {_short(key)}; write a probe and its knob, as in "sampling.n"')
        if isinstance(value, str) and not RANGE.fullmatch(value):
            raise ConfigError(f"policy {name!r}: made_for.{key[:60]} = {_short(value)} is no range; write at least 1, at most 1, or 1 to 2")
    return raw


def _written(limit: Any) -> Any:
    return str(limit) if isinstance(limit, float) or (isinstance(limit, int) and abs(limit) < 2**63) else limit


def _short(text: str) -> str:
    """A text of the policy as a message may show it: reports print these, so none is secret."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
