"""The gate: which candidates may become targets at all. What fails here cannot win, however good its reward.

A target must not carry the secret it is meant to remove (promise 2), must not be another question's secret, and must be
an answer a person could have given: the cheapest way to share no word with the truth is to say nothing, or commas.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unsay.rewards.overlap import other_leak, remainder
from unsay.text import contains, key_recall, off_alphabet, repetitive, rouge_l, words
from unsay.types import Candidate, Reference


@dataclass(frozen=True)
class Gate:
    """Thresholds for one reference; see the knobs of the same names on `PartialModelCollapse`."""

    reference: Reference
    max_leak: float
    max_key_recall: float
    max_other_leak: float
    min_words: int

    def passed(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return [c for c in candidates if self.sensible(c) and not self.leaks(c.text)]

    def sensible(self, candidate: Candidate) -> bool:
        """Finished, long enough, in the baseline's alphabet, and not a loop: tokens are looked at as well as words."""
        spoken = words(candidate.text)
        fewest = 1 if self.reference.opening else self.min_words
        return (
            candidate.answer.finished
            and len(spoken) >= fewest
            and not repetitive(spoken)
            and not repetitive(candidate.answer.ids)
            and not off_alphabet(candidate.text, self.reference.baseline)
        )

    def leaks(self, text: str) -> bool:
        reference = self.reference
        overlap = rouge_l(remainder(reference.baseline, reference.opening), text)
        own = key_recall(reference.baseline, text, reference.question, reference.opening)
        return (
            contains(text, reference.strings, reference.patterns)
            or (overlap is not None and overlap.recall > self.max_leak)
            or (own is not None and own > self.max_key_recall)
            or other_leak(text, reference) > self.max_other_leak
        )
