"""Held-out at par: how much of what should stay is left at the setting of the dial where the forgetting lines just pass.

Runs that forget to different depths cannot be compared by what they kept. On the straight line from the untouched weights to the trained
ones, and a little beyond (averaging.py), a run has a point that forgets just enough; what is held out there is one number to develop on. A
forgetting line of the policy is one that says `at_most` or `within_chance`; lines that say `at_least` are about what should stay.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unsay import audit
from unsay import run as runs
from unsay.config import AuditConfig, ConfigError, Recipe, deployment
from unsay.config.training import MOST_AVERAGING
from unsay.lm.adapters import load_to_train
from unsay.lm.plan import planned
from unsay.lm.subject import LocalSubject
from unsay.measure import policy
from unsay.measure.policy import Policy
from unsay.measure.summary import metrics
from unsay.measure.verdict import LineResult
from unsay.metric import CHANCE
from unsay.record.recorded import target_model_name
from unsay.report.evidence import judged
from unsay.store.folder import RunFolder, read_findings
from unsay.train.averaging import averaged
from unsay.train.resume import restore_trained
from unsay.train.step import Weights
from unsay.types import Case, Finding

_DEAR = "prefix_search"
"""The probe that takes most of the time; it is asked only where every other forgetting line passes."""
STEPS = 20
"""Parts into which the line up to the trained weights is cut: one step is .05."""


@dataclass(frozen=True)
class Point:
    """A run at one setting of the dial."""

    share: float
    """α: 0 is the untouched model, 1 the trained one; above 1 lies beyond it."""
    metrics: Mapping[str, Mapping[str, float | None]]
    """Metric → value before, after (at this setting) and the retain model."""
    lines: Sequence[LineResult]
    unasked: tuple[str, ...] = ()
    """Probes that were spared because another forgetting line fails: their lines are not among `lines`."""

    @property
    def held_out(self) -> float:
        """Utility held out, 0 to 100."""
        return self.metrics["utility_heldout"]["after"] or 0.0

    @property
    def forgets(self) -> bool:
        """Whether every forgetting line passes."""
        return not self.failed(forgetting=True)

    def failed(self, forgetting: bool) -> list[str]:
        """Names of the failed lines about what should go, or about what should stay."""
        return [line.name for line in self.lines if not line.passed and is_forgetting(line) == forgetting]


def is_forgetting(line: LineResult) -> bool:
    """Whether a line of a policy is about what should go: all that ask for little, and those that ask for chance from below."""
    one = metrics().get(line.metric)
    return not line.rule.startswith("≥") or (one is not None and one.better == CHANCE)


def at_par(folder: RunFolder, name: str | None = None, progress: Callable[[str], None] = lambda text: None) -> list[Point]:
    """Points along the dial of a finished run, the largest α first; the last one that forgets is the run at par. Nothing is written.

    The line up to the trained weights is halved until two neighbouring settings are left of which one forgets and the other does not, on
    the assumption that a model forgets more the farther it goes. Where the trained weights do not forget enough, the settings beyond them
    are tried in turn, up to `MOST_AVERAGING`. Raises `ConfigError` where the trained weights or an audit to hold them against are missing.
    """
    recipe = folder.recipe()
    chosen = policy.load(name or recipe.report.policy)
    before, retain_model = (read_findings(folder.audit_file(which)) for which in ("before", "retain_model"))
    if not before:
        raise ConfigError(f"{folder.path} has no audit of the model before; run `unsay run` to its end")
    if not retain_model and any("retain_model" in line.limit for line in chosen.lines):
        raise ConfigError(f"policy {chosen.name} compares with a retain model, and {folder.path} has audited none; say --policy default")
    probes = _probes(chosen, recipe)
    asked, cheap = replace(recipe, audit=AuditConfig(probes, recipe.audit.limit)), tuple(name for name in probes if name != _DEAR)
    untouched = target_model_name(recipe, folder)
    model, encoder = load_to_train(recipe, untouched)
    weights = Weights(model)
    restore_trained(folder, weights)
    known, sampling = runs.case(recipe, folder), deployment.sample(recipe)
    subject = LocalSubject(model.eval(), encoder, planned(folder, "train", model, encoder, sampling, ()), recipe.seed)
    judging = runs.reference_judge(recipe, folder, cache=False)
    found: dict[int, Point] = {}

    def judged_by(share: float, findings: Sequence[Finding], names: tuple[str, ...]) -> Point:
        left = set(probes) - set(names)
        lines = tuple(line for line in chosen.lines if line.metric not in metrics() or metrics()[line.metric].probe not in left)
        models = {"before": before, "after": findings, "retain_model": retain_model}
        return Point(share, *judged(replace(chosen, lines=lines), asked, folder.manifest(), models), tuple(sorted(left)))

    def forgets(step: int) -> bool:
        share = step / STEPS
        progress(f"{folder.path.name} at {share:.2f}")
        with averaged(weights, model, replace(recipe, train=replace(recipe.train, averaging=share)), untouched):
            findings = _asked(recipe, cheap, subject, known, judging)
            found[step] = judged_by(share, findings, cheap)
            if found[step].forgets and _DEAR in probes:
                found[step] = judged_by(share, findings + _asked(recipe, (_DEAR,), subject, known, judging), probes)
        return found[step].forgets

    if next(filter(forgets, range(STEPS, int(MOST_AVERAGING * STEPS) + 1)), None) == STEPS:
        # Down to the untouched model, which fails, or there would be nothing to do.
        bisect_left(range(STEPS - 1, 0, -1), True, key=lambda step: not forgets(step))
    return [found[step] for step in sorted(found, reverse=True)]


def _asked(recipe: Recipe, probes: tuple[str, ...], subject: LocalSubject, known: Case, judging: Sequence[Any]) -> list[Finding]:
    return [*audit.run(subject, known, replace(recipe, audit=AuditConfig(probes, recipe.audit.limit)), *judging)]


def best(points: Sequence[Point]) -> Point | None:
    """Of the points that forget, the one that keeps most of what was held out; `None` where none forgets."""
    return max((point for point in points if point.forgets), key=lambda point: point.held_out, default=None)


def _probes(chosen: Policy, recipe: Recipe) -> tuple[str, ...]:
    """What must be asked for the policy and for what is held out, in the order of the recipe."""
    wanted = {metrics()[line.metric].probe for line in chosen.lines if line.metric in metrics()} | {"greedy", "utility"}
    return tuple(name for name in recipe.audit.probes if name in wanted)
