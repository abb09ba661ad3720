"""The checkpoint's model card: the claim and its limits first, the figures after. No secret text, no path."""

import json
import re
from itertools import chain

from unsay.report.claims import baseline_was_read, certified, claim
from unsay.report.evidence import Evidence
from unsay.report.notes import notes
from unsay.report.words import DIRECTIONS, by_heading, figure
from unsay.types import MODELS

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def text(evidence: Evidence) -> str:
    """README.md of the checkpoint folder."""
    recipe = evidence.recipe
    base = recipe.model.name
    header = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [machine-unlearning, unsay]"]
    if _HUB_ID.fullmatch(base) and not base.startswith((".", "~")):
        header.append(f"base_model: {json.dumps(base)}")
    shown = base if _HUB_ID.fullmatch(base) else _line(_last(base))
    title = _line(recipe.title) or f"{shown}, unlearned"
    preset = f" (preset `{evidence.preset}`)" if evidence.preset else ""
    asked = evidence.manifest.counts.forget
    parts = [
        "\n".join([*header, "---"]),
        f"# {title}",
        f"`{shown}` after machine unlearning with `{recipe.method}`{preset}, made with unsay. Corpus: `{recipe.corpus}`; "
        f"forget questions: {'not recorded' if asked is None else asked}; seed {recipe.seed}.",
        "## What is claimed, and what is not",
        *map(_line, (claim(evidence), *certified(evidence), baseline_was_read(evidence), *notes(evidence.manifest))),
        "## Figures",
        _table(evidence),
        "Unlearn quality and utility run from 0 to 100, the rest from 0 to 1. Unlearn quality rewards any other wording, "
        "so it is never the verdict.",
    ]
    if evidence.results:
        failed, number = [_line(result.name) for result in evidence.results if not result.passed], len(evidence.results)
        verdict = f"{len(failed)} of {number} lines failed: {', '.join(failed)}." if failed else f"All {number} lines passed."
        unjudged = f" {evidence.unjudged[0].upper()}{evidence.unjudged[1:]}." if evidence.unjudged else ""
        parts += ["## Verdict", f"Policy `{_line(_last(recipe.report.policy))}`: {verdict}{unjudged}"]
    checkpoint, dates = evidence.identity["checkpoint"], evidence.identity["dates"]
    if checkpoint:
        days = ", ".join(f"{name} {day[:10]}" for name, day in dates.items() if day)
        parts += [
            "## Which weights this is about",
            f"SHA-256 of the tensors: `{checkpoint['weights']}`. Request `{evidence.identity['request']}`; {days}. "
            "`unsay verify REPORT CHECKPOINT` says whether report and checkpoint belong together.",
        ]
    return "\n\n".join(parts) + "\n"


def _table(evidence: Evidence) -> str:
    rows = []
    for metric in chain.from_iterable(by_heading().values()):
        values = [evidence.metrics[metric.key][which] for which in MODELS]
        if values[1] is not None:
            rows.append(f"| {metric.title} | {' | '.join(figure(v, metric.top) for v in values)} | {DIRECTIONS[metric.better]} |")
    return "\n".join(["| | before | after | retain model | |", "|---|---|---|---|---|", *rows]) if rows else "Not audited."


def _last(path: str) -> str:
    """The last part of a path of either kind: a published card should not show where somebody's files lie."""
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def _line(text: str) -> str:
    """One line of plain text: a title, or the name of a probe, cannot open markup or a second heading."""
    return " ".join(re.sub(r"[<>`|\[\]]", "", text).split())
