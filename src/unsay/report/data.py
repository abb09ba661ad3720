"""report.json: everything the page says, for a program. Key by key in docs/run-folder.md and docs/probes.md."""

from typing import Any

from unsay.measure import verdict
from unsay.measure.never_knew import NeverKnew
from unsay.report.bounds import bounds
from unsay.report.claims import certified, claim
from unsay.report.evidence import Evidence
from unsay.report.notes import ENDPOINT
from unsay.report.steps import next_step
from unsay.store.manifest import to_json


def as_json(evidence: Evidence) -> dict[str, Any]:
    recipe, manifest = evidence.recipe, evidence.manifest
    lines = [verdict.as_json(result) | {"next": next_step(result, manifest.alone is not None)} for result in evidence.results]
    return {
        "title": recipe.title,
        "method": recipe.method,
        "preset": evidence.preset or None,
        "model": recipe.model.name,
        "retain_model": recipe.model.retain_model,
        "corpus": recipe.corpus,
        "identity": evidence.identity,
        "counts": to_json(manifest.counts),
        "metrics": evidence.metrics,
        "examples": {key: count for key, count in evidence.counts.items() if count},
        "intervals": {key: found._asdict() for key, found in evidence.intervals.items()},
        "changes": {key: found._asdict() for key, found in evidence.changes.items()},
        "never_knew": index(evidence.never_knew),
        "settings": [{"probe": probe, "setting": setting, **row} for probe, setting, row in evidence.by_setting()],
        "bounds": bounds(evidence),  # as objects, of which `Bound.as_json` makes what is written, one at a time
        "exposure": evidence.exposure,
        "retain": to_json(manifest.retain),
        "spans": to_json(manifest.spans),
        "seconds": dict(manifest.seconds),
        "claim": claim(evidence),
        "certified": certified(evidence),
        "deployment": {which: manifest.deployment.get(which, "") for which in evidence.audited},
        "endpoint": to_json(manifest.endpoint) if evidence.findings.get(ENDPOINT) else None,
        "reference": evidence.reference(),
        "policy": {"name": recipe.report.policy, "passed": verdict.passed(evidence.results), "lines": lines, "unjudged": evidence.unjudged}
        if lines
        else None,
    }


def index(found: NeverKnew | None) -> dict[str, Any] | None:
    """The never-knew index, and how far off every metric is: the worst first."""
    if found is None:
        return None
    order = sorted(found.apart, key=lambda key: -found.apart[key])
    apart = {key: {"apart": found.apart[key], "interval": list(found.intervals[key])} for key in order}
    interval = list(found.interval or ())
    return {"index": found.index, "interval": interval, "questions": found.questions, "worst": found.worst, "metrics": apart}
