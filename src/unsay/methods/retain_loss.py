"""What the retain term of every method holds the model to: the tokens of its rows, or the untouched model itself.

A row of text says one token where the model would have said several: training on it sharpens, and a strong pull on few rows
forgets the others. The untouched model's whole distribution at the same places (`train.retain_loss = "kl"`) pulls at nothing
until something has moved, so the pull may be strong. Distilling from the model before is Li and Hoiem's way to learn without
forgetting (arXiv 1606.09282); in unlearning it is the KL term of TOFU's baselines (Maini et al., arXiv 2401.06121, section 4).

Both distributions are softened by a temperature, as there and in Hinton et al. (arXiv 1503.02531). Where the untouched model is
sure, its plain distribution is one token and stays one while the logits behind it slide a long way: the slide shows only in
what no row covers, such as a namesake who is suddenly unknown. At temperature 3 it is seen, and stopped, in the rows at hand. At
3 alone, a vocabulary of 262,000 tokens is flat, and what the model says is hardly held. So both count (docs/lab-log.md).

A row with a mixed name (lm/mixup.py) may be so near to a forgotten one that the untouched model tells the secret. What spells it is hardly
likelier there than where the same row is read with its own name (lm/logprobs.py, `capped`).
"""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import Recipe
from unsay.lm.adapters import Untouched
from unsay.lm.logprobs import Cap
from unsay.lm.model import answer_logprobs, answer_states, state_divergences, state_logprobs
from unsay.lm.rows import Batch

_ROLE = "retain"
TEMPERATURES = (1.0, 3.0)
"""Of both distributions, whose divergence is then multiplied by the square, so that small changes weigh about the same at any."""


def softened(batch: Batch, recipe: Recipe) -> Batch:
    """The batch of an optimizer step, with its retain rows held to what the recipe says."""
    return replace(batch, soft=recipe.train.retain_loss == "kl")


def retain_logprobs(model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> Tensor:
    """[B, A] log-probabilities (nats) of the answer tokens; 0 outside `batch.mask`.

    Where the batch is `soft`, rows of the retain term have −Σ T²·KL(untouched ‖ model) at `TEMPERATURES` in their place: as high as it
    can be, 0, where nothing has changed (but what a row caps). Raises `ValueError` for such a batch without the untouched model.
    """
    kept = torch.tensor([batch.soft and role == _ROLE for role in batch.roles], device=batch.ids.device)
    if not kept.any():
        if batch.soft and reference is not None:
            reference.take_part(batch)
        return answer_logprobs(model, batch)
    if reference is None:
        raise ValueError("a soft batch needs the untouched model")
    at = batch.mask.nonzero(as_tuple=True)
    caps = torch.tensor([bool(ids) for ids in batch.capped] or [False] * len(kept), device=kept.device) & kept
    moved = batch.of(caps)
    # Read at once: of a model that is spread, all processes call every layer as often.
    taught, taught_head = reference.answer_states(batch.of(kept).beside(replace(moved, mixes=((),) * len(moved.ids))))
    found, head = answer_states(model, batch)
    soft, far = kept[at[0]], caps[at[0]]
    taught, plain = taught[: int(soft.sum())], taught[int(soft.sum()) :]
    values = torch.zeros(batch.mask.shape, device=batch.ids.device)
    for some, cap in ((soft & ~far, None), (far, Cap(plain, _capped_ids(moved)))):
        if some.any():
            pulls = -state_divergences((found[some], head), (taught[some[soft]], taught_head), TEMPERATURES, cap)
            values = values.index_put((at[0][some], at[1][some]), pulls)
    if not soft.all():
        values = values.index_put((at[0][~soft], at[1][~soft]), state_logprobs((found[~soft], head), batch.answers()[~soft]))
    return values


def _capped_ids(batch: Batch) -> Tensor:
    """[N, I] for each answer token the ids that its row caps; of fewer than others have, the first once more."""
    most = max(map(len, batch.capped), default=0)
    ids = torch.tensor([(*some, *some[:1] * (most - len(some))) for some in batch.capped], dtype=torch.long, device=batch.ids.device)
    return ids.view(len(batch.capped), most)[batch.mask.nonzero(as_tuple=True)[0]]
