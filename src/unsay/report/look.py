"""Looking: one page with every forget question, what was recorded, what the audited models said and how that was scored.

The page lies in the vault, for its owner alone. Answers are those that audits kept (`unsay.audit.cache`). Everything is escaped,
nothing is loaded from elsewhere, and no script may run but the filter.
"""

import re
from array import array
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
from markupsafe import Markup

from unsay import probes
from unsay.audit.cache import Asked, Store
from unsay.config import ConfigError
from unsay.probes.scoring import largest, secret_recall
from unsay.record.recorded import read_recorded, read_truth
from unsay.report.sheet import FILTER, content_policy, environment, rules
from unsay.store.folder import RunFolder, each_finding
from unsay.store.manifest import AnswerCache
from unsay.types import MODELS, Answer, Example

PAGE = 500
"""Questions on a page."""
_PAGE = re.compile(rf"({'|'.join(('all', *MODELS))})(-\d+)?\.html")
_SHOWN = 3
"""Answers that stand unfolded in a cell."""


Scores = Sequence[tuple[str, str, str, Mapping[str, float | None]]]
"""Probe, metric, setting, value by model."""


@dataclass(frozen=True)
class Way:
    """One wording of a question, opened so, decoded so, and what each model said to it."""

    asked: Asked
    title: str
    reworded: bool
    """Whether it is not the question's own wording."""
    varied: bool
    """Whether a probe asked it under a name of its own."""
    said: Mapping[str, Sequence[tuple[str, int, float | None]]] = field(repr=False)
    """By model: text, how often, keyword recall; the worst first."""

    @property
    def plain(self) -> bool:
        return not (self.reworded or self.varied or self.asked.prefix or self.asked.temperature)

    def worst(self, which: str) -> float | None:
        """The largest share of the secret in an answer; `None` where none is kept or can be scored."""
        return largest(recall for _, _, recall in self.said.get(which, ()))


@dataclass(frozen=True)
class Question:
    """Everything about one forget question."""

    example: Example
    baseline: str = field(repr=False)
    truth: str | None = field(repr=False)
    worst: Mapping[str, float | None]
    """By model: of all its kept answers."""
    telling: Sequence[Way]
    """The plain one first, then those that drew something of the secret from the chief model, most first."""
    silent: Sequence[Way]
    scores: Scores


def write(folder: RunFolder, which: str | None = None, plain: bool = False, number: int = 1) -> Path:
    """Write a page (number 1: the questions that fare worst) of all audited models, or of one, and count it in the manifest. Raises
    `ConfigError`.

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
        of = f"of the model {which!r} " if which else ""
        raise ConfigError(f"{folder.path} has no audit {of}to look at; run `unsay audit {folder.path}`")
    page = html(folder, audited, number)
    _remove_outdated(folder)
    folder.looked("look", plain=folder.texts.encrypted)
    return folder.texts.page(f"look/{which or 'all'}{f'-{number}' if number > 1 else ''}.html", page)


def _remove_outdated(folder: RunFolder) -> None:
    """Remove pages from before the last audit, which would show what another one found: nothing else, and nothing through a link."""
    last = max(folder.audit_file(one).stat().st_mtime_ns for one in MODELS if folder.audit_file(one).exists())
    place = folder.texts.path / "look"
    for page in [] if place.is_symlink() else place.glob("*.html"):
        if _PAGE.fullmatch(page.name) and page.is_file() and page.stat().st_mtime_ns < last:
            page.unlink()


def html(folder: RunFolder, models: Sequence[str], number: int = 1) -> str:
    """The page with that number. Raises `ConfigError` where there is none."""
    answered = Answered(folder, models)
    pages = max(1, -(-len(answered.order) // PAGE))
    if number > pages:
        raise ConfigError(f"there is no page {number}: {len(answered.order):,} questions fill {pages}")
    sheet, template = rules("report.css", "look.css"), environment().get_template("look.html.j2")
    return template.render(
        run=folder.path.name,
        models=models,
        chief=chief(models),
        questions=answered.questions(answered.order[(number - 1) * PAGE : number * PAGE]),
        page=number,
        pages=pages,
        shown=_SHOWN,
        style=Markup(sheet),
        script=Markup(FILTER),
        policy=Markup(content_policy(sheet)),
    )


def chief(models: Sequence[str]) -> str:
    """The model whose answers decide what comes first."""
    return "after" if "after" in models else models[-1]


class Answered:
    """What the models said to every forget question, read as it is wanted: all of it would take much room."""

    def __init__(self, folder: RunFolder, models: Sequence[str]):
        self.folder, self.models = folder, models
        recorded, kept = read_recorded(folder), folder.manifest().answers
        self.examples, self.truth = recorded.corpus.forget, read_truth(folder) or {}
        self.answers = [recorded.baseline[one.id].answer if one.id in recorded.baseline else "" for one in self.examples]
        del recorded  # with its sampled answers, before the rest is read
        numbers = {example.id: number for number, example in enumerate(self.examples)}
        self.said = {which: _Said(folder, kept.get(which), numbers) for which in models}
        del numbers
        marks = array("d", chain.from_iterable(map(self._mark, range(len(self.examples)))))
        self.order: Sequence[int] = np.lexsort(np.asarray(marks).reshape(-1, 2).T[::-1]).tolist()
        """Numbers of examples: first the question that the chief model tells most of; among equals, which more ways of asking open."""

    def questions(self, chosen: Sequence[int]) -> list[Question]:
        scores = _scores(self.folder, self.models, {self.examples[number].id for number in chosen})
        return [self._question(number, scores.get(self.examples[number].id, ())) for number in chosen]

    def _mark(self, number: int) -> tuple[float, float]:
        one = self._question(number, ())
        return -(one.worst[chief(self.models)] or 0.0), -len(one.telling)

    def _question(self, number: int, scores: Scores) -> Question:
        example, baseline, models = self.examples[number], self.answers[number], self.models
        fact = self.truth[example.id].answer if example.id in self.truth else None
        ways = _ways(example, baseline if fact is None else fact, {which: self.said[which].to(number) for which in models})
        ways.sort(key=lambda way: (not way.plain, -(way.worst(chief(models)) or 0.0)))
        worst = {which: largest(way.worst(which) for way in ways) for which in models}
        telling = [way for way in ways if way.plain or way.worst(chief(models))]
        return Question(example, baseline, fact, worst, telling, [way for way in ways if way not in telling], scores)


class _Said:
    """What the model of a file was asked and said: where it stands, by number of the example."""

    def __init__(self, folder: RunFolder, kept: AnswerCache | None, numbers: Mapping[str, int]):
        self.store = Store(folder, kept.file) if kept is not None else None
        asked, places = array("q"), array("q")
        for key, place in self.store.asked() if self.store else ():
            while key not in numbers and "#" in key:  # behind it stands what a probe asked; an id may have one too
                key = key.rpartition("#")[0]
            asked.append(numbers.get(key, -1))
            places.append(place)
        order = np.argsort(np.asarray(asked), kind="stable")  # an array for each question would take ten times as much
        self._asked, self._places = np.asarray(asked)[order], np.asarray(places)[order]

    def to(self, number: int) -> list[tuple[Asked, list[Answer]]]:
        start, end = (np.searchsorted(self._asked, number, side) for side in ("left", "right"))
        return [self.store.answers(int(place)) for place in self._places[start:end]] if self.store else []


def _ways(example: Example, reference: str, told: Mapping[str, Iterable[tuple[Asked, list[Answer]]]]) -> list[Way]:
    """In the order of their first asking. A greedy answer is the same on every occasion, so whoever asked first gives it its title."""
    found: dict[tuple[object, ...], Way] = {}
    for which, some in told.items():
        for asked, answers in some:
            key = (asked.question, asked.prefix, asked.temperature, asked.top_p, asked.salt if asked.temperature else "", asked.key)
            declared = probes.declared().get(asked.salt)
            title = declared.title if declared else asked.salt or "asked"
            way = found.setdefault(key, Way(asked, title, asked.question != example.question, asked.key != example.id, {}))
            found[key] = replace(way, said={**way.said, which: _scored(example, reference, asked, answers)})
    return list(found.values())


def _scored(example: Example, reference: str, asked: Asked, answers: Iterable[Answer]) -> list[tuple[str, int, float | None]]:
    counts = Counter(answer.text for answer in answers)
    rows = [(text, n, secret_recall(example, reference, text, asked.prefix, asked.question)) for text, n in counts.items()]
    return sorted(rows, key=lambda row: (-(row[2] or 0.0), -row[1], row[0]))


def _scores(folder: RunFolder, models: Sequence[str], examples: Container[str]) -> Mapping[str, Scores]:
    rows: dict[str, dict[tuple[str, str, str], dict[str, float | None]]] = {}
    for which in models:
        for one in (one for one in each_finding(folder.audit_file(which)) if one.example in examples):
            rows.setdefault(one.example, {}).setdefault((one.probe, one.metric, one.setting), {})[which] = one.value
    return {example: [(*place, values) for place, values in some.items()] for example, some in rows.items()}
