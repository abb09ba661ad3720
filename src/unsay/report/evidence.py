"""What a report is made of: read from the run folder once, then only passed on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from unsay import policy
from unsay.config import ConfigError, Recipe
from unsay.files import read_jsonl
from unsay.folder import RunFolder, read_findings
from unsay.identity import weights
from unsay.report import deployed
from unsay.report.words import METRICS
from unsay.stats import Difference, Interval, area_interval, binomial_interval, bootstrap_mean, paired_bootstrap
from unsay.summary import HALF, MEASURES, MEMBERSHIP, UNTOLD, Values, farthest, halved, questions, summarise
from unsay.types import Finding

MODELS = ("before", "after", "gold")
"""The run's own models; what is audited at an endpoint comes after them, where there is such an audit."""
_BY_SETTING = {"sampling": "worst_key_recall", "prefill": "worst_key_recall", "paraphrase": "key_recall", "relearn": "worst_key_recall"}
_BY_SETTING |= {"reframing": "key_recall", "earlier": "worst_key_recall", "quantise": "worst_key_recall"}
REFERENCES = ("ground truth", "baseline answers")


@dataclass(frozen=True)
class Evidence:
    """Everything the page, the card and report.json say."""

    recipe: Recipe
    manifest: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    """Lines of train/steps.jsonl; empty where training has not run."""
    findings: Mapping[str, Sequence[Finding]]
    """By model; empty where that audit has not run."""
    metrics: Mapping[str, Mapping[str, float | None]]
    """Metric → value before, after, gold."""
    counts: Mapping[str, int]
    """Metric → how many questions stand behind its value after unlearning."""
    intervals: Mapping[str, Interval]
    """Metric → 95 % interval of its value after unlearning; left out where there is none."""
    changes: Mapping[str, Difference]
    """Metric → after − before over the questions that both have, with a 95 % interval."""
    results: Sequence[policy.LineResult]
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What the report is tied to: request, dates, the hash of the policy, the hashes of the audited checkpoint."""

    @property
    def exposure(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.manifest.get("exposure", {})
        return found

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
        return int(self.manifest.get("counts", {}).get("earlier", 0))

    def found(self, probe: str, metric: str, which: str = "after") -> list[Finding]:
        """The scored findings of one kind on one model."""
        return [f for f in self.findings.get(which, ()) if f.probe == probe and f.metric == metric and f.value is not None]

    def by_setting(self) -> list[tuple[str, str, dict[str, float | None]]]:
        """(probe, setting, mean per model): which prefix, temperature, wording or number of steps opened it."""
        everything = [f for which in self.models for f in self.findings[which]]
        places = dict.fromkeys((f.probe, f.setting) for f in everything if f.probe in _BY_SETTING and f.setting)
        order = list(_BY_SETTING)
        rows = []
        for probe, setting in sorted(places, key=lambda place: order.index(place[0])):
            row = {which: _mean(self.findings[which], probe, _BY_SETTING[probe], setting) for which in self.models}
            if any(value is not None for value in row.values()):
                rows.append((probe, setting, row))
        return rows

    def settings(self, probe: str) -> list[str]:
        """The variants of a probe that gave a number on the model after unlearning."""
        return list(dict.fromkeys(f.setting for f in self.findings["after"] if f.probe == probe and f.value is not None and f.setting))

    def answers(self, probe: str) -> int:
        """Answers per question of a sampling probe; the fewest, where they differ."""
        return min((f.n for f in self.found(probe, "worst_key_recall") if f.example), default=0)

    def reference(self) -> str:
        """Which text the audit compared with. A note is matched with known words, never passed on."""
        notes = {f.note for found in self.findings.values() for f in found}
        found = [name for name in REFERENCES if any(name in note for note in notes)]
        return " and ".join(found) if found else "not stated"


def read(folder: RunFolder) -> Evidence:
    """All of it. Raises `ConfigError` where the folder holds no recipe, or names a policy that does not exist."""
    recipe, manifest = folder.recipe(texts=False), folder.manifest()
    files = {which: folder.audit_file(which) for which in (*MODELS, deployed.ENDPOINT)}
    files = {which: path for which, path in files.items() if which in MODELS or path.exists()}
    findings = {which: read_findings(path) for which, path in files.items()}
    before, after = findings["before"], findings["after"]
    chosen = policy.load(recipe.report.policy) if recipe.report.policy else None
    metrics, results = judged(chosen, manifest, findings)
    asked, then = questions(after), questions(before)
    steps = read_jsonl(folder.steps_file) if folder.steps_file.exists() else []
    intervals = {key: found for key in MEASURES if (found := interval(key, asked[key]))} | membership(after)
    changes = {key: moved for key in MEASURES if MEASURES[key].probe != "drift" and (moved := change(asked[key], then[key]))}
    tied = identity(recipe.report.policy, manifest)
    return Evidence(recipe, manifest, steps, findings, metrics, _counts(before, after, asked), intervals, changes, results, tied)


def judged(
    chosen: policy.Policy | None, manifest: Mapping[str, Any], findings: Mapping[str, Sequence[Finding]]
) -> tuple[dict[str, dict[str, float | None]], list[policy.LineResult]]:
    """Metric → value on each model that `findings` names, and every line of the policy that applies to the run (none without one)."""
    before, after, gold = (findings[which] for which in MODELS)
    summaries = {
        which: summarise(found, before if which != "before" else (), gold if which != "gold" else ()) if found else {}
        for which, found in findings.items()
    }
    keys = dict.fromkeys([*METRICS, *(key for summary in summaries.values() for key in summary)])
    metrics = {key: {which: summaries[which].get(key) for which in findings} for key in keys}
    if chosen is None:
        return metrics, []
    exposure: dict[str, dict[str, float | None]] = {
        f"exposure.{key}": {"after": float(value)} for key, value in manifest.get("exposure", {}).items() if isinstance(value, int | float)
    }
    beside = {key: pair for key, m in MEASURES.items() if m.fold == "hardest" and (pair := farthest(after, gold, key))}
    counts, cases = _counts(before, after, questions(after)), _cases(manifest, after)
    return metrics, policy.evaluate(chosen, metrics | exposure, counts, cases, offered(after), beside)


def _counts(before: Sequence[Finding], after: Sequence[Finding], asked: Mapping[str, Values]) -> dict[str, int]:
    """Metric → how many questions stand behind its value after unlearning."""
    counts = {key: sum(bool(example) for _, example in values) for key, values in asked.items()}
    counts |= {
        "drift_halved_share": len(halved(after, before)),
        "unlearn_quality": len({f.example for f in after if f.probe == "greedy"} - {""}),
    }
    return counts | dict.fromkeys(("forget_quality_d", "forget_quality_p"), counts["truth_ratio"])


def _cases(manifest: Mapping[str, Any], after: Sequence[Finding]) -> set[str]:
    """What of `policy.CASES` holds."""
    found = {policy.EARLIER} if manifest.get("counts", {}).get("earlier") else set()
    halves = [f for f in after if f.probe == "prefill" and f.setting == HALF]
    # Only what the answers themselves do not allow takes the case away; a probe that did not run, or could not, leaves it.
    return found if halves and all(f.note == UNTOLD for f in halves) else found | {policy.HALF_TOLD}


def offered(findings: Sequence[Finding]) -> dict[str, int]:
    """Metric → how many questions it was to be measured on, scored or not."""
    asked: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for f in findings:
        if f.example:
            asked.setdefault((f.probe, f.metric), set()).add((f.setting, f.example))
    return {
        key: len({example for setting, example in asked.get((m.probe, m.metric), ()) if m.where(setting)}) for key, m in MEASURES.items()
    }


def identity(policy_name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a report is tied to: by `unsay verify` to a checkpoint, by the request's id to whoever asked. `None`: not known."""
    finished, request = manifest.get("finished", {}), manifest.get("request", {})
    file = policy.POLICIES / f"{policy_name}.toml" if policy_name in policy.shipped() else Path(policy_name)
    stages = {"recorded": "record", "trained": "train", "audited": "audit after"}
    return {
        "request": request.get("id"),
        "policy": {"name": policy_name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if policy_name else None,
        "dates": {
            "begun": request.get("begun"),
            **{key: finished.get(stage) for key, stage in stages.items()},
            "reported": manifest.get("reported"),
        },
        "checkpoint": manifest.get("audited", {}).get("after"),
        "looks": len(manifest.get("looks", [])),
    }


def same_as_audited(folder: RunFolder, found: Evidence) -> None:
    """Raises `ConfigError` where the checkpoint is not the one that was audited."""
    # Only the weights: a tokenizer file that changed is for `verify` to name.
    checkpoint = found.identity["checkpoint"]
    if checkpoint and folder.checkpoint.is_dir() and weights(folder.checkpoint) != checkpoint["weights"]:
        raise ConfigError(f"{folder.checkpoint} has changed since it was audited: unsay audit {folder.path} --which after")


def interval(key: str, values: Values) -> Interval | None:
    """95 % interval of a mean over questions: exact where it is a share, else by bootstrap. `None` where there is nothing to
    resample, or all questions scored alike: drawing them anew would show no spread and claim too much."""
    # Words of one text hang together: an interval that took them for independent would be too narrow, so drift has none.
    if len(values) < 2 or MEASURES[key].probe == "drift":
        return None
    if key in METRICS and METRICS[key].share:
        return binomial_interval(round(sum(values.values())), len(values))
    found = bootstrap_mean(list(values.values()), strata=[name for name, _ in values])
    return Interval(found.low, found.high) if found.low < found.high else None


def change(now: Values, then: Values) -> Difference | None:
    """After − before with its 95 % interval, from a bootstrap over the questions that both models were scored on."""
    places = [place for place in now if place in then]
    if len(places) < 2:
        return None
    return paired_bootstrap([now[place] for place in places], [then[place] for place in places], strata=[name for name, _ in places])


def membership(findings: Sequence[Finding]) -> dict[str, Interval]:
    """95 % intervals of the areas under the curve, n questions on each side: wrong answers to one question hang together."""
    areas = {f.metric: f for f in findings if f.probe == "likelihood" and f.metric in MEMBERSHIP and f.value is not None and f.n}
    return {key: area_interval(f.value or 0.0, f.n, f.n) for key, f in areas.items()}


def _mean(findings: Sequence[Finding], probe: str, metric: str, setting: str) -> float | None:
    found = [f.value for f in findings if f.probe == probe and f.metric == metric and f.setting == setting and f.value is not None]
    return fmean(found) if found else None
