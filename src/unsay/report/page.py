"""report.html: one file, nothing loaded from elsewhere, no script but the filter, everything from the run folder escaped."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from unsay import probes
from unsay.config import Recipe
from unsay.measure.summary import metrics as every_metric
from unsay.metric import Metric
from unsay.report import card, distributions, first, pictures, worst
from unsay.report.bounds import SHARES, VACUOUS, Bound, bounds, rows
from unsay.report.claims import baseline_was_read, certified, claimed
from unsay.report.data import as_json
from unsay.report.evidence import Evidence, read, same_as_audited
from unsay.report.notes import ENDPOINT, endpoint, notes
from unsay.report.sheet import FILTER, content_policy, environment, lifted, rules
from unsay.report.steps import by_step
from unsay.report.words import DIRECTIONS, TWO_RETAIN_MODELS, by_heading, figure
from unsay.store import identity, ranks, redact
from unsay.store.clock import duration
from unsay.store.files import write_json, write_text
from unsay.store.folder import RunFolder

_KEPT_OUT = (*redact.SENSITIVE, "key_file")
"""Knobs that hold, or may hold, words of the operator's secrets, or say where a key lies: counted, not shown."""


@ranks.main_only
def build(folder: RunFolder) -> None:
    """Write report.json, report.html and, where there is a checkpoint, its model card.

    Raises `ConfigError` where the checkpoint is not the one that was audited."""
    evidence = read(folder)
    same_as_audited(folder, evidence)
    write_json(folder.report_json, as_json(evidence), Bound.as_json)
    write_text(folder.report_html, html(evidence))
    if folder.checkpoint.is_dir():
        write_text(folder.checkpoint / "README.md", card.text(evidence))


def html(evidence: Evidence) -> str:
    """The page."""
    templates = environment()
    templates.filters["figure"] = figure
    templates.filters["duration"] = duration
    templates.filters["code"] = code
    templates.filters["percent"] = lambda value: f"{figure(100 * value, 100)} %"
    worst_questions, scored = worst.leaking(evidence)
    exposure, recipe, alone = evidence.exposure, evidence.recipe, evidence.manifest.alone is not None
    drawn = {
        "leak": pictures.leak(evidence),
        "multiple_choice": pictures.multiple_choice(evidence),
        "options": distributions.options(evidence),
        "drift": distributions.drift(evidence),
        "classes": pictures.classes(evidence),
        "training": pictures.training(evidence.steps),
        "exposure": pictures.exposure(exposure.get("rounds", [])),
    }
    drawings, style = lifted(drawn)
    sheet = rules("report.css") + style
    return templates.get_template("report.html.j2").render(
        e=evidence,
        machine={**evidence.manifest.versions, **(dataclasses.asdict(evidence.manifest.machine) if evidence.manifest.machine else {})},
        title=recipe.title or (f"Audit of {recipe.model.name}" if alone else f"{recipe.method} on {recipe.model.name}"),
        alone=alone,
        first=first,
        steps=by_step([line for line in evidence.results if not line.passed], alone),
        headlines=[
            # The third: what the same answers score on the secrets of other questions, where that was measured.
            (one, evidence.metrics[key], evidence.metrics[one.accident]["after"] if one.accident else None, evidence.counts.get(key, 0))
            for key, one in every_metric().items()
            if one.tile
        ],
        index=evidence.never_knew,
        farthest=every_metric()[evidence.never_knew.worst].title if evidence.never_knew else "",
        two_retain_models=TWO_RETAIN_MODELS,
        claim=claimed(evidence),
        read=baseline_was_read(evidence),
        notes=notes(evidence.manifest),
        certified=certified(evidence),
        audited={which: bool(found) for which, found in evidence.findings.items()},
        endpoint=endpoint(evidence.manifest, evidence.findings.get(ENDPOINT, ()), recipe.audit.probes),
        verdict=sorted(verdict(evidence), key=lambda row: row["result"].passed),
        worst_questions=worst_questions,
        more=scored - len(worst_questions),
        shown=worst.SHOWN,
        kept=worst.kept(evidence),
        tables=tables(evidence),
        settings=[
            # The last: how many questions stand behind the value after unlearning.
            (one.title, setting, row, sum(f.setting == setting for f in evidence.found(probe, one.by_setting)))
            for probe, setting, row in evidence.by_setting()
            if (one := probes.declared()[probe])
        ],
        slips=rows(bounds(evidence)),
        shares=SHARES,
        vacuous=VACUOUS,
        recipe=recipe_rows(recipe),
        exposure=exposure,
        directions=DIRECTIONS,
        pictures={name: Markup(svg) for name, svg in drawings.items()},
        sheet=Markup(sheet),
        script=Markup(FILTER),
        identity=json.dumps(evidence.identity),
        meta=identity.META,
        content_policy=Markup(content_policy(sheet)),
    )


def code(text: str) -> Markup:
    """`this` as code; all else is escaped.

    >>> code("run `a < b`")
    Markup('run <code>a &lt; b</code>')
    """
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def verdict(evidence: Evidence) -> list[dict[str, Any]]:
    """The lines of the policy as they are printed; a limit that is a number already is not said twice."""
    rows = []
    for result in evidence.results:
        top = every_metric()[result.metric].top if result.metric in every_metric() else 1.0
        counted = result.metric.startswith("exposure.")
        value, limit = (v if v is None else f"{v:g}" if counted else figure(v, top) for v in (result.value, result.limit))
        rows.append({"result": result, "rule": result.rule.replace("*", "×"), "value": value, "limit": limit if result.derived else None})
    return rows


def tables(evidence: Evidence) -> list[tuple[str, list[dict[str, Any]]]]:
    """The groups of measures, without what no model has a value for."""
    groups = [(title, [_row(evidence, metric) for metric in metrics]) for title, metrics in by_heading().items()]
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
