"""How far a candidate is in meaning from what the model used to say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unsay.config import ConfigError
from unsay.rewards.overlap import remainder
from unsay.text import embedding
from unsay.types import Candidate, Reference


@dataclass(frozen=True)
class Semantic:
    """1 − the cosine of sentence embeddings of the candidate and the model's own original answer; negative cosines count as 0.

    Unlike ROUGE it sees through another wording, and hardly sees a wrong fact in the same sentence ("lives in Turin" and "lives in Oslo":
    .74). `None` where the original answer, or what the prefix left of it, is not in Latin letters, and for a candidate without a word,
    which would win for saying nothing. Needs the extra `unsay[semantic]`.
    """

    needs_fluency: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not embedding.installed():
            raise ConfigError(f"the reward 'semantic' cannot be used: {embedding.MISSING}")

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        baseline = remainder(reference.baseline, reference.prefix)
        alike = embedding.similarities([baseline] * len(candidates), [candidate.text for candidate in candidates])
        return [
            None if cosine is None or not embedding.readable(candidate.text) else 1.0 - cosine
            for candidate, cosine in zip(candidates, alike, strict=True)
        ]
