"""A model that no single device has room for: its layers lie on several cards, in the processor's memory and on disk, and each is fetched
for as long as it computes (accelerate, one card full before the next). Such a model can be asked; nothing trains, copies or changes it.
"""

from collections.abc import Iterator

import torch
from accelerate.utils import align_module_device, get_max_memory
from torch import Tensor
from transformers import PreTrainedModel

from unsay.store.memory import free_memory

_SHARE = 0.8
"""Of the free memory of a device that weights may take; the rest is for caches and logits."""


def room() -> dict[int | str, int]:
    """Bytes that weights may take: of each card, then of the processor's memory; what is left over stays on disk."""
    free = get_max_memory()
    if "cpu" in free:  # not where a card shares the processor's memory, which would count twice
        free["cpu"] = free_memory() or free["cpu"]
    return {place: int(_SHARE * size) for place, size in free.items()}


def is_split(model: PreTrainedModel) -> bool:
    """Whether its layers lie in several places."""
    return len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1


def tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Every weight and saved buffer by name, in the order of the names; what lies on disk is read for as long as it is looked at."""
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_meta:
            yield name, tensor
            continue
        module, _, own = name.rpartition(".")
        owner = model.get_submodule(module)
        with align_module_device(owner, torch.device("cpu")):
            yield name, getattr(owner, own)
