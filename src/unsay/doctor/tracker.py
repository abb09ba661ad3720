"""Counts the bytes of live tensors: what a piece of code holds at most, wherever its tensors lie.

The system only tells the largest size that the whole process ever had, too coarse for a batch of four rows. This sees
every tensor that an operation returns, from its making to its end, so a small batch tells what a large one will hold.
It does not see what an operation uses inside itself.
"""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages made while the mode is on: `now`, and `peak`. Storages made before do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # What comes in was there before, or has been counted: an operation may return its own input.
        given = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _key(leaf) not in given:
                self._count(leaf)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def live_bytes() -> Iterator[LiveBytes]:
    """`with live_bytes() as bytes: …` then `bytes.now` is what is still held, `bytes.peak` the most that was."""
    with LiveBytes() as mode:
        yield mode
