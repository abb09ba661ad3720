"""Counts what real code asks of a model while it runs: batches of answers, forward passes, optimizer steps.

    with counted() as tally:
        optimizer_step(...)
    tally.take()        the work since the last take

With answers to `said` (standin.py) the model writes none: they are put into its mouth.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import PreTrainedModel

from unsay.config import SampleConfig
from unsay.doctor.cost import Work
from unsay.doctor.standin import Said, light_divergences, light_logprobs
from unsay.lm import model as models
from unsay.lm import sample
from unsay.lm.encode import Encoder
from unsay.lm.logprobs import head_divergences, head_logprobs
from unsay.lm.progress import is_fixed
from unsay.lm.rows import Row
from unsay.lm.subject import READ_ROWS
from unsay.train import step
from unsay.types import Answer

Draws = Sequence[sample.Draw]


@dataclass
class Tally:
    """What has been counted since the last `take`, and the largest batches since the beginning."""

    share: float = 1.0
    """Of the run's questions, how many are asked here. Batches are as full as they would be with all."""
    whole: float = 0.0
    """Numbers that an optimizer must move for an update to be one of the whole model; 0: no update is."""
    heavier: float = 1.0
    """What an update of the whole model counts, beside one of what the recipe trains."""
    counts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    batches: set[tuple[int, int]] = field(default_factory=set)
    """Of answers: rows, and the tokens that the cache has room for in each."""
    tokens: int = 0
    """Most tokens, padding included, and most `rows` of a micro-batch; `moved`: most numbers that an optimizer moved."""
    rows: int = 0
    moved: int = 0
    few_bits: int = 0
    """Bytes of weights in few bits, of the model that had most of them."""
    _taken_at: float = field(default_factory=time.process_time)
    _model_seconds: float = 0.0
    _backward_since: float | None = None
    _depth: int = 0

    def take(self) -> Work:
        """Counts since the last take; scoring is the processor time in which no model was at work."""
        now = time.process_time()
        work = Work({unit: count for unit, count in self.counts.items() if count}, max(0.0, now - self._taken_at - self._model_seconds))
        self.counts.clear()
        self._taken_at, self._model_seconds, self._backward_since = now, 0.0, None
        return work

    @contextmanager
    def at_work(self) -> Iterator[bool]:
        """Time in here is the model's; whether this is the outermost of such blocks."""
        self._depth += 1
        start = time.process_time()
        try:
            yield self._depth == 1
        finally:
            self._depth -= 1
            if not self._depth and self._backward_since is None:
                self._model_seconds += time.process_time() - start

    def few_bits_of(self, model: PreTrainedModel) -> None:
        self.few_bits = max(self.few_bits, sum(p.nbytes for p in model.parameters() if not p.is_floating_point()))

    def _weights(self, rows: int, most: int) -> tuple[float, float]:
        """What a row counts, and a batch of so many rows where it may have `most`: the share of a full one that it will be."""
        if is_fixed():  # what is asked however many there are is not to be multiplied
            return self.share, self.share
        return 1.0, min(1.0, max(self.share, rows / most))

    def answered(self, draws: Draws, answers: Sequence[Answer], config: SampleConfig) -> None:
        """One batch of answers was written."""
        rows, width = len(answers), max(len(draw.context) for draw in draws)
        lengths, alive, decoded = [len(answer.ids) for answer in answers], rows, 0
        for position in range(1, max(lengths)):
            left = sum(length > position for length in lengths)
            alive = left if left < sample.SHRINK * alive else alive
            decoded += alive
        times, full = self._weights(rows, config.rows)
        self.counts["read batch"] += full
        self.counts["read token"] += times * len(draws) * width
        self.counts["decode step"] += full * max(0, max(lengths) - 1)
        self.counts["decoded token"] += times * decoded
        if any(draw.temperature for draw in draws):
            self.counts["drawn token"] += times * (decoded + rows)
        self.batches.add((ceil(times * rows), width + config.max_new_tokens))

    def forward(self, model: PreTrainedModel, ids: Tensor) -> None:
        """A model was called on ids [B, T]."""
        self.few_bits_of(model)
        if not torch.is_grad_enabled():
            times, full = self._weights(len(ids), READ_ROWS)
            self.counts["read batch"] += full
            self.counts["read token"] += times * ids.numel()
            return
        self.counts["micro-batch"] += 1
        self.counts["trained token"] += ids.numel()
        self.tokens, self.rows = max(self.tokens, ids.numel()), max(self.rows, len(ids))
        if self._backward_since is None:  # what follows, up to the update, is the backward pass
            self._backward_since = time.process_time()

    def backward_done(self) -> None:
        """A backward pass is over, with its update where there is one."""
        if self._backward_since is not None:
            self._model_seconds += time.process_time() - self._backward_since
            self._backward_since = None

    def updated(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        if self._backward_since is None:  # something else than a model is trained: a classifier of answers
            return
        self.backward_done()
        moved = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        self.moved = max(self.moved, moved)
        self.counts["update"] += self.heavier if self.whole and moved >= self.whole else 1.0


@contextmanager
def counted(said: Said | None = None, share: float = 1.0, whole: float = 0.0, heavier: float = 1.0) -> Iterator[Tally]:
    """A tally of everything that is asked of models inside, in this process."""
    tally, decode, less_padded = Tally(share, whole, heavier), sample._decode, step.less_padded

    def counted_decode(model: PreTrainedModel, encoder: Encoder, draws: Draws, config: SampleConfig, *chance: Any) -> Iterator[Answer]:
        tally.few_bits_of(model)
        with tally.at_work():  # chance: the seed, what the occasion is called, and which batch of how many this is
            answers = list(decode(model, encoder, draws, config, *chance)) if said is None else said(encoder, draws, config, chance[1])
        tally.answered(draws, answers, config)
        return iter(answers)

    def counted_call(model: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        with tally.at_work() as outermost:
            if outermost:
                tally.forward(model, kwargs["input_ids"] if "input_ids" in kwargs else args[0])
            return nn.Module.__call__(model, *args, **kwargs)

    def counted_rows(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        # On another device they stay together, and memory is foretold for that.
        tally.rows = max(tally.rows, len(rows))
        tally.tokens = max(tally.tokens, len(rows) * max(row.length for row in rows))
        return less_padded(rows)

    gradient = torch.autograd.grad

    def counted_gradient(*args: Any, **kwargs: Any) -> Any:
        try:
            return gradient(*args, **kwargs)
        finally:
            tally.backward_done()

    logprobs, divergences = (head_logprobs, head_divergences) if said is None else (light_logprobs, light_divergences)
    at_work = tally.at_work()  # as a decorator: every call counts as the model's time
    with ExitStack() as stack:
        stack.enter_context(patch.object(sample, "_decode", counted_decode))
        stack.enter_context(patch.object(models, "head_logprobs", at_work(logprobs)))
        stack.enter_context(patch.object(models, "head_divergences", at_work(divergences)))
        stack.enter_context(patch.object(PreTrainedModel, "__call__", counted_call, create=True))
        stack.enter_context(patch.object(torch.autograd, "grad", counted_gradient))
        stack.enter_context(patch.object(step, "less_padded", counted_rows))
        stack.callback(register_optimizer_step_post_hook(tally.updated).remove)
        yield tally
