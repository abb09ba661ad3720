"""What the layers of a model put out, beside the logits that come of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import ConfigError


def decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The layers that a token goes through one after the other. Raises `ConfigError` where they are not found."""
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    # Trap: a model that sees, too, may have as many layers for that.
    decoder = model.get_decoder() or model
    layers = (part for part in decoder.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == depth)
    found = next(layers, None)
    if found is None:
        raise ConfigError(f"the layers of {type(model).__name__} are not found among its parts")
    return found


@contextmanager
def layer_states(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """As long as the block lasts, this list has what each layer put out [B, T, H] when the model last read something."""
    found: list[Tensor] = []
    layers = decoder_layers(model)

    def keep(layer: torch.nn.Module, _: object, output: Any) -> None:
        if layer is layers[0]:
            found.clear()
        found.append(output[0] if isinstance(output, tuple | list) else output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def state_distances(found: Sequence[Tensor], wanted: Sequence[Tensor], attention_BT: Tensor) -> Tensor:
    """[B] how far the states of a row have moved: |h − h₀|² / |h₀|², its mean over layers and tokens, in float32. Raises `ValueError`
    without any."""
    if not found:
        raise ValueError("no layer put anything out, so no state can be held: train.state_weight = 0")
    tokens = attention_BT.float()
    moved = torch.zeros_like(tokens)
    for one, other in zip(found, wanted, strict=True):
        other = other.float()
        share = (one.float() - other).square().sum(-1) / other.square().sum(-1).clamp_min(torch.finfo(torch.float32).tiny)
        moved = moved + share
    return (moved * tokens).sum(1) / (tokens.sum(1) * len(found))
