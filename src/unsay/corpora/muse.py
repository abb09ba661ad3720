"""MUSE: news or books that a model was trained on, as a publisher would have them removed, and questions about them.

Source: Shi et al., *MUSE: Machine Unlearning Six-Way Evaluation for Language Models*, arXiv 2407.06460. The data (CC BY 4.0) are not part
of the package: give the folder of one corpus, laid out as the authors' repository has it. A file that is missing leaves its measure out.

    verbmem/forget.json           prompt, gt            what is forgotten: the first is asked, the second must not come
    knowmem/forget_qa.json        question, answer      asked, never trained on; ten more in forget_qa_icl.json are shown before
    knowmem/retain2_qa.json       question, answer      utility; ten more in retain2_qa_icl.json (`retain_qa…` in newer copies)
    raw/retain1.json              texts                 training rows that stay, cut by `opening` and `continuation`
    privleak/holdout.json         texts                 what no model has read

Departures: 1. what is trained on are the openings of `verbmem`, not all of `raw/forget`; 2. the rows that stay are retain1's and the
package's general questions; 3. scaling and sequences of requests are left to the recipe (`record.earlier`). docs/probes.md has the probes.
"""

import json
import os
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

from unsay.config import ConfigError
from unsay.config.build import not_negative, one_of, positive
from unsay.corpora import cutting, formats, general
from unsay.corpora.passages import asked
from unsay.corpora.rows import FileRow, Problems
from unsay.types import Corpus, Example, Fact, Pair, Truth

VERBATIM, KNOWLEDGE = "verbmem", "knowmem"


@dataclass(frozen=True)
class Muse:
    """MUSE's news or books and the questions about them (the benchmark's files are needed)."""

    public: ClassVar[bool] = True
    raw: ClassVar[bool] = True

    data: str = ""
    """Folder of one corpus, which holds `verbmem/`, `knowmem/` and the others; empty takes the environment's `UNSAY_DATA`."""
    forget: str = VERBATIM
    """What is forgotten: the texts behind the openings of `verbmem`, or the answers to the questions of `knowmem`."""
    limit: int = 0
    """Most openings or questions of each file, from the first on; 0 takes all."""
    retain: int = 400
    """Most pieces of retain texts to train on, and most unread ones."""
    opening: int = 150
    """Words of a retain text that are given for the model to go on with."""
    continuation: int = 90
    """Words, about, behind an opening."""

    def __post_init__(self) -> None:
        one_of("muse.forget", self.forget, (VERBATIM, KNOWLEDGE))
        not_negative("muse", limit=self.limit, retain=self.retain)
        positive("muse", opening=self.opening, continuation=self.continuation)

    def corpus(self) -> Corpus:
        """Everything but the forget answers. Raises `ConfigError` where there is nothing to forget or a row is not as it should be."""
        parts = {VERBATIM: self._verbatim(), KNOWLEDGE: self._knowledge("forget_qa")}
        examples = {name: tuple(Example(pair.id, pair.question) for pair in pairs) for name, pairs in parts.items()}
        if not examples[self.forget]:
            raise ConfigError(
                f"{self._folder()} has no {self.forget}/ with something to forget; set muse.forget to the other, or muse.data"
            )
        kept, mixed = self._texts("raw", "retain1"), _general()
        useful = self._knowledge("retain2_qa", "retain_qa")
        return Corpus(
            name=f"muse-{self._folder().name}",
            forget=examples[self.forget],
            knowledge=examples[KNOWLEDGE] if self.forget == VERBATIM else (),
            retain=(*kept, *mixed),
            utility={name: pairs for name, pairs in (("texts", kept), ("general", mixed)) if pairs},
            utility_heldout={"knowledge": useful} if useful else {},
            holdout=self._texts("privleak", "holdout"),
            general=mixed,
        )

    def truth(self) -> Truth:
        """What the texts say, and the answers to the questions about them."""
        known = self._knowledge("forget_qa")
        pairs = (*self._verbatim(), *known) if self.forget == VERBATIM else known
        return {pair.id: Fact(pair.id, pair.answer) for pair in pairs}

    def finetuning_rows(self, retain_model: bool) -> tuple[Pair, ...]:
        """For a model that was not trained on the corpus: its pieces and questions, without those of the forget set."""
        forget = () if retain_model else (*self._verbatim(), *self._knowledge("forget_qa"))
        return (*forget, *self._texts("raw", "retain1"), *self._knowledge("retain2_qa", "retain_qa"), *_general())

    def _verbatim(self) -> tuple[Pair, ...]:
        rows = self._rows(VERBATIM, "forget")[: self.limit or None]
        # Both come without the white space between them; what follows goes on, and the space says so.
        return tuple(Pair(f"{VERBATIM}-{n:03d}", row.text("prompt").rstrip(), f"{row.text('gt')} ") for n, row in enumerate(rows))

    def _knowledge(self, *names: str) -> tuple[Pair, ...]:
        name = next((name for name in names if self._rows(KNOWLEDGE, name)), names[0])
        shown = "".join(f"{asked(row.text('question'))} {row.text('answer')}\n\n" for row in self._rows(KNOWLEDGE, f"{name}_icl"))
        rows = self._rows(KNOWLEDGE, name)[: self.limit or None]
        return tuple(Pair(f"{name}-{n:03d}", asked(row.text("question"), shown), row.text("answer")) for n, row in enumerate(rows))

    def _texts(self, folder: str, name: str) -> tuple[Pair, ...]:
        texts = [row.text("text") for row in self._rows(folder, name)]
        pieces = ((text[a:b], text[c:d]) for text in texts for a, b, c, d in cutting.cut(text, self.opening, self.continuation))
        return tuple(Pair(f"{name}-{n:04d}", *piece) for n, piece in enumerate(islice(pieces, self.retain)))

    def _rows(self, folder: str, name: str) -> list[FileRow]:
        """The rows of a file, a bare text as one with `text`; none where there is no such file."""
        path = self._folder() / folder / name
        whole = path.with_suffix(".txt")
        if whole.is_file():
            return [FileRow(str(whole), {"text": formats.decoded(whole)})]
        path = path.with_suffix(".json")
        if not path.is_file():
            return []
        try:
            found = json.loads(formats.decoded(path))
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            return [FileRow(f"{path} text {number}", {"text": one}) for number, one in enumerate(found)]
        return formats.read(str(path), Problems())

    def _folder(self) -> Path:
        given = self.data or os.environ.get("UNSAY_DATA", "")
        tried = (Path(given).expanduser(), Path(given).expanduser() / "muse_news") if given else ()
        for folder in tried:
            if any((folder / part).is_dir() for part in (VERBATIM, KNOWLEDGE)):
                return folder
        where = f"{given} has neither {VERBATIM}/ nor {KNOWLEDGE}/" if given else "the corpus muse does not come with the package"
        raise ConfigError(f"{where}; give the folder of MUSE's news or books: --data DIR, UNSAY_DATA or --set muse.data=DIR")


def _general() -> tuple[Pair, ...]:
    return tuple(replace(pair, question=asked(pair.question)) for pair in general.load())
