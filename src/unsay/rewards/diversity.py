"""How unlike the other candidates of the same question a candidate is: 1 − self-BLEU."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from unsay.text import words
from unsay.types import Candidate, Reference

_ORDER = 4
"""Words of the longest n-gram."""


@dataclass(frozen=True)
class Diversity:
    """1 − BLEU of the candidate with all other candidates as its references (self-BLEU, Zhu et al. 2018), over case-folded words.

    nltk's sentence BLEU (Papineni et al. 2002), smoothed as (hits + 1) / (n-grams + 1) for n ≥ 2 (Lin & Och 2004), with n-grams up
    to four words, or to the length of a shorter candidate. `None` for a candidate without a word, and where no other candidate has one.
    """

    needs_fluency: ClassVar[bool] = False

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        texts, smoothed = [words(candidate.text) for candidate in candidates], SmoothingFunction().method2
        scored: list[float | None] = []
        for i, text in enumerate(texts):
            others = [other for j, other in enumerate(texts) if j != i and other]
            longest = min(_ORDER, len(text))
            same = sentence_bleu(others, text, [1 / longest] * longest, smoothed) if text and others else None
            scored.append(None if same is None else 1.0 - float(same))
        return scored
