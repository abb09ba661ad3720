"""An optimizer that moves what was asked and spares its kind: gradients whitened by what a layer reads.

A weight W maps what a layer reads, a key k, to W k. A gradient step that is made for one question moves W k for every key like
its own, and the answers to other questions of its kind with it. Multiplied by the inverse second moment C⁻¹ of the keys of what
should stay, C = E[k kᵀ], the same step moves least where keys are common, and most where they belong to the question alone. It
is the input half of K-FAC (Martens and Grosse, arXiv 1503.05671), and the direction in which ROME writes one fact (Meng et al.,
arXiv 2202.05262, section 3.1). As there, only the output projections of the MLPs are moved, and only those of the middle layers,
where a model looks facts up.

A step is as long as it changes what these layers put out: at rate .003, by three thousandths of its size, over the keys of
what should stay. So the rate needs no other value for another model.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import ConfigError
from unsay.lm.encode import Encoder
from unsay.lm.reading import accepted
from unsay.lm.rows import Row

_LAYERS = (1 / 6, 2 / 3)
"""The first and the last layer that is moved, as shares of the depth."""
_RIDGE = 0.05
"""Added to the diagonal of C, as a share of its mean: a few thousand keys say nothing about directions that none of them has."""
_MOMENTUM = 0.8
_ROWS = 16
"""Rows read at once."""


class Keys(NamedTuple):
    """Of one weight [out, in]."""

    moment: Tensor
    """[in, in] C, with the ridge."""
    inverse: Tensor
    """[in, in] C⁻¹."""
    size: float
    """Mean square of what the layer puts out, tr(W C Wᵀ)."""


class Whitened(torch.optim.Optimizer):
    """Descent along G C⁻¹ with momentum. `keys`: of each weight, in their order."""

    def __init__(self, weights: Iterable[Tensor], lr: float, keys: Iterable[Keys]):
        super().__init__(list(weights), {"lr": lr})
        self._keys = list(keys)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; `closure` is not used."""
        (group,) = self.param_groups
        moved = []
        for weight, keys in zip(group["params"], self._keys, strict=True):
            if weight.grad is None:
                continue
            state, whitened = self.state[weight], weight.grad @ keys.inverse
            state["momentum"] = whitened if not state else _MOMENTUM * state["momentum"] + (1 - _MOMENTUM) * whitened
            moved.append((weight, state["momentum"], keys))
        changes = [float(((step @ keys.moment) * step).sum()) / keys.size for _, step, keys in moved]
        change = (sum(changes) / max(1, len(changes))) ** 0.5
        for weight, step, _ in moved if change else ():
            weight.sub_(step, alpha=group["lr"] / change)


def moved(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """The layers whose weights are moved, by name: in each decoder layer of the middle, the projection from the MLP's width to the
    model's. Raises `ConfigError` where there is none."""
    config = model.config.get_text_config()
    wide: dict[int, tuple[str, torch.nn.Linear]] = {}
    for name, module in model.named_modules():
        number = re.search(r"\.(\d+)\.", name)
        if number is None or not isinstance(module, torch.nn.Linear) or module.out_features != config.hidden_size:
            continue
        at = int(number[1])
        if at not in wide or module.in_features > wide[at][1].in_features:
            wide[at] = name, module
    first, last = (share * config.num_hidden_layers for share in _LAYERS)
    found = dict(place for at, place in wide.items() if first <= at <= last)
    if not found:
        raise ConfigError('no output projection of an MLP is found in this model; say train.optimizer = "adamw"')
    return found


@torch.no_grad()
def keys_of(model: PreTrainedModel, encoder: Encoder, layers: Mapping[str, torch.nn.Linear], rows: Iterable[Row]) -> dict[str, Keys]:
    """What each layer reads where the model reads `rows` (questions with the answers that should stay), by name of its weight."""
    device = next(model.parameters()).device
    sums = {name: torch.zeros(layer.in_features, layer.in_features, dtype=torch.float64, device=device) for name, layer in layers.items()}
    mask, count = torch.empty(0), 0

    def read(name: str, _: torch.nn.Module, given: Any) -> None:
        keys = given[0][mask].double()
        sums[name] += keys.T @ keys

    hooks = [layer.register_forward_pre_hook(partial(read, name)) for name, layer in layers.items()]
    training = model.training
    model.eval()
    try:
        # By length: less padding, and the same batches whatever their order was.
        texts = sorted({(*row.context, *row.answer) for row in rows}, key=lambda text: (len(text), text))
        for start in range(0, len(texts), _ROWS):
            batch = encoder.batch([Row(text, ()) for text in texts[start : start + _ROWS]], device)
            mask = batch.attention.bool()
            mask[:, 0] = False  # the first token's state is far larger than any other, and the same everywhere
            model.base_model(input_ids=batch.ids, **accepted(model, attention_mask=batch.attention, use_cache=False))
            count += int(mask.sum())
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    if not count:
        raise ConfigError('there is nothing that should stay to read; say train.optimizer = "adamw", or give retain rows')
    found = {}
    for name, layer in layers.items():
        moment = sums[name] / count
        moment += _RIDGE * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype, device=device)
        weight = layer.weight.double()
        found[f"{name}.weight"] = Keys(moment.float(), torch.linalg.inv(moment).float(), float(((weight @ moment) * weight).sum()))
    return found
