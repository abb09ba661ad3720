"""GA and GD: push the answer away by gradient ascent, with or without a retain loss.

GA = −NLL(forget) (Jang et al. 2022, arXiv 2210.01504); GD = λ·NLL(retain) − NLL(forget) (Liu et al. 2022,
arXiv 2203.12817). Formulas as TOFU uses them (Maini et al., arXiv 2401.06121, section 4).
Departure: NLL is the token mean over the optimizer step, as everywhere here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from unsay.config.build import not_negative
from unsay.lm.adapters import Untouched
from unsay.lm.model import answer_logprobs
from unsay.lm.rows import Batch
from unsay.lm.sampler import Sampler
from unsay.methods import LOSS, State, Target, Visit
from unsay.methods.retain_loss import retain_logprobs


@dataclass(frozen=True)
class GradientAscent:
    """GA: make the known answer less likely, and nothing else."""

    needs_answers: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False
    uses_retain_rows: ClassVar[bool] = False

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        return [answer_target(visit, sampler) for visit in visits], state

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        return {"forget": batch.mean(answer_logprobs(model, batch), "forget")}


@dataclass(frozen=True)
class GradientDifference:
    """GD: make the known answer less likely while the retain answers stay likely."""

    retain_weight: float = 1.0
    """λ, the weight of the retain term."""

    needs_answers: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        not_negative("gd", retain_weight=self.retain_weight)

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        return [answer_target(visit, sampler) for visit in visits], state

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        logp = retain_logprobs(model, reference, batch)
        return {"forget": batch.mean(logp, "forget"), "retain": self.retain_weight * batch.mean(-logp, "retain")}


def answer_target(visit: Visit, sampler: Sampler) -> Target:
    """The answer itself, as a row of the forget term."""
    row = sampler.encoder.pair(visit.example.question, visit.known, "forget")
    return Target(visit.example.id, (row,), visit.known, source="answer", reads={LOSS: 1})
