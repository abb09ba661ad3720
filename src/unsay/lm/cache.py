"""A key–value cache that is allocated once. Growing it by concatenation, as the stock one does, copies everything at every
token; on small models that took most of the time.

Layers of another kind than plain attention (state-space, sliding windows that are too short) keep the stock layer.
"""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class SlabLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not read by mypy
    """Keys and values [B, H, `capacity`, D], of which the first `length` positions are in use."""

    def __init__(self, capacity: int, is_sliding: bool = False):
        super().__init__()
        self.capacity, self.length = capacity, 0
        self.is_sliding = is_sliding

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._slabs = [self._slab(states, states.shape[0]) for states in (key_states, value_states)]
        start, self.length = self.length, self.length + key_states.shape[-2]
        for slab, states in zip(self._slabs, (key_states, value_states), strict=True):
            slab[:, :, start : self.length] = states
        self._show()
        return self.keys, self.values

    def reorder_cache(self, indices: Tensor) -> None:
        """Keep these rows, in this order; an index that comes twice repeats its row."""
        if not self.length:
            return
        old, self._slabs = self._slabs, [self._slab(slab, len(indices)) for slab in self._slabs]
        for new, slab in zip(self._slabs, old, strict=True):
            # A model in several places has a layer's slabs where the layer lies.
            torch.index_select(slab[:, :, : self.length], 0, indices.to(slab.device), out=new[:, :, : self.length])
        self._show()

    def get_seq_length(self) -> int:
        return self.length

    def _slab(self, like: Tensor, rows: int) -> Tensor:
        return like.new_empty(rows, like.shape[1], self.capacity, like.shape[3])

    def _show(self) -> None:
        self.keys, self.values = (slab[:, :, : self.length] for slab in self._slabs)


def slab_cache(config: PreTrainedConfig, capacity: int) -> DynamicCache:
    """The model's cache with room for `capacity` positions in every attention layer that can use it."""
    cache = DynamicCache(config=config)
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[i] = SlabLayer(capacity)
        elif type(layer) is DynamicSlidingWindowLayer and layer.sliding_window > capacity:
            # Below the window's length a sliding layer and a plain one see the same positions.
            cache.layers[i] = SlabLayer(capacity, is_sliding=True)
    return cache
