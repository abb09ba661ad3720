"""Whether a candidate reads like an answer: likely to the untouched model, and about as long as the original.

The two belong together. Rewarding little overlap alone favours fragments; a length term alone is met with runs of
punctuation; and a fluency term alone lets one stock sentence spread (see `unsay.rewards.topic`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unsay.text import words
from unsay.types import Candidate, Reference

_SCALE = 8.3
"""Nats per token at which the reward of fluency reaches 0; with weight 1 beside an overlap of weight 1, a nat costs .12."""


@dataclass(frozen=True)
class Fluency:
    """How likely the untouched model finds the candidate without the question (with it, the secret would be the most fluent).

        r(x) = max(0, 1 + ℓ(x) / 8.3),   ℓ = mean log-probability per token, in nats

    `None` where the candidate's fluency was not measured.
    """

    needs_fluency: ClassVar[bool] = True

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        found = [candidate.fluency for candidate in candidates]
        return [None if one is None or math.isnan(one) else min(1.0, max(0.0, 1.0 + one / _SCALE)) for one in found]


@dataclass(frozen=True)
class Length:
    """How close the candidate's word count is to what the original answer had left to say.

        r(x) = 1 − min(1, |log(words(x) / expected)|),   expected = words(baseline) − words(prefix)

    0 for an empty candidate and beyond a factor of e; `None` where the prefix is as long as the baseline already.
    """

    needs_fluency: ClassVar[bool] = False

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        expected = len(words(reference.baseline)) - len(words(reference.prefix))
        if expected < 1:
            return [None] * len(candidates)
        counts = [len(words(candidate.text)) for candidate in candidates]
        return [1.0 - min(1.0, abs(math.log(count / expected))) if count else 0.0 for count in counts]
