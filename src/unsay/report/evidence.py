"""What a report is made of: read from the run folder once, then only passed on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from unsay import deployment, policy
from unsay.config import Recipe
from unsay.folder import RunFolder, read_findings, read_jsonl
from unsay.report import deployed
from unsay.report.words import METRICS, NOT_CLAIMED, READERS
from unsay.stats import Interval, binomial_interval, certify
from unsay.summary import summarise
from unsay.types import Finding

MODELS = ("before", "after", "gold")
"""The run's own models; what is audited at an endpoint comes after them, where there is such an audit."""
CONFIDENCE = 0.99
"""Of what a number of answers without a leak can certify."""
_BY_SETTING = {"sampling": "worst_key_recall", "prefill": "worst_key_recall", "paraphrase": "key_recall", "relearn": "worst_key_recall"}
_BY_SETTING |= {"earlier": "worst_key_recall", "quantise": "worst_key_recall"}
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
    results: Sequence[policy.LineResult]

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

    def count(self, key: str, which: str = "after") -> int:
        """How many questions stand behind a metric."""
        return METRICS[key].examples(self.findings[which]) if key in METRICS else 0

    def interval(self, key: str, which: str = "after") -> Interval | None:
        """The exact 95 % interval of a share; `None` for what is no mean of noughts and ones."""
        value, n = self.metrics[key][which], self.count(key, which)
        if value is None or n == 0 or key not in METRICS or not METRICS[key].share:
            return None
        return binomial_interval(round(value * n), n)

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
        found = [f.n for f in self.findings["after"] if f.probe == probe and f.value is not None and f.example]
        return min(found, default=0)

    def reference(self) -> str:
        """Which text the audit compared with. A note is matched with known words, never passed on."""
        notes = {f.note for found in self.findings.values() for f in found}
        found = [name for name in REFERENCES if any(name in note for note in notes)]
        return " and ".join(found) if found else "not stated"


def read(folder: RunFolder) -> Evidence:
    """All of it. Raises `ConfigError` where the folder holds no recipe, or names a policy that does not exist."""
    recipe, manifest = folder.recipe(), folder.manifest()
    files = {which: folder.audit_file(which) for which in (*MODELS, deployed.ENDPOINT)}
    files = {which: path for which, path in files.items() if which in MODELS or path.exists()}
    findings = {which: read_findings(path) for which, path in files.items()}
    summaries = {which: summarise(found) if found else {} for which, found in findings.items()}
    keys = dict.fromkeys([*METRICS, *(key for summary in summaries.values() for key in summary)])
    metrics = {key: {which: summaries[which].get(key) for which in files} for key in keys}
    exposure: dict[str, dict[str, float | None]] = {
        f"exposure.{key}": {"after": float(value)} for key, value in manifest.get("exposure", {}).items() if isinstance(value, int | float)
    }
    counts = {key: metric.examples(findings["after"]) for key, metric in METRICS.items()}
    cases = {policy.EARLIER} if manifest.get("counts", {}).get("earlier") else set()
    results = policy.evaluate(policy.load(recipe.report.policy), metrics | exposure, counts, cases) if recipe.report.policy else []
    steps = read_jsonl(folder.steps_file) if folder.steps_file.exists() else []
    return Evidence(recipe, manifest, steps, findings, metrics, results)


def as_json(evidence: Evidence) -> dict[str, Any]:
    """report.json, key by key in docs/run-folder.md."""
    recipe = evidence.recipe
    lines = [{key: asdict(r)[key] for key in ("name", "metric", "rule", "value", "limit", "passed", "detail")} for r in evidence.results]
    return {
        "title": recipe.title,
        "method": recipe.method,
        "preset": evidence.preset or None,
        "model": recipe.model.name,
        "gold": recipe.model.gold,
        "corpus": recipe.corpus,
        "counts": evidence.manifest.get("counts", {}),
        "metrics": evidence.metrics,
        "examples": {key: evidence.count(key) for key in evidence.metrics if evidence.count(key)},
        "exposure": evidence.exposure,
        "retain": evidence.manifest.get("retain"),
        "spans": evidence.manifest.get("spans"),
        "seconds": evidence.manifest.get("seconds", {}),
        "claim": claim(evidence),
        "deployment": {which: evidence.manifest.get("deployment", {}).get(which, "") for which in evidence.audited},
        "endpoint": evidence.manifest.get("endpoint") if evidence.findings.get(deployed.ENDPOINT) else None,
        "reference": evidence.reference(),
        "policy": {"name": recipe.report.policy, "passed": policy.passed(evidence.results), "lines": lines} if lines else None,
    }


# -- what may be claimed -----------------------------------------------------------------------------------------------


def claim(evidence: Evidence) -> str:
    """What was tested, what was found, and what that does not say: no wider than the findings."""
    if not evidence.findings["after"]:
        return "Nothing is claimed: the model after unlearning has not been audited."
    number = max((evidence.count(key) for key in ("greedy_key_recall", "sampling_worst_key_recall", "prefill_worst_key_recall")), default=0)
    tested, sizes = [], []
    decoding = ["greedy decoding"] if evidence.count("greedy_key_recall") else []
    if evidence.answers("sampling"):
        decoding.append(f"sampling at {_listed(evidence.settings('sampling')) or 'the temperature of the probe'}")
        sizes.append(f"{evidence.answers('sampling')} sampled answers a question")
    if decoding:
        limit = deployment.sample(evidence.recipe).max_new_tokens
        tested.append(f"these decoding settings ({_listed(decoding)}; at most {limit} new tokens)")
    if evidence.answers("prefill"):
        tested.append(f"these prefixes ({_listed([f'“{name}”' for name in evidence.settings('prefill')])})")
        sizes.append(f"{evidence.answers('prefill')} answers after each prefix")
    if evidence.settings("paraphrase") or evidence.count("paraphrase_key_recall"):
        wordings = max(1, len(evidence.settings("paraphrase")))
        tested.append(f"{wordings} paraphrase{'s' if wordings > 1 else ''} a question")
    if evidence.count("choice_most"):
        tested.append(f"a multiple choice read from likelihoods ({evidence.count('choice_most')} questions)")
    if evidence.settings("relearn"):
        tested.append(f"fine-tuning by an attacker ({_listed(evidence.settings('relearn'))})")
    if evidence.count("quantised_key_recall"):
        tested.append(f"weights rounded to fewer bits ({_listed(evidence.settings('quantise'))})")
    scope = f"on these {number} forget questions" if number else "on the questions of this corpus"
    scored = {f.probe for f in evidence.findings["after"] if f.value is not None}
    missing = [name for name in evidence.recipe.audit.probes if name not in scored and (name != "earlier" or evidence.earlier)]
    sentences = [
        f"Under {_listed(tested) or 'no attack at all'}, {scope}{', with ' + _listed(sizes) if sizes else ''}: {_found(evidence)}.",
        f"Asked for but not run, or unscored: {_listed(missing)}." if missing else "",
        deployed.settings(evidence.manifest, evidence.audited),
        NOT_CLAIMED,
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _found(evidence: Evidence) -> str:
    names = {
        "sampling_worst_key_recall": "the worst sampled answer says {} of a secret’s own words on average",
        "prefill_worst_key_recall": "{} when its answer is begun for it",
        "half_secret_key_recall": "{} when half of the secret is told",
        "relearn_worst_key_recall": "{} once an attacker has fine-tuned it",
        "quantised_worst_key_recall": "{} with its weights in fewer bits",
        "earlier_worst_key_recall": "{} of the secrets of earlier requests, asked many times or begun",
    }
    parts = []
    for key, words in names.items():
        value = evidence.metrics[key]["after"]
        if value is not None:
            others = [(which, evidence.metrics[key][which]) for which in ("before", "gold")]
            beside = ", ".join(f"{which} {other:.2f}" for which, other in others if other is not None)
            parts.append(words.format(f"{value:.2f}" + (f" ({beside})" if beside else "")))
    return "; ".join(parts) or "no leak was measured, so nothing is shown"


def certified(evidence: Evidence) -> list[str]:
    """What n answers without a leak can certify, in words, for each sampling probe that ran."""
    sentences = []
    for probe, where in (("sampling", "the plain question"), ("prefill", "each prefix")):
        rates = [f.value for f in evidence.findings["after"] if f.probe == probe and f.metric == "leak_rate" and f.value is not None]
        n = evidence.answers(probe)
        if not rates or not n:
            continue
        # The clean cases are known only after looking, so all cases share the error.
        one, everything = certify(n, CONFIDENCE), certify(n, CONFIDENCE, len(rates))
        clean = sum(rate == 0 for rate in rates)
        seen = f"{n} answers to {where}: {clean} of {len(rates)} cases showed no leak (key recall at the probe’s threshold or above)."
        rules_out = (
            f" For one such case that rules out, with {CONFIDENCE:.0%} confidence, leaking in more than {one:.1%} of its answers; "
            f"for all such cases at once, in more than {everything:.1%}."
        )
        sentences.append(seen + (rules_out if clean else " Nothing is certified."))
    return sentences


def baseline_was_read(evidence: Evidence) -> str:
    """Who read the model's own recorded answer: said always, because the method's point is what it does not need."""
    reads = evidence.exposure.get("baseline_reads", {})
    training = "; ".join(f"{READERS.get(name, f'by {name}')} ({count:,} times)" for name, count in reads.items() if count)
    during = training or ("by nothing that the ledger counted" if evidence.exposure else "not recorded, training has not run")
    ran = bool(evidence.audited)
    audit = f"which compares answers with a reference text: {evidence.reference()}" if ran else "once it runs"
    return f"The baseline answer itself was read. During training: {during}. By the audit, {audit}."


def _mean(findings: Sequence[Finding], probe: str, metric: str, setting: str) -> float | None:
    found = [f.value for f in findings if f.probe == probe and f.metric == metric and f.setting == setting and f.value is not None]
    return fmean(found) if found else None


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items[:-1]) + f" and {items[-1]}" if len(items) > 1 else "".join(items)
