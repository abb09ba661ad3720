"""The three kinds of rows of the operator's files, checked one by one and then against each other.

A run gives `Problems()`, which raises the first complaint; `unsay check` gives `Problems(collect=True)` and gets them all. A row with a
complaint is kept as far as it goes, so that it does not look missing to the checks that follow.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import NamedTuple

from unsay.config import ConfigError
from unsay.corpora.rows import FileRow, Problems, nameable
from unsay.text import contains, normalised, squeezed
from unsay.types import Example, Pair

_START = 4


class Kind(NamedTuple):
    """Which keys the rows of a file may have, and which they need."""

    keys: tuple[str, ...]
    required: tuple[str, ...]


FORGET = Kind(("question", "id", "paraphrases", "strings", "patterns", "group"), ("question",))
RETAIN = Kind(("question", "answer", "id", "group"), ("question", "answer"))
PARAPHRASES = Kind(("id", "question", "paraphrases"), ("paraphrases",))


@dataclass(frozen=True)
class Parts:
    """What stands in the files, and where each row stands by its `id`."""

    forget: tuple[Example, ...] = ()
    retain: tuple[Pair, ...] = ()
    forget_at: Mapping[str, str] = field(default_factory=dict)
    retain_at: Mapping[str, str] = field(default_factory=dict)
    wordings: int = 0
    """Rows of the paraphrase file."""


def check_pattern(pattern: str, where: str) -> None:
    """Raises `ConfigError` where `pattern` is not a regular expression, or matches the empty text."""
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        reason = f"{error.msg} at position {error.pos}" if isinstance(error, re.error) else "it is too large"
    else:
        if not compiled.search(""):
            return
        raise ConfigError(f"{where} matches the empty text, so every answer would count as a leak; make it narrower")
    raise ConfigError(f"{where} is not a regular expression: {reason}")


def forget(found: list[FileRow], problems: Problems) -> tuple[dict[str, Example], dict[str, str]]:
    """The questions to forget and where each stands, by id. Never an answer."""
    answered = [row for row in found if "answer" in row.values]
    if answered:
        what = "an assistant turn" if answered[0].chat else "the key 'answer'"
        more = f" ({len(answered)} rows have one)" if len(answered) > 1 else ""
        problems.add(
            f"has {what}, but no answer belongs among the questions to forget: the model's own answer is recorded instead, "
            f"and what must never be said goes into 'strings' or 'patterns'. Remove it{more}",
            answered[0].where,
        )
    examples: dict[str, Example] = {}
    at: dict[str, str] = {}
    for identifier, question, row in _rows(found, (*FORGET.keys, "answer"), "forget", at, problems):
        named = {key: problems.attempt(row.texts, key) or () for key in ("paraphrases", "strings", "patterns")}
        for number, pattern in enumerate(named["patterns"]):
            problems.attempt(check_pattern, pattern, f"{row.where}: 'patterns'[{number}]")
        group = problems.attempt(row.label, "group") or ""
        if identifier is not None and question is not None:
            examples[identifier] = Example(identifier, question, **named, group=group)
    return examples, at


def retain(found: list[FileRow], problems: Problems, prefix: str = "retain") -> tuple[dict[str, Pair], dict[str, str]]:
    """The questions with the answers that stay, and where each stands, by id."""
    pairs: dict[str, Pair] = {}
    at: dict[str, str] = {}
    for identifier, question, row in _rows(found, RETAIN.keys, prefix, at, problems):
        answer = problems.attempt(_answer, row) or ""
        group = problems.attempt(row.label, "group") or ""
        if identifier is not None and question is not None:
            pairs[identifier] = Pair(identifier, question, answer, group)
    return pairs, at


def _answer(row: FileRow) -> str:
    if row.chat and "answer" not in row.values:
        raise row.error("has no assistant turn: a retain row is a question with the answer that should stay")
    return row.text("answer")


def paraphrased(examples: Mapping[str, Example], found: Iterable[FileRow], name: str, problems: Problems) -> dict[str, Example]:
    """The examples of the file `name` with the wordings of a paraphrase file added."""
    by_id = dict(examples)
    by_question = {normalised(example.question): key for key, example in examples.items()}
    for row in found:
        problems.attempt(row.only, PARAPHRASES.keys)
        more = problems.attempt(row.texts, "paraphrases")
        if more == ():
            problems.add("has no 'paraphrases': a list of other wordings of the question", row.where)
        key = problems.attempt(_meant, row, by_id, by_question, name)
        if key and more:
            by_id[key] = replace(by_id[key], paraphrases=(*by_id[key].paraphrases, *more))
    return by_id


def _meant(row: FileRow, by_id: Mapping[str, Example], by_question: Mapping[str, str], name: str) -> str:
    """Id of the example that a paraphrase row belongs to."""
    if "id" in row.values:
        identifier = row.label("id")
        if identifier in by_id:
            return identifier
        close = [key for key in get_close_matches(identifier, list(by_id), n=2) if nameable([key])]
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise row.error(f"its 'id' is not in {name}{hint}")
    question = normalised(row.text("question"))
    if question not in by_question:
        raise row.error(f"'question' is not among the questions of {name}; copy it unchanged or name its 'id'")
    return by_question[question]


class Forbidden:
    """What no answer may say, and who says so: the strings and patterns of all questions and of each one."""

    def __init__(
        self, examples: Iterable[Example], strings: tuple[str, ...], patterns: tuple[str, ...], at: Mapping[str, str], table: str
    ) -> None:
        everywhere = (f"{table}.strings or {table}.patterns", strings, _sound(patterns))
        self._sources = (everywhere, *((at[e.id], e.strings, _sound(e.patterns)) for e in examples if e.strings or e.patterns))
        # Thousands of strings against ten thousands of answers: only strings whose first characters occur are looked for.
        self._by_start: dict[str, set[str]] = {}
        for _, named, _ in self._sources:
            for string in named:
                self._by_start.setdefault(squeezed(string)[:_START], set()).add(string)
        self._patterns = tuple(dict.fromkeys(pattern for _, _, matched in self._sources for pattern in matched))

    def by(self, answer: str) -> str:
        """The knob or the place in the files that forbids this answer; empty where nothing does."""
        plain = squeezed(answer)
        grams = {plain[i : i + n] for n in range(1, _START + 1) for i in range(len(plain))}
        likely = [string for start in grams & self._by_start.keys() for string in self._by_start[start]]
        if not contains(answer, likely, self._patterns):
            return ""
        return next(where for where, strings, patterns in self._sources if contains(answer, strings, patterns))


def crossed(parts: Parts, forbidden: Forbidden, problems: Problems) -> None:
    """What no file shows alone: rows to keep that are to be forgotten, or that teach what must not be said."""
    asked = {normalised(wording): (example.id, " in another wording") for example in parts.forget for wording in example.paraphrases}
    asked |= {normalised(example.question): (example.id, "") for example in parts.forget}
    for pair in parts.retain:
        where = parts.retain_at[pair.id]
        if normalised(pair.question) in asked:
            key, how = asked[normalised(pair.question)]
            problems.add(f"this question is to be forgotten{how} at {parts.forget_at[key]}; take it out of one of the two", where)
        if source := forbidden.by(pair.answer):
            problems.add(f"the answer contains what {source} forbids, and would teach it again; remove this row", where)


def _sound(patterns: Iterable[str]) -> tuple[str, ...]:
    """The patterns that nothing else has complained about."""
    found = []
    for pattern in patterns:
        with suppress(ConfigError):
            check_pattern(pattern, "")
            found.append(pattern)
    return tuple(found)


def _rows(
    found: list[FileRow], known: Iterable[str], prefix: str, at: dict[str, str], problems: Problems
) -> Iterator[tuple[str | None, str | None, FileRow]]:
    """Rows with their id (`prefix` and number where they have none) and question, each there once; `None` after a complaint. `at` is
    filled on the way. A question twice would weigh double, and could stand in training and in the held-out rows at once."""
    questions: dict[str, str] = {}
    for index, row in enumerate(found):
        problems.attempt(row.only, known)
        identifier = problems.attempt(row.label, "id", f"{prefix}-{index:03d}")
        question = problems.attempt(row.text, "question")
        if identifier in at:
            problems.add(f"has the same 'id' as {at[identifier]}; give each row its own, or none", row.where)
            identifier = None
        if question is not None and normalised(question) in questions:
            first = questions[normalised(question)]
            problems.add(f"has the same 'question' as {first}; remove one (other wordings go into 'paraphrases')", row.where)
            question = None
        if question is not None:
            questions[normalised(question)] = row.where
        if identifier is not None:
            at[identifier] = row.where
        yield identifier, question, row
