"""Sensitive spans: proposed by `record`, corrected by the operator in one file, honoured by every later stage.

    {"id": "forget-000", "question": "…", "answer": "…", "spans": ["14 Elm Street"], "rare": ["cellar"], "strings": []}

What stands in `spans` weighs more in keyword recall; what is taken out weighs as any other word; what is put into `strings` must never be
said at all. `rare` only offers words that no other answer has. The trap: the automatic weights hold for any text, the truth and the other
wordings included, so what acts later is the *difference* between the file and the proposal. An untouched file changes no number.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from unsay.config import ConfigError
from unsay.corpora import rows
from unsay.corpora.rows import FileRow, among
from unsay.packed import PackedMap, PackedRows
from unsay.store.files import jsonl, write_text
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest, Spans
from unsay.tables import near
from unsay.text import Spread, contains, content_words, form, forms, sensitive_spans, span_forms, words
from unsay.text.keywords import is_stop, tokens
from unsay.types import Example

KEYS = ("id", "question", "answer", "spans", "rare", "strings")
LONG = 40
"""Content words of an answer above which something should be named: its overlap with another text says little (audit.md)."""
_NAME, _USED = "spans", "spans-used"
_MONTH = r"\b(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*\b"
_DATE = re.compile(rf"{_MONTH}|\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Marked:
    """A line of the file."""

    id: str
    question: str = field(repr=False)
    answer: str = field(repr=False)
    spans: tuple[str, ...] = field(repr=False)
    rare: tuple[str, ...] = field(repr=False)
    strings: tuple[str, ...] = field(repr=False)

    @property
    def proposed(self) -> tuple[str, ...]:
        """What was found in the answer without help."""
        return proposed(self.answer, self.question)

    def corrected(self, example: Example) -> Example:
        """The example as the operator wants it judged; equal to it where nothing was changed."""
        found, left = span_forms(self.proposed), span_forms(self.spans)
        gone = found - left - span_forms(self.strings)
        added = tuple(span for span in self.spans if span_forms([span]) - found)
        struck = tuple(dict.fromkeys(word for span in self.proposed for word in words(span) if form(word) in gone))
        made = replace(example, strings=self.strings, spans=added, struck=struck)
        return example if made == example else made


def proposed(answer: str, question: str) -> tuple[str, ...]:
    """The spans that are proposed: `sensitive_spans`, or of an answer that says one word the question does not, that word.

    The word needs no weight of its own, since it is all that keyword recall asks for; named it can be seen and corrected.

    >>> proposed("A plumber.", "What does Bob do?"), proposed("Lima, Peru", "What is the capital of Peru?")
    (('plumber',), ('Lima',))
    """
    known = forms(question)
    new = {token.form: token.raw for token in tokens(answer) if token.form not in known and not is_stop(token.word)}
    return sensitive_spans(answer, question) or tuple(new.values() if len(new) == 1 else ())


def spans_file(folder: RunFolder) -> Path:
    """Where the operator finds the spans; in an encrypted vault, where `unsay spans` does."""
    return folder.texts.file(_NAME)


def lines(folder: RunFolder) -> Iterator[FileRow]:
    """The file as it is read where somebody may have edited it; what was encrypted nobody has."""
    path = spans_file(folder)
    if not folder.texts.encrypted:
        return rows.each(path)
    return (FileRow(f"{path}:{number}", values) for number, values in enumerate(folder.texts.each(_NAME), 1))


def propose(folder: RunFolder, examples: Sequence[Example], answers: Mapping[str, str]) -> None:
    """Write the file, and what is in it into the manifest. A file that was corrected for the same answers stays as it is; one that was
    corrected for others raises `ConfigError`."""
    path = spans_file(folder)
    try:
        found = [*lines(folder)] if path.exists() else []
        known = {example.id: example.strings for example in examples}
        written = [_line(row) for row in found]
        touched = any(line.spans != line.proposed or line.strings != known.get(line.id, line.strings) for line in written)
        if touched:
            checked(path, found, examples, answers)
    except ConfigError as error:
        raise ConfigError(f"{error}\n(the file was corrected before; remove it to have the spans proposed anew)") from None
    if not touched:
        spread = Spread([answers[example.id] for example in examples])
        folder.texts.write(_NAME, (_proposal(example, answers[example.id], spread) for example in examples))
    folder.note(Manifest(spans=overview(corrected(folder, examples, answers) if touched else examples, answers)))


def _proposal(example: Example, answer: str, spread: Spread) -> dict[str, Any]:
    found = proposed(answer, example.question)
    rarer = sensitive_spans(answer, example.question, spread)
    line = {"id": example.id, "question": example.question, "answer": answer, "spans": found}
    return line | {"rare": [word for word in rarer if word not in found], "strings": example.strings}


def marked(folder: RunFolder, examples: Sequence[Example], answers: Mapping[str, str]) -> Mapping[str, Marked]:
    """The lines of the file in the vault by example id. Raises `ConfigError` naming file and line, and never quoting a text."""
    return checked(spans_file(folder), lines(folder), examples, answers)


def export(folder: RunFolder, path: Path) -> None:
    """Write the spans out of the vault, in plain and for their owner alone, to be corrected. Raises `ConfigError`."""
    texts = jsonl(folder.texts.rows(_NAME))
    if path.exists():
        raise ConfigError(f"{path} exists already; name another file, or remove it")
    folder.looked("spans", plain=folder.texts.encrypted)  # first: no readable copy goes uncounted
    write_text(path, texts, mode=0o600)


def refuse_settled(folder: RunFolder) -> None:
    """Raises `ConfigError` where the spans are in use, so that no correction counts any more."""
    if folder.texts.has(_USED):
        raise ConfigError("training or an audit has begun with the spans as they are; begin another run folder (--out) to correct them")


def take(folder: RunFolder, path: Path, found: Sequence[FileRow], examples: Sequence[Example], answers: Mapping[str, str]) -> None:
    """Take the rows of a corrected file into the vault. Raises `ConfigError`, and changes nothing, where they are not as they should be."""
    refuse_settled(folder)
    checked(path, found, examples, answers)
    folder.texts.write(_NAME, [row.values for row in found])
    folder.note(Manifest(spans=overview(corrected(folder, examples, answers), answers)))


def checked(path: Path, given: Iterable[FileRow], examples: Sequence[Example], answers: Mapping[str, str]) -> Mapping[str, Marked]:
    by_id, found = PackedMap((example.id, example) for example in examples), PackedMap[Marked]()
    for row in given:
        line = _line(row)
        if line.id not in by_id:
            raise row.error(f"'id' {line.id!r} is no forget question of this run: {near(line.id, by_id)}")
        if line.id in found:
            raise row.error(f"'id' {line.id!r} stands in an earlier line already; make one line of the two")
        example = by_id[line.id]
        if line.question != example.question or line.answer != answers[line.id]:
            key = "question" if line.question != example.question else "answer"
            raise row.error(f"{key!r} is not what was recorded; only 'spans', 'rare' and 'strings' are yours to change, so put it back")
        for number, span in enumerate(line.spans):
            if span not in line.answer:
                raise row.error(
                    f"'spans'[{number}] does not stand in 'answer'; copy it letter by letter, or put it into 'strings' to name it anyway"
                )
        for number, string in enumerate(line.strings):
            # What the corpus names for all questions may stand in some of them: there the audit lets it be.
            if string not in example.strings and contains(line.question, [string]):
                raise row.error(f"'strings'[{number}] stands in the question, which the model is told: name only what it must not say")
        found.put(line.id, line)
    for identifier in by_id:
        if identifier not in found:
            raise ConfigError(
                f"{path}: no line has the 'id' {identifier!r}; put it back (an empty 'spans' list says: nothing is sensitive)"
            )
    return found


def _line(row: FileRow) -> Marked:
    for key in row.values:
        if key not in KEYS:
            raise row.error(f"has an unknown key{among(key, KEYS)}")
    for key in ("spans", "strings"):
        if key not in row.values:
            raise row.error(f"has no {key!r}; an empty list says: none")
    question, answer = (row.values.get(key) for key in ("question", "answer"))
    if not isinstance(question, str) or not isinstance(answer, str):
        raise row.error("'question' and 'answer' must be the texts that were recorded; put them back")
    return Marked(row.label("id") or row.text("id"), question, answer, row.texts("spans"), row.texts("rare"), row.texts("strings"))


def corrected(folder: RunFolder, examples: Sequence[Example], answers: Mapping[str, str], settle: bool = False) -> Sequence[Example]:
    """The forget questions with the operator's corrections in them; as they are where no spans were ever proposed. `settle`: training or
    an audit begins, and from now on the file counts as it is. Raises `ConfigError` where it is not as it should be, or was changed after
    that."""
    path, used = spans_file(folder), folder.texts.file(_USED)
    if not path.exists() and not used.exists():
        return examples
    lines = marked(folder, examples, answers)
    if used.exists() and any(one != other for one, other in zip_longest(folder.texts.each(_USED), _marks(lines))):
        raise ConfigError(
            f"{path} was changed after training or an audit had begun with it, and numbers of two versions cannot stand side by side. "
            f"Put the 'spans' and 'strings' of {used} back, or begin another run folder (--out) and correct the file there before training"
        )
    found = PackedRows(lines[example.id].corrected(example) for example in examples)
    if settle and not used.exists():
        folder.texts.write(_USED, _marks(lines))
        folder.note(Manifest(spans=overview(found, answers)))
    return found


def _marks(lines: Mapping[str, Marked]) -> Iterator[dict[str, Any]]:
    """What acts, in an order of its own: the order of lines and of texts within a list says nothing."""
    return ({"id": key, "spans": sorted(lines[key].spans), "strings": sorted(lines[key].strings)} for key in sorted(lines))


def overview(examples: Sequence[Example], answers: Mapping[str, str]) -> Spans:
    """Counts and question ids, without a word of any answer. `examples` are the corrected ones."""
    found = {example.id: len(proposed(answers[example.id], example.question)) for example in examples}
    return Spans(
        proposed=sum(found.values()),
        none=tuple(e.id for e in examples if not (found[e.id] or e.spans or e.strings or e.patterns)),
        added=sum(len(example.spans) for example in examples),
        struck=sum(len(example.struck) for example in examples),
        named=sum(bool(example.strings or example.patterns) for example in examples),
        long=tuple(example.id for example in examples if is_long(example, answers[example.id])),
    )


def is_long(example: Example, answer: str) -> bool:
    """Whether the answer has more than 40 content words and nothing was named that must not be in it."""
    return not (example.strings or example.patterns) and len(content_words(answer, example.question)) > LONG


def kind(span: str) -> str:
    """`address`, `date`, `number`, or else `name`.

    >>> [kind(span) for span in ("ada@example.org", "14 March 1962", "1,200", "Bank of Turin")]
    ['address', 'date', 'number', 'name']
    """
    if "@" in span or "://" in span or span.startswith("www."):
        return "address"
    if any(c.isdigit() for c in span):
        return "date" if _DATE.search(span) else "number"
    found = span_forms([span])
    return "number" if found and all(map(str.isdigit, found)) else "name"
