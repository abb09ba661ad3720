"""Rows of token ids, and batches of them as tensors. Nothing here knows a tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """One training or scoring row: a context the loss does not see, and the ids it does."""

    context: tuple[int, ...] = field(repr=False)
    answer: tuple[int, ...] = field(repr=False)
    role: str = "forget"
    """Which term of the loss it belongs to: `forget`, `preferred`, `rejected`, `retain`, `align`."""
    weight: float = 1.0
    reference: float = 0.0
    """Log-probability (nats) of the whole `answer` under the untouched model, where a method compares with it."""
    pair: str = ""
    """Rows of one pair are compared with each other and share a micro-batch; empty: the row stands alone."""

    @property
    def length(self) -> int:
        """In tokens, context and answer together."""
        return len(self.context) + len(self.answer)


@dataclass(frozen=True)
class Batch:
    """Rows as tensors: B rows of at most T tokens, at most A of them an answer's."""

    ids: Tensor
    """[B, T] token ids, each row from the first column on."""
    attention: Tensor
    """[B, T] 1 where there is a token."""
    starts: Tensor
    """[B] columns at which the answers begin."""
    mask: Tensor
    """[B, A] True on answer tokens."""
    roles: tuple[str, ...]
    weights: Tensor
    """[B] weight of each row within its term."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """Answer tokens per role over the whole optimizer step: the denominator that makes accumulation invisible."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows per role over the whole optimizer step."""
    references: Tensor = field(default_factory=lambda: torch.zeros(0))
    """[B] log-probability (nats) of each answer under the untouched model, as its row brings it."""
    pairs: tuple[str, ...] = ()
    """The pair each row belongs to."""
    soft: bool = False
    """Whether rows of the retain term are held to the untouched model, not to their own tokens (retain_loss.py)."""
    state_weight: float = 0.0
    """Weight with which a soft row's states are held to those of the untouched model, too."""

    def places(self, chosen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows and columns [N] of the answer tokens, or of those `chosen` [B, A], row by row."""
        rows, numbers = (self.mask if chosen is None else chosen).nonzero(as_tuple=True)
        return rows, self.starts[rows] + numbers

    def answers(self, chosen: Tensor | None = None) -> Tensor:
        """[N] ids of the answer tokens, or of those `chosen` [B, A], row by row."""
        return self.ids[self.places(chosen)]

    def of(self, chosen: Tensor) -> "Batch":
        """The rows where `chosen` [B] is True, as wide as before, for reading: counts are left out."""
        tensors = self.ids[chosen], self.attention[chosen], self.starts[chosen], self.mask[chosen]
        return Batch(*tensors, tuple(compress(self.roles, chosen.tolist())), self.weights[chosen])

    def keys(self) -> list[tuple[int, ...]]:
        """Of each row, what tells it from others: how many ids its answer has, and all its ids without padding."""
        each = zip(self.mask.sum(1).tolist(), self.ids.tolist(), self.attention.tolist(), strict=True)
        return [(length, *compress(ids, attended)) for length, ids, attended in each]

    def mean(self, values: Tensor, role: str) -> Tensor:
        """This batch's share of the step's token mean of `values` [B, A] over the rows of `role` (0 where it has none)."""
        chosen = torch.tensor([r == role for r in self.roles], device=values.device)
        weights = self.mask * (chosen * self.weights).unsqueeze(1)
        return (values * weights).sum() / max(1, self.tokens.get(role, 0))
