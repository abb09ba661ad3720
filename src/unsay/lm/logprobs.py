"""Log-probabilities of tokens and their sums by row: pure tensors, nothing of templates, padding or labels.

The caller aligns: `logits[..., t, :]` must be the prediction *of* `ids[..., t]`, that is, already shifted by one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unsay.lm.linear import linear


def token_logprobs(logits_BTV: Tensor, ids_BT: Tensor, *, chunk: int = 64) -> Tensor:
    """log p(ids) under the logits, in nats and float32 whatever the input dtype: `[..., T]`.

        log p = z[id] − log Σ_v exp(z_v)

    Computed for `chunk` positions at a time, and recomputed in the backward pass, so that no second `[B, T, V]` float32
    tensor exists. Raises `ValueError` on shapes that do not match.
    """
    if logits_BTV.shape[:-1] != ids_BT.shape:
        raise ValueError(f"logits [..., T, V] and ids [..., T] do not match: {[tuple(x.shape) for x in (logits_BTV, ids_BT)]}")
    again = torch.is_grad_enabled() and logits_BTV.requires_grad
    parts = []
    # split, not slices: its backward is one cat, where each slice would allocate a gradient of the full size.
    for logits, ids in zip(logits_BTV.split(chunk, dim=-2), ids_BT.split(chunk, dim=-1), strict=True):
        part = checkpoint(_gather, logits, ids, use_reentrant=False, preserve_rng_state=False) if again else _gather(logits, ids)
        parts.append(part)
    return torch.cat(parts, dim=-1)


def _gather(logits: Tensor, ids: Tensor) -> Tensor:
    logits = logits.float()
    return logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def head_logprobs(hidden_NH: Tensor, weight_VH: Tensor, ids_N: Tensor) -> Tensor:
    """log p(ids) under logits = hidden · weightᵀ, in nats and float32: `[N]`, without ever holding all the logits.

    The logits of a large vocabulary are most of a step's memory (Gemma: 262,144 × 4 bytes a token), and touching that
    memory costs more than the arithmetic. Here they exist for a few tokens at a time, in the forward and in the backward
    pass. Equal to `token_logprobs` up to rounding.
    """
    values: Tensor = _HeadLogprobs.apply(hidden_NH, weight_VH, ids_N)
    return values


LOGITS_AT_ONCE = 1 << 25
"""Elements of a chunk of logits (128 MB in float32). Fewer would read the whole matrix for a handful of tokens."""


class _HeadLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
        values = hidden.new_empty(len(ids), dtype=torch.float32)
        # With fixed embeddings the gradient is p-weighted rows of the matrix, up to a factor: make it while p is at hand.
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] and not ctx.needs_input_grad[1] else None
        for rows in _rows(len(ids), len(weight)):
            logits = linear(hidden[rows], weight).float()
            total = logits.logsumexp(1, keepdim=True)
            values[rows] = (logits.gather(1, ids[rows, None]) - total).squeeze(1)
            if slope is not None:
                slope[rows] = weight[ids[rows]] - linear(logits.sub_(total).exp_().to(weight.dtype), weight.T)
        ctx.save_for_backward(*((slope,) if slope is not None else (hidden, weight, ids)))
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        if len(ctx.saved_tensors) == 1:
            (slope,) = ctx.saved_tensors
            return slope * gradient[:, None].to(slope.dtype), None, None
        hidden, weight, ids = ctx.saved_tensors
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for rows in _rows(len(ids), len(weight)):
            # d log p / d logits = onehot − p, times what comes from above.
            slopes = linear(hidden[rows], weight).float().softmax(1).neg_()
            slopes[torch.arange(len(slopes), device=slopes.device), ids[rows]] += 1
            slopes = slopes.mul_(gradient[rows, None]).to(weight.dtype)
            to_hidden[rows] = linear(slopes, weight.T)
            to_weight += linear(slopes.T, hidden[rows].T)
        return to_hidden, to_weight, None


def token_divergences(logits_NV: Tensor, taught_NV: Tensor, temperatures: Sequence[float], *, chunk: int = 64) -> Tensor:
    """KL(taught ‖ model) of the distribution at each token, in nats and float32: `[N]`; `taught` gets no gradient.

        Σ_T T² Σ_v q_v (log q_v − log p_v),    q and p the distributions at temperature T

    For `chunk` positions at a time, and again in the backward pass, as in `token_logprobs`. Raises `ValueError` where the shapes
    do not match.
    """
    if logits_NV.shape != taught_NV.shape:
        raise ValueError(f"logits and taught logits [N, V] do not match: {[tuple(x.shape) for x in (logits_NV, taught_NV)]}")
    parts = [
        checkpoint(_divergence, logits, taught, temperatures, use_reentrant=False, preserve_rng_state=False)
        for logits, taught in zip(logits_NV.split(chunk), taught_NV.detach().split(chunk), strict=True)
    ]
    return torch.cat(parts)


def _divergence(logits: Tensor, taught: Tensor, temperatures: Sequence[float]) -> Tensor:
    logits, taught = logits.float(), taught.float()
    found = []
    for t in temperatures:
        wanted = (taught / t).log_softmax(-1)
        found.append(t**2 * (wanted.exp() * (wanted - (logits / t).log_softmax(-1))).sum(-1))
    return torch.stack(found).sum(0)


def head_divergences(hidden_NH: Tensor, weight_VH: Tensor, taught_NH: Tensor, taught_VH: Tensor, temperatures: Sequence[float]) -> Tensor:
    """`token_divergences` of logits = hidden · weightᵀ and of the taught ones, without ever holding all of either."""
    values: Tensor = _HeadDivergences.apply(hidden_NH, weight_VH, taught_NH, taught_VH, temperatures)
    return values


class _HeadDivergences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, taught: Tensor, taught_weight: Tensor, temperatures: Sequence[float]) -> Tensor:
        values = hidden.new_zeros(len(hidden), dtype=torch.float32)
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] and not ctx.needs_input_grad[1] else None
        for rows in _rows(len(hidden), len(weight)):
            found, wanted = linear(hidden[rows], weight).float(), linear(taught[rows], taught_weight).float()
            slopes = None if slope is None else torch.zeros_like(found)
            for t in temperatures:
                values[rows] += _diverged(found, wanted, t, slopes)
            if slope is not None and slopes is not None:
                slope[rows] = linear(slopes.to(weight.dtype), weight.T)
            del found, wanted, slopes  # each is as large as the chunk: the next one shall not find them still there
        ctx.save_for_backward(*((slope,) if slope is not None else (hidden, weight, taught, taught_weight)))
        ctx.temperatures = temperatures
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (gradient,) = gradients
        if len(ctx.saved_tensors) == 1:
            (slope,) = ctx.saved_tensors
            return slope * gradient[:, None].to(slope.dtype), None, None, None, None
        hidden, weight, taught, taught_weight = ctx.saved_tensors
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for rows in _rows(len(hidden), len(weight)):
            # d T²·KL / d logits = T·(p − q), times what comes from above.
            found, wanted = linear(hidden[rows], weight).float(), linear(taught[rows], taught_weight).float()
            slopes = torch.zeros_like(found)
            for t in ctx.temperatures:
                slopes += t * (found / t).softmax(1).sub_((wanted / t).softmax(1))
            slopes = slopes.mul_(gradient[rows, None]).to(weight.dtype)
            to_hidden[rows] = linear(slopes, weight.T)
            to_weight += linear(slopes.T, hidden[rows].T)
            del found, wanted, slopes
        return to_hidden, to_weight, None, None, None


def _diverged(found: Tensor, wanted: Tensor, t: float, slopes: Tensor | None) -> Tensor:
    """[N] T²·KL at one temperature; d T²·KL / d logits = T·(p − q) is added to `slopes`. In place, as all of it is large."""
    q, p = (wanted / t).log_softmax(1), (found / t).log_softmax(1)
    chance = q.exp()
    values = t**2 * q.sub_(p).mul_(chance).sum(1)
    if slopes is not None:
        slopes += p.exp_().sub_(chance).mul_(t)
    return values


def _rows(n: int, vocabulary: int) -> list[slice]:
    size = max(1, LOGITS_AT_ONCE // vocabulary)
    return [slice(start, start + size) for start in range(0, n, size)]


def sum_by_row(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over the positions where `mask` is True: `[..., T] → [...]`. Values elsewhere are not looked at, NaN included."""
    return values_BT.masked_fill(~mask_BT, 0.0).sum(-1)


def mean_by_row(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the positions where `mask` is True: `[..., T] → [...]`; NaN for a row without any, because 0 would be certainty."""
    return sum_by_row(values_BT, mask_BT) / mask_BT.sum(-1)
