"""Texts as rows that a run can forget: the opening of a stretch of text is what is asked, and what comes next is the answer.

    The ferry | left at nine with the mayor | aboard, and nobody …      opening = 2 words, continuation = 6 words
     question             answer
            the mayor aboard, … is the next question, so that every word past the first opening is in one answer

Words are what white space parts. A text in a script without spaces is cut by hand: a row with `opening` and `continuation`.
"""

import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from unsay.config import ConfigError
from unsay.corpora import formats, rows
from unsay.corpora.rows import FileRow, Problems

KEYS = ("text", "opening", "continuation")
SHIPPED = "news:"
"""Before the name of a set of the package's own invented news: `news:forget`, `news:retain`, `news:questions`, `news:holdout`."""
RUN = 8
"""Words in a row that two texts share only where one is a copy, or both have a by-line or a phrase in common."""
NEWS = Path(__file__).parent / "news"


def located(name: str) -> str:
    """The file or folder that a name means."""
    return str(NEWS / f"{name.removeprefix(SHIPPED)}.jsonl") if name.startswith(SHIPPED) else name


def files(name: str) -> tuple[Path, ...]:
    """The .txt files in a folder and the folders below it, or the one that is named; none where rows are meant."""
    path = Path(name).expanduser()
    found = sorted(path.rglob("*.txt")) if path.is_dir() else [path] if path.suffix.lower() == ".txt" else []
    return tuple(one for one in found if not any(part.startswith(".") for part in one.relative_to(path).parts))


def read(name: str, problems: Problems) -> list[FileRow]:
    """A row for each text: a whole .txt file, or a row of what `unsay.corpora.formats` reads. Complaints go to `problems`."""
    name = located(name)
    texts = files(name)
    if not texts:
        return formats.read(name, problems)
    made = [problems.attempt(_row, path) for path in texts]
    return [row for row in made if row is not None]


def _row(path: Path) -> FileRow:
    text = formats.decoded(path)
    if not rows.says(text):
        raise ConfigError(f"{path} is empty; fill it, or take it out of the folder")
    return FileRow(str(path), {"text": text, "group": path.stem})


def cut(text: str, opening: int, continuation: int) -> list[tuple[int, int, int, int]]:
    """Where pieces stand in a text: start and end of each opening, start and end of its answer. Empty where the text has no more
    words than an opening.

    What follows the first opening is parted into answers of about `continuation` words, all of one length; each opening is the
    `opening` words before its answer. An answer that the text goes on behind ends in the white space there.

    >>> text = "a b c d e f g"
    >>> [(text[a:b], text[c:d]) for a, b, c, d in cut(text, 2, 3)]
    [('a b', ' c d '), ('c d', ' e f g')]
    """
    words = [found.span() for found in re.finditer(r"\S+", text)]
    rest = len(words) - opening
    if rest < 1:
        return []
    pieces = max(1, round(rest / continuation))
    at = [opening + rest * number // pieces for number in range(pieces + 1)]
    return [
        (words[first - opening][0], words[first - 1][1], words[first - 1][1], words[last][0] if last < len(words) else words[-1][1])
        for first, last in pairwise(at)
    ]


def pieces(row: FileRow, table: str, opening: int, continuation: int) -> Iterator[FileRow]:
    """The rows, with `question` and `answer`, that one text is cut into; a row that was cut by hand is one. Raises `ConfigError`."""
    rest = {key: value for key, value in row.values.items() if key not in KEYS}
    if "text" not in row.values:
        if "opening" not in row.values:
            raise row.error("has no 'text', nor an 'opening' with its 'continuation'")
        yield replace(row, values={**rest, "question": row.text("opening").rstrip(), "answer": row.text("continuation")})
        return
    if both := [key for key in KEYS[1:] if key in row.values]:
        raise row.error(f"has 'text' and {both[0]!r}; a text is cut here, or by hand: keep one of the two")
    text = row.text("text")
    places = cut(text, opening, continuation)
    if not places:
        raise row.error(
            f"holds no more words than an opening takes ({len(text.split())} of {opening}), so nothing is left to follow; lower "
            f"{table}.opening, cut it by hand into 'opening' and 'continuation', or take it out"
        )
    for number, (start, end, begin, stop) in enumerate(places):
        named = {"id": f"{row.label('id')}-{number}"} if "id" in rest and len(places) > 1 else {}
        where = f"{row.where}:{text.count(chr(10), 0, start) + 1}" if row.where.endswith(".txt") else row.where
        yield replace(row, where=where, values={**rest, **named, "question": text[start:end], "answer": text[begin:stop]})


def runs(found: Iterable[FileRow]) -> set[str]:
    """Every `RUN` words in a row of these pieces, opening and answer, whatever white space and capitals."""
    return {run for row in found for run in _runs(f"{row.values['question']} {row.values['answer']}")}


def copied(row: FileRow, others: Set[str]) -> bool:
    """Whether most of a piece's answer stands in other texts too."""
    own = _runs(str(row.values["answer"]))
    return 2 * sum(run in others for run in own) > len(own)


def _runs(text: str) -> list[str]:
    words = text.casefold().split()
    return [" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
