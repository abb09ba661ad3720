"""IDK: train the model to answer forget questions with a refusal.

L = NLL(refusal) + λ·NLL(retain), as "IDK" in TOFU (Maini et al., arXiv 2401.06121, section 4), which draws from a
hundred refusals. Departures:

1. the default is one fixed sentence; `[idk] answers` takes a list, drawn anew at each visit;
2. the hundred that come with the package are our own (refusals.py); `[idk] refusals` takes the file of TOFU's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import ConfigError
from unsay.config.build import not_negative
from unsay.corpora import rows
from unsay.lm.adapters import Untouched
from unsay.lm.rows import Batch
from unsay.lm.sampler import Sampler
from unsay.methods import State, Target, Visit, pick
from unsay.methods.refusals import HUNDRED
from unsay.methods.retain_loss import retain_logprobs


@dataclass(frozen=True)
class Idk:
    """IDK: fine-tune on a refusal for every forget question and on ordinary retain data."""

    retain_weight: float = 1.0
    """λ, the weight of the retain term."""
    answers: tuple[str, ...] = ("I don't know.",)
    """The refusals, where `refusals` is `answers`; one is drawn at each visit."""
    refusals: str = "answers"
    """`answers`, `hundred` (the package's own, refusals.py) or a file with one a line, such as TOFU's `idontknow.jsonl`."""

    needs_answers: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        not_negative("idk", retain_weight=self.retain_weight)
        refusal_texts("idk", self.refusals, self.answers)

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        refusals = refusal_texts("idk", self.refusals, self.answers)
        return [_target(visit, pick(refusals, sampler, visit.example.id, "refusal"), sampler) for visit in visits], state

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        nll = -retain_logprobs(model, reference, batch)
        return {"forget": batch.mean(nll, "forget"), "retain": self.retain_weight * batch.mean(nll, "retain")}


def _target(visit: Visit, text: str, sampler: Sampler) -> Target:
    return Target(visit.example.id, (sampler.encoder.pair(visit.example.question, text, "forget"),), text, source="refusal")


def refusal_texts(method: str, refusals: str, answers: Sequence[str]) -> Sequence[str]:
    """What the knobs `refusals` and `answers` of `method` name. Raises `ConfigError` where that is nothing."""
    known = {"answers": answers, "hundred": HUNDRED}
    if refusals not in known and not Path(refusals).expanduser().is_file():
        raise ConfigError(f"{method}.refusals = {refusals!r} is no file; name one with a refusal a line, or say answers or hundred")
    found = known[refusals] if refusals in known else rows.lines(Path(refusals).expanduser())
    if not found:
        raise ConfigError(f"{method}.{'answers' if refusals == 'answers' else 'refusals'} holds no refusal; name one or more")
    return found
