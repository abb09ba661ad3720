"""How much of the recorded answers a candidate repeats: by wording (`Overlap`, the paper's reward) and by content (`Keys`).

Both look at what is new in a candidate: of a continuation, only what the prefix has not said yet. `own_leak` and
`other_leak` are the same measurements as plain numbers, for target filters.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

from unsay.text import contains, forms, keyword_forms, keyword_recall, rouge_l
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

    κ is `unsay.text.similarity.keyword_recall`; named strings weigh 3. Without the second half a model learns to answer one forget
    question with another one's secret. Words of the own question, of the prefix and, for another's answer, of its
    question do not count. `None` where neither half has a keyword to look for.
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
    return keyword_recall(reference.baseline, text, reference.question, reference.prefix, spans, reference.struck)


class _Index(NamedTuple):
    """Where each keyword of many answers stands. One index serves every question of a run."""

    own: Mapping[str, list[int]]
    """Id → the numbers of its rows."""
    same: Mapping[tuple[str, str], list[int]]
    """(question, answer) → the numbers of the rows that say so."""
    totals: tuple[float, ...]
    """Number → total weight of its keywords."""
    holders: Mapping[str, tuple[tuple[int, float], ...]]
    """Form → (number, weight) of the answers that have it as a keyword."""


@lru_cache(maxsize=4)
def _index(told: Told) -> _Index:
    own: dict[str, list[int]] = defaultdict(list)
    same: dict[tuple[str, str], list[int]] = defaultdict(list)
    totals = []
    holders: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for number, (name, question, answer) in enumerate(told.rows):
        if name:
            own[name].append(number)
        same[question, answer].append(number)
        keys = keyword_forms(answer, question)
        totals.append(sum(keys.values()))
        for key, weight in keys.items():
            holders[key].append((number, weight))
    return _Index(dict(own), dict(same), tuple(totals), {key: tuple(found) for key, found in holders.items()})


class _Others:
    """The answers of the other questions, as seen from one question: its own words and its own answer taken off."""

    def __init__(self, index: _Index, own: frozenset[int], known: frozenset[str]) -> None:
        self.index, self.own, self.known = index, own, known
        self.less: dict[int, float] = defaultdict(float)
        """Number → weight of its keywords that the own question or the prefix says."""
        for word in known:
            for number, weight in index.holders.get(word, ()):
                self.less[number] += weight
        totals = (total - self.less.get(number, 0.0) for number, total in enumerate(index.totals) if number not in own)
        self.any = any(total >= LEAST_WEIGHT for total in totals)

    def highest(self, text: str) -> float | None:
        if not self.any:
            return None
        said: dict[int, float] = defaultdict(float)
        for word in forms(text) - self.known:
            for number, weight in self.index.holders.get(word, ()):
                said[number] += weight
        rest = ((weight, self.index.totals[n] - self.less.get(n, 0.0)) for n, weight in said.items() if n not in self.own)
        return max((weight / total for weight, total in rest if total >= LEAST_WEIGHT), default=0.0)


def _others(reference: Reference) -> _Others:
    return _seen_from(reference.told, reference.own, reference.question, reference.baseline, reference.prefix)


@lru_cache(maxsize=128)
def _seen_from(told: Told, own: str, question: str, baseline: str, prefix: str) -> _Others:
    index = _index(told)
    # An answer of the same words to the same question is no other secret, whoever gave it.
    mine = frozenset((*index.own.get(own, ()), *index.same.get((question, baseline), ())))
    return _Others(index, mine, forms(question) | forms(prefix))
