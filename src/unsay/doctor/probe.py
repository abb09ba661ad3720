"""The ten-second probe: the run's own code on a few rows, timed, and once more with its tensors counted.

Two sizes of everything, so that a fixed cost and a cost per token come out. The order is from what decides most to what
decides least; a slow model gets shorter measurements, never none.
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

from unsay.adapters import Untouched
from unsay.anchor import softened
from unsay.config import Recipe, SampleConfig
from unsay.doctor.cost import Costs, Work, decoding, fit, reading, training
from unsay.doctor.tracker import live_bytes
from unsay.encode import Batch, Encoder, Row
from unsay.methods import Method
from unsay.sample import Draw, sample
from unsay.step import Weights, optimizer_step
from unsay.subject import row_logprobs
from unsay.train import needs_untouched

BUDGET = 10.0
"""Seconds that the measurements may take, loading apart."""


@dataclass
class Probe:
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
        """The model before training, where the method or the anchors compare with it."""
        return Untouched(self.model) if needs_untouched(self.recipe, self.method) else None

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.loss(self.model, self.reference, softened(batch, self.recipe))

    def costs(self) -> Costs:
        """Runs the measurements that have not been made and fits them."""
        self._steps()
        self._decoding()
        self._reading()
        wall = fit([(work, seconds) for work, seconds, _ in self.measured])
        cpu = fit([(work, seconds) for work, _, seconds in self.measured])
        return Costs(wall, cpu, self._contention())

    def warm(self) -> None:
        """One small answer, so that what libraries load on first use is there before anything is measured."""
        sample(self.model, self.encoder, self._draws(2, greedy=False), SampleConfig(max_new_tokens=2, rows=2))

    def left(self) -> float:
        return BUDGET - self.spent

    # -- training ----------------------------------------------------------------------------------------------------

    def _steps(self) -> None:
        """Optimizer steps of a few rows, of a whole micro-batch, and in two micro-batches."""
        step = self._stepper()
        few, many = list(self.rows[:2]), list(self.rows)
        step(few, 1)  # warm: the optimizer makes its state
        small = self._time(lambda: step(few, 1), self._training(few, 1))
        many = many[: max(4, int(len(few) * 0.6 * BUDGET / small))]
        took = self._time(lambda: step(many, 1), self._training(many, 1))
        if took < 0.1 * BUDGET:
            self._time(lambda: step(many, 2), self._training(many, 2))
            self._time(lambda: step(few, 1), self._training(few, 1))
            self._time(lambda: step(many, 1), self._training(many, 1))

    def _stepper(self) -> Callable[[Sequence[Row], int], None]:
        """The recipe's own optimizer step, at a learning rate of 0: the model stays as it is."""
        weights = Weights(self.model)
        optimizer = torch.optim.AdamW(weights.exact.values(), lr=0.0, weight_decay=0.0)
        accelerator = Accelerator()

        def step(rows: Sequence[Row], parts: int) -> None:
            self.model.train()
            optimizer_step(
                accelerator,
                weights,
                optimizer,
                self.encoder,
                rows,
                self.loss,
                parts,
            )
            self.model.eval()

        return step

    @staticmethod
    def _training(rows: Sequence[Row], parts: int) -> Work:
        return training([(len(row.context), len(row.answer)) for row in rows], parts)

    # -- decoding ----------------------------------------------------------------------------------------------------

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
        if self.left() > 0.2 * BUDGET and many >= 4 * few:
            self._decode(many // 4, self._steps_within(share, took / 6))

    def _steps_within(self, seconds: float, step: float) -> int:
        """Tokens that can be written in so many seconds; at least four, at most an answer's limit."""
        return max(4, min(self.recipe.sample.max_new_tokens, int(seconds / max(step, 1e-6))))

    def _decode(self, rows: int, length: int, greedy: bool = False) -> float:
        draws = self._draws(rows, greedy)
        config = SampleConfig(max_new_tokens=length, rows=rows, window=self.recipe.sample.window)
        width = max(len(draw.context) for draw in draws)
        work = decoding(width, len(draws), [length] * rows, [greedy] * rows)
        return self._time(lambda: sample(self.model, self._endless(), draws, config), work)

    def _draws(self, rows: int, greedy: bool) -> list[Draw]:
        """`rows` rows: eight to a prompt when sampled, one when greedy."""
        n = 1 if greedy else min(8, rows)
        prompts = [self.encoder.prompt(self.questions[i % len(self.questions)]) for i in range(-(-rows // n))]
        counts = [min(n, rows - i * n) for i in range(len(prompts))]
        temperature = 0.0 if greedy else 1.0
        return [Draw(f"probe {i}", p, c, temperature, 0.95) for i, (p, c) in enumerate(zip(prompts, counts, strict=True))]

    def _endless(self) -> Encoder:
        """An encoder for which no answer ends: every row is written to the limit."""
        endless = copy.copy(self.encoder)
        endless.stops = frozenset({-1})
        return endless

    # -- reading -----------------------------------------------------------------------------------------------------

    def _reading(self) -> None:
        few, many = list(self.rows[:4]), (list(self.rows) * 32)[:32]
        once = self._time(lambda: row_logprobs(self.model, self.encoder, few), self._read(few))
        many = many[: max(8, min(32, int(4 * 0.1 * BUDGET / once)))]
        self._time(lambda: row_logprobs(self.model, self.encoder, many), self._read(many))

    @staticmethod
    def _read(rows: Sequence[Row]) -> Work:
        return reading([(len(row.context), len(row.answer)) for row in rows])

    # -- shared ------------------------------------------------------------------------------------------------------

    def _time(self, run: Callable[[], object], work: Work) -> float:
        """Seconds, those of other programs left out; the measurement is kept."""
        _wait(self.model)
        cpu, start = time.process_time(), time.perf_counter()
        run()
        _wait(self.model)
        wall, busy = time.perf_counter() - start, time.process_time() - cpu
        self.measured.append((work, wall, max(busy, 1e-6)))
        own = min(wall, max(busy, 1e-6))
        self.spent += own
        return own

    def _contention(self) -> float:
        """How much longer one thread takes on the clock than it is busy: measured on plain Python."""
        cpu, start = time.process_time(), time.perf_counter()
        while time.process_time() - cpu < 0.1:
            sum(range(1000))
        return (time.perf_counter() - start) / (time.process_time() - cpu)


def _wait(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


# -- memory ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """Bytes that pieces of work hold, beside the weights."""

    trained_token: float
    """For a token of a micro-batch: what the forward pass keeps for the backward one."""
    attack_token: float
    """The same without gradient checkpointing, as the relearning attack trains."""
    row: float
    """For a row that is decoded: its logits and what sampling makes of them."""
    cached_token: float
    """For a token of a row in the cache, with what attention makes of it."""
    prompt_token: float
    """Further, for a token of the cache of prompts that are read at once, before it is spread over their answers."""


def held(probe: Probe) -> Held:
    """Count tensors in a backward pass over one row and over three, and in the decoding of eight."""
    token = _token_bytes(probe, training=True)
    attack = _token_bytes(probe, training=False) if probe.recipe.train.gradient_checkpointing else token
    return Held(token, attack, *_decode_bytes(probe))


def _token_bytes(probe: Probe, training: bool) -> float:
    """Bytes that a token more holds. In evaluation mode, as the attack trains, nothing is recomputed, whatever the recipe says."""
    few, more = list(probe.rows[:1]), list(probe.rows[:3])
    tokens = [Probe._training(rows, 1)["trained token"] for rows in (few, more)]
    kept = [_step_bytes(probe, rows, training) for rows in (few, more)]
    return max(0.0, (kept[1] - kept[0]) / (tokens[1] - tokens[0])) if tokens[1] > tokens[0] else kept[1] / tokens[1]


def _step_bytes(probe: Probe, rows: Sequence[Row], training: bool) -> float:
    """Held after the forward pass; with gradient checkpointing, at most in the backward pass, gradients apart."""
    model, batch = probe.model, probe.encoder.batch(rows, probe.model.device)
    model.zero_grad(set_to_none=True)
    model.train(training)
    with live_bytes() as bytes_:
        loss = torch.stack(list(probe.loss(batch).values())).sum()
        kept, bytes_.peak = bytes_.now, bytes_.now
        loss.backward()
        again = bytes_.peak - kept
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    model.eval()
    model.zero_grad(set_to_none=True)
    return float(kept + (max(0, again - gradients) if training and probe.recipe.train.gradient_checkpointing else 0))


def _decode_bytes(probe: Probe) -> tuple[float, float, float]:
    """Bytes for a row, for a token of a row in the cache, and for a token of a prompt in it."""
    (short, low), (long, high) = (_sampled_bytes(probe, length, greedy=False) for length in (2, 10))
    cached = max(0.0, (high - low) / (8 * (long - short)))
    row = max(0.0, low / 8 - cached * short)
    # Sampled, one prompt has eight rows; greedily, every row has a prompt of its own.
    capacity, greedy = _sampled_bytes(probe, 10, greedy=True)
    return row, cached, max(0.0, greedy / (8 * capacity) - cached - row / capacity)


def _sampled_bytes(probe: Probe, length: int, greedy: bool) -> tuple[int, int]:
    """Capacity of a row in the cache, and the most bytes held while eight are decoded."""
    config = SampleConfig(max_new_tokens=length, rows=8, window=probe.recipe.sample.window)
    draws = probe._draws(8, greedy)
    with live_bytes() as bytes_:
        sample(probe.model, probe._endless(), draws, config)
    return max(len(draw.context) for draw in draws) + length, bytes_.peak
