"""What a report is made of: read from the run folder once, then only passed on."""

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from unsay import audit, probes
from unsay.audit.stage import BASELINE, GROUND_TRUTH
from unsay.config import ConfigError, Recipe, ReportConfig, first_of
from unsay.lm import builtin
from unsay.measure import policy, verdict
from unsay.measure.never_knew import NeverKnew
from unsay.measure.never_knew import by_question as held_against
from unsay.measure.retain_model import examined
from unsay.measure.summary import asked, each_question, summarise, wholes
from unsay.measure.summary import metrics as every_metric
from unsay.metric import Metric, Values, by_question, farthest, of_kind, scored_by
from unsay.packed import Packed, PackedRows
from unsay.report.notes import ENDPOINT
from unsay.stats import Estimate, Interval, mean_interval
from unsay.store.files import each_jsonl, read_jsonl
from unsay.store.folder import RunFolder, each_finding
from unsay.store.identity import differences
from unsay.store.manifest import Manifest, to_json
from unsay.types import MODELS, Finding

_GENERAL_TEXT, _TEXT_KEPT = "drift_inverse_perplexity", "drift_text_kept"
REFERENCES = (GROUND_TRUTH, BASELINE)


@dataclass(frozen=True)
class Evidence:
    """Everything the page, the card and report.json say."""

    recipe: Recipe
    manifest: Manifest
    steps: Sequence[Mapping[str, Any]]
    """Lines of train/steps.jsonl; empty where training has not run."""
    findings: Mapping[str, Packed]
    """By model; empty where that audit has not run."""
    metrics: Mapping[str, Mapping[str, float | None]]
    """Metric → value before, after, the retain model."""
    counts: Mapping[str, int]
    """Metric → how many questions stand behind its value after unlearning."""
    intervals: Mapping[str, Interval]
    """Metric → 95 % interval of its value after unlearning; left out where there is none."""
    changes: Mapping[str, Estimate]
    """Metric → after − before over the questions that both have, with a 95 % interval."""
    results: Sequence[verdict.LineResult]
    never_knew: NeverKnew | None
    """How near the model after unlearning comes to one that never knew."""
    identity: Mapping[str, Any]
    """What the report is tied to: request, dates, the hash of the policy, the hashes of the audited checkpoint."""
    kept: Mapping[str, Sequence[Mapping[str, Any]]]
    """By model: what it answered about what should stay, as `unsay.run.kept` wrote it."""

    @property
    def exposure(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] | None = to_json(self.manifest.exposure)
        return found or {}

    @property
    def models(self) -> Sequence[str]:
        """The columns of the report."""
        return tuple(self.findings)

    @property
    def audited(self) -> Sequence[str]:
        return [which for which in self.models if self.findings[which]]

    @property
    def preset(self) -> str:
        return str(self.recipe.tables.get(self.recipe.method, {}).get("preset", ""))

    @property
    def earlier(self) -> int:
        """Questions of earlier requests that this run must keep forgotten."""
        return self.manifest.counts.earlier or 0

    def found(self, probe: str, metric: str, which: str = "after") -> Iterator[Finding]:
        """The scored findings of one kind on one model."""
        return (f for f in of_kind(self.findings.get(which, ()), probe, metric) if f.value is not None)

    def by_setting(self) -> list[tuple[str, str, dict[str, float | None]]]:
        """(probe, setting, mean per model): which prefix, temperature, wording or number of steps opened it."""
        rows = []
        for probe, declared in probes.declared().items():
            every = [head for which in self.models for head in self.findings[which].heads if head.probe == probe and declared.by_setting]
            for setting in dict.fromkeys(head.setting for head in every if head.setting):
                scored = {which: self.found(probe, declared.by_setting, which) for which in self.models}
                values = {which: array("d", (f.value or 0.0 for f in found if f.setting == setting)) for which, found in scored.items()}
                if any(values.values()):
                    rows.append((probe, setting, {which: fmean(some) if some else None for which, some in values.items()}))
        return rows

    def settings(self, probe: str) -> list[str]:
        """The variants of a probe that gave a number on the model after unlearning."""
        return list(
            dict.fromkeys(f.setting for f in self.findings["after"].heads if f.probe == probe and f.value is not None and f.setting)
        )

    def answers(self, probe: str) -> int:
        """Answers per question of a sampling probe; the fewest, where they differ."""
        return min((f.n for f in self.found(probe, probes.declared()[probe].by_setting) if f.example), default=0)

    @property
    def unjudged(self) -> str:
        """What was measured and no line judged: attacks, with what they found, and the perplexity of unrelated text. Empty where there is
        nothing of it, or no policy."""
        found, every = [], every_metric()
        for key in verdict.unjudged(self.results, self.metrics) if self.results else ():
            retain_model = self.metrics[key].get("retain_model")
            beside = f" (retain model {retain_model:.2f})" if retain_model is not None else ""
            # With its heading where two numbers have one title.
            alike = sum(one.title == every[key].title for one in every.values()) > 1
            named = every[key].title.lower() + (f", {every[key].group.lower()}," if alike else "")
            found.append(f"{named} {self.metrics[key]['after']:.2f}{beside}")
        text = self.metrics.get(_GENERAL_TEXT, {})
        before, after = text.get("before"), text.get("after")
        same = self.metrics.get(_TEXT_KEPT, {}).get("after") is not None
        if before and after and same and self.results and all(one.metric not in (_GENERAL_TEXT, _TEXT_KEPT) for one in self.results):
            found.append(f"perplexity of unrelated text {before / after:.2f} times that of before")  # what broke far from every question
        return f"measured, but judged by no line: {', '.join(found)}" if found else ""

    @property
    def scored(self) -> set[str]:
        """Probes that gave a number on the model after unlearning."""
        return {f.probe for f in self.findings["after"].heads if f.value is not None}

    @property
    def without_result(self) -> list[str]:
        """Probes that the recipe asks for and that gave no number, though there was something to ask."""
        return [name for name in self.recipe.audit.probes if name not in self.scored and (name != "earlier" or self.earlier)]

    @property
    def unknown(self) -> list[str]:
        """Probes that found something and are not installed here, so that nobody can say what it means."""
        return list(dict.fromkeys(f.probe for found in self.findings.values() for f in found.heads if f.probe not in probes.declared()))

    def reference(self) -> str:
        """Which text the audit compared with. A note is matched with known words, never passed on."""
        notes = {f.note for found in self.findings.values() for f in found.heads}
        found = [name for name in REFERENCES if any(name in note for note in notes)]
        return " and ".join(found) if found else "not stated"


def read(folder: RunFolder, policy_name: str | None = None) -> Evidence:
    """Under the policy of the recipe or another one (an empty name: none). Raises `ConfigError` without a recipe or that policy."""
    recipe, manifest = folder.recipe(texts=False), folder.manifest()
    if policy_name is not None:
        recipe = replace(recipe, report=ReportConfig(policy_name))
    models = (*MODELS, ENDPOINT) if folder.audit_file(ENDPOINT).exists() else MODELS
    findings = {which: Packed(each_finding(folder.audit_file(which))) for which in models}
    before, after = findings["before"], findings["after"]
    chosen = policy.load(recipe.report.policy) if recipe.report.policy else None
    metrics, results = judged(chosen, recipe, manifest, findings)
    steps = PackedRows(each_jsonl(folder.steps_file) if folder.steps_file.exists() else ())
    groups, every = after.groups, every_metric()
    intervals, changes = {}, {}
    for key, one in every.items():
        now = {} if one.compute else by_question(one, after)
        if found := interval(one, now, groups):
            intervals[key] = found
        if moved := change(one, now, by_question(one, before), groups) if now else None:
            changes[key] = moved
    intervals |= areas(after)
    tied = identity(recipe.report.policy, manifest)
    counts = _counts(before, after, findings["retain_model"])
    index = held_against(lambda which, key: by_question(every[key], findings[which]), groups) if findings["retain_model"] else None
    kept = {which: _kept_answers(path) for which in MODELS if (path := folder.kept_answers_file(which)).exists()}
    return Evidence(recipe, manifest, steps, findings, metrics, counts, intervals, changes, results, index, tied, kept)


def _kept_answers(path: Path) -> list[dict[str, Any]]:
    """Raises `ConfigError` at what no audit writes."""
    kinds = {"question": str, "answer": str, "said": str, "recall": int | float | None}
    try:
        rows = read_jsonl(path)
        sound = all(isinstance(row["id"], str) and ("said" not in row or all(isinstance(row[k], kinds[k]) for k in kinds)) for row in rows)
    except (OSError, ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise ConfigError(f"{path} cannot be read; audit again")
    return rows


def judged(
    chosen: policy.Policy | None, recipe: Recipe, manifest: Manifest, findings: Mapping[str, Sequence[Finding]]
) -> tuple[dict[str, dict[str, float | None]], list[verdict.LineResult]]:
    """Metric → value on each model of `findings`; the policy's lines that apply, and what is wrong with the retain model."""
    packed = {which: Packed.of(found) for which, found in findings.items()}
    before, after, retain_model = (packed[which] for which in MODELS)
    summaries = {
        which: summarise(found, before if which != "before" else (), retain_model if which != "retain_model" else ()) if found else {}
        for which, found in packed.items()
    }
    metrics = {key: {which: summaries[which].get(key) for which in findings} for key in every_metric()}
    if chosen is None:
        return metrics, []
    ids = dict[str, str]()
    ledger = {key: value for key, value in (to_json(manifest.exposure) or {}).items() if isinstance(value, int | float)}
    exposure: dict[str, dict[str, float | None]] = {f"exposure.{key}": {"after": float(value)} for key, value in ledger.items()}
    measured = verdict.Measured(
        metrics | exposure,
        _counts(before, after, retain_model),
        asked(after),
        _cases(manifest, after),
        {key: pair for key, m in every_metric().items() if m.fold == "hardest" and (pair := farthest(m, after, retain_model))},
        {line.metric: each_question(packed, line.metric, ids) for line in chosen.lines if line.each and line.metric in every_metric()},
        _knobs(recipe) | {policy.LIMITED: limit if (limit := recipe.audit.limit) < (manifest.counts.forget or limit) else 0},
    )
    leaking = examined(before, retain_model, retain_model.groups)
    return metrics, [*verdict.evaluate(chosen, measured), *leaking]


def _knobs(recipe: Recipe) -> dict[str, Any]:
    """`probe.knob` → its value in the audit, of the probes that are installed here."""
    names = tuple(name for name in recipe.audit.probes if name in probes.declared())
    made = audit.probes_of(replace(recipe, audit=replace(recipe.audit, probes=names))) if names else {}
    return {f"{name}.{knob}": value for name, probe in made.items() for knob, value in vars(probe).items()}


def _counts(before: Packed, after: Packed, retain_model: Packed) -> dict[str, int]:
    """Metric → how many questions stand behind its value after unlearning."""
    means = {key: one for key, one in every_metric().items() if not one.compute}
    counts = {key: sum(bool(example) for _, example in by_question(one, after)) for key, one in means.items()}
    return counts | {key: whole.n for key, whole in wholes(after, before, retain_model).items()}


def _cases(manifest: Manifest, after: Sequence[Finding]) -> set[str]:
    """What of `policy.cases` holds."""
    found = {policy.EARLIER} if manifest.counts.earlier else set()
    for one in (one for one in every_metric().values() if one.case):
        made = [*of_kind(after, one.probe, one.finding)]
        told = [f for f in made if one.where(f.setting)]
        # Only what the answers themselves do not allow takes the case away, or that there are no such rows; a probe that did not
        # run, or could not, leaves it.
        untold = all(f.note == one.untold for f in told) and bool(told) if one.untold else bool(made) and not told
        if not untold:
            found.add(one.case)
    return found


def identity(policy_name: str, manifest: Manifest) -> dict[str, Any]:
    """What a report is tied to: by `unsay verify` to a checkpoint, by the request's id to whoever asked. `None`: not known."""
    request = manifest.request
    file = policy.POLICIES / f"{policy_name}.toml" if policy_name in policy.shipped() else Path(policy_name)
    stages = {"recorded": "record", "trained": "train", "audited": "audit after"}
    dates = {key: manifest.finished.get(stage) for key, stage in stages.items()}
    return {
        "request": request.id if request else None,
        "policy": {"name": policy_name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if policy_name else None,
        "dates": {"begun": request.begun if request else None, **dates, "reported": manifest.reported},
        "checkpoint": to_json(manifest.audited.get("after")),
        "looks": len(manifest.looks),
    }


def audited_folder(folder: RunFolder, found: Evidence) -> Path | None:
    """Where the audited model lies, or should; `None` for one of the package or of the hub, which has no folder."""
    if found.manifest.alone is None:
        return folder.checkpoint
    name = found.recipe.model.name
    return None if name in builtin.describe() or not (found.identity["checkpoint"] or Path(name).is_dir()) else Path(name)


def same_as_audited(folder: RunFolder, found: Evidence) -> bool | None:
    """Whether the model is in its folder; `None` where it has none, or was not audited. Raises `ConfigError` where any file is not as
    audited."""
    checkpoint, where = found.identity["checkpoint"], audited_folder(folder, found)
    if where is None or not found.findings["after"]:
        return None
    if not where.is_dir():
        return False
    again = f"audit it again: unsay audit {folder.path} --which after"
    if not checkpoint:
        raise ConfigError(f"nothing says which model the audit in {folder.path} is about; {again}")
    if changed := differences(checkpoint, where):
        raise ConfigError(f"{where} has changed since it was audited ({first_of(changed)}); {again}")
    return True


def interval(metric: Metric, values: Values, groups: Mapping[str, str]) -> Interval | None:
    """95 % interval of a mean over questions. `groups`: question → its group. `None` of fewer than two questions."""
    found = _spread(metric, [*values], [*values.values()], groups, 0.0)
    return Interval(found.low, found.high) if found else None


def change(metric: Metric, now: Values, then: Values, groups: Mapping[str, str]) -> Estimate | None:
    """After − before with its 95 % interval, over the questions that both models were scored on."""
    places = [place for place in now if place in then]
    return _spread(metric, places, [now[place] - then[place] for place in places], groups, -metric.top)


def _spread(
    metric: Metric, places: Sequence[tuple[str, str]], values: Sequence[float], groups: Mapping[str, str], least: float
) -> Estimate | None:
    # Words of one text hang together: an interval that took them for independent would be too narrow.
    if len(values) < 2 or metric.unit != "questions":
        return None
    of = [groups.get(example, "") for _, example in places]
    return mean_interval(values, of, [name for name, _ in places], (least, metric.top))


def areas(findings: Sequence[Finding]) -> dict[str, Interval]:
    """95 % intervals of the areas under a curve, which the probe takes where it has all scores."""
    found = {}
    for key, one in (pair for pair in every_metric().items() if pair[1].area):
        ends = ([f.value for f in scored_by(findings, one.probe, f"{one.finding}_{end}") if not f.example] for end in ("low", "high"))
        low, high = (end[-1] if end else None for end in ends)
        if low is not None and high is not None:
            found[key] = Interval(low, high)
    return found
