"""Whether a candidate answers this question: it speaks of what was asked, and does not say what other questions settled on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unsay.text import content_words, form, forms, highest_f1
from unsay.types import Candidate, Reference


@dataclass(frozen=True)
class Topic:
    """Share of the question's content words that occur in the prefix and the candidate together.

    Compared by form ("lives" and "live" are one word). `None` where the question has no content word.
    """

    needs_fluency: ClassVar[bool] = False

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        asked = {form(word) for word in content_words(reference.question)}
        if not asked:
            return [None] * len(candidates)
        prefix = forms(reference.prefix)
        return [len(asked & (prefix | forms(candidate.text))) / len(asked) for candidate in candidates]


@dataclass(frozen=True)
class Distinct:
    """1 − the highest ROUGE-L F1 against what other questions were last trained to say.

    It keeps one convenient sentence from becoming the answer to everything. `None` where nothing has settled yet, and for
    a candidate without a token, which would otherwise pass for original.
    """

    needs_fluency: ClassVar[bool] = False

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        closest = highest_f1([candidate.text for candidate in candidates], reference.settled)
        return [None if value is None else 1.0 - value for value in closest]
