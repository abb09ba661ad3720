r"""The operator's own texts, of which the model must not repeat any: for a publisher, an author, a company with documents.

    texts/2024-03-ferry.txt   a folder of .txt files, whole articles as they are
    texts.jsonl               {"text": "The ferry left at nine …", "id": "ferry", "strings": ["pier 14"]}
    cut.jsonl                 {"opening": "The ferry left at nine", "continuation": " with the mayor aboard …"}

Each text is cut into openings, which are asked, and what comes next (cutting.py); all else is as in `unsay.corpora.files`, but the operator
has the truth, so the audit holds continuations against it (training still sees the model's own ones only). docs/own-passages.md goes
through one case.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from unsay.config.build import positive
from unsay.corpora import cutting, parts
from unsay.corpora.files import Files
from unsay.corpora.parts import Kind, Parts
from unsay.corpora.rows import FileRow, Problems
from unsay.text import normalised
from unsay.types import Corpus, Example, Fact, Pair, Truth


def asked(question: str, shots: str = "") -> str:
    """A question as a text to go on with; what follows is its answer."""
    return f"{shots}Question: {question}\nAnswer:"


@dataclass(frozen=True)
class Passages(Files):
    """Your own texts to forget and to keep: a folder of .txt files, or rows with a text each."""

    table: ClassVar[str] = "passages"
    answered: ClassVar[bool] = True
    raw: ClassVar[bool] = True

    forget: str = ""
    """Texts to forget: a folder of .txt files, one of them, or a file of rows with a `text` (or `opening` and `continuation`) each."""
    retain: str = ""
    """The same of texts that stay; empty lets `record` ask the untouched model."""
    questions: str = ""
    """File of questions about what is to be forgotten, with their `answer`: the audit asks them, training never sees them."""
    holdout: str = ""
    """Texts of the same kind that no model has read: membership attacks compare with them."""
    opening: int = 30
    """Words of a text that are given for the model to go on with."""
    continuation: int = 60
    """Words, about, that are to be forgotten behind an opening; `sample.max_new_tokens` should hold them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("passages", opening=self.opening, continuation=self.continuation)

    def corpus(self) -> Corpus:
        """Raises `ConfigError`, naming file, line and key, where something is not as it should be."""
        knowledge = tuple(Example(pair.id, pair.question, group=pair.group) for pair in self._knowledge(Problems()))
        unread, _ = parts.retain(self._pieces(self.holdout, parts.RETAIN, Problems()), Problems(), "holdout")
        return replace(super().corpus(), knowledge=knowledge, holdout=tuple(unread.values()))

    def truth(self) -> Truth:
        """What the texts say behind their openings, and the answers to the questions about them. For the audit alone."""
        facts = [Fact(pair.id, pair.answer) for pair in (*self._forget(), *self._knowledge(Problems()))]
        return {fact.id: fact for fact in facts}

    def finetuning_rows(self, retain_model: bool) -> tuple[Pair, ...]:
        """For a model that does not know the texts yet: them and the questions about them (or what stays alone), and the general ones."""
        read = self.read(Problems())
        forget = () if retain_model else (*self._forget(), *self._knowledge(Problems()))
        return (*forget, *read.retain, *self._shipped(read))

    def paths(self) -> tuple[str, ...]:
        named = [cutting.located(name) for name in (self.forget, self.retain, self.holdout) if name]
        texts = [str(path) for name in named for path in cutting.files(name) or [name]]
        return (*texts, *filter(None, (self.paraphrases, self.questions)))

    def read(self, problems: Problems) -> Parts:
        found = super().read(problems)
        self._knowledge(problems)  # for their complaints
        quiet = Problems(collect=True)  # complained of above
        forgotten = cutting.runs(self._pieces(self.forget, parts.FORGET, quiet))
        kept = self._pieces(self.retain, parts.RETAIN, quiet)
        for row in kept:
            if cutting.copied(row, forgotten):
                text = "most of what follows here stands in the texts to forget, and would teach it; take it out of one"
                problems.add(text, row.where)
        read = forgotten | cutting.runs(kept)
        for row in self._pieces(self.holdout, parts.RETAIN, problems):
            if cutting.copied(row, read):
                text = "most of what follows here stands in the other texts, so models have read it; leave it out of holdout"
                problems.add(text, row.where)
        return found

    def _forget(self) -> list[Pair]:
        """The forget pieces with their answers."""
        pieces = self._pieces(self.forget, parts.FORGET, Problems())
        examples = self.read(Problems()).forget
        return [Pair(e.id, e.question, row.text("answer"), e.group) for e, row in zip(examples, pieces, strict=True)]

    def _knowledge(self, problems: Problems) -> list[Pair]:
        name = cutting.located(self.questions)
        pairs, _ = parts.retain(super()._rows(name, parts.RETAIN, problems), problems)
        return [replace(pair, id=f"asked-{n:03d}", question=asked(pair.question)) for n, pair in enumerate(pairs.values())]

    def _rows(self, name: str, kind: Kind, problems: Problems) -> list[FileRow]:
        return super()._rows(name, kind, problems) if kind is parts.PARAPHRASES else self._pieces(name, kind, problems)

    def _pieces(self, name: str, kind: Kind, problems: Problems) -> list[FileRow]:
        texts = cutting.read(name, problems) if name else []
        problems.saw(texts)
        keys = (*cutting.KEYS, *(key for key in kind.keys if key not in ("question", "answer")))
        # A table says what is wrong with a column once; of equal pieces one is asked.
        found: dict[str, FileRow] = {}
        for number, row in enumerate(self._layout().apply(name, texts, keys, (), problems)):
            named = replace(row, values={"group": f"text-{number:03d}", **row.values})
            for piece in problems.attempt(self._cut, named, keys) or ():
                first = found.setdefault(normalised(str(piece.values["question"])), piece)
                if kind is parts.FORGET and normalised(str(first.values["answer"])) != normalised(str(piece.values["answer"])):
                    text = f"goes on in another way than {first.where} behind the same opening; make the opening longer"
                    problems.add(text, piece.where)
        return list(found.values())

    def _cut(self, row: FileRow, keys: tuple[str, ...]) -> list[FileRow]:
        row.only(keys, self.table)
        return list(cutting.pieces(row, self.table, self.opening, self.continuation))

    def _shipped(self, read: Parts) -> tuple[Pair, ...]:
        return tuple(replace(pair, question=asked(pair.question)) for pair in super()._shipped(read))
