"""IDK: train the model to answer forget questions with a refusal.

L = NLL(refusal) + λ·NLL(retain), as "IDK" in TOFU (Maini et al., arXiv 2401.06121, section 4), which draws from a
hundred refusals. Departure: the default is one fixed sentence; `[idk] answers` takes a list, drawn anew at each visit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from unsay.adapters import Untouched
from unsay.encode import Batch
from unsay.methods import State, Target, Visit
from unsay.model import answer_logprobs
from unsay.sampler import Sampler


@dataclass(frozen=True)
class Refusal:
    """IDK: fine-tune on a refusal for every forget question and on ordinary retain data."""

    retain_weight: float = 1.0
    """λ, the weight of the retain term."""
    answers: tuple[str, ...] = ("I don't know.",)
    """The refusals; one is drawn at each visit."""

    needs_answers: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        return [self._target(visit, sampler) for visit in visits], state

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        return anchored(model, batch, self.retain_weight)

    def _target(self, visit: Visit, sampler: Sampler) -> Target:
        text = self.answers[int(sampler.uniform(visit.example.id, "refusal") * len(self.answers))]
        return Target(visit.example.id, (sampler.encoder.pair(visit.example.question, text, "forget"),), text, source="refusal")


def anchored(model: PreTrainedModel, batch: Batch, retain_weight: float) -> dict[str, Tensor]:
    """NLL(target) + λ·NLL(retain), the loss of every method that trains *towards* something."""
    nll = -answer_logprobs(model, batch)
    return {"forget": batch.mean(nll, "forget"), "retain": retain_weight * batch.mean(nll, "retain")}
