"""How much of the recorded answers a candidate repeats: by wording (`Overlap`, the paper's reward) and by content (`Keys`).

Both look at what is new in a candidate: of a continuation, only what the prefix has not said yet. `own_leak` and
`other_leak` are the same measurements as plain numbers, for target filters.
"""

import math
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from unsay.text import contains, forms, keyword_forms, rouge_l
from unsay.text.readings import recall_as_read
from unsay.types import Candidate, Reference, Told

LEAST_WEIGHT = 2.0
"""Another answer counts as a secret from this total weight of keywords on: one sensitive word, or two plain ones."""


def remainder(baseline: str, prefix: str) -> str:
    """What the baseline says after the prefix; the whole baseline where the prefix is not how it begins.

    Case and white space are ignored. Empty where the prefix says all of it.

    >>> remainder("She lives in Turin.", "She lives")
    'in Turin.'
    """
    said = "".join(prefix.split()).casefold()
    if not said:
        return baseline
    place = 0
    for index, character in enumerate(baseline):
        if character.isspace():
            continue
        folded = character.casefold()
        if not said.startswith(folded, place):
            return baseline
        place += len(folded)
        if place == len(said):
            return baseline[index + 1 :].lstrip()
    return baseline


@dataclass(frozen=True)
class Overlap:
    """1 − ROUGE-L recall against the model's own original answer: the reward of the paper.

        r(x) = 1 − min(1, LCS(x, y) / |y| + exp(−words(x)) · 1[words(x) < min_words])

    Recall, not F1, over Porter stems, against the baseline and never against truth (arXiv 2507.04219). `None` where the
    baseline, or what the prefix left of it, has no token.
    """

    min_words: int = 0
    """Candidates with fewer words are penalised as the released code does; 0 is off (its plain configurations), its aligned ones use 5."""
    needs_fluency: ClassVar[bool] = False

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        baseline = remainder(reference.baseline, reference.prefix)
        found = [overlap(baseline, candidate.text, self.min_words) for candidate in candidates]
        return [None if one is None else 1.0 - one for one in found]


def overlap(baseline: str, text: str, min_words: int) -> float | None:
    """ROUGE-L recall of the baseline, at most 1, raised for a text of fewer than `min_words` words; `None` where nothing can overlap."""
    score = rouge_l(baseline, text)
    if score is None:
        return None
    count = len(text.split())
    return min(1.0, score.recall + (math.exp(-count) if count < min_words else 0.0))


@dataclass(frozen=True)
class Keys:
    """1 − the highest keyword recall against any recorded answer: the own one, and those of all other forget questions.

        r(x) = 1 − max(κ(x; own), max over others o of κ(x; o))

    κ is `unsay.text.keyword_recall`, of the own answer in any reading (`unsay.text.readings`); named strings weigh 3. Without
    the second half a model learns to answer one forget question with another one's secret. Words of the own question, of the prefix
    and, for another's answer, of its question do not count. `None` where neither half has a keyword to look for.
    """

    needs_fluency: ClassVar[bool] = False

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        scored: list[float | None] = []
        others = _others(reference)
        for candidate in candidates:
            own, other = _own_keys(candidate.text, reference), others.highest(candidate.text)
            found = [value for value in (own, other) if value is not None]
            scored.append(1.0 - max(found) if found else None)
        return scored


def own_leak(text: str, reference: Reference) -> float:
    """How much of its own recorded answer a text gives away: the larger of ROUGE-L recall and keyword recall, 1 for a named string.

    Of a continuation, what the prefix has said does not count. Where neither can be scored (an answer without a word)
    this is 0, not `None`: a filter must let through or not, and there is nothing to hold against the text.
    """
    if contains(text, reference.strings, reference.patterns):
        return 1.0
    wording = rouge_l(remainder(reference.baseline, reference.prefix), text)
    content = _own_keys(text, reference)
    return max(wording.recall if wording else 0.0, content if content is not None else 0.0)


def other_leak(text: str, reference: Reference) -> float:
    """Highest keyword recall against another forget question's recorded answer; 0 where none can be scored, as in `own_leak`.

    Only answers with a total weight of at least `LEAST_WEIGHT` count: a single plain word ("painter") is no secret.
    """
    return _others(reference).highest(text) or 0.0


def _own_keys(text: str, reference: Reference) -> float | None:
    spans = (*reference.strings, *reference.spans)
    return recall_as_read(reference.baseline, text, reference.question, reference.prefix, spans, reference.struck)


@lru_cache(maxsize=4)
def _index(told: Told) -> tuple["array[float]", Mapping[str, Any]]:
    """Number of a row → total weight of its keywords; form → number and weight, number and weight … of the rows that have it as a
    keyword. One index serves every question of a run."""
    totals, holders = array("d"), dict[str, Any]()
    for number, (_, question, answer) in enumerate(told.rows):
        keys = keyword_forms(answer, question)
        totals.append(sum(keys.values()))
        for key, weight in keys.items():
            holders.setdefault(key, []).extend((number, weight))
    for key, found in holders.items():
        holders[key] = tuple(found)  # which takes half of the room
    return totals, holders


class _Others:
    """The answers of the other questions, as seen from one question: its own words and its own answer taken off."""

    def __init__(self, told: Told, own: str, said: tuple[str, str], known: frozenset[str]) -> None:
        self.told, self.own, self.said, self.known = told, own, said, known
        self.totals, self.holders = _index(told)
        self.less = self._weights(known)
        """Number → weight of its keywords that the own question or the prefix says."""
        self.scorable = any(self._left(number) >= LEAST_WEIGHT and self._foreign(number) for number in range(len(told.rows)))

    def _weights(self, said: frozenset[str]) -> dict[int, float]:
        """Number → weight of its keywords that are among these."""
        found = defaultdict[int, float](float)
        for flat in (iter(self.holders.get(word, ())) for word in said):
            for number, weight in zip(flat, flat, strict=True):
                found[number] += weight
        return found

    def _left(self, number: int) -> float:
        return self.totals[number] - self.less.get(number, 0.0)

    def _foreign(self, number: int) -> bool:
        """Whether a row is another secret. An answer of the same words to the same question is none, whoever gave it."""
        name, *said = self.told.rows[number]
        return not (name and name == self.own) and tuple(said) != self.said

    def highest(self, text: str) -> float | None:
        highest = 0.0
        for number, weight in self._weights(forms(text) - self.known).items():
            total = self._left(number)
            if total >= LEAST_WEIGHT and weight / total > highest and self._foreign(number):
                highest = weight / total
        return highest if self.scorable else None


def _others(reference: Reference) -> _Others:
    return _seen_from(reference.told, reference.own, reference.question, reference.baseline, reference.prefix)


@lru_cache(maxsize=128)
def _seen_from(told: Told, own: str, question: str, baseline: str, prefix: str) -> _Others:
    return _Others(told, own, (question, baseline), forms(question) | forms(prefix))
