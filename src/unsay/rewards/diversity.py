"""How unlike the other candidates of the same question a candidate is: 1 − self-BLEU."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nltk.util import ngrams

from unsay.text import words
from unsay.types import Candidate, Reference


@dataclass(frozen=True)
class Diversity:
    """1 − BLEU of the candidate with all other candidates as its references (self-BLEU, Zhu et al. 2018).

    `None` for a candidate without a word, and where no other candidate has one.
    """

    order: int = 4
    """Longest n-gram."""
    needs_fluency: ClassVar[bool] = False

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        texts = [words(candidate.text) for candidate in candidates]
        scored: list[float | None] = []
        for i, text in enumerate(texts):
            others = [other for j, other in enumerate(texts) if j != i and other]
            scored.append(1.0 - bleu(text, others, self.order) if text and others else None)
        return scored


def bleu(answer: Sequence[str], references: Sequence[Sequence[str]], order: int = 4) -> float:
    """Sentence BLEU (Papineni et al. 2002) in [0, 1], over case-folded words.

        BLEU = min(1, exp(1 − r/c)) · (p_1 · … · p_N)^(1/N)

    c is the length of the answer, r the closest reference length (the shorter one of two), p_n the clipped n-gram
    precision, for n ≥ 2 smoothed as (hits + 1) / (n-grams + 1) (Lin & Och 2004). N is `order`, or the length of a shorter
    answer. An empty answer scores 0.
    """
    length = len(answer)
    if not length or not references:
        return 0.0
    top = min(order, length)
    logs = 0.0
    for n in range(1, top + 1):
        grams = Counter(ngrams(answer, n))
        most: Counter[tuple[str, ...]] = Counter()
        for other in references:
            most |= Counter(ngrams(other, n))
        hits, total, extra = sum((grams & most).values()), length - n + 1, 0 if n == 1 else 1
        if hits + extra == 0:
            return 0.0
        logs += math.log((hits + extra) / (total + extra))
    closest = min((len(other) for other in references), key=lambda size: (abs(size - length), size))
    return math.exp(min(0.0, 1.0 - closest / length) + logs / top)
