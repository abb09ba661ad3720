"""Controls: what the same number of steps does without any unlearning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from unsay.lm.adapters import Untouched
from unsay.lm.rows import Batch
from unsay.lm.sampler import Sampler
from unsay.methods import State, Target, Visit
from unsay.methods.retain_loss import retain_logprobs


@dataclass(frozen=True)
class RetainOnly:
    """Retain-only: the retain term alone, for as many steps. What training by itself washes out."""

    needs_answers: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        return [Target(visit.example.id) for visit in visits], state

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        return {"retain": batch.mean(-retain_logprobs(model, reference, batch), "retain")}
