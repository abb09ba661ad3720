"""What each unit of work costs here: the run's own code on a few rows of the recipe, timed, and once more with its tensors counted.

Two sizes of everything, so that a fixed cost and a cost per token come out. A slow model gets shorter measurements, never none.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import Recipe, SampleConfig
from unsay.doctor.cost import Costs, Work, fit
from unsay.doctor.tape import taped
from unsay.doctor.tracker import live_bytes
from unsay.lm.adapters import Untouched
from unsay.lm.encode import Batch, Encoder, Row
from unsay.lm.sample import Draw, sample
from unsay.lm.subject import row_logprobs
from unsay.methods import Method
from unsay.methods.retain_loss import softened
from unsay.train import needs_untouched
from unsay.train.step import Weights, optimizer_step

BUDGET = 10.0
"""Seconds that the measurements may take, loading apart."""


@dataclass
class Prices:
    """A loaded model, the rows to measure with, and what has been measured so far."""

    recipe: Recipe
    method: Method
    model: PreTrainedModel
    encoder: Encoder
    rows: Sequence[Row]
    """Training rows as a step of the recipe has them, in a typical mix of lengths."""
    questions: Sequence[str]
    spent: float = 0.0
    """Seconds of the budget that the measurements took."""
    measured: list[tuple[Work, float, float]] = field(default_factory=list)
    """Work, seconds on the clock, processor seconds."""

    @cached_property
    def reference(self) -> Untouched | None:
        """The model before training, where the method or the retain term compares with it."""
        return Untouched(self.model) if needs_untouched(self.recipe, self.method) else None

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.loss(self.model, self.reference, softened(batch, self.recipe))

    def warm(self) -> None:
        """One small answer, so that what libraries load on first use is there before anything is measured."""
        sample(self.model, self.encoder, self._draws(2, greedy=False), SampleConfig(max_new_tokens=2, rows=2))

    def costs(self) -> Costs:
        """Measure everything, and fit."""
        self._steps()
        self._decoding()
        once = self._time(lambda: row_logprobs(self.model, self.encoder, list(self.rows[:4])))
        many = max(8, min(32, int(4 * 0.1 * BUDGET / once)))
        self._time(lambda: row_logprobs(self.model, self.encoder, (list(self.rows) * 32)[:many]))
        wall = fit([(work, seconds) for work, seconds, _ in self.measured])
        return Costs(wall, fit([(work, seconds) for work, _, seconds in self.measured]), _contention())

    def _steps(self) -> None:
        """Optimizer steps of a few rows, of a whole micro-batch, and in two micro-batches: the recipe's own, at a learning rate of 0."""
        weights, accelerator = Weights(self.model), Accelerator()
        optimizer = torch.optim.AdamW(weights.exact.values(), lr=0.0, weight_decay=0.0)

        def step(rows: Sequence[Row], parts: int) -> None:
            self.model.train()
            optimizer_step(accelerator, weights, optimizer, self.encoder, rows, self.loss, parts)
            self.model.eval()

        few = list(self.rows[:2])
        step(few, 1)  # warm: the optimizer makes its state
        small = self._time(lambda: step(few, 1))
        many = list(self.rows)[: max(4, int(len(few) * 0.6 * BUDGET / small))]
        if self._time(lambda: step(many, 1)) < 0.1 * BUDGET:
            for rows, parts in ((many, 2), (few, 1), (many, 1)):
                self._time(lambda rows=rows, parts=parts: step(rows, parts))  # type: ignore[misc]

    def _decoding(self) -> None:
        """Few rows and many, sampled and greedy: short, and longer by some tokens, so that reading the prompt drops out."""
        most, few, share = self.recipe.sample.rows, min(8, self.recipe.sample.rows), 0.1 * BUDGET
        short = self._decode(few, 2)
        long = self._decode(few, self._steps_within(share / 2, short / 2))
        step = min(short / 2, long / max(1.0, self.measured[-1][0]["decode step"]))
        # Rows are dearer than that on a large vocabulary and cheaper on a small one; the first many are a try.
        many = max(few, min(most, 256, int(few * share / (3 * step))))
        took = self._decode(many, 3)
        self._decode(many, self._steps_within(share, took / 3))
        self._decode(many, self._steps_within(share, took / 3), greedy=True)
        if self.spent < 0.8 * BUDGET and many >= 4 * few:
            self._decode(many // 4, self._steps_within(share, took / 6))

    def _steps_within(self, seconds: float, step: float) -> int:
        """Tokens that can be written in so many seconds; at least four, at most an answer's limit."""
        return max(4, min(self.recipe.sample.max_new_tokens, int(seconds / max(step, 1e-6))))

    def _decode(self, rows: int, length: int, greedy: bool = False) -> float:
        config = SampleConfig(max_new_tokens=length, rows=rows, window=self.recipe.sample.window)
        return self._time(lambda: sample(self.model, self.endless(), self._draws(rows, greedy), config))

    def _draws(self, rows: int, greedy: bool) -> list[Draw]:
        """`rows` rows: eight to a prompt when sampled, one when greedy."""
        n = 1 if greedy else min(8, rows)
        prompts = [self.encoder.prompt(self.questions[i % len(self.questions)]) for i in range(-(-rows // n))]
        counts = [min(n, rows - i * n) for i in range(len(prompts))]
        temperature = 0.0 if greedy else 1.0
        return [Draw(f"doctor {i}", p, c, temperature, 0.95) for i, (p, c) in enumerate(zip(prompts, counts, strict=True))]

    def endless(self) -> Encoder:
        """An encoder for which no answer ends: every row is written to the limit."""
        endless = copy.copy(self.encoder)
        endless.stops = frozenset({-1})
        return endless

    def _time(self, run: Callable[[], object]) -> float:
        """Seconds, those of other programs left out; the measurement is kept."""
        with taped() as tape:
            _wait(self.model)
            cpu, start = time.process_time(), time.perf_counter()
            run()
            _wait(self.model)
            wall, busy = time.perf_counter() - start, max(time.process_time() - cpu, 1e-6)
        self.measured.append((Work(tape.take().counts), wall, busy))
        self.spent += min(wall, busy)
        return min(wall, busy)

    # -- memory --------------------------------------------------------------------------------------------------------

    def held(self) -> dict[str, float]:
        """Bytes that pieces of work hold, by their names in `memory.Sizes`: tensors counted in a backward pass over one row and over
        three, and while eight are decoded."""
        token = self._token_bytes(training=True)
        attack = self._token_bytes(training=False) if self.recipe.train.gradient_checkpointing else token
        (short, low), (long, high) = (self._sampled_bytes(length, greedy=False) for length in (2, 10))
        cached = max(0.0, (high - low) / (8 * (long - short)))
        row = max(0.0, low / 8 - cached * short)
        # Sampled, one prompt has eight rows; greedily, every row has a prompt of its own.
        capacity, greedy = self._sampled_bytes(10, greedy=True)
        prompt = max(0.0, greedy / (8 * capacity) - cached - row / capacity)
        return {"trained_token": token, "attack_token": attack, "row": row, "cached_token": cached, "prompt_token": prompt}

    def _token_bytes(self, training: bool) -> float:
        """Bytes that a token more holds. In evaluation mode, as attacks train, nothing is recomputed, whatever the recipe says."""
        (few, less), (many, more) = (self._step_bytes(self.rows[:n], training) for n in (1, 3))
        return max(0.0, (more - less) / (many - few)) if many > few else more / many

    def _step_bytes(self, rows: Sequence[Row], training: bool) -> tuple[int, float]:
        """Tokens, and what they hold after the forward pass; with gradient checkpointing, at most in the backward pass, gradients apart."""
        model, batch = self.model, self.encoder.batch(rows, self.model.device)
        model.zero_grad(set_to_none=True)
        model.train(training)
        with live_bytes() as bytes_:
            loss = torch.stack(list(self.loss(batch).values())).sum()
            kept, bytes_.peak = bytes_.now, bytes_.now
            loss.backward()
            again = bytes_.peak - kept
        gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        model.eval()
        model.zero_grad(set_to_none=True)
        recomputed = max(0, again - gradients) if training and self.recipe.train.gradient_checkpointing else 0
        return batch.ids.numel(), float(kept + recomputed)

    def _sampled_bytes(self, length: int, greedy: bool) -> tuple[int, int]:
        """Capacity of a row in the cache, and the most bytes held while eight are decoded."""
        config = SampleConfig(max_new_tokens=length, rows=8, window=self.recipe.sample.window)
        draws = self._draws(8, greedy)
        with live_bytes() as bytes_:
            sample(self.model, self.endless(), draws, config)
        return max(len(draw.context) for draw in draws) + length, bytes_.peak


def _wait(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _contention() -> float:
    """How much longer one thread takes on the clock than it is busy: measured on plain Python."""
    cpu, start = time.process_time(), time.perf_counter()
    while time.process_time() - cpu < 0.1:
        sum(range(1000))
    return (time.perf_counter() - start) / (time.process_time() - cpu)
