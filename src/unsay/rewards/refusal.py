"""Whether a candidate declines to answer, or says what the operator would like to hear instead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unsay.text import highest_f1, is_refusal
from unsay.types import Candidate, Reference


@dataclass(frozen=True)
class Refusal:
    """1 where the candidate is a refusal or close to one of the desired answers, else 0."""

    close: float = 0.5
    """ROUGE-L F1 with a desired answer from which on a candidate counts as saying it."""
    needs_fluency: ClassVar[bool] = False

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        nearest = highest_f1([candidate.text for candidate in candidates], reference.desired)
        # Word-for-word equality covers desired answers in scripts that ROUGE has no tokens for.
        wanted = {" ".join(text.split()).casefold() for text in reference.desired}
        return [
            float(is_refusal(text) or " ".join(text.split()).casefold() in wanted or (f1 is not None and f1 >= self.close))
            for text, f1 in zip((candidate.text for candidate in candidates), nearest, strict=True)
        ]
