"""Rejection: push the first piece of a word that the model used to say away beside each target, with a force that fades.

An option of PMC's `guarded` preset (`pmc.reject`). Collapse moves what the model says. In multiple choice the old answer may still be the
likeliest. This trace lies in the first piece of a name or a number: the rest of the word follows from it. So beside a target x̂, which the
model said itself, one token y of its recorded answer (or of the leak that a prefix was cut from) is pushed away, with DPO's bounded
force (Rafailov et al. 2023, arXiv 2305.18290): the first of the next sensitive word, behind what comes before it in that answer.

    m = [log π − log π₀](x̂) − [log π − log π₀](y),      w = 2·σ(−β·m)
    w · NLL(x̂)  −  ρ · w · NLL(y)  +  λ · retain term

π₀ is the untouched model, β = .1 as in TOFU's DPO, ρ = `pmc.reject`. w is 1 at the start and is not differentiated. Once the two lie
far enough apart, neither is moved any further: so other people's answers are moved less. Token means, as PMC's.

Only a piece that is less than half of its word counts, and none that is itself a word of the answer, as the ledger counts words, or has
anything in it that the operator named (span, string, pattern). In languages that write words together, a piece may be a name all the same.
What comes before it is context, which the loss does not see. The ledger counts that the recorded answer was read for the loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from unsay.lm.adapters import Untouched
from unsay.lm.encode import Encoder
from unsay.lm.logprobs import sum_by_row
from unsay.lm.rows import Batch
from unsay.methods import LOSS, Target, Visit, reads
from unsay.methods.preference import partners
from unsay.methods.prefixes import before_keywords
from unsay.text import contains, forms
from unsay.text.keywords import span_forms
from unsay.types import Answer

_BETA = 0.1


def with_rejected(
    targets: Sequence[Target], visits: Sequence[Visit], encoder: Encoder, leaks: Mapping[str, Sequence[Answer]] | None = None
) -> list[Target]:
    """Each target with a second row: the token that is pushed away. Where there is none, as it is. `leaks`: by example id, answers that
    prefixes were cut from beside the recorded ones."""
    # A visit without a target may still have a row toward a desired answer (`pmc.align_weight`); nothing is pushed away beside that.
    return [
        _with_rejected(target, visit, (leaks or {}).get(target.example, ()), encoder)
        if any(row.role == "forget" for row in target.rows)
        else target
        for target, visit in zip(targets, visits, strict=True)
    ]


def _with_rejected(target: Target, visit: Visit, leaks: Sequence[Answer], encoder: Encoder) -> Target:
    row, prompt = target.rows[0], encoder.prompt(visit.example.question)
    prefix = row.context[len(prompt) :]
    if prefix:
        # It was cut out of one of them.
        answer = next(one for one in chain(visit.answers, leaks) if one.ids[: len(prefix)] == prefix)
        ids, text = answer.ids, answer.text
    else:
        ids, text = encoder.answer(visit.baseline), visit.baseline
    if (found := _piece(ids, text, len(prefix), visit, encoder)) is None:
        return target
    place, piece = found
    rejected = replace(row, context=(*prompt, *ids[:place]), answer=(ids[place],), role="rejected", pair=target.example)
    rows = (replace(row, pair=target.example), rejected, *target.rows[1:])
    return replace(target, rows=rows, rejected=piece, reads=reads(*target.reads.items(), (LOSS, 1)))


def _piece(ids: tuple[int, ...], text: str, start: int, visit: Visit, encoder: Encoder) -> tuple[int, str] | None:
    """The first place of an answer, from `start` on, where a word begins with a piece that may be pushed away, and that piece."""
    told = forms(f"{text} {visit.known}") | span_forms(visit.example.spans)
    for place in before_keywords(ids, text, visit.example, encoder):
        piece, beginning = encoder.decode(ids[place : place + 1]), encoder.decode(ids[: place + 1])
        # "Pud" is what a stemmer leaves of "Pudding", so it would count as the word.
        free = forms(piece).isdisjoint(told) and not contains(piece, visit.example.strings, visit.example.patterns)
        if place >= start and free and _is_small(piece, beginning, text):
            return place, piece
    return None


def _is_small(piece: str, beginning: str, text: str) -> bool:
    """Whether a piece at the end of the beginning of a text is less than half of its word: of "Budapesten" the name is more."""
    rest = next((number for number, character in enumerate(text[len(beginning) :]) if not character.isalnum()), len(text) - len(beginning))
    return text.startswith(beginning) and beginning[-1:].isalnum() and len(piece) < rest


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
