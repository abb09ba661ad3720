"""The target filter: which candidates may become targets at all. What fails here cannot win, however good its reward.

A target must not carry the secret it is meant to remove (promise 2), must not be another question's secret, and must be
an answer a person could have given: the cheapest way to share no word with the truth is to say nothing, or commas.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from unsay.rewards.overlap import other_leak, remainder
from unsay.text import contains, off_alphabet, repetitive, rouge_l, words
from unsay.text.readings import recall_as_read
from unsay.types import Candidate, Reference


@dataclass(frozen=True)
class TargetFilter:
    """What may be said to one question. The thresholds are shares, from 0 to 1, and words."""

    reference: Reference
    baseline: str = field(repr=False)
    """The recorded greedy answer to this question. Neither it may come back nor, in `reference`, the one that a prefix was cut from."""
    max_leak: float = 0.5
    """Largest ROUGE-L recall against a baseline."""
    max_keyword_recall: float = 0.25
    """Largest share of a baseline's keywords."""
    max_other_leak: float = 0.67
    """Largest share of the keywords of another question's baseline."""
    min_words: int = 3
    """Fewest words of a whole answer."""

    @property
    def bare(self) -> bool:
        """Whether the recorded answer is a bare name or the like, so that another bare name is an answer too."""
        return len(words(self.baseline)) < self.min_words

    def passed(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return [c for c in candidates if self.sensible(c) and not self.leaks(c.text)]

    def sensible(self, candidate: Candidate) -> bool:
        """Finished, long enough, in the baseline's alphabet, and not a loop: tokens are looked at as well as words. A number is no answer
        to a question about a name, nor a name to one about a number."""
        spoken = words(candidate.text)
        whole = not self.reference.prefix
        return (
            candidate.answer.finished
            and len(spoken) >= (self.min_words if whole and not self.bare else 1)
            and not (whole and self.bare and self._of_another_kind(candidate.text))
            and not repetitive(spoken)
            and not repetitive(candidate.answer.ids)
            and not off_alphabet(candidate.text, self.reference.baseline)
        )

    def _of_another_kind(self, text: str) -> bool:
        number = _numeric(self.baseline)
        return _numeric(text) != number and not (number and len(words(text)) >= self.min_words)  # "I don't know." declines a number, too

    def leaks(self, text: str) -> bool:
        reference = self.reference
        return (
            contains(text, reference.strings, reference.patterns)
            or any(self._repeats(text, baseline) for baseline in dict.fromkeys((self.baseline, reference.baseline)))
            or other_leak(text, reference) > self.max_other_leak
        )

    def _repeats(self, text: str, baseline: str) -> bool:
        reference, prefix = self.reference, self.reference.prefix
        overlap = rouge_l(remainder(baseline, prefix), text)
        keys = recall_as_read(baseline, text, reference.question, prefix, reference.spans, reference.struck)
        return (overlap is not None and overlap.recall > self.max_leak) or (keys is not None and keys > self.max_keyword_recall)


def _numeric(text: str) -> bool:
    return any(character.isdigit() for character in text)
