"""Looking: one page with every forget question, what was recorded, what the audited models said and how that was scored.

The page is written into the vault for its owner alone. It loads no model: answers are those that audits kept
(`unsay.audit.cache`). Everything in it is escaped, nothing is loaded from elsewhere, and no script may run.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from unsay.audit.cache import Asked, Store
from unsay.config import ConfigError
from unsay.probes.scoring import said
from unsay.record.recorded import read_recorded, read_truth
from unsay.report.sheet import content_policy
from unsay.store.folder import RunFolder, read_findings
from unsay.store.manifest import AnswerCache
from unsay.types import MODELS, Answer, Example, Finding

_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 56rem; padding: 0 1rem; }
body { color: #1b1d22; background: #fdfdfc; }
h2 { margin-top: 2.5rem; border-top: 1px solid #dcdfe4; padding-top: 1rem; font-size: 1.2rem; }
h3 { font-size: .95rem; margin: 1rem 0 .2rem; }
p { margin: .3rem 0; } table { border-collapse: collapse; width: 100%; font-size: .92rem; } code { font-size: .9em; }
td, th { text-align: left; vertical-align: top; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #dcdfe4; overflow-wrap: anywhere; }
.number { white-space: nowrap; text-align: right; } .muted { color: #646971; }"""


@dataclass(frozen=True)
class Group:
    """What one model said to one wording of a question, opened so, decoded so."""

    asked: Asked
    answers: Sequence[tuple[str, int, float | None]] = field(repr=False)
    """Text, how often, keyword recall; the worst first."""


@dataclass(frozen=True)
class Question:
    """Everything about one forget question."""

    example: Example
    baseline: str = field(repr=False)
    truth: str | None = field(repr=False)
    said: Mapping[str, Sequence[Group]] = field(repr=False)
    """By model."""
    scores: Sequence[tuple[str, str, str, Mapping[str, float | None]]]
    """Probe, metric, setting, value by model."""


def write(folder: RunFolder, which: str | None = None, plain: bool = False) -> Path:
    """Write the page of all audited models, or of one, and count it in the manifest. Raises `ConfigError`.

    `plain`: write it although the vault is encrypted, which no page for a browser can be.
    """
    folder.recipe()
    folder.texts.alive()
    if folder.texts.encrypted and not plain:
        raise ConfigError(
            "the vault is encrypted, and a page for a browser is not: add --plain to write it readable, and remove it afterwards; "
            "what destroying the key claims does not hold for such a page"
        )
    audited = [one for one in MODELS if folder.audit_file(one).exists() and which in (None, one)]
    if not audited:
        raise ConfigError(
            f"{folder.path} has no audit {f'of the model {which!r} ' if which else ''}to look at; run `unsay audit {folder.path}`"
        )
    page = html(folder, audited)
    folder.looked("look", plain=folder.texts.encrypted)
    return folder.texts.page(f"look/{which or 'all'}.html", page)


def html(folder: RunFolder, models: Sequence[str]) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("look.html.j2").render(
        run=folder.path.name,
        models=models,
        questions=questions(folder, models),
        style=Markup(_STYLE),
        policy=Markup(content_policy(_STYLE)),
    )


def questions(folder: RunFolder, models: Sequence[str]) -> list[Question]:
    """Question by question, in the order of the corpus."""
    recorded, truth, kept = read_recorded(folder), read_truth(folder) or {}, folder.manifest().answers
    baseline = recorded.answers
    findings = {which: read_findings(folder.audit_file(which)) for which in models}
    told = {which: _said(folder, kept.get(which)) for which in models}
    found = []
    for example in recorded.corpus.forget:
        fact = truth[example.id].answer if example.id in truth else None
        reference = fact if fact is not None else baseline.get(example.id, "")
        groups = {which: [_group(example, reference, *one) for one in told[which].get(example.id, ())] for which in models}
        found.append(Question(example, baseline.get(example.id, ""), fact, groups, _scores(findings, example.id)))
    return found


def _said(folder: RunFolder, kept: AnswerCache | None) -> dict[str, list[tuple[Asked, list[Answer]]]]:
    """By example id what the model of that file was asked and said."""
    found: dict[str, list[tuple[Asked, list[Answer]]]] = {}
    if kept is not None:
        for asked, answers in Store(folder, kept.file).answers():
            found.setdefault(asked.key.partition("#")[0], []).append((asked, answers))
    return found


def _group(example: Example, reference: str, asked: Asked, answers: Iterable[Answer]) -> Group:
    counts = Counter(answer.text for answer in answers)
    rows = [(text, n, said(example, reference, text, asked.prefix, asked.question)) for text, n in counts.items()]
    return Group(asked, sorted(rows, key=lambda row: (-(row[2] or 0.0), -row[1], row[0])))


def _scores(findings: Mapping[str, Sequence[Finding]], identifier: str) -> list[tuple[str, str, str, Mapping[str, float | None]]]:
    rows: dict[tuple[str, str, str], dict[str, float | None]] = {}
    for which, found in findings.items():
        for one in found:
            if one.example == identifier:
                rows.setdefault((one.probe, one.metric, one.setting), {})[which] = one.value
    return [(*place, values) for place, values in rows.items()]
