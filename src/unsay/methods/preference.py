"""DPO, NPO and SimNPO: push the answer away as far as it takes, and no further.

All three are one bounded term of a margin m, instead of the unbounded ascent of GA:

    −(2/β) · mean log σ(β·m)  +  λ · NLL(retain)

    NPO     m = ref − log π(answer)                        Zhang et al. 2024, arXiv 2404.05868
    SimNPO  m = −log π(answer)/|answer| − γ                Fan et al. 2024, arXiv 2410.07163
    DPO     m = [log π − ref](refusal) − [log π − ref](answer)
                                                           Rafailov et al. 2023, arXiv 2305.18290; as in TOFU, arXiv 2401.06121

log π is the log-probability of the whole answer, ref the same under the model before unlearning. AltPO is DPO with other
preferred answers (alternatives.py). Departures from the published codes:

1. *No reference model.* The answers are fixed, so `ref` is found once, before the first step, and kept in the state: no
   second copy of the weights and no reference forward pass, with the same loss.
2. SimNPO's paper writes the margin outside β (β·NLL/|y| − γ), its code and others inside. Inside here; with γ = 0, as on TOFU, they agree.
3. DPO's factor 2/β and its retain term are those of the later frameworks. TOFU's own code has neither (β = .1).
4. DPO's refusals: at most `refusals_each` for a question, so that `ref` can be found ahead; one is drawn at each visit.
5. The retain term is a token mean over the optimizer step, as everywhere here, the other a mean over its questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel

from unsay.config.build import not_negative, positive
from unsay.lm.adapters import Untouched
from unsay.lm.logprobs import mean_by_row, sum_by_row
from unsay.lm.rows import Batch, Row
from unsay.lm.sampler import Sampler
from unsay.methods import State, Target, Visit, pick
from unsay.methods.gradient import answer_target
from unsay.methods.refusal import refusal_texts
from unsay.methods.retain_loss import retain_logprobs
from unsay.types import Answer


@dataclass(frozen=True)
class NegativePreference:
    """NPO: make the known answer less likely than it was, with a force that fades as it goes."""

    beta: float = 0.1
    """β: the smaller, the closer to gradient ascent. The paper uses .1."""
    retain_weight: float = 1.0
    """λ, the weight of the retain term. The paper uses 1."""

    needs_answers: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive("npo", beta=self.beta)
        not_negative("npo", retain_weight=self.retain_weight)

    def prepare(self, visits: Sequence[Visit], sampler: Sampler) -> State:
        return with_answers({visit.example.id: {} for visit in visits}, visits, sampler)

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        return [scored_answer(visit, sampler, state) for visit in visits], state

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        logp = retain_logprobs(model, reference, batch)
        margins = batch.references - sum_by_row(logp, batch.mask)
        return {"forget": bounded(margins, self.beta, batch), "retain": self.retain_weight * batch.mean(-logp, "retain")}


@dataclass(frozen=True)
class SimpleNegativePreference:
    """SimNPO: make the known answer unlikely per token, whatever it was before."""

    beta: float = 4.5
    """β. The authors use 2.5 (forget05) and 4.5 (forget10)."""
    margin: float = 0.0
    """γ, nats per token: how unlikely is unlikely enough. The authors use 0 on TOFU."""
    retain_weight: float = 8.0
    """λ. The authors weigh the forget term by .1375 (forget05) and .125 (forget10) and the retain term by 1: 7.3 and 8."""

    needs_answers: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive("simnpo", beta=self.beta)
        not_negative("simnpo", retain_weight=self.retain_weight)

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        return [answer_target(visit, sampler) for visit in visits], state

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        logp = retain_logprobs(model, reference, batch)
        margins = -mean_by_row(logp, batch.mask) - self.margin
        return {"forget": bounded(margins, self.beta, batch), "retain": self.retain_weight * batch.mean(-logp, "retain")}


@dataclass(frozen=True)
class DirectPreference:
    """DPO: make a refusal more likely and the known answer less, both measured against the model as it was."""

    beta: float = 0.1
    """β: the smaller, the further apart the two are pushed. TOFU uses .1."""
    retain_weight: float = 1.0
    """λ, the weight of the retain term."""
    answers: tuple[str, ...] = ("I don't know.",)
    """The refusals, where `refusals` is `answers`."""
    refusals: str = "answers"
    """`answers`, `hundred` (the package's own, refusals.py) or a file with one a line, such as TOFU's `idontknow.jsonl`."""
    refusals_each: int = 4
    """Most refusals that one question is given; a visit draws one of them."""

    needs_answers: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive("dpo", beta=self.beta, refusals_each=self.refusals_each)
        not_negative("dpo", retain_weight=self.retain_weight)
        refusal_texts("dpo", self.refusals, self.answers)

    def prepare(self, visits: Sequence[Visit], sampler: Sampler) -> State:
        known = refusal_texts("dpo", self.refusals, self.answers)
        preferred = {}
        for visit in visits:
            drawn = sorted(known, key=lambda text: sampler.uniform(visit.example.id, "refusal", text))
            preferred[visit.example.id] = [Answer(sampler.encoder.answer(text), text, True) for text in drawn[: self.refusals_each]]
        return with_answers(with_preferred(preferred, visits, sampler), visits, sampler)

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        return [pair_target(visit, sampler, state) for visit in visits], state

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        return preference_loss(model, reference, batch, self.beta, self.retain_weight)


# -- the loss ----------------------------------------------------------------------------------------------------------


def bounded(margins: Tensor, beta: float, batch: Batch) -> Tensor:
    """This batch's share of −(2/β)·mean log σ(β·margin) over the step's `forget` rows. margins [B], nats."""
    chosen = torch.tensor([role == "forget" for role in batch.roles], device=margins.device)
    values = -2 / beta * logsigmoid(beta * margins)
    return (values * batch.weights * chosen).sum() / max(1, batch.rows.get("forget", 0))


def partners(batch: Batch, role: str) -> list[int]:
    """For each row, the place of the row of `role` in its pair; its own where it has none: then nothing differs between the two."""
    places = {pair: i for i, (pair, other) in enumerate(zip(batch.pairs, batch.roles, strict=True)) if other == role}
    return [places.get(pair, i) for i, pair in enumerate(batch.pairs)]


def preference_loss(
    model: PreTrainedModel, reference: Untouched | None, batch: Batch, beta: float, retain_weight: float
) -> dict[str, Tensor]:
    """DPO's two terms. Rows `forget` and `preferred` of one pair stand in one batch."""
    logp = retain_logprobs(model, reference, batch)
    ratios = sum_by_row(logp, batch.mask) - batch.references
    margins = ratios[partners(batch, "preferred")] - ratios
    return {"forget": bounded(margins, beta, batch), "retain": retain_weight * batch.mean(-logp, "retain")}


# -- the answers that are compared, and how likely they were before --------------------------------------------------------


def with_answers(state: State, visits: Sequence[Visit], sampler: Sampler) -> State:
    """The state with what the model as it is now gives each answer: its log-probability, `answer`."""
    rows = [answer_target(visit, sampler).rows[0] for visit in visits]
    scored = zip(visits, whole_logprobs(rows, sampler), strict=True)
    return {visit.example.id: {**state[visit.example.id], "answer": logp} for visit, logp in scored}


def with_preferred(preferred: Mapping[str, Sequence[Answer]], visits: Sequence[Visit], sampler: Sampler) -> State:
    """The state of preferred answers by example id, each with its log-probability."""
    flat = [(visit, answer) for visit in visits for answer in preferred[visit.example.id]]
    rows = [Row(sampler.encoder.prompt(visit.example.question), answer.ids) for visit, answer in flat]
    state: dict[str, dict[str, Any]] = {visit.example.id: {"preferred": []} for visit in visits}
    for (visit, answer), logp in zip(flat, whole_logprobs(rows, sampler), strict=True):
        state[visit.example.id]["preferred"].append({"ids": list(answer.ids), "text": answer.text, "reference": logp})
    return state


def whole_logprobs(rows: Sequence[Row], sampler: Sampler) -> list[float]:
    """The log-probability of each row's whole answer (nats), under the model as it is now."""
    return [float(values.double().sum()) for values in sampler.logprobs(rows)]


def scored_answer(visit: Visit, sampler: Sampler, state: State) -> Target:
    """The answer, to be made less likely, with what the model gave it before."""
    target = answer_target(visit, sampler)
    row = replace(target.rows[0], reference=state[visit.example.id]["answer"])
    first = {"reference": 1} if sampler.round == 0 else {}  # read once, before the first round
    return replace(target, rows=(row,), reads={**target.reads, **first})


def pair_target(visit: Visit, sampler: Sampler, state: State) -> Target:
    """The answer and one preferred answer, drawn at this visit; nothing where there is none to prefer."""
    answers = state[visit.example.id]["preferred"]
    if not answers:
        return Target(visit.example.id, source="none")
    drawn = pick(answers, sampler, visit.example.id, "preferred")
    target = scored_answer(visit, sampler, state)
    (answer,) = target.rows
    better = Row(answer.context, tuple(drawn["ids"]), "preferred", reference=drawn["reference"], pair=visit.example.id)
    return replace(target, rows=(replace(answer, pair=visit.example.id), better))
