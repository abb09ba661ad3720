"""Rows read with some of their embeddings on the way to those of other tokens: mixup of words (Guo et al., arXiv 1905.08941).

A name that a model knows, moved a part of the way to another, is a name that nobody has and the model half knows. No text spells it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel


class Mix(NamedTuple):
    """The embedding of one place of a row becomes (1 - share) times its token's, plus `share` times that of `token`."""

    place: int
    token: int
    share: float


@contextmanager
def mixed(model: PreTrainedModel, mixes: Sequence[Sequence[Mix]]) -> Iterator[None]:
    """As long as the block lasts, the model reads rows [B, T] with these mixes, one sequence for each row.

    It is done behind the layer of embeddings, so it works with any architecture and with whatever scales them. Where a model has a second
    table of embeddings (Gemma 3n), that one still sees the row's own tokens.
    """
    places = [(row, *mix) for row, some in enumerate(mixes) for mix in some]
    if not places:
        yield
        return
    rows, columns, tokens, shares = (torch.tensor(values) for values in zip(*places, strict=True))

    def move(layer: torch.nn.Module, _: object, found: Tensor) -> Tensor:
        at = rows.to(found.device), columns.to(found.device)
        # Not a call: that would come back here.
        others = layer.forward(tokens.to(found.device))
        return found.index_put(at, torch.lerp(found[at], others, shares.to(found)[:, None]))

    hook = model.get_input_embeddings().register_forward_hook(move)
    try:
        yield
    finally:
        hook.remove()
