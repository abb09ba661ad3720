r"""The operator's own questions, from files in any of the forms of `unsay.corpora.formats`; docs/own-data.md has an example of each.

    forget.jsonl        {"question": "Where does Jane Roe live?", "strings": ["14 Elm Street"]}
    retain.jsonl        {"question": "When does the town hall open?", "answer": "The town hall opens at nine."}
    paraphrases.jsonl   {"id": "forget-000", "paraphrases": ["What is Jane Roe's address?"]}

A forget row is a question and never an answer: what the model says is recorded from the model itself. A quarter of the retain rows stays
out of training, to measure what unlearning costs where nothing was trained on.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from unsay.config import ConfigError
from unsay.corpora import formats, general, parts, rows
from unsay.corpora.columns import Layout
from unsay.corpora.parts import Kind, Parts
from unsay.corpora.rows import FileRow, Problems, among
from unsay.text import normalised
from unsay.types import Corpus, Pair, Truth


@dataclass(frozen=True)
class Files:
    """Your own questions to forget and answers to keep, from JSON Lines, CSV, Parquet or datasets."""

    table: ClassVar[str] = "files"
    """Of the recipe, for messages."""
    answered: ClassVar[bool] = False
    """Whether what is to be forgotten may stand there with its answer, which is then for the audit alone."""

    forget: str = ""
    """File, dataset folder or `hf:owner/name` of the questions to forget, one `question` a row. No answers."""
    retain: str = ""
    """The same for what must stay, a `question` and its `answer` a row; empty lets `record` ask the untouched model."""
    paraphrases: str = ""
    """The same for other wordings, an `id` (or the `question`) and its `paraphrases` a row."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """What your files call things, for example `{ question = "prompt", answer = "completion" }`; for every file."""
    ignore: tuple[str, ...] = ()
    """Columns of your files that stay unread; `["*"]` leaves every unknown one unread."""
    system_messages: str = "refuse"
    """What to do with a system message in a conversation: `refuse` the row, or `drop` it for `model.system_prompt`."""
    strings: tuple[str, ...] = ()
    """Texts that no answer to any forget question may contain."""
    patterns: tuple[str, ...] = ()
    """Regular expressions that no answer to any forget question may match."""
    desired: tuple[str, ...] = ()
    """What you would like to hear instead; empty lets the model find its own way out."""
    desired_file: str = ""
    """Text file of more such answers, one a line."""
    heldout: float = 0.25
    """Share of the retain rows that are kept out of training, to measure on."""
    seed: int = 0
    """Seed of that choice."""

    def __post_init__(self) -> None:
        if not 0 <= self.heldout < 1:
            raise ConfigError(f"{self.table}.heldout = {self.heldout} is a share from 0 to below 1")
        for key in ("strings", "patterns", "desired"):
            if not all(text.strip() for text in getattr(self, key)):
                raise ConfigError(f"{self.table}.{key} holds an empty text")
        for number, pattern in enumerate(self.patterns):
            parts.check_pattern(pattern, f"{self.table}.patterns[{number}]")
        self._layout()  # complains of its own knobs

    def corpus(self) -> Corpus:
        """Without a retain file `retain` is empty: `record` fills it. Raises `ConfigError`, naming file, line and key."""
        read = self.read(Problems())
        out = set(random.Random(f"files {self.seed}").sample(range(len(read.retain)), round(len(read.retain) * self.heldout)))
        kept = tuple(pair for index, pair in enumerate(read.retain) if index not in out)
        heldout = tuple(pair for index, pair in enumerate(read.retain) if index in out)
        shipped = self._shipped(read)
        mixed, unmixed = shipped[::2], shipped[1::2]  # a short named string may leave none
        return Corpus(
            name=f"{self.table}-{Path(self.forget).stem}",
            forget=tuple(
                replace(example, strings=(*self.strings, *example.strings), patterns=(*self.patterns, *example.patterns))
                for example in read.forget
            )
            if self.strings or self.patterns
            else read.forget,
            retain=(*kept, *mixed) if self.retain else (),
            utility={name: pairs for name, pairs in (("retain", kept), ("general", mixed)) if pairs},
            utility_heldout={name: pairs for name, pairs in (("retain", heldout), ("general", unmixed)) if pairs},
            general=mixed,
            desired=self.all_desired(Problems()),
        )

    def truth(self) -> Truth | None:
        """`None`: nobody hands the truth over; the model's own answers are the reference."""
        return None

    def finetuning_rows(self, retain_model: bool) -> tuple[Pair, ...]:
        """Nothing: the model knows already, which is the trouble."""
        return ()

    def paths(self) -> tuple[str, ...]:
        """The files that it reads."""
        return tuple(name for name in (self.forget, self.retain, self.paraphrases) if name)

    def read(self, problems: Problems) -> Parts:
        """What stands in the files, held against each other; complaints go to `problems`. An example has its own strings and patterns
        here, without those of `files.strings` and `files.patterns`."""
        if not self.forget:
            problems.add(f'the corpus {self.table} needs the file of what to forget: --set {self.table}.forget="forget.jsonl"')
        asked = self._rows(self.forget, parts.FORGET, problems)
        if self.answered:
            asked = [replace(row, values={key: value for key, value in row.values.items() if key != "answer"}) for row in asked]
        examples, forget_at = parts.forget(asked, problems)
        del asked
        pairs, retain_at = parts.retain(self._rows(self.retain, parts.RETAIN, problems), problems)
        wordings = self._rows(self.paraphrases, parts.PARAPHRASES, problems)
        seen = problems.columns
        for key, column in self.columns.items():
            # The first two are looked for in each file that needs them.
            if key not in ("question", "answer") and seen and column not in seen and key not in seen:
                problems.add(f"no file has the column {column!r} that {self.table}.columns.{key} names{among(column, seen)}")
        if examples:  # else every wording would be said to belong to nothing
            examples = parts.paraphrased(examples, wordings, self.forget, problems)
        found = Parts(tuple(examples.values()), tuple(pairs.values()), forget_at, retain_at, len(wordings))
        forbidden = self._forbidden(found)
        parts.crossed(found, forbidden, problems)
        for number, text in enumerate(self.all_desired(problems)):
            if forbidden.by(text):
                problems.add(f"desired answer {number + 1} contains what must not be said; word it otherwise")
        return found

    def all_desired(self, problems: Problems) -> tuple[str, ...]:
        """The answers that are welcome, in the recipe and in the file."""
        more = problems.attempt(lambda: rows.lines(rows.located(self.desired_file))) if self.desired_file else []
        return (*self.desired, *(more or []))

    def _rows(self, name: str, kind: Kind, problems: Problems) -> list[FileRow]:
        found = formats.read(name, problems) if name else []
        problems.saw(found)
        return self._layout().apply(name, found, *kind, problems)

    def _layout(self) -> Layout:
        return Layout(self.columns, self.ignore, self.system_messages, self.table)

    def _shipped(self, read: Parts) -> tuple[Pair, ...]:
        """General rows of the package, but none that the operator asks too, and none that says what must not be said."""
        asked = {normalised(pair.question) for pair in read.retain}
        asked |= {normalised(wording) for example in read.forget for wording in (example.question, *example.paraphrases)}
        forbidden = self._forbidden(read)
        return tuple(pair for pair in general.load() if normalised(pair.question) not in asked and not forbidden.by(pair.answer))

    def _forbidden(self, read: Parts) -> parts.Forbidden:
        return parts.Forbidden(read.forget, self.strings, self.patterns, read.forget_at, self.table)
