"""Text that has nothing to do with any secret: what the drift probe reads and an attacker may fine-tune on.

WikiText-2 (the tokenised variant, in ordinary spelling) where `UNSAY_DATA` names a folder with it, else prose of the package.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from unsay.corpora import general
from unsay.lm.encode import Encoder
from unsay.lm.rows import Row
from unsay.probes.scoring import spread
from unsay.text import is_refusal
from unsay.types import Case, Pair

WIKITEXT, BUILT_IN = "wikitext", "built-in"
ROWS, WORDS = 32, 32
"""Most general questions that an attacker trains on, and as many pieces of text; words in a piece."""
_SPELLING = (
    (r" @([-,.])@ ", r"\1"),  # tokenised numbers and compounds: 1 @,@ 200
    (r" ([,.:;!?)\]%]|'s\b|'t\b|n't\b)", r"\1"),
    (r"([(\[$£]) ", r"\1"),
    (r'" ([^"]*) "', r'"\1"'),
)


def read() -> tuple[str, list[str]]:
    """The name of the text and its paragraphs: the test part of WikiText-2 where it is there, else the built-in text."""
    folder = os.environ.get("UNSAY_DATA")
    path = Path(folder or "") / "wikitext-2" / "test.txt"
    if not folder or not path.is_file():
        return BUILT_IN, built_in()
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return WIKITEXT, [plain for line in lines if line and not line.startswith("=") and (plain := _plain(line))]


def built_in() -> list[str]:
    """The paragraphs of the package's own text."""
    return Path(__file__).with_name("unrelated.txt").read_text(encoding="utf-8").strip().split("\n\n")


def windows(paragraphs: Sequence[str], size: int) -> list[str]:
    """Pieces of `size` words, none across two paragraphs; a rest of less than half of that is dropped."""
    found = []
    for paragraph in paragraphs:
        parts = paragraph.split()
        found += [" ".join(parts[start : start + size]) for start in range(0, len(parts), size) if 2 * (len(parts) - start) >= size]
    return found


def harmless(case: Case) -> list[Pair]:
    """Questions that may be shown to anybody: what the corpus retains, without refusals; else the package's general ones."""
    pairs = [pair for pair in (*case.corpus.retain, *case.corpus.general) if not is_refusal(pair.answer)]
    return pairs or list(general.load())


def rows(encoder: Encoder) -> list[Row]:
    """What an attacker without any secret can fine-tune on: general questions with their answers, and pieces of the built-in text."""
    asked = [encoder.pair(pair.question, pair.answer) for pair in spread(general.load(), ROWS)]
    told = [encoder.pair(None, text) for text in spread(windows(built_in(), WORDS), ROWS)]
    return [row for row in (*asked, *told) if fits(encoder, row)]


def fits(encoder: Encoder, row: Row) -> bool:
    """Whether the model can read as many tokens."""
    return encoder.room is None or row.length <= encoder.room


def _plain(line: str) -> str:
    """A line of WikiText as a person would write it; sentences with an unknown word are left out."""
    sentences = [sentence for sentence in re.split(r"(?<= [.!?]) ", line) if "<unk>" not in sentence]
    text = " ".join(sentences)
    for pattern, replacement in _SPELLING:
        text = re.sub(pattern, replacement, text)
    return text
