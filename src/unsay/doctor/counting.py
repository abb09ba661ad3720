"""Counts what real code asks of a model, while it runs: rows that are read, tokens that are written, steps that are taken.

    with taped() as tape:
        optimizer_step(...)
    tape.take()        the work since the last take

Sampling is counted where `sample` reads prompts and draws tokens, everything else where a model is called. With a `voice`
(standin.py) nothing is computed while sampling: the voice says what is written.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import PreTrainedModel

from unsay.doctor.cost import UNITS, Work
from unsay.doctor.standin import Voice, light_divergences, light_logprobs
from unsay.lm import model as models
from unsay.lm import sample
from unsay.lm.logprobs import head_divergences, head_logprobs
from unsay.lm.reading import Reading, read


@dataclass(frozen=True)
class Asked:
    """What decides the memory of one batch of answers."""

    rows: int
    """Answers written at once."""
    prompts: int
    """Prompts read at once."""
    capacity: int
    """Tokens that the cache has room for in each row."""


@dataclass
class Tape:
    """What has been counted since the last `take`, and what was seen since the beginning."""

    whole: float = 0.0
    """Numbers that an optimizer must move for an update to be one of the whole model; 0: no update is."""
    heavier: float = 1.0
    """What an update of the whole model counts, beside one of what the recipe trains."""
    counts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(UNITS, 0.0))
    asked: set[Asked] = field(default_factory=set)
    """The batches of answers, alike ones once."""
    tokens: int = 0
    """Most tokens of a micro-batch, padding included."""
    rows: int = 0
    """Most rows of a micro-batch."""
    moved: int = 0
    """Most numbers that an optimizer moved."""
    few_bits: int = 0
    """Bytes of weights in few bits, of the model that had most of them."""
    _since: float = field(default_factory=time.process_time)
    _off: float = 0.0
    _begun: float | None = None
    _depth: int = 0

    def count(self, units: Mapping[str, float]) -> None:
        for unit, number in units.items():
            self.counts[unit] += number

    def take(self) -> Work:
        """Counts since the last take; scoring is the processor time in which no model was at work."""
        now = time.process_time()
        work = Work({unit: count for unit, count in self.counts.items() if count}, max(0.0, now - self._since - self._off))
        self.counts = dict.fromkeys(UNITS, 0.0)
        self._since, self._off, self._begun = now, 0.0, None
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
            if not self._depth and self._begun is None:
                self._off += time.process_time() - start

    def forward(self, model: PreTrainedModel, inputs: Tensor) -> None:
        """A model was called on ids [B, T]."""
        if not torch.is_grad_enabled():
            self.count({"read batch": 1, "read token": inputs.numel()})
            return
        self.count({"micro-batch": 1, "trained token": inputs.numel()})
        self.tokens, self.rows = max(self.tokens, inputs.numel()), max(self.rows, len(inputs))
        if self._begun is None:  # what follows, up to the update, is the backward pass
            self._begun = time.process_time()

    def stepped(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        moved = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        self.moved = max(self.moved, moved)
        self.counts["update"] += self.heavier if self.whole and moved >= self.whole else 1.0
        if self._begun is not None:
            self._off += time.process_time() - self._begun
            self._begun = None


@dataclass
class _Counted:
    """A reading that writes down what it is asked."""

    tape: Tape
    of: Reading
    prompts: int
    capacity: int
    chosen: bool = False

    def __post_init__(self) -> None:
        self.logits = self.of.logits

    def choose(self, rows: Tensor) -> None:
        if not self.chosen:
            self.tape.asked.add(Asked(len(rows), self.prompts, self.capacity))
            self.chosen = True
        with self.tape.at_work():
            self.of.choose(rows)

    def append(self, tokens: Tensor) -> Tensor:
        self.tape.count({"decode step": 1, "decoded token": len(tokens)})
        with self.tape.at_work():
            return self.of.append(tokens)


@contextmanager
def taped(voice: Voice | None = None, whole: float = 0.0, heavier: float = 1.0) -> Iterator[Tape]:
    """A tape of everything that is asked of models inside, in this process."""
    tape, nucleus = Tape(whole, heavier), sample.nucleus

    def counted_read(model: PreTrainedModel, ids: Tensor, attention: Tensor, room: int) -> Reading:
        tape.count({"read batch": 1, "read token": ids.numel()})
        tape.few_bits = max(tape.few_bits, sum(p.nbytes for p in model.parameters() if not p.is_floating_point()))
        with tape.at_work():
            reading = read(model, ids, attention, room) if voice is None else voice.read(ids, attention)
        return _Counted(tape, reading, len(ids), ids.shape[1] + room)

    def counted_nucleus(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor, window: int) -> Tensor:
        tape.counts["drawn token"] += len(logits)
        with tape.at_work():
            return nucleus(logits, temperature, top_p, uniform, window) if voice is None else voice.draw(logits, uniform)

    def counted_call(model: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        with tape.at_work() as outermost:
            if outermost:
                tape.forward(model, kwargs["input_ids"] if "input_ids" in kwargs else args[0])
            return nn.Module.__call__(model, *args, **kwargs)

    def at_work(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def worked(*args: Any) -> Tensor:
            with tape.at_work():
                return function(*args)

        return worked

    heads = (head_logprobs, head_divergences) if voice is None else (light_logprobs, light_divergences)
    with ExitStack() as stack:
        stack.enter_context(_instead(sample, {"read": counted_read, "nucleus": counted_nucleus}))
        stack.enter_context(_instead(models, {"head_logprobs": at_work(heads[0]), "head_divergences": at_work(heads[1])}))
        stack.enter_context(_instead(PreTrainedModel, {"__call__": counted_call}))
        stack.callback(register_optimizer_step_post_hook(tape.stepped).remove)
        yield tape


@contextmanager
def _instead(owner: Any, names: Mapping[str, object]) -> Iterator[None]:
    """Other values for attributes, as long as the block lasts."""
    before = {name: vars(owner)[name] for name in names if name in vars(owner)}
    for name, value in names.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name in names:
            if name in before:
                setattr(owner, name, before[name])
            else:
                delattr(owner, name)
