"""Samplers of one shape: contexts and a number of answers in; for every context that many lists of ids out.

Ours, vLLM, and transformers' two: `generate`, and `generate_batch`, its continuous batching.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from subject import Subject
from unsay.config import SampleConfig, VllmConfig
from unsay.lm.linear import stock
from unsay.lm.sample import Draw, sample

Ids = list[list[list[int]]]


@dataclass(frozen=True)
class Decoding:
    """What every engine is asked for."""

    tokens: int
    """Length limit of an answer."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    endless: bool = False
    """Go on past the end of an answer, so that all have the same length."""


class Engine(Protocol):
    @property
    def name(self) -> str: ...

    def __call__(self, contexts: Sequence[tuple[int, ...]], n: int, decoding: Decoding) -> Ids: ...


class Ours:
    """`unsay.lm.sample`."""

    name = "ours"
    config: type[SampleConfig] = SampleConfig

    def __init__(self, subject: Subject):
        self.subject = subject
        self.occasions: Iterator[int] = count()  # the same salt would give the same answers again

    def __call__(self, contexts: Sequence[tuple[int, ...]], n: int, decoding: Decoding) -> Ids:
        encoder = self.subject.endless if decoding.endless else self.subject.encoder
        draws = [Draw(str(i), context, n, decoding.temperature, decoding.top_p) for i, context in enumerate(contexts)]
        answers = sample(self.subject.model, encoder, draws, self.config(decoding.tokens), 0, str(next(self.occasions)))
        return [[list(answer.ids) for answer in found] for found in answers]


class Vllm(Ours):
    """The same by vLLM, in this process."""

    name = "vllm"
    config = VllmConfig


@dataclass(frozen=True)
class Generate:
    """transformers' `generate`: `batch` prompts a call, shortest first, n answers to each by `num_return_sequences`."""

    subject: Subject
    name: str = "documented"
    batch: int = 1
    top_k: int = 0
    """0 switches it off. The default of transformers, 50, cuts a nucleus that is larger."""
    cache: str | None = None
    """`static` allocates once, and is compiled on GPUs."""
    stock: bool = True
    """With torch's own matrix products; else with ours (`unsay.lm.linear`), which a user of `generate` does not have."""

    @torch.inference_mode()
    def __call__(self, contexts: Sequence[tuple[int, ...]], n: int, decoding: Decoding) -> Ids:
        with stock(self.subject.model) if self.stock else nullcontext():
            return self._answers(contexts, n, decoding)

    def _answers(self, contexts: Sequence[tuple[int, ...]], n: int, decoding: Decoding) -> Ids:
        config = _generation(self.subject, n, decoding, self.top_k)
        config.cache_implementation = self.cache
        order = sorted(range(len(contexts)), key=lambda i: len(contexts[i]))
        found: Ids = [[] for _ in contexts]
        for start in range(0, len(order), self.batch):
            part = order[start : start + self.batch]
            ids, attention = self.subject.encoder.prompts([contexts[i] for i in part], self.subject.model.device)
            written = self.subject.model.generate(input_ids=ids, attention_mask=attention, generation_config=config)
            rows = written[:, ids.shape[1] :].tolist()
            for place, i in enumerate(part):
                found[i] = rows[place * n : (place + 1) * n]
        return found


@dataclass(frozen=True)
class Continuous:
    """transformers' `generate_batch` (continuous batching), its pages sized for the request: left to itself it takes most of
    the machine's memory, and on a CPU clearing that takes longer than the answers."""

    subject: Subject
    name: str = "generate_batch"
    page: int = 32

    def __call__(self, contexts: Sequence[tuple[int, ...]], n: int, decoding: Decoding) -> Ids:
        config = _generation(self.subject, n, decoding, top_k=0)
        pages = sum(n * (-(-(len(context) + decoding.tokens) // self.page) + 1) for context in contexts)
        batching = ContinuousBatchingConfig(page_size=self.page, num_blocks=pages, max_batch_tokens=max(1024, n * len(contexts)))
        with stock(self.subject.model):
            made = self.subject.model.generate_batch([list(c) for c in contexts], config, batching)
        rows = [output.generated_tokens for output in made.values()]
        if len(rows) != n * len(contexts) or any(output.error for output in made.values()):
            raise RuntimeError("generate_batch did not answer everything")
        return [rows[i * n : (i + 1) * n] for i in range(len(contexts))]


def _generation(subject: Subject, n: int, decoding: Decoding, top_k: int) -> GenerationConfig:
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": top_k} if decoding.temperature else {}
    return GenerationConfig(
        max_new_tokens=decoding.tokens,
        do_sample=bool(decoding.temperature),
        num_return_sequences=n,
        pad_token_id=subject.encoder.pad,
        eos_token_id=-1 if decoding.endless else sorted(subject.encoder.stops),
        **sampling,
    )


def configurations(subject: Subject, prompts: int) -> list[Generate]:
    """What `generate` can be set to for so many prompts, a small grid: the fastest of these is the one to beat."""
    batches = sorted({1, 4, 8, prompts})
    grid = [Generate(subject, batch=batch, top_k=top_k) for batch in batches for top_k in (0, 50)]
    grid.append(Generate(subject, batch=prompts, cache="static"))
    return [replace(made, name=f"batch {made.batch}, top_k {made.top_k}{', static cache' if made.cache else ''}") for made in grid]
