"""The operator's files looked through before anything runs: `Files.read` finds what is wrong, this adds what is allowed and yet may
surprise. No notice quotes what stands in a row."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unsay.config import build
from unsay.corpora import cutting, formats
from unsay.corpora.columns import KEYS, Layout
from unsay.corpora.files import Files
from unsay.corpora.parts import Parts
from unsay.corpora.passages import Passages
from unsay.corpora.rows import FileRow, Problems, RowError, nameable
from unsay.text import contains, normalised
from unsay.text.closed import looks_closed
from unsay.types import Example, Pair

LONG = 4000
"""Characters past which a question may outgrow the context of a small model; how many fit is known with the model alone."""
FEW = 20
"""Retain rows below which they hold little and their held-out share measures little."""
PARTS = ("forget", "retain", "paraphrases")


class Notice(NamedTuple):
    level: str
    """`error`: nothing can run; `warning`: it runs, but probably not as meant; `hint`: worth knowing."""
    where: str
    """`file:line`, or empty where it is about no one place."""
    text: str


@dataclass(frozen=True)
class Summary:
    """One file in numbers."""

    file: str
    part: str
    rows: int
    cut: bool = False
    """Whether they are openings, cut out of so many texts as there are groups."""
    groups: int = 0
    paraphrased: int = 0
    """Questions with other wordings, wherever those stand."""
    named: int = 0
    """Questions with strings or patterns of their own."""
    longest: int = 0


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def examine(files: Files, system_prompt: str | None = None) -> tuple[list[Summary], list[Notice]]:
    """The files in numbers, and everything that is to be said about them, errors first. `system_prompt`: of the recipe, if any."""
    problems = Problems(collect=True)
    parts = files.read(problems)
    notices = notices_of(problems)
    if parts.forget:
        notices += [Notice("warning", *place_and_text) for place_and_text in _warnings(files, parts)]
    if not problems.found:
        notices += [Notice("hint", "", text) for text in _hints(files, parts)]
    if files.system_messages == "drop" and system_prompt == "":
        text = "system messages in the rows are dropped and model.system_prompt is empty: the model is asked without one"
        notices.append(Notice("warning", "", text))
    return _summaries(files, parts), notices


def notices_of(problems: Problems) -> list[Notice]:
    """What was collected, as notices."""
    places = [(error.where, error.problem) if isinstance(error, RowError) else ("", str(error)) for error in problems.found]
    return [Notice("error", *place) for place in places]


def guess(names: Sequence[str], named: Mapping[str, str], tables: Mapping[str, Any]) -> tuple[type[Files], dict[str, str], list[Notice]]:
    """Whether these are texts, not questions (.txt files, folders of them, or rows with a `text` or an `opening`), which is which beside
    the ones that were `named`, and what is to be said of that. `tables`: of the recipe, where they say how the files name things."""
    cut = any(cutting.files(name) or any(row.values.keys() & cutting.KEYS for row in _rows(name)) for name in (*names, *named.values()))
    kind = Passages if cut else Files
    knobs = build(kind, tables.get(kind.table, {}), kind.table)
    return kind, *(_texts(names, named) if cut else _questions(names, Layout(knobs.columns, knobs.ignore, "drop"), named))


def _texts(names: Sequence[str], named: Mapping[str, str]) -> tuple[dict[str, str], list[Notice]]:
    """Which is which: of texts the first are to be forgotten and the second stay; rows with a question and an answer are about them."""
    taken = dict(named)
    for name in names:
        about = not cutting.files(name) and any("question" in row.values for row in _rows(name))
        free = [part for part in (("questions",) if about else ("forget", "retain")) if part not in taken]
        if not free:
            text = f"{name}: there are {'questions' if about else 'texts to forget and to keep'} already; leave one of them out"
            return taken, [Notice("error", "", text)]
        taken[free[0]] = name
    return taken, [] if "forget" in taken else [Notice("error", "", "none of these are texts to forget; name them with --forget FOLDER")]


def _rows(name: str) -> list[FileRow]:
    """What can be read of a file, whatever is wrong with it."""
    return [] if cutting.files(name) else formats.read(name, Problems(collect=True))


def _questions(names: Sequence[str], layout: Layout, named: Mapping[str, str]) -> tuple[dict[str, str], list[Notice]]:
    """Which file is which part, by what its rows have, beside the ones that were `named`. One that cannot be read takes a part that is
    free, so that its complaints are heard. Two files for one part, or none to forget, are errors."""
    taken = dict(named)
    unread: list[str] = []
    notices: list[Notice] = []

    def take(part: str, name: str) -> None:
        if taken.setdefault(part, name) != name:
            text = f"{taken[part]} and {name} both look like the file for files.{part}; say which is which: --{' FILE --'.join(PARTS)} FILE"
            notices.append(Notice("error", "", text))

    for name in names:
        raw = _rows(name)
        if raw:
            take(_part(layout.apply(name, raw, KEYS, (), Problems(collect=True)), "forget" in taken), name)
        else:
            unread.append(name)
    for name in unread:
        take(next((part for part in PARTS if part not in taken), "forget"), name)
    if "forget" not in taken:
        text = "none of these files holds questions to forget (rows with a question and no answer); name one with --forget FILE"
        notices.append(Notice("error", "", text))
    return taken, notices


def _part(found: Iterable[FileRow], other_wordings: bool) -> str:
    """`other_wordings`: there are questions to forget already, so questions with paraphrases alone are wordings of those."""
    rows = list(found)
    having = Counter(key for row in rows for key in row.values)
    if 2 * having["answer"] > len(rows):
        return "retain"
    only_wordings = having["paraphrases"] == len(rows) > 0 and not having["strings"] and not having["patterns"]
    return "paraphrases" if only_wordings and (other_wordings or not having["question"]) else "forget"


def _summaries(files: Files, parts: Parts) -> list[Summary]:
    forget, retain = parts.forget, parts.retain
    found = [
        Summary(
            files.forget,
            "forget",
            cut=isinstance(files, Passages),
            paraphrased=sum(bool(example.paraphrases) for example in forget),
            named=sum(bool(example.strings or example.patterns) for example in forget),
            **_sizes(forget),
        )
    ]
    found += [Summary(files.retain, "retain", cut=isinstance(files, Passages), **_sizes(retain))] if files.retain else []
    return found + ([Summary(files.paraphrases, "paraphrases", rows=parts.wordings)] if files.paraphrases else [])


def _sizes(rows: Sequence[Example | Pair]) -> dict[str, int]:
    longest = max((len(row.question) for row in rows), default=0)
    return {"rows": len(rows), "groups": len({row.group for row in rows} - {""}), "longest": longest}


def _warnings(files: Files, parts: Parts) -> Iterator[tuple[str, str]]:
    """Where, and what."""
    asked = {normalised(example.question): example.id for example in parts.forget}
    for example in parts.forget:
        where = parts.forget_at[example.id]
        yield from _long(where, example.question)
        if contains(example.question, (*files.strings, *example.strings)):
            yield where, "a named string stands in the question itself: an answer that repeats the question would count as a leak"
        if any(len(string.strip()) < 3 and string.isascii() for string in example.strings):
            yield where, "a named string of one or two letters is found inside many words; name more of it"
        wordings = [normalised(wording) for wording in example.paraphrases]
        if len({*wordings, normalised(example.question)}) <= len(wordings):
            yield where, "a paraphrase repeats the question or another paraphrase; remove it"
        if any(asked.get(wording, example.id) != example.id for wording in wordings):
            yield where, "a paraphrase is itself a question to forget, so training sees what the audit takes for an unknown wording"
    for pair in parts.retain:
        yield from _long(parts.retain_at[pair.id], pair.question)
    odd = [example.id for example in parts.forget if not nameable([example.id])]
    if odd:
        many = f"{counted(len(odd), 'id')} of more than letters and digits"
        yield parts.forget_at[odd[0]], f"{many}; ids stand in findings, outside of the vault: let them tell nothing"


def _long(where: str, question: str) -> Iterator[tuple[str, str]]:
    if len(question) > LONG:
        yield where, f"a question of {len(question):,} characters; see that it fits into the context of your model"


def _hints(files: Files, parts: Parts) -> Iterator[str]:
    if not isinstance(files, Passages):
        yield from _hints_of_questions(files, parts)
    elif not files.questions:
        yield "no questions about the texts: the audit cannot ask whether the model still knows what they say; a file with some is worth it"
    if not files.retain:
        yield "no retain file: record will build one from the model's own answers to general questions and to neighbours of yours"
    elif len(parts.retain) < FEW:
        yield f"only {counted(len(parts.retain), 'retain row')}: {FEW} or more, close to what is forgotten, keep more of the model"


def _hints_of_questions(files: Files, parts: Parts) -> Iterator[str]:
    with_wordings = sum(bool(example.paraphrases) for example in parts.forget)
    if not with_wordings:
        yield "no paraphrases: the audit cannot ask in other wordings; two or three for each question are worth the time"
    elif with_wordings < len(parts.forget):
        yield f"{counted(len(parts.forget) - with_wordings, 'question')} without paraphrases: the audit cannot ask those in other wordings"
    if not (files.strings or files.patterns or any(example.strings or example.patterns for example in parts.forget)):
        yield "no strings or patterns are named: what must not be said is read off the model's own answers"
    if closed := sum(looks_closed(example.question) for example in parts.forget):
        text = "their answers have no word of their own, so the audit scores them by how likely the true answer is against its opposite"
        yield f"{counted(closed, 'question')} for yes or no, or for one of two things: {text} (probe multiple_choice, English)"
