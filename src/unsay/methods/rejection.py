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
from unsay.methods.preference import partners

_BETA = 0.1


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
    pair = replace(row, pair=target.example), replace(row, answer=rest, role="rejected", pair=target.example)
    return replace(target, rows=(*pair, *target.rows[1:]), rejected=text, reads={**target.reads, LOSS: 1})


def faded(batch: Batch, logprobs: Tensor, reference: Untouched) -> Batch:
    """The batch with the weights of its pairs times w. `logprobs` [B, A]: of the answer tokens, under the model in training."""
    paired = torch.tensor([role in ("forget", "rejected") for role in batch.roles], device=logprobs.device)
    if not paired.any():
        reference.take_part(batch)
        return batch
    rows, gained = batch.of(paired), torch.zeros(len(batch.roles), device=logprobs.device)
    gained[paired] = sum_by_row(logprobs.detach()[paired], rows.mask) - sum_by_row(reference.answer_logprobs(rows), rows.mask)
    weights = batch.weights.clone()
    for target, (role, rejected) in enumerate(zip(batch.roles, partners(batch, "rejected"), strict=True)):
        if role == "forget":
            weights[[target, rejected]] *= 2 * torch.sigmoid(-_BETA * (gained[target] - gained[rejected]))
    return replace(batch, weights=weights)
