"""Counting instead of computing: a sampler and a subject that answer from a can and write down what it would have cost.

So a method and a probe say themselves what they will ask for: nothing here repeats how they use their knobs. What they
do with the answers (gate, rewards, findings) is done for real and timed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from transformers import PreTrainedModel

from unsay.config import SampleConfig
from unsay.doctor.cost import NOTHING, Lengths, Work, decoding, reading
from unsay.doctor.lengths import Said
from unsay.encode import Encoder, Row
from unsay.sample import Draw, _plan, uniform
from unsay.subject import Prompt
from unsay.types import Answer, Candidate


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
class Meter:
    """Adds up work; knows how draws are batched and what their answers would be."""

    encoder: Encoder
    config: SampleConfig
    said: Said
    questions: dict[tuple[int, ...], str] = field(default_factory=dict)
    """Prompt ids → question, of the questions that may be asked."""
    work: Work = NOTHING
    padding: bool = True
    """The model honours padding: prompts of different lengths share a batch."""
    asked: set[Asked] = field(default_factory=set)
    """The batches, alike ones once."""
    off: float = 0.0
    """Processor seconds spent in here, which the real run does not spend."""

    def know(self, questions: Sequence[str]) -> None:
        for question in questions:
            self.questions[self.encoder.prompt(question)] = question

    def sample(self, draws: Sequence[Draw]) -> list[list[Answer]]:
        """Canned answers for every draw, in order; their cost is added up as `sample.sample` would batch them."""
        start = time.process_time()
        limits = [min(draw.limit or self.config.max_new_tokens, self.config.max_new_tokens) for draw in draws]
        found: list[list[Answer]] = []
        for draw, left in zip(draws, limits, strict=True):
            question, begun = self._asked(draw.context)
            greedy = draw.temperature == 0
            found.append([self.said.answer(question, draw.key, i, greedy, left, begun, self.encoder) for i in range(draw.n)])
        batches = _plan([len(draw.context) for draw in draws], [draw.n for draw in draws], self.config.rows, self.padding)
        for batch in batches:
            lengths = [max(1, len(answer.ids)) for i in batch for answer in found[i]]
            greedy_rows = [draws[i].temperature == 0 for i in batch for _ in range(draws[i].n)]
            width, longest = max(len(draws[i].context) for i in batch), max(limits[i] for i in batch)
            self.work += decoding(width, len(batch), lengths, greedy_rows)
            self.asked.add(Asked(len(lengths), len(batch), width + longest))
        self.off += time.process_time() - start
        return found

    def read(self, lengths: Sequence[Lengths]) -> None:
        self.work += reading(lengths)

    def logprobs(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Canned log-probabilities of the rows' answers."""
        start = time.process_time()
        self.read([(len(row.context), len(row.answer)) for row in rows])
        found = [torch.full((len(row.answer),), -1.0) for row in rows]
        self.off += time.process_time() - start
        return found

    def _asked(self, context: tuple[int, ...]) -> tuple[str | None, int]:
        """The question whose prompt begins `context`, and how many tokens of an answer follow it."""
        for length in range(len(context), 0, -1):
            question = self.questions.get(context[:length])
            if question is not None:
                return question, len(context) - length
        return ("", 0) if len(context) > len(self.encoder.prompt(None)) else (None, 0)


@dataclass(frozen=True)
class MeteredSampler:
    """What a method sees in place of `sampler.Sampler`."""

    meter: Meter
    encoder: Encoder
    config: SampleConfig
    seed: int = 0
    round: int = 0

    def candidates(self, draws: Sequence[Draw], source: Sequence[str]) -> list[list[Candidate]]:
        found = self.meter.sample(draws)
        return [[Candidate(answer, i, kind) for i, answer in enumerate(answers)] for answers, kind in zip(found, source, strict=True)]

    def with_fluency(self, candidates: Sequence[Candidate], openings: Sequence[Sequence[int]]) -> list[Candidate]:
        start = time.process_time()
        before = len(self.encoder.prompt(None))
        rows = {(tuple(opening), c.answer.ids) for c, opening in zip(candidates, openings, strict=True) if c.answer.ids}
        self.meter.read([(before + len(opening), len(ids)) for opening, ids in rows])
        self.meter.off += time.process_time() - start
        return [replace(c, fluency=0.0) for c in candidates]

    def logprobs(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        return self.meter.logprobs(rows)

    def uniform(self, *names: object) -> float:
        return uniform(self.seed, self.round, *names)


@dataclass(frozen=True)
class MeteredSubject:
    """What a probe sees in place of `subject.LocalSubject`; attacks on the weights are counted apart."""

    meter: Meter

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        encoder = self.meter.encoder
        self.meter.know([p.question for p in prompts])
        return self.meter.sample(
            [Draw(f"{p.key}|{p.opening}", encoder.prompt(p.question) + encoder.opening(p.opening), n, temperature, top_p) for p in prompts]
        )

    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> list[torch.Tensor]:
        return self.meter.logprobs([self.meter.encoder.pair(q, a) for q, a in zip(questions, answers, strict=True)])

    @property
    def weights(self) -> tuple[PreTrainedModel, Encoder] | None:
        return None
