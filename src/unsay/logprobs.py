"""Log-probabilities of tokens and their sums by row: pure tensors, nothing of templates, padding or labels.

The caller aligns: `logits[..., t, :]` must be the prediction *of* `ids[..., t]`, that is, already shifted by one.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def token_logprobs(logits_BTV: Tensor, ids_BT: Tensor, mask_BT: Tensor | None = None, *, chunk: int = 64) -> Tensor:
    """log p(ids) under the logits, in nats and float32 whatever the input dtype: `[..., T]`; 0 where `mask` is False.

        log p = z[id] − log Σ_v exp(z_v)

    Computed for `chunk` positions at a time, and recomputed in the backward pass, so that no second `[B, T, V]` float32
    tensor exists. Where `mask` is False the id may be any number. Raises `ValueError` on shapes that do not match.
    """
    if logits_BTV.shape[:-1] != ids_BT.shape or (mask_BT is not None and mask_BT.shape != ids_BT.shape):
        shapes = [tuple(x.shape) for x in (logits_BTV, ids_BT, mask_BT) if x is not None]
        raise ValueError(f"logits [..., T, V], ids [..., T] and mask [..., T] do not match: {shapes}")
    if chunk < 1:
        raise ValueError(f"chunk = {chunk} must be positive")
    if mask_BT is not None:
        ids_BT = ids_BT.masked_fill(~mask_BT, 0)
    again = torch.is_grad_enabled() and logits_BTV.requires_grad
    parts = []
    # split, not slices: its backward is one cat, where each slice would allocate a gradient of the full size.
    for logits, ids in zip(logits_BTV.split(chunk, dim=-2), ids_BT.split(chunk, dim=-1), strict=True):
        part = checkpoint(_gather, logits, ids, use_reentrant=False, preserve_rng_state=False) if again else _gather(logits, ids)
        parts.append(part)
    values_BT = torch.cat(parts, dim=-1)
    return values_BT if mask_BT is None else values_BT.masked_fill(~mask_BT, 0.0)


def _gather(logits: Tensor, ids: Tensor) -> Tensor:
    logits = logits.float()
    return logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def sum_by_row(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over the positions where `mask` is True: `[..., T] → [...]`. Values elsewhere are not looked at, NaN included."""
    return values_BT.masked_fill(~mask_BT, 0.0).sum(-1)


def mean_by_row(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the positions where `mask` is True: `[..., T] → [...]`; NaN for a row without any, because 0 would be certainty."""
    return sum_by_row(values_BT, mask_BT) / mask_BT.sum(-1)
