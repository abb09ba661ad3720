"""A model one can ask: what record, `ask` and the audit see. Text in, text out; likelihoods where there are weights."""

from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel

from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs
from unsay.lm.progress import report
from unsay.lm.rows import Row
from unsay.lm.sample import NOT_FINITE, Draw, sample
from unsay.store import ranks
from unsay.store.memory import trim
from unsay.types import Answer

T = TypeVar("T")
AT_ONCE = 1024
"""Questions that are asked at once, where there may be any number of them."""
READ_ROWS = 32
"""Rows that are read at once."""


def parts(items: Sequence[T], size: int = 0) -> Iterator[Sequence[T]]:
    """The items, `size` at a time, or `AT_ONCE`: what a model says to all of them at once would take more memory than all else."""
    for start in range(0, len(items), size or AT_ONCE):
        if start and not size:
            trim()  # most of what was made for the last ones
        yield items[start : start + (size or AT_ONCE)]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing to ask. `key` names the example, so that its random numbers do not depend on the batch."""

    key: str
    question: str | None = field(repr=False)
    """`None`: no question and no template, the bare text that `prefix` begins."""
    prefix: str = field(default="", repr=False)
    """The beginning of the answer, put into the model's mouth; the answer is what follows."""
    before: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The turns ahead of the question, as (role, text); a system message takes the place of the usual one."""


class Unaskable(RuntimeError):
    """This subject cannot be asked so (an answer begun for it, sampling); the message says why, and never quotes a question."""


class Subject(Protocol):
    """What a probe may do with a model."""

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        """n answers per prompt (temperature 0: one greedy answer). `salt` sets one probe's draws apart from another's.

        Raises `Unaskable` where the subject has no way to do it: the audit then leaves the probe unscored.
        """
        ...

    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> list[torch.Tensor] | None:
        """Log-probabilities (nats) of each answer's tokens, end-of-sequence included; a question `None` gives the bare
        text no context. `None` where the subject shows no likelihoods (an endpoint)."""
        ...

    @property
    def weights(self) -> tuple[PreTrainedModel, Encoder] | None:
        """The model and its encoder, for attacks on the weights (on a copy); `None` for an endpoint."""
        ...


class LocalSubject:
    """A model in this process, with how and under which seed it is sampled."""

    def __init__(self, model: PreTrainedModel, encoder: Encoder, config: SampleConfig, seed: int = 0):
        self.model, self.encoder, self.config, self.seed = model, encoder, config, seed

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        draws = [
            Draw(f"{p.key}|{p.prefix}", self.encoder.prompt(p.question, p.before) + self.encoder.prefix(p.prefix), n, temperature, top_p)
            for p in prompts
        ]
        return self.sample(draws, salt)

    def sample(self, draws: Sequence[Draw], salt: str = "") -> list[list[Answer]]:
        """Answers for every draw, in order (`unsay.lm.sample`)."""
        return sample(self.model, self.encoder, draws, self.config, self.seed, salt) if draws else []

    def row_logprobs(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Log-probabilities (nats) of each row's answer tokens."""
        return row_logprobs(self.model, self.encoder, rows)

    @torch.inference_mode()
    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> list[torch.Tensor]:
        rows = [self.encoder.pair(q, a) for q, a in zip(questions, answers, strict=True)]
        found = self.row_logprobs(rows)
        if any(bool(values.isnan().any()) for values in found):
            raise FloatingPointError(NOT_FINITE)
        return found

    @property
    def weights(self) -> tuple[PreTrainedModel, Encoder]:
        return self.model, self.encoder


def encoder_of(subject: Subject) -> Encoder | None:
    """How the subject reads and writes; `None` for an endpoint. Unlike `weights` it never makes a model load that has not yet."""
    return subject.encoder if isinstance(subject, LocalSubject) else None


def sampling_of(subject: Subject) -> SampleConfig:
    """How the subject samples, for a changed copy of its model to be asked alike; by the built-in sampler, which takes any."""
    config = subject.config if isinstance(subject, LocalSubject) else SampleConfig()
    return SampleConfig(config.max_new_tokens, config.rows, config.window)


@torch.inference_mode()
def row_logprobs(model: PreTrainedModel, encoder: Encoder, rows: Sequence[Row]) -> list[torch.Tensor]:
    """Log-probabilities (nats) of each row's answer tokens, on the CPU; rows are batched by length, and several processes share
    the batches."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].length)
    size = ranks.part(READ_ROWS, len(rows))
    starts = ranks.mine(range(0, len(order), size))

    def share() -> dict[int, np.ndarray]:  # a tensor that is a part of another would travel with all of it
        read: dict[int, np.ndarray] = {}
        for start in starts:
            chosen = order[start : start + size]
            values = answer_logprobs(model, encoder.batch([rows[i] for i in chosen], model.device)).cpu()
            read |= {i: row[: len(rows[i].answer)].numpy() for i, row in zip(chosen, values, strict=True)}
            report(start + len(chosen), len(rows), "rows read")
        return read

    values = ChainMap(*ranks.gathered("rows", share, about=[(len(row.context), row.answer) for row in rows]))
    return [torch.from_numpy(values[i]) for i in range(len(rows))]
