r"""The operator's own questions, as JSON Lines.

    forget.jsonl        {"question": "Where does Jane Roe live?", "strings": ["14 Elm Street"]}
    retain.jsonl        {"question": "When does the town hall open?", "answer": "The town hall opens at nine."}
    paraphrases.jsonl   {"id": "forget-000", "paraphrases": ["What is Jane Roe's address?"]}

A forget row is a question and never an answer: what the model says is recorded from the model itself. Optional keys
of a forget row: `id`, `paraphrases`, `strings`, `patterns`, `group`; of a retain row: `id`, `group`. A quarter of the
retain rows stays out of training, to measure what unlearning costs where nothing was rehearsed.
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from unsay.config import ConfigError
from unsay.corpora import general, rows
from unsay.corpora.rows import Row
from unsay.tables import near
from unsay.types import Corpus, Example, Pair, Truth

FORGET_KEYS = ("question", "id", "paraphrases", "strings", "patterns", "group")
RETAIN_KEYS = ("question", "answer", "id", "group")


@dataclass(frozen=True)
class Files:
    """Your own questions to forget and answers to keep, from JSON Lines files."""

    forget: str = ""
    """File of the questions to forget, one `{"question": …}` a line. No answers."""
    retain: str = ""
    """File of what must stay, one `{"question": …, "answer": …}` a line; empty leaves the package's general rows alone."""
    paraphrases: str = ""
    """File of other wordings, one `{"id": …, "paraphrases": […]}` (or `"question"` for the id) a line."""
    strings: tuple[str, ...] = ()
    """Texts that no answer to any forget question may contain."""
    patterns: tuple[str, ...] = ()
    """Regular expressions that no answer to any forget question may match."""
    desired: tuple[str, ...] = ()
    """What you would like to hear instead; empty lets the model find its own way out."""
    heldout: float = 0.25
    """Share of the retain rows that are kept out of training, to measure on."""
    seed: int = 0
    """Seed of that choice."""

    def __post_init__(self) -> None:
        if not 0 <= self.heldout < 1:
            raise ConfigError(f"files.heldout = {self.heldout} is a share from 0 to below 1")
        for key in ("strings", "patterns", "desired"):
            if not all(text.strip() for text in getattr(self, key)):
                raise ConfigError(f"files.{key} holds an empty text")
        for number, pattern in enumerate(self.patterns):
            _check_pattern(pattern, f"files.patterns[{number}]")

    def corpus(self) -> Corpus:
        """Raises `ConfigError`, naming file, line and key, where something is not as it should be."""
        forget, forget_at = self._forget()
        retain: tuple[Pair, ...] = ()
        retain_at: Mapping[str, str] = {}
        if self.retain:
            retain, retain_at = _retain(Path(self.retain).expanduser())
        for question, where in retain_at.items():
            if question in forget_at:
                raise ConfigError(f"{where}: this question is to be forgotten at {forget_at[question]}; take it out of one of the two")
        out = set(random.Random(f"files {self.seed}").sample(range(len(retain)), round(len(retain) * self.heldout)))
        kept = tuple(pair for index, pair in enumerate(retain) if index not in out)
        heldout = tuple(pair for index, pair in enumerate(retain) if index in out)
        # A general question that the operator also asks must not be rehearsed against, nor stand on both sides.
        anchors = [pair for pair in general.load() if _same(pair.question) not in {*forget_at, *retain_at}]
        mixed, unmixed = tuple(anchors[::2]), tuple(anchors[1::2])
        return Corpus(
            name=f"files-{Path(self.forget).stem}",
            forget=forget,
            retain=(*kept, *mixed),
            utility=({"retain": kept} if kept else {}) | {"general": mixed},
            utility_heldout=({"retain": heldout} if heldout else {}) | {"general": unmixed},
            general=mixed,
            desired=self.desired,
        )

    def truth(self) -> Truth | None:
        """`None`: nobody hands the truth over; the model's own answers are the reference."""
        return None

    def planting(self, gold: bool) -> tuple[Pair, ...]:
        """Nothing: the model knows already, which is the trouble."""
        return ()

    def _forget(self) -> tuple[tuple[Example, ...], Mapping[str, str]]:
        """The forget questions, and where each stands by its normalised text."""
        if not self.forget:
            raise ConfigError('the corpus files needs the file of questions to forget: --set files.forget="forget.jsonl"')
        path = Path(self.forget).expanduser()
        examples = []
        seen: dict[str, str] = {}
        for identifier, row in _identified(rows.read(path), "forget"):
            if "answer" in row.values:
                raise row.error(
                    "has the key 'answer', but no answer belongs among the questions to forget: the model's own answer is "
                    "recorded instead, and what must never be said goes into 'strings' or 'patterns'. Remove the key"
                )
            row.only(FORGET_KEYS)
            question = row.text("question")
            _unseen(question, row, seen)
            patterns = row.texts("patterns")
            for number, pattern in enumerate(patterns):
                _check_pattern(pattern, f"{row.where}: 'patterns'[{number}]")
            examples.append(
                Example(
                    id=identifier,
                    question=question,
                    paraphrases=row.texts("paraphrases"),
                    strings=(*self.strings, *row.texts("strings")),
                    patterns=(*self.patterns, *patterns),
                    group=row.text("group") if "group" in row.values else "",
                )
            )
        return self._paraphrased(tuple(examples)), seen

    def _paraphrased(self, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        if not self.paraphrases:
            return examples
        by_id = {example.id: example for example in examples}
        by_question = {_same(example.question): example.id for example in examples}
        for row in rows.read(Path(self.paraphrases).expanduser()):
            row.only(("id", "question", "paraphrases"))
            if not row.texts("paraphrases"):
                raise row.error("has no 'paraphrases': a list of other wordings of the question")
            if "id" in row.values:
                identifier = row.text("id")
                if identifier not in by_id:
                    raise row.error(f"'id' {identifier!r} is not in {self.forget}: {near(identifier, by_id)}")
            else:
                identifier = by_question.get(_same(row.text("question")), "")
                if not identifier:
                    raise row.error(f"'question' is not among the questions of {self.forget}; copy it unchanged or name its 'id'")
            example = by_id[identifier]
            by_id[identifier] = replace(example, paraphrases=(*example.paraphrases, *row.texts("paraphrases")))
        return tuple(by_id.values())


def _retain(path: Path) -> tuple[tuple[Pair, ...], Mapping[str, str]]:
    """The retain rows, and where each stands by its normalised question."""
    pairs = []
    seen: dict[str, str] = {}
    for identifier, row in _identified(rows.read(path), "retain"):
        row.only(RETAIN_KEYS)
        _unseen(row.text("question"), row, seen)
        group = row.text("group") if "group" in row.values else ""
        pairs.append(Pair(identifier, row.text("question"), row.text("answer"), group))
    return tuple(pairs), seen


def _identified(found: Iterable[Row], prefix: str) -> Iterator[tuple[str, Row]]:
    """Rows with their `id`, or `prefix` and number where they have none."""
    seen: dict[str, str] = {}
    for index, row in enumerate(found):
        identifier = row.text("id") if "id" in row.values else f"{prefix}-{index:03d}"
        if identifier in seen:
            raise row.error(f"has the same 'id' as {seen[identifier]}; give each row its own, or none")
        seen[identifier] = row.where
        yield identifier, row


def _unseen(question: str, row: Row, seen: dict[str, str]) -> None:
    """A question twice would weigh double, and could stand in training and in the held-out rows at once."""
    key = _same(question)
    if key in seen:
        raise row.error(f"has the same 'question' as {seen[key]}; remove one (other wordings go into 'paraphrases')")
    seen[key] = row.where


def _same(question: str) -> str:
    return " ".join(question.casefold().split())


def _check_pattern(pattern: str, where: str) -> None:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{where} is not a regular expression: {error.msg} at position {error.pos}") from None
    if compiled.search(""):
        raise ConfigError(f"{where} matches the empty text, so every answer would count as a leak; make it narrower")
