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
from unsay.types import Candidate, Reference

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
    """Where each keyword of a set of answers stands. One index serves every question of a run."""

    place: Mapping[tuple[str, str], int]
    """(answer, question) → number."""
    totals: tuple[float, ...]
    """Number → total weight of its keywords."""
    holders: Mapping[str, tuple[tuple[int, float], ...]]
    """Form → (number, weight) of the answers that have it as a keyword."""


@lru_cache(maxsize=64)
def _index(answers: frozenset[tuple[str, str]]) -> _Index:
    place = {pair: number for number, pair in enumerate(sorted(answers))}
    totals = []
    holders: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for (answer, question), number in place.items():
        keys = keyword_forms(answer, question)
        totals.append(sum(keys.values()))
        for key, weight in keys.items():
            holders[key].append((number, weight))
    return _Index(place, tuple(totals), {key: tuple(found) for key, found in holders.items()})


class _Others:
    """The answers of the other questions, as seen from one question: its own words and its own answer taken off."""

    def __init__(self, index: _Index, own: int, known: frozenset[str]) -> None:
        self.index, self.own, self.known = index, own, known
        self.less: dict[int, float] = defaultdict(float)
        """Number → weight of its keywords that the own question or the prefix says."""
        for word in known:
            for number, weight in index.holders.get(word, ()):
                self.less[number] += weight
        totals = (total - self.less.get(number, 0.0) for number, total in enumerate(index.totals) if number != own)
        self.any = any(total >= LEAST_WEIGHT for total in totals)

    def highest(self, text: str) -> float | None:
        if not self.any:
            return None
        said: dict[int, float] = defaultdict(float)
        for word in forms(text) - self.known:
            for number, weight in self.index.holders.get(word, ()):
                said[number] += weight
        said.pop(self.own, None)
        rest = ((weight, self.index.totals[number] - self.less.get(number, 0.0)) for number, weight in said.items())
        return max((weight / total for weight, total in rest if total >= LEAST_WEIGHT), default=0.0)


def _others(reference: Reference) -> _Others:
    questions = reference.other_questions or ("",) * len(reference.others)
    return _seen_from((reference.baseline, reference.question), reference.prefix, reference.others, questions)


@lru_cache(maxsize=1024)
def _seen_from(own: tuple[str, str], prefix: str, others: tuple[str, ...], questions: tuple[str, ...]) -> _Others:
    # The own answer goes into the index too, and is skipped when asked: then all questions of a run share one index,
    # where an index for each of them would hold the same words once per question.
    index = _index(frozenset((*zip(others, questions, strict=True), own)))
    return _Others(index, index.place[own], forms(own[1]) | forms(prefix))
