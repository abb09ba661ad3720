"""What the retain term of every method holds the model to: the tokens of its rows, or the untouched model itself.

A row of text says one token where the model would have said several: training on it sharpens, and a strong pull on few rows
forgets the others. The untouched model's whole distribution at the same places (`train.retain_loss = "kl"`) pulls at nothing
until something has moved, so the pull may be strong. Distilling from the model before is Li and Hoiem's way to learn without
forgetting (arXiv 1606.09282); in unlearning it is the KL term of TOFU's baselines (Maini et al., arXiv 2401.06121, section 4).

Both distributions are softened by a temperature, as there and in Hinton et al. (arXiv 1503.02531). Where the untouched model is
sure, its plain distribution is one token and stays one while the logits behind it slide a long way: the slide shows only in
what no row covers, such as a namesake who is suddenly unknown. At temperature 3 it is seen, and stopped, in the rows at hand. At
3 alone, a vocabulary of 262,000 tokens is flat, and what the model says is hardly held. So both count (docs/lab-log.md).

What the model says shows little of what moves below, least where it refuses before and after. So the states of all layers may be held too
(`train.state_weight`, lm/layers.py).
"""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import Recipe
from unsay.lm.adapters import Untouched
from unsay.lm.layers import layer_states, state_distances
from unsay.lm.model import answer_logprobs, answer_states, state_divergences, state_logprobs
from unsay.lm.rows import Batch

_ROLE = "retain"
TEMPERATURES = (1.0, 3.0)
"""Of both distributions, whose divergence is then multiplied by the square, so that small changes weigh about the same at any."""


def softened(batch: Batch, recipe: Recipe) -> Batch:
    """The batch of an optimizer step, with its retain rows held to what the recipe says."""
    soft = recipe.train.retain_loss == "kl"
    return replace(batch, soft=soft, state_weight=recipe.train.state_weight * soft)


def retain_logprobs(model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> Tensor:
    """[B, A] log-probabilities (nats) of the answer tokens; 0 outside `batch.mask`.

    Where the batch is `soft`, rows of the retain term have −Σ T²·KL(untouched ‖ model) at `TEMPERATURES` in their place, less
    `state_weight` times how far the states of the row have moved: as high as it can be, 0, where nothing has changed. Raises `ValueError`
    for such a batch without the untouched model.
    """
    kept = torch.tensor([batch.soft and role == _ROLE for role in batch.roles], device=batch.ids.device)
    if not kept.any():
        if batch.soft and reference is not None:
            reference.take_part(batch)
        return answer_logprobs(model, batch)
    if reference is None:
        raise ValueError("a soft batch needs the untouched model")
    rows, columns = batch.mask.nonzero(as_tuple=True)
    moved = torch.zeros(len(kept), device=kept.device)
    if batch.state_weight:
        taught, wanted = reference.layer_states(batch.of(kept))
        with layer_states(model) as states:
            found, head = answer_states(model, batch)
        moved = moved.index_put((kept,), state_distances([layer[kept] for layer in states], wanted, batch.attention[kept]))
    else:
        taught = reference.answer_states(batch.of(kept))
        found, head = answer_states(model, batch)
    soft, hard = kept[rows], ~kept[rows]
    pulls = -state_divergences((found[soft], head), taught, TEMPERATURES) - batch.state_weight * moved[rows[soft]]
    values = torch.zeros(batch.mask.shape, device=batch.ids.device).index_put((rows[soft], columns[soft]), pulls)
    if hard.any():
        values = values.index_put((rows[hard], columns[hard]), state_logprobs((found[hard], head), batch.answers()[hard]))
    return values
