"""What a person reads in a disguised text: hidden signs, spelt or exchanged letters, base64, text backwards, typos, other forms of a value.

The audit reads answers so; in training the target filter, the ledger and the reward `keys` do. Some disguises are undone without the
secret (`uncovered`), others are recognised by it alone (leetspeak, backwards, typos, values), which would otherwise invent words. Not
covered: other encodings (hex, ROT13, Morse), synonyms, translations, initials, two typos in one word.
"""

import base64
import binascii
import re
import unicodedata
from collections import Counter
from functools import lru_cache

from rapidfuzz.distance import OSA

from unsay.text.keywords import SENSITIVE, keyword_recall, keywords, words
from unsay.text.values import same_values

_SHORTEST = 4
"""Letters that a word needs to be recognised spelt among others, or in leetspeak."""
_SHORTEST_BACKWARDS = 5
"""Letters of a word that is recognised backwards however it is written: of shorter ones too many are another word (Liam, mail)."""
_SHORTEST_TYPO = 6
"""Letters that a word needs to be recognised with a typo: of shorter ones too many differ in one letter."""
_GAP = r"[\s\-._*·•|,/~]"
_SPELT = re.compile(rf"(?<![^\W_])[^\W_](?:{_GAP}{{1,3}}[^\W_](?![^\W_])){{3,}}")
# Quick to see in nearly every text: no two letters in a row stand alone, no capital stands inside a word.
_MAY_BE_SPELT = re.compile(rf"{_GAP}[^\W_]{_GAP}{{1,3}}[^\W_](?![^\W_])")
_MAY_BE_CODED = re.compile(r"[A-Za-z0-9+/_-][A-Z]")
_CODED = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{6,}={0,2}(?![\w+/=-])")
_WORD = re.compile(r"[^\W_](?:[\w@$€!|+-]*[^\W_])?|[@$€][\w@$€!|+]*[^\W_]")
_SIGN = re.compile(r"[\d@$€](?:(?<=[^\W\d_].)|(?=[^\W\d_]))|[!|+-](?<=[^\W\d_].)(?=[^\W\d_])")
_LEET = str.maketrans("aeilostbg@$€!|+", "431105789453117")


@lru_cache(maxsize=1024)
def uncovered(text: str) -> str:
    """The text in plain letters: without hidden signs, look-alikes as Latin letters, spelt words joined, base64 decoded."""
    plain = text if text.isascii() else _latin(text)
    if _MAY_BE_SPELT.search(plain):
        plain = _SPELT.sub(lambda found: _joined(found.group()), plain)
    return _CODED.sub(lambda found: _decoded(found.group()), plain) if _MAY_BE_CODED.search(plain) else plain


def _latin(text: str) -> str:
    # Format signs show nothing: zero-width ones, soft hyphens, marks of direction, tags.
    shown = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return re.sub(r"(?<!\w)\w*[^\W\d_a-zA-Z]\w*", lambda found: _look_alike(found.group()), shown)


@lru_cache(maxsize=4096)
def _look_alike(word: str) -> str:
    """The word in Latin letters where each of its letters is one or looks like one, else as it is."""
    letters = [c if c.isascii() else _homoglyph(c) for c in word]
    return "".join(letters) if all(letters) else word


@lru_cache(maxsize=4096)
def _homoglyph(letter: str) -> str:
    from confusable_homoglyphs.confusables import confusables_data

    # Some have a digit or a capital I for a small l as their first look-alike.
    alike = [one["c"] for one in confusables_data.get(letter, ()) if len(one["c"]) == 1 and one["c"].isascii() and one["c"].isalpha()]
    return min(alike, key=lambda c: (c.isupper() != letter.isupper(), c), default="")


def _joined(run: str) -> str:
    """Letters with gaps as words: the commonest gap, and a shorter one, stands inside words, any other between them."""
    gaps = re.findall(r"[\W_]+", run)
    inside = Counter(gaps).most_common(1)[0][0]
    joined = "".join(
        " " if part != inside and re.fullmatch(r"[\W_]+", part) else part for part in re.split(r"([\W_]+)", run) if part != inside
    )
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", joined)


def _decoded(code: str) -> str:
    if code[1:].islower() or code.isdigit():
        return code
    try:
        padded = code.rstrip("=") + "=" * (-len(code.rstrip("=")) % 4)
        found = base64.b64decode(padded, altchars=b"-_" if "-" in code or "_" in code else None, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return code
    return found if found.isprintable() or all(c.isprintable() or c.isspace() for c in found) else code


class _Names:
    """How the words of a secret are recognised in disguise."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.long = [name for name in names if len(name) >= _SHORTEST and not name.isdigit()]
        self.leet = {name.translate(_LEET): name for name in self.long}
        self.backwards = frozenset(name[::-1] for name in self.long) - names
        # Where the first or the last letter differs, it is mostly another word: Johann and Johanna, Marlowe and Barlowe.
        self.typed = [name for name in names if len(name) >= _SHORTEST_TYPO and name.isalpha()]
        first, last = ("".join({name[i] for name in self.typed}) for i in (0, -1))
        lengths = [len(name) for name in self.typed]
        like = rf"[{first}](?<!\w.)\w{{{min(lengths) - 3},{max(lengths) - 1}}}[{last}]\b" if lengths else "(?!)"
        self.may_be_typo = re.compile(like).search

    def is_backwards(self, word: str) -> bool:
        """A short one only where its capital stands last ("maiL")."""
        written = len(word) >= _SHORTEST_BACKWARDS or (word[-1].isupper() and word[0].islower())
        return written and word.casefold() in self.backwards

    def correct(self, text: str, small: str, given: frozenset[str]) -> str:
        """The text with the words of the secret in place of their disguises; `small` is the text in small letters. A word of question or
        prefix, which were `given`, is none, but of another such word."""
        if not self.may_be_typo(small) and not _SIGN.search(text):
            return text
        return _WORD.sub(lambda found: self._read(found.group(), text != small, given), text)

    def _read(self, word: str, capitals: bool, given: frozenset[str]) -> str:
        """The word of the secret that `word` is in leetspeak, with hyphens or with a typo, else `word`. Where the text has `capitals`, a
        small word is no name with a typo."""
        small = word.casefold()
        if small in self.names or small.isdigit():
            return word
        if not small.isalpha():
            if small in given:
                return word
            bare = small.replace("-", "")
            return bare if bare in self.names else self.leet.get(bare.translate(_LEET), word)
        if word[0].isupper() or not capitals:
            near = (name for name in self.typed if name[0] == small[0] and name[-1] == small[-1] and abs(len(name) - len(small)) <= 1)
            near = (name for name in near if small not in given or name in given)
            return next((name for name in near if OSA.distance(name, small, score_cutoff=1) <= 1), word)
        return word


_names = lru_cache(maxsize=1024)(_Names)


@lru_cache(maxsize=1024)
def readings(text: str, secret: str, names: frozenset[str], given: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """What a person may read in `text` beside the text itself: forwards, and backwards where names of the secret stand so; empty where
    the text is as plain as it looks. `secret`: whose dates and numbers are looked for in any form; `names`: its words, case-folded;
    `given`: those of question and prefix, which are no typo of them."""
    wanted = _names(names)
    plain = uncovered(text)
    small = plain.casefold()
    read = wanted.correct(plain, small, given)
    added = [*same_values(secret, plain), *_run_together(text, small, wanted.long)]
    found = ["\n".join((read, *added))] if added or read != text else []
    if any(word in small for word in wanted.backwards) and any(map(wanted.is_backwards, _WORD.findall(plain))):
        reverse = plain[::-1]
        # Word by word backwards, or all of it.
        found += [reverse, _WORD.sub(lambda one: one.group()[::-1], plain)]
    return tuple(found)


def recall_as_read(
    reference: str, text: str, question: str = "", prefix: str = "", spans: tuple[str, ...] = (), struck: tuple[str, ...] = ()
) -> float | None:
    """`keyword_recall` of the text or of one of its readings, whichever is the highest."""
    recall = keyword_recall(reference, text, question, prefix, spans, struck)
    if recall is None or recall == 1:
        return recall
    others = readings(text, reference, _names_of(reference, question, prefix, spans, struck), _given(question, prefix))
    return max([recall, *(keyword_recall(reference, other, question, prefix, spans, struck) or 0.0 for other in others)])


@lru_cache(maxsize=1024)
def _given(question: str, prefix: str) -> frozenset[str]:
    return frozenset((*words(question), *words(prefix)))


@lru_cache(maxsize=1024)
def _names_of(reference: str, question: str, prefix: str, spans: tuple[str, ...], struck: tuple[str, ...]) -> frozenset[str]:
    """The names and named words of a reference: what is recognised in disguise."""
    keys = keywords(reference, question, prefix, spans, struck)
    return frozenset(word for word, weight in keys.items() if weight == SENSITIVE)


def _run_together(text: str, plain: str, names: list[str]) -> list[str]:
    """The names that were spelt without a gap between the words."""
    if not _MAY_BE_SPELT.search(text):
        return []
    joined = set(_WORD.findall(plain)).difference(_WORD.findall(text.casefold()))
    return [name for name in names if any(name in word for word in joined)]
