"""The sampler as a method sees it: one model, one round, candidates with their source and fluency."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from unsay.config import SampleConfig
from unsay.lm.adapters import Untouched
from unsay.lm.encode import Encoder
from unsay.lm.rows import Row
from unsay.lm.sample import Draw, sample, uniform
from unsay.lm.subject import row_logprobs
from unsay.types import Candidate


@dataclass(frozen=True)
class Sampler:
    """Hands out candidates and named random numbers. One is made for each round."""

    model: PreTrainedModel
    encoder: Encoder
    config: SampleConfig
    seed: int = 0
    round: int = 0
    reference: Untouched | None = None
    """The model as it was, for the fluency of a text without its question."""

    def candidates(self, draws: Sequence[Draw], source: Sequence[str]) -> list[list[Candidate]]:
        """Candidates for every draw, in order of draw."""
        found = sample(self.model, self.encoder, draws, self.config, self.seed, f"round {self.round}")
        return [[Candidate(answer, i, kind) for i, answer in enumerate(answers)] for answers, kind in zip(found, source, strict=True)]

    def with_fluency(self, candidates: Sequence[Candidate], prefixes: Sequence[Sequence[int]]) -> list[Candidate]:
        """The same candidates with their mean log-probability per token under the untouched model, the question left
        out (with it the secret itself would be the most coherent answer). Equal ids are scored once."""
        if self.reference is None:
            raise ValueError("fluency needs the untouched model; the method must declare needs_reference")
        start = self.encoder.prompt(None)
        rows = [Row((*start, *prefix), c.answer.ids) for c, prefix in zip(candidates, prefixes, strict=True)]
        unique = list(dict.fromkeys(row for row in rows if row.answer))
        with self.reference.model() as model:
            scores = row_logprobs(model, self.encoder, unique)
        fluency = {row: float(score.mean()) for row, score in zip(unique, scores, strict=True)}
        return [replace(c, fluency=fluency.get(row)) for c, row in zip(candidates, rows, strict=True)]

    def logprobs(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Log-probabilities (nats) of each row's answer tokens under the model as it is now. No gradient."""
        return row_logprobs(self.model, self.encoder, rows)

    def uniform(self, *names: object) -> float:
        """A number in [0, 1) that depends on the seed, the round and `names` alone."""
        return uniform(self.seed, self.round, *names)
