"""What one forward tells of each answer token, beyond its log-probability: pure tensors, a few positions at a time."""

from typing import NamedTuple

import torch
from torch import Tensor

AT_ONCE = 1 << 24
"""Elements of a chunk of logits in float32 (64 MB); a handful of tensors of that size exist at a time."""


class Moments(NamedTuple):
    """Of N tokens, all `[N]`; float32 and in nats, but for `first`."""

    logprob: Tensor
    """log p(id)."""
    mean: Tensor
    """Σ_v p(v) log p(v): the expected log-probability of a token drawn here."""
    variance: Tensor
    """Σ_v p(v) (log p(v) − mean)²."""
    first: Tensor
    """Whether the id is the most likely token: what greedy decoding would have written."""


def token_moments(logits: Tensor, places: tuple[Tensor, Tensor], ids_N: Tensor, *, at_once: int = AT_ONCE) -> Moments:
    """Moments of `ids` under `logits[places]`, with `logits` `[B, T, V]` of any dtype and `places` the rows and columns `[N]`.

    The caller aligns: `logits[row, column]` must be the prediction *of* its id. Chunks hold at most `at_once` logits, so
    that no second `[B, T, V]` tensor exists.
    """
    size = max(1, at_once // logits.shape[-1])
    chunks = zip(places[0].split(size), places[1].split(size), ids_N.split(size), strict=True)
    parts = [_moments(logits[rows, columns], ids) for rows, columns, ids in chunks]
    return Moments(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _moments(logits_NV: Tensor, ids_N: Tensor) -> Moments:
    logprobs = logits_NV.float().log_softmax(-1)
    probs = logprobs.exp()
    # Where the logits bar a token, 0 · −inf would be NaN; it counts 0.
    finite = logprobs.masked_fill(probs == 0, 0.0)
    mean = (probs * finite).sum(-1)
    # Not Σ p log² p − mean²: where the model is certain that difference is all rounding.
    variance = (probs * (finite - mean[:, None]).square()).sum(-1)
    return Moments(logprobs.gather(-1, ids_N[:, None]).squeeze(-1), mean, variance, logits_NV.argmax(-1) == ids_N)
