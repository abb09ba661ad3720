"""report.html: one file, no scripts, nothing loaded from elsewhere, everything from the run folder escaped."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from unsay.config import Recipe
from unsay.measure.summary import metrics as every_metric
from unsay.measure.verdict import passed
from unsay.metric import FURTHER, Metric
from unsay.report import card, deployed, distributions, pictures
from unsay.report.bounds import SHARES, bounds, rows
from unsay.report.claims import baseline_was_read, certified, claim
from unsay.report.data import as_json
from unsay.report.evidence import Evidence, read, same_as_audited
from unsay.report.notes import notes
from unsay.report.sheet import content_policy, lifted
from unsay.report.words import DIRECTIONS, NOT_CLAIMED, TWO_RETAIN_MODELS, by_heading
from unsay.store import identity, redact
from unsay.store.clock import duration
from unsay.store.files import write_text
from unsay.store.folder import RunFolder
from unsay.store.manifest import SequentialRequests

_KEPT_OUT = (*redact.SENSITIVE, "key_file")
"""Knobs that hold, or may hold, words of the operator's secrets, or say where a key lies: counted, not shown."""


def build(folder: RunFolder) -> None:
    """Write report.json, report.html and, where there is a checkpoint, its model card.

    Raises `ConfigError` where the checkpoint is not the one that was audited."""
    evidence = read(folder)
    same_as_audited(folder, evidence)
    write_text(folder.report_json, json.dumps(as_json(evidence), indent=1, ensure_ascii=False) + "\n")
    write_text(folder.report_html, html(evidence))
    if folder.checkpoint.is_dir():
        write_text(folder.checkpoint / "README.md", card.text(evidence))


def html(evidence: Evidence) -> str:
    """The page."""
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = figure
    environment.filters["duration"] = duration
    exposure, recipe, alone = evidence.exposure, evidence.recipe, evidence.manifest.alone is not None
    drawings, drawn = lifted(
        {
            "leak": pictures.leak(evidence),
            "multiple_choice": pictures.multiple_choice(evidence),
            "options": distributions.options(evidence),
            "drift": distributions.drift(evidence),
            "classes": pictures.classes(evidence),
            "training": pictures.training(evidence.steps),
            "exposure": pictures.exposure(exposure.get("rounds", [])),
        }
    )
    sheet = (here / "report.css").read_text(encoding="utf-8") + drawn
    return environment.get_template("report.html.j2").render(
        e=evidence,
        machine={**evidence.manifest.versions, **(dataclasses.asdict(evidence.manifest.machine) if evidence.manifest.machine else {})},
        title=recipe.title or (f"Audit of {recipe.model.name}" if alone else f"{recipe.method} on {recipe.model.name}"),
        alone=alone,
        facts=facts(evidence),
        headlines=[(one, evidence.metrics[key], by_accident(evidence, key)) for key, one in every_metric().items() if one.tile],
        index=evidence.never_knew,
        worst=every_metric()[evidence.never_knew.worst].title if evidence.never_knew else "",
        two_retain_models=TWO_RETAIN_MODELS,
        claim=claim(evidence),
        not_claimed=NOT_CLAIMED,
        read=baseline_was_read(evidence),
        notes=notes(evidence.manifest),
        certified=certified(evidence),
        audited={which: bool(found) for which, found in evidence.findings.items()},
        endpoint=deployed.endpoint(evidence.manifest, evidence.findings.get(deployed.ENDPOINT, ()), recipe.audit.probes),
        passed=passed(evidence.results),
        verdict=verdict(evidence),
        failed=[result for result in evidence.results if not result.passed],
        tables=tables(evidence),
        settings=evidence.by_setting(),
        slips=rows(bounds(evidence)),
        shares=SHARES,
        recipe=recipe_rows(recipe),
        exposure=exposure,
        directions=DIRECTIONS,
        pictures={name: Markup(svg) for name, svg in drawings.items()},
        sheet=Markup(sheet),
        identity=json.dumps(evidence.identity),
        meta=identity.META,
        checked=checked(evidence),
        content_policy=Markup(content_policy(sheet)),
    )


def facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What was done, in a few pairs."""
    recipe, counts = evidence.recipe, evidence.manifest.counts
    share = recipe.train.averaging
    checkpoint = evidence.manifest.checkpoint
    pairs = [
        ("Method", f"{recipe.method}, preset {evidence.preset}" if evidence.preset else recipe.method),
        ("Model", recipe.model.name),
        (
            "Retain model",
            "fine-tuned without the secrets" if recipe.model.retain_model == "finetune" else recipe.model.retain_model or "none",
        ),
        ("Corpus", recipe.corpus),
        ("To forget", "not recorded" if counts.forget is None else f"{counts.forget:,} questions"),
        ("To retain", "not recorded" if counts.retain is None else f"{counts.retain:,} rows"),
        *([("Forgotten before", earlier_requests(evidence))] if evidence.earlier else []),
        ("Rounds", f"{checkpoint.rounds} of {recipe.train.rounds}" if checkpoint else "not run"),
        *([("Weights", f"{share:.0%} of the way from the untouched to the trained ones")] if share < 1 else []),
        ("Seed", str(recipe.seed)),
    ]
    untrained = ("Method", "To retain", "Rounds") if evidence.manifest.alone else ()
    return [(name, value) for name, value in pairs if name not in untrained]


def checked(evidence: Evidence) -> list[tuple[str, str]]:
    """What ties the page to a checkpoint and to days."""
    tied = evidence.identity
    checkpoint, rules = tied.get("checkpoint"), tied.get("policy")
    dates = {name: day[:10] for name, day in tied.get("dates", {}).items() if day}
    return [
        ("Weights (SHA-256 of the tensors)", checkpoint["weights"] if checkpoint else "not in a folder when they were audited"),
        ("Policy (SHA-256)", f"{rules['name']}, {rules['sha256']}" if rules else "none"),
        ("Dates", ", ".join(f"{name} {day}" for name, day in dates.items()) or "not recorded"),
        ("Request", tied.get("request") or "not recorded"),
        ("Looks into the vault", str(tied.get("looks", 0))),
    ]


def earlier_requests(evidence: Evidence) -> str:
    """How many there are, and how much of the model's present answers keeps them forgotten."""
    found = evidence.manifest.earlier or SequentialRequests()
    number, rows = len(found.runs), found.retain_rows or 0
    return f"{evidence.earlier:,} questions of {number} earlier request{'s' * (number != 1)}, {rows:,} retain rows"


def verdict(evidence: Evidence) -> list[dict[str, Any]]:
    """The lines of the policy as they are printed; a limit that is a number already is not said twice."""
    rows = []
    for result in evidence.results:
        top = every_metric()[result.metric].top if result.metric in every_metric() else 1.0
        counted = result.metric.startswith("exposure.")
        value, limit = (v if v is None else f"{v:g}" if counted else figure(v, top) for v in (result.value, result.limit))
        rows.append({"result": result, "rule": result.rule.replace("*", "×"), "value": value, "limit": limit if result.derived else None})
    return rows


def by_accident(evidence: Evidence, key: str) -> float | None:
    """What the same answers score on the secrets of other questions, where that was measured."""
    accident = every_metric()[key].accident
    return evidence.metrics[accident]["after"] if accident else None


def tables(evidence: Evidence) -> list[tuple[str, list[dict[str, Any]]]]:
    """The groups of measures, without what no model has a value for; what a later version of the summary adds comes last."""
    shown = by_heading()
    shown[FURTHER] = [*shown[FURTHER], *(Metric(key, key.replace("_", " "), "") for key in evidence.metrics if key not in every_metric())]
    groups = [(title, [_row(evidence, metric) for metric in metrics]) for title, metrics in shown.items()]
    measured = [(title, [row for row in rows if any(v is not None for v in row["values"].values())]) for title, rows in groups]
    return [(title, rows) for title, rows in measured if rows]


def _row(evidence: Evidence, metric: Metric) -> dict[str, Any]:
    places = 1 if metric.top > 1 else 2
    interval, change = evidence.intervals.get(metric.key), evidence.changes.get(metric.key)
    return {
        "metric": metric,
        "values": evidence.metrics[metric.key],
        "interval": f"{interval.low:.{places}f}–{interval.high:.{places}f}" if interval else "",
        "change": signed(change.mean, places) if change else "",
        "between": f"{signed(change.low, places)} to {signed(change.high, places)}" if change and change.low < change.high else "",
        "count": evidence.counts.get(metric.key, 0),
    }


def signed(value: float, places: int) -> str:
    """+0.12, −0.40, 0.00: with a true minus, and no sign before a nought."""
    text = f"{abs(value):.{places}f}"
    return text if not float(text) else ("+" if value > 0 else "−") + text


def recipe_rows(recipe: Recipe) -> list[tuple[str, list[tuple[str, str]]]]:
    """The resolved recipe table by table, as TOML would say it."""
    values = dataclasses.asdict(recipe)
    top = {key: value for key, value in values.items() if not isinstance(value, dict) and key != "title"}
    named: dict[str, Mapping[str, Any]] = {"": top}
    named |= {key: value for key, value in values.items() if isinstance(value, dict) and key != "tables"} | values["tables"]
    return [(name, [(key, _shown(key, value)) for key, value in table.items()]) for name, table in named.items() if table]


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if key in _KEPT_OUT and value != "":
        return f"({len(value) if isinstance(value, list | tuple) else 1}, kept out of the report)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{inner} {_shown(inner, item)}" for inner, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_shown("", item) for item in value) or "none"
    return str(value) if value != "" else "empty"


def figure(value: float | None, top: float = 1.0) -> str:
    """A value on its scale; what was not measured is a word, never a nought."""
    return "not run" if value is None else f"{value:.1f}" if top > 1 else f"{value:.2f}"
