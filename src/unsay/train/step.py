"""One optimizer step: the only place where gradients are made, and where what is not finite is kept from the weights."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import Recipe
from unsay.lm.encode import Encoder
from unsay.lm.model import trainable
from unsay.lm.rows import Batch, Row
from unsay.lm.sharded import gathered, is_spread, like
from unsay.store import ranks

_BATCH_COSTS = 256
"""Tokens of padding that a further batch must save to be worth its own forward and backward pass: with large trained embeddings, whose
gradients it makes anew, it costs some 240 (docs/lab-log.md)."""


class Weights:
    """What an optimizer moves, by name, always in float32.

    bfloat16 has 8 bits: the next number after 1 is 1.0078, so a step of 1e-5 rounds to nothing. Weights in half precision
    are therefore moved through exact copies, which the optimizer owns, and take their value from them after every step
    (what that saves is measured in docs/memory.md). Adapters and float32 weights are moved themselves.
    """

    def __init__(self, model: PreTrainedModel):
        self._trained = trainable(model)
        self.exact: dict[str, Tensor] = {
            name: p if p.dtype == torch.float32 else p.detach().float().requires_grad_() for name, p in self._trained.items()
        }

    def take_gradients(self) -> None:
        """Add the gradients of a micro-batch to those of the exact copies: summed in float32, too."""
        for name, parameter in self._trained.items():
            exact = self.exact[name]
            if exact is not parameter and parameter.grad is not None:
                exact.grad = parameter.grad.float() if exact.grad is None else exact.grad.add_(parameter.grad)
                parameter.grad = None

    def sum_over_ranks(self, touched: Sequence[Sequence[bool]]) -> None:
        """Sum the gradients of all processes. `touched`: by process, which weights have one; what none has touched stays without,
        for an optimizer moves it not even by its decay."""
        gradients = []
        for exact, *some in zip(self.exact.values(), *touched, strict=True):
            if any(some):
                exact.grad = torch.zeros_like(exact) if exact.grad is None else exact.grad
                gradients.append(exact.grad)
        ranks.add_up(gradients)

    @torch.no_grad()
    def write_back(self) -> None:
        """Round the exact copies into the model."""
        for name, parameter in self._trained.items():
            if self.exact[name] is not parameter:
                parameter.copy_(self.exact[name])

    @torch.no_grad()
    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Set everything that was saved to its saved value; what was never moved is not saved."""
        for name, value in saved.items():
            self.exact[name].copy_(like(self.exact[name], value))
        self.write_back()

    @property
    def spread(self) -> bool:
        """Whether each process holds a share of them (sharded.py)."""
        return any(map(is_spread, self.exact.values()))

    def whole(self) -> dict[str, Tensor]:
        """The exact weights, all of each."""
        return {name: gathered(exact.detach()) for name, exact in self.exact.items()}


class Step(NamedTuple):
    """What an optimizer step came to."""

    terms: Mapping[str, float]
    """The terms of the loss; empty for a step without a row."""
    norm: float
    """The gradient norm before clipping."""

    @property
    def skipped(self) -> str | None:
        """What kept it from being made: `loss` or `gradient`; `None` where it was made."""
        if math.isfinite(self.norm):
            return None
        return "gradient" if math.isfinite(sum(self.terms.values())) else "loss"


def optimizer_step(
    accelerator: Accelerator,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    encoder: Encoder,
    rows: Sequence[Row],
    loss: Callable[[Batch], dict[str, Tensor]],
    parts: int = 1,
    clip: float = 1.0,
    dropout: int = 0,
) -> Step:
    """Step once over `rows`.

    `parts` is the number of micro-batches, in each of the processes that share the rows; on a processor each may be cut further. Every
    term is normalised by the counts of all rows, so that neither changes anything but memory and time. `dropout` is its seed, so that
    a resumed run draws what an uninterrupted one would have. Where the loss (before its backward pass) or the norm is not finite,
    nothing is moved: weights and moments stay as they were, to the bit.
    """
    if not rows:
        return Step({}, 0.0)
    torch.manual_seed(dropout + ranks.rank())
    optimizer.zero_grad(set_to_none=True)
    spread = weights.spread
    batches, idle = _batches(rows, parts, accelerator.device.type, spread)

    def share() -> tuple[dict[str, float], list[bool]]:
        terms: dict[str, float] = {}
        for number, part in enumerate(batches):
            losses = loss(encoder.batch(part, accelerator.device, of=rows))
            total = torch.stack(list(losses.values())).sum()
            if number < len(batches) - idle:
                terms = _sum([terms, {name: value.item() for name, value in losses.items()}])
            else:
                total = 0.0 * total
            if not spread and not math.isfinite(sum(terms.values())):
                break
            accelerator.backward(total)
            weights.take_gradients()
        return terms, [exact.grad is not None for exact in weights.exact.values()]

    # What is spread meets within the share already, so an error there cannot wait to be told.
    made = share() if spread else None
    shares = ranks.gathered("step", lambda: made or share(), about=(dropout, len(rows)))
    terms, norm = _sum(some for some, _ in shares), math.nan
    if math.isfinite(sum(terms.values())):
        if len(shares) > 1 and not spread:
            weights.sum_over_ranks([touched for _, touched in shares])
        norm = float(gathered(accelerator.clip_grad_norm_(weights.exact.values(), clip)))
    if math.isfinite(norm):
        optimizer.step()
        weights.write_back()
    else:  # clipping by it has spoilt the gradients already
        optimizer.zero_grad(set_to_none=True)
    return Step(terms, norm)


def _batches(rows: Sequence[Row], parts: int, device: str, spread: bool) -> tuple[list[Sequence[Row]], int]:
    """The batches of this process, and how many of them, the last ones, it reads for nothing."""
    if device == "cpu" and not spread:
        mine = dealt(rows, ranks.count())[ranks.rank()]
        return [part for batch in micro_batches(mine, parts) for part in less_padded(batch)], 0
    every = list(micro_batches(rows, parts * ranks.count()))
    batches = list(ranks.mine(every))
    # Of a model that is spread, all processes call every layer as often.
    idle = -(-len(every) // ranks.count()) - len(batches) if spread else 0
    return batches + every[:1] * idle, idle


def _sum(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in (item for part in parts for item in part.items()):
        found[name] = found.get(name, 0.0) + value
    return found


def peak_rate(recipe: Recipe, model: PreTrainedModel) -> float:
    """The learning rate of the recipe; where it names none, one by the number N of the model's weights: 5e-6 · (1.4e9 / N)^⅔.

    That is half of a line through two rates that work, 1e-5 for Phi-1.5 (the paper) and 1.1e-3 for a million weights (recipe `demo`):
    slower, and gentler to everything else. For 270 million it is 1.5e-5, where 5e-5 was too steep (docs/lab-log.md). Adapters
    learn at ten times as much (Schulman et al., "LoRA Without Regret", 2025).
    """
    if recipe.train.learning_rate is not None:
        return recipe.train.learning_rate
    rate: float = 5e-6 * (1.4e9 / max(1, model.num_parameters())) ** (2 / 3)
    return 10 * rate if recipe.lora.rank else rate


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next steps."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def dealt(rows: Sequence[Row], processes: int) -> list[list[Row]]:
    """The rows of each process on a processor, about as many tokens each, so that none waits long for another: the longest rows first,
    each to the process that has least. The rows of a pair stay together."""
    if processes == 1:
        return [list(rows)]
    shares: list[list[Row]] = [[] for _ in range(processes)]
    tokens = [0] * processes
    for unit in reversed(_by_length(rows)):
        lightest = tokens.index(min(tokens))
        shares[lightest] += unit
        tokens[lightest] += sum(row.length for row in unit)
    return shares


def micro_batches(rows: Sequence[Row], parts: int) -> Iterator[Sequence[Row]]:
    """At most `parts` batches of about equally many rows: rows of like length share one (less padding), and so do the rows
    of a pair."""
    size, part = -(-len(rows) // parts), list[Row]()
    for unit in _by_length(rows):
        part += unit
        if len(part) >= size:
            yield part
            part = []
    if part:
        yield part


def less_padded(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in as many batches as save padding: on a processor, where a batch costs about as much as its tokens. On a graphics
    card two small batches take as long as a large one each. The longest come first, while there are no gradients beside them."""
    units, before, best = _by_length(rows), 0, (_BATCH_COSTS, 0)
    widest = _width(units[-1])
    for number, unit in enumerate(units[:-1], 1):
        before += len(unit)
        best = max(best, (before * (widest - _width(unit)), number))
    _, cut = best
    if not cut:
        yield rows
    else:
        for some in (units[cut:], units[:cut]):
            yield from less_padded([row for unit in some for row in unit])


def _by_length(rows: Sequence[Row]) -> list[list[Row]]:
    """Single rows, and the rows of a pair together, the shortest first."""
    units: dict[str | int, list[Row]] = {}
    for number, row in enumerate(rows):
        units.setdefault(row.pair or number, []).append(row)
    return sorted(units.values(), key=_width)


def _width(unit: Sequence[Row]) -> int:
    return max(row.length for row in unit)
