"""Whether a candidate keeps clear of the strings and patterns the operator named."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unsay.text import contains
from unsay.types import Candidate, Reference


@dataclass(frozen=True)
class Blocklist:
    """0 where the candidate contains a named string or matches a named pattern, else 1; `None` where nothing is named."""

    needs_fluency: ClassVar[bool] = False

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        if not reference.strings and not reference.patterns:
            return [None] * len(candidates)
        return [float(not contains(candidate.text, reference.strings, reference.patterns)) for candidate in candidates]
