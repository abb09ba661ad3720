"""One optimizer step: the only place where gradients are made."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from unsay.encode import Batch, Encoder, Row
from unsay.model import trainable

T = TypeVar("T")


def optimizer_step(
    accelerator: Accelerator,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    encoder: Encoder,
    rows: Sequence[Row],
    loss: Callable[[Batch], dict[str, Tensor]],
    parts: int = 1,
    clip: float = 1.0,
    noise: int = 0,
) -> tuple[dict[str, float], float]:
    """Step once over `rows`; returns the terms of the loss and the gradient norm before clipping.

    `parts` is the number of micro-batches. Every term is normalised by the counts of all rows, so that `parts` changes
    memory and nothing else. `noise` seeds dropout, so that a resumed run draws what an uninterrupted one would have.
    """
    if not rows:
        return {}, 0.0
    # Rows of like length share a micro-batch: less padding.
    ordered = sorted(rows, key=lambda row: (len(row.answer), len(row.context)))
    terms: dict[str, float] = {}
    torch.manual_seed(noise)
    optimizer.zero_grad(set_to_none=True)
    for part in chunks(ordered, -(-len(ordered) // parts)):
        losses = loss(encoder.batch(part, accelerator.device, of=rows))
        accelerator.backward(torch.stack(list(losses.values())).sum())
        for name, value in losses.items():
            terms[name] = terms.get(name, 0.0) + value.item()
    norm = accelerator.clip_grad_norm_(trainable(model).values(), clip)
    optimizer.step()
    return terms, float(norm)


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
