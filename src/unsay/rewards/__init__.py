"""How an answer is scored. One reward is one file here, one line in `unsay.tables.REWARDS`, one test. Nothing here imports torch.

Contract: a frozen dataclass whose fields are its knobs, called `reward(candidates, reference) -> list[float | None]`:
one value in [0, 1] per candidate, higher is better, `None` = does not apply to this candidate.
`needs_fluency = True` (a class attribute) asks the sampler for `Candidate.fluency`.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from unsay.types import Candidate, Reference


class Reward(Protocol):
    needs_fluency: ClassVar[bool]

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]: ...
