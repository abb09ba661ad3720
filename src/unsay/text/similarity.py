"""ROUGE-L, and what can be said of an answer from its text alone: pure strings, no torch.

`rouge_l` gives the numbers of Google's `rouge_score` package (stemmer on) to the bit, faster. One departure:
where the reference has no token, `rouge_score` says 0 and this says `None`, unscored; its tokenizer keeps `[a-z0-9]` only,
so every text in another script would otherwise look perfectly forgotten. Words, keywords and spans live in `unsay.text.keywords`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from rapidfuzz import process
from rapidfuzz.distance import LCSseq

from unsay.text.keywords import stem

_TOKEN = re.compile(r"[a-z0-9]+")
_STEMS = 1 << 16
"""Stems whose characters are remembered from one comparison to the next."""
_FOURFOLD = re.compile(r"(.{1,8}?)\1{3}", re.DOTALL)


class RougeL(NamedTuple):
    recall: float
    precision: float
    f1: float


class _Letters(dict[str, str]):
    """Token of `rouge_score` (lower case, a run of [a-z0-9]) → one character that stands for its Porter stem: rapidfuzz compares
    strings of them several times faster than lists."""

    def __init__(self) -> None:
        self.stems: dict[str, str] = {}

    def __missing__(self, token: str) -> str:
        letter = self.stems.setdefault(stem(token), chr(len(self.stems)))
        self[token] = letter
        return letter

    def make_room(self) -> None:
        """Begin anew before the table takes much room (and long before the 1,114,112 characters run out). Not between two texts that are
        compared."""
        if len(self.stems) > _STEMS:
            self.clear()
            self.stems.clear()
            _spelled.cache_clear()


_LETTERS = _Letters()


@lru_cache(maxsize=4096)
def _spelled(text: str) -> str:
    return "".join(map(_LETTERS.__getitem__, _TOKEN.findall(text.lower())))


def rouge_l(reference: str, answer: str) -> RougeL | None:
    """ROUGE-L (Lin 2004) of an answer, with L the longest common subsequence of stems, equal to `rouge_score` to the bit.

        recall = L / |reference|    precision = L / |answer|    F1 = 2PR / (P + R)

    `None` where the reference has no token: unscored. An answer without a token scores 0.
    """
    _LETTERS.make_room()
    wanted, given = _spelled(reference), _spelled(answer)
    if not wanted:
        return None
    if not given:
        return RougeL(0.0, 0.0, 0.0)
    return _scores(int(LCSseq.similarity(wanted, given)), len(wanted), len(given))


def _scores(common: int, wanted: int, given: int) -> RougeL:
    recall, precision = common / wanted, common / given
    # The order of the product is rouge_score's: another order differs in the last bit.
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    return RougeL(recall, precision, f1)


def likeness(reference: str, text: str) -> float:
    """ROUGE-L F1 of two texts; 0 where it is unscored."""
    return score.f1 if (score := rouge_l(reference, text)) else 0.0


def highest_f1(answers: Sequence[str], references: Sequence[str]) -> list[float | None]:
    """For each answer the highest ROUGE-L F1 against any of the references; `None` where either side has no token. All pairs at once:
    320 answers against 400 references take a fraction of a second."""
    _LETTERS.make_room()
    given, wanted = [_spelled(answer) for answer in answers], [text for text in map(_spelled, references) if text]
    if not wanted or not given:
        return [None] * len(given)
    common = process.cdist(given, wanted, scorer=LCSseq.similarity)
    lengths = [len(text) for text in wanted]
    return [
        max(_scores(int(c), n, len(text)).f1 for c, n in zip(row, lengths, strict=True)) if text else None
        for text, row in zip(given, common, strict=True)
    ]


def begins_with(text: str, beginnings: Iterable[str]) -> bool:
    """Whether the text begins with one of them, whatever its case and whatever marks come first. Nothing begins with a blank text."""
    whole, unmarked = text.casefold(), _unmarked(text)
    starts = [start.casefold() for start in beginnings if start.strip()]
    return any(whole.startswith(start) or unmarked.startswith(_unmarked(start) or start) for start in starts)


def _unmarked(text: str) -> str:
    return re.sub(r"^[\W_]+", "", text.casefold())


@lru_cache(maxsize=4096)
def _finder(string: str) -> re.Pattern[str]:
    return re.compile(r"\s*".join(map(re.escape, _normal(string).split())))


@lru_cache(maxsize=4096)
def squeezed(text: str) -> str:
    """The text without what `contains` does not look at: case, compatibility characters, white space."""
    return "".join(_normal(text).split())


def normalised(text: str) -> str:
    """What two spellings of one text share: compatibility characters, case and white space do not count."""
    return " ".join(_normal(text).split())


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def contains(text: str, strings: Sequence[str] = (), patterns: Sequence[str] = ()) -> bool:
    """Whether the text contains a named string (case ignored; a space in it matches any white space or none) or matches a pattern.

    Strings match inside words too: "Turin" is found in "Turinese". An empty string matches nothing. Patterns are Python
    regular expressions, searched with case ignored. Raises `ValueError` on an invalid one, without quoting it.
    """
    # Quick to see for nearly every string that it cannot be there: compiling its pattern takes a thousand times as long.
    tight = squeezed(text) if strings else ""
    likely = [string for string in strings if squeezed(string) and squeezed(string) in tight]
    if likely:
        plain = _normal(text)
        if any(_finder(string).search(plain) for string in likely):
            return True
    return next(_found(text, patterns), None) is not None


def matches(text: str, patterns: Sequence[str]) -> set[tuple[int, str]]:
    """What in the text fits which pattern, as `contains` looks for it; case and white space at the ends put aside."""
    return {(number, found.group().strip().casefold()) for number, found in _found(text, patterns)}


def _found(text: str, patterns: Sequence[str]) -> Iterator[tuple[int, re.Match[str]]]:
    for number, pattern in enumerate(patterns, start=1):
        try:
            yield from ((number, found) for found in (re.finditer(pattern, text, re.IGNORECASE) if pattern else ()))
        except re.error as error:
            raise ValueError(f"pattern number {number} is not a regular expression: {error.msg}") from None


def repetitive(items: Sequence[Any]) -> bool:
    """Whether a sequence of tokens (ids or strings) is stuck: one item stands 4 times in a row, or a phrase of 2 to 8 items 4 times; or,
    from 24 items on, fewer than half of the trigrams are distinct. Strings of one digit may repeat up to 7 times in a row: 10000000 is a
    number. Ids cannot show that they are digits, so hand decoded tokens in where numbers matter."""
    # Quick to see in nearly every text: no stretch of 1 to 8 items stands there 4 times.
    if _FOURFOLD.search(spelled(items)[0]) and _stuck(items):
        return True
    n = len(items)
    if n < 24:
        return False
    trigrams = {(items[i], items[i + 1], items[i + 2]) for i in range(n - 2)}
    return len(trigrams) < 0.5 * (n - 2)


def _stuck(items: Sequence[Any]) -> bool:
    n = len(items)
    for period in range(1, 9):
        run = 0
        for i in range(period, n):
            run = run + 1 if items[i] == items[i - period] else 0
            digits = isinstance(items[i], str) and items[i].strip().isdigit() and len(items[i].strip()) == 1
            limit = 7 if period == 1 and digits else 3
            # A period of single digits (121212…) or of one digit is the business of period 1.
            same = period > 1 and all(items[i - j] == items[i] for j in range(period))
            if run >= limit * period and not same:
                return True
    return False


def spelled(*texts: Sequence[Any]) -> list[str]:
    """Sequences of words or ids as strings of one character each: looking for a stretch is then left to C."""
    letters: dict[Any, str] = {}
    return ["".join([letters.setdefault(item, chr(len(letters))) for item in text]) for text in texts]


@lru_cache(maxsize=8192)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0].removesuffix("-").removeprefix("FULLWIDTH ")


def alphabet(text: str) -> Mapping[str, float]:
    """Script → share of the letters of `text`, by Unicode name ("LATIN", "CYRILLIC", "CJK", …); empty without letters."""
    counts = Counter(_script(letter) for letter in unicodedata.normalize("NFKC", text) if letter.isalpha())
    total = sum(counts.values())
    return {script: count / total for script, count in counts.items()}


def off_alphabet(text: str, like: str) -> bool:
    """Whether more than a fifth of the letters stand in scripts that make up less than 2 % of `like`; not where that has no letter. A
    text with neither letter nor digit is off: it says nothing."""
    usual = {script for script, share in alphabet(like).items() if share >= 0.02}
    if not usual:
        return False
    if not any(character.isalnum() for character in text):
        return True
    return sum(share for script, share in alphabet(text).items() if script not in usual) > 0.2
