"""Rejection: push the model's own recorded answer away beside each target, with a force that fades.

An option of PMC's `guarded` preset (`pmc.reject`), off by default, because it reads what should go in the loss, which PMC does not; the
ledger counts it. DPO's bounded force (Rafailov et al. 2023, arXiv 2305.18290) between a target x̂ that the model said itself and
its recorded answer y, or what follows in y after the same prefix:

    m = [log π − log π₀](x̂) − [log π − log π₀](y),      w = 2·σ(−β·m)
    w · NLL(x̂)  −  ρ · w · NLL(y)  +  λ · retain term

π₀ is the untouched model, β = .1 as in TOFU's DPO, ρ = `pmc.reject`. w is 1 at the start and is not differentiated. Once the two lie
far enough apart, neither is moved any further: so other people's answers are moved less. Token means, as PMC's.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unsay.lm.adapters import Untouched
from unsay.lm.encode import Batch, Encoder
from unsay.lm.logprobs import sum_by_row
from unsay.methods import LOSS, Target, Visit

_BETA = 0.1
_ROLE = "rejected"


def with_rejected(targets: Sequence[Target], visits: Sequence[Visit], encoder: Encoder) -> list[Target]:
    """Each target with a second row, of the same context: what the model used to say there."""
    # A visit without a target may still have a row toward a desired answer (`pmc.align_weight`); nothing is pushed away beside that.
    return [
        _with_rejected(target, visit, encoder) if any(row.role == "forget" for row in target.rows) else target
        for target, visit in zip(targets, visits, strict=True)
    ]


def _with_rejected(target: Target, visit: Visit, encoder: Encoder) -> Target:
    row = target.rows[0]
    prefix = row.context[len(encoder.prompt(visit.example.question)) :]
    if prefix:
        answer = next(one for one in visit.answers if one.ids[: len(prefix)] == prefix)  # it was cut out of one of them
        rest, text = answer.ids[len(prefix) :], answer.text
    else:
        rest, text = encoder.answer(visit.baseline), visit.baseline
    pair = replace(row, pair=target.example), replace(row, answer=rest, role=_ROLE, pair=target.example)
    return replace(target, rows=(*pair, *target.rows[1:]), rejected=text, reads={**target.reads, LOSS: 1})


def faded(batch: Batch, logprobs: Tensor, reference: Untouched) -> Batch:
    """The batch with the weights of its pairs times w. `logprobs` [B, A]: of the answer tokens, under the model in training."""
    mine = torch.tensor([role in ("forget", _ROLE) for role in batch.roles], device=logprobs.device)
    if not mine.any():
        reference.take_part(batch)
        return batch
    some, gained = batch.of(mine), torch.zeros(len(batch.roles), device=logprobs.device)
    gained[mine] = sum_by_row(logprobs.detach()[mine], some.mask) - sum_by_row(reference.answer_logprobs(some), some.mask)
    places = {pair: i for i, (pair, role) in enumerate(zip(batch.pairs, batch.roles, strict=True)) if role == _ROLE}
    partner = torch.tensor([places.get(pair, -1) if role == "forget" else -1 for pair, role in zip(batch.pairs, batch.roles, strict=True)])
    weights = batch.weights.clone()
    for i in (partner >= 0).nonzero().flatten().tolist():
        force = 2 * torch.sigmoid(-_BETA * (gained[i] - gained[partner[i]]))
        weights[i] *= force
        weights[partner[i]] *= force
    return replace(batch, weights=weights)


def rejection(batch: Batch, logprobs: Tensor, weight: float) -> Tensor:
    """The term −ρ·w·NLL(y), of a batch that is `faded`."""
    return weight * batch.mean(logprobs, _ROLE)
