"""What each unit of work costs here: the run's own code on a few rows and questions of the recipe, timed.

Two sizes of everything, so that a fixed cost and a cost per token come out. The stand-in says the answers (standin.py).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import Recipe
from unsay.doctor.cost import Costs, Work, fit
from unsay.doctor.counting import counted
from unsay.doctor.standin import Said
from unsay.lm.adapters import Untouched
from unsay.lm.encode import Encoder
from unsay.lm.rows import Batch, Row
from unsay.lm.sample import Draw, sample
from unsay.lm.subject import row_logprobs
from unsay.methods import Method, uses_retain_rows
from unsay.methods.retain_loss import softened
from unsay.probes.scoring import spread
from unsay.record.replay import neighbours
from unsay.train import method_of, needs_untouched
from unsay.train.step import Weights, optimizer_step
from unsay.types import Answer, Corpus, Pair

T = TypeVar("T")
BUDGET = 10.0
"""Seconds that each of the measurements may take a part of; asking, on which all counts depend, three times as many."""
_ASKED, _OTHERS = 6, 24
_UNASKED = 32
"""Forget questions and others that are asked, and, at most, texts that nobody asks for: it takes some to see a long one."""


@dataclass
class Bench:
    """A loaded model, and what has been measured so far."""

    recipe: Recipe
    model: PreTrainedModel
    encoder: Encoder
    corpus: Corpus
    measured: list[tuple[Work, float, float]] = field(default_factory=list)
    """Work, seconds on the clock, processor seconds."""

    @cached_property
    def method(self) -> Method:
        return method_of(self.recipe)

    @cached_property
    def rows(self) -> list[Row]:
        """A micro-batch as training has them: of every visit one row in the forget term, and one that `pmc.reject` pushes away."""
        config, record, corpus = self.recipe.train, self.recipe.record, self.corpus
        replayed = config.replay_rows if record.replay or record.kindred else 0
        beside = config.retain_rows + replayed + (record.prose > 0) + (config.near if record.near_misses else 0) + config.shared
        beside += config.earlier_rows if record.earlier else 0
        visit = 1 + (getattr(self.method, "reject", 0) > 0) + (beside if uses_retain_rows(self.method) else 0)
        pairs = corpus.retain or corpus.general or tuple(Pair(e.id, e.question, e.question) for e in corpus.forget)
        chosen = [pairs[i % len(pairs)] for i in range(config.batch * visit)]
        return [self.encoder.pair(pair.question, pair.answer, "retain" if i % visit else "forget") for i, pair in enumerate(chosen)]

    @cached_property
    def reference(self) -> Untouched | None:
        """The model before training, where the method or the retain term compares with it."""
        return Untouched(self.model) if needs_untouched(self.recipe, self.method) else None

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.loss(self.model, self.reference, softened(batch, self.recipe))

    def warm(self) -> None:
        """One small answer, so that what libraries load on first use is there before anything is measured."""
        self._ask([Draw("", self.encoder.prompt(self.corpus.forget[0].question), 2, 1.0)], 2)

    def ask(self) -> Said:
        """Some forget questions, some others, and nobody's: what the model says, greedily and by chance, as long as time allows."""
        encoder, limit = self.encoder, self.recipe.sample.max_new_tokens
        forget = [example.question for example in spread(self.corpus.forget, _ASKED)]
        prompts = [encoder.prompt(question) for question in forget]
        # Few rows and many, both short: what a row costs beside a step. The shorter answers may be, the fewer tokens the next ones get.
        step = self._ask([Draw("", prompt) for prompt in prompts], 4)[1] / 4
        rows = max(1, min(self.recipe.sample.rows, 96) // len(prompts))
        many = self._ask([Draw("", prompt, rows, 1.0, 0.95) for prompt in prompts], 4)[1] / 4
        length = max(8, min(limit, int(3 * BUDGET / (3 * step + many / 4 + 1e-9))))
        # Those that `record` will get, for its replay. They take as long as all other asking together: fewer of a slow model.
        count = max(2 * _ASKED, min(_UNASKED, _UNASKED * length // limit))
        unasked = [Draw("unasked 0", encoder.prompt(None), count, 1.0, limit=2 * length)]
        (texts,), _ = self.time(lambda: sample(self.model, encoder, unasked, self.recipe.sample, self.recipe.seed, "rehearsal"))
        greedy, _ = self._ask([Draw("", encoder.prompt(question)) for question in (*forget, *self._others(texts))], length)
        sampled, _ = self._ask([Draw("", prompt, 4, self.recipe.record.temperature) for prompt in prompts], length)
        others = [one for (one,) in greedy[len(forget) :]]
        if not any(answer.finished for answer in others):  # as an answer that the limit allows might
            others += answers(self.corpus.retain or self.corpus.general, self.encoder)[: len(others) + 1]
        known = {question: [*greedy[i], *sampled[i]] for i, question in enumerate(forget)}
        return Said(known, others or [answer for group in known.values() for answer in group], texts)

    def _others(self, texts: Sequence[Answer]) -> list[str]:
        """Questions that are to be answered as before: where none are given, forget questions about names in `texts`, as in replay, so that
        the pilot finds something to replay."""
        if given := self.corpus.retain or self.corpus.general:
            return [pair.question for pair in spread(given, _OTHERS)]
        forget = [example.question for example in self.corpus.forget]
        return list(neighbours(forget, [text.text for text in texts], _OTHERS, self.recipe.seed))

    def costs(self) -> Costs:
        """Measure everything else, and fit."""
        self._steps()
        _, took = self.time(lambda: row_logprobs(self.model, self.encoder, self.rows[:4]))
        many = max(8, min(32, int(4 * 0.1 * BUDGET / took)))
        self.time(lambda: row_logprobs(self.model, self.encoder, (self.rows * 32)[:many]))
        wall = fit([(work, seconds) for work, seconds, _ in self.measured])
        return Costs(wall, fit([(work, seconds) for work, _, seconds in self.measured]), _contention())

    def kept_by_token(self) -> float:
        """Bytes that autograd keeps for a token more of a micro-batch, nothing of them computed again."""
        (few, less), (many, more) = (self._kept(self.rows[:n]) for n in (1, 3))
        return max(0.0, (more - less) / (many - few)) if many > few else more / many

    def _kept(self, rows: Sequence[Row]) -> tuple[int, float]:
        """Tokens, and the bytes kept for the backward pass. In evaluation mode no activation is computed again."""
        batch, found = self.encoder.batch(rows, self.model.device), dict[int, int]()
        weights = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self.loss(batch)
        del loss
        return batch.ids.numel(), float(sum(found.values()))

    def _steps(self) -> None:
        """Optimizer steps of a few rows, of a whole micro-batch, and in two micro-batches: the recipe's own, at a learning rate of 0."""
        weights, accelerator = Weights(self.model), Accelerator()
        optimizer = torch.optim.AdamW(weights.exact.values(), lr=0.0, weight_decay=0.0)

        def step(rows: Sequence[Row], parts: int) -> None:
            self.model.train()
            optimizer_step(accelerator, weights, optimizer, self.encoder, rows, self.loss, parts)
            self.model.eval()

        few = self.rows[:2]
        step(few, 1)  # warm: the optimizer makes its state
        _, small = self.time(lambda: step(few, 1))
        many = self.rows[: max(4, int(len(few) * 0.6 * BUDGET / small))]
        for rows, parts in ((many, 1), (many, 2), (few, 1)):
            if self.time(lambda rows=rows, parts=parts: step(rows, parts))[1] > 0.1 * BUDGET:  # type: ignore[misc]
                break

    def _ask(self, draws: Sequence[Draw], length: int) -> tuple[list[list[Answer]], float]:
        config = self.recipe.sample
        draws = [Draw(f"doctor {i}", d.context, d.n, d.temperature, d.top_p, limit=length) for i, d in enumerate(draws)]
        return self.time(lambda: sample(self.model, self.encoder, draws, config))

    def time(self, run: Callable[[], T]) -> tuple[T, float]:
        """What it returns, and its seconds, those of other programs left out; the measurement is kept."""
        with counted() as tally:
            _wait(self.model)
            cpu, start = time.process_time(), time.perf_counter()
            result = run()
            _wait(self.model)
            wall, busy = time.perf_counter() - start, max(time.process_time() - cpu, 1e-6)
        self.measured.append((Work(tally.take().counts), wall, busy))
        return result, min(wall, busy)


def answers(pairs: Sequence[Pair], encoder: Encoder) -> list[Answer]:
    """Some written answers as if a model had said them."""
    return [Answer(encoder.answer(pair.answer), pair.answer, True) for pair in spread(pairs, 64)]


def _wait(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _contention() -> float:
    """How much longer one thread takes on the clock than it is busy: measured on plain Python."""
    cpu, start = time.process_time(), time.perf_counter()
    while time.process_time() - cpu < 0.1:
        sum(range(1000))
    return (time.perf_counter() - start) / (time.process_time() - cpu)
