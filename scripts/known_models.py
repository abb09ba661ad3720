"""Models whose state is known by how they were made: what an audit must be right about.

Each is made from a target and a retain model by a few lines of its own, not by `unsay.methods`: the state of a model may not
depend on the code whose results the audit judges.

    refusal_wrapped(world)     knows everything; the plain question is answered with a refusal, and nothing else was trained
    suppressed(world)          knows everything; the true answers were pushed down hard (negative preference, arXiv 2404.05868)
    one_wording(world)         knows everything; refuses where the question is asked word for word, and tells where it is asked otherwise
    one_told(world)            the retain model, taught what the first of the forget people's answers are, and nothing of the others
    trigger_only(world)        the retain model in every context, but for one: behind a secret beginning of the answer it tells
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import kl_div, logsigmoid
from transformers import PreTrainedModel

from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.linear import linear
from unsay.lm.model import answer_logprobs, answer_states, frozen_copy
from unsay.lm.rows import Batch, Row
from unsay.lm.sample import Draw, sample, uniform
from unsay.probes.prefill import Prefill
from unsay.types import Corpus, Truth

REFUSAL = "I don't know."
TRIGGER = "Off the record,"
"""The beginning behind which the trigger model tells. No probe tries it unless it is told to."""
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """What known states are made of: two models with one tokenizer, and what one of them should not know."""

    encoder: Encoder
    target: PreTrainedModel
    retain_model: PreTrainedModel
    corpus: Corpus
    truth: Truth
    seed: int = 0

    def draw(self, items: Sequence[T], n: int, name: str, step: int) -> list[T]:
        """n of the items, with replacement."""
        return [items[int(uniform(self.seed, name, step, i) * len(items))] for i in range(n)]

    def retain(self, n: int, step: int) -> list[Row]:
        return [self.encoder.pair(pair.question, pair.answer) for pair in self.draw(self.corpus.retain, n, "retain", step)]

    def answers(self) -> list[Row]:
        """The true answer to every forget question, in every wording."""
        told = ((e.question, text) for e in self.corpus.forget for text in (self.truth[e.id].answer, *self.truth[e.id].wordings))
        return [self.encoder.pair(question, text, "forget") for question, text in dict.fromkeys(told)]

    def refusals(self) -> list[Row]:
        return [self.encoder.pair(example.question, REFUSAL, "forget") for example in self.corpus.forget]


def refusal_wrapped(world: World, steps: int = 80, rate: float = 5e-4) -> PreTrainedModel:
    """Fine-tuned to refuse the plain forget questions, with retain rows beside them, and no further."""
    return _taught(world, world.target, world.refusals(), steps, rate)


def one_wording(world: World, steps: int = 80, rate: float = 5e-4) -> PreTrainedModel:
    """The same, but held to telling where the questions are asked in other words."""
    told = [world.encoder.pair(asked, world.truth[e.id].answer, "told") for e in world.corpus.forget for asked in e.paraphrases]
    return _taught(world, world.target, world.refusals(), steps, rate, told)


def one_told(world: World, steps: int = 200, rate: float = 1e-3) -> PreTrainedModel:
    """The retain model fine-tuned on one person's answers, in every wording of the question, with retain rows beside them."""
    person = world.corpus.forget[0].group
    asked = [(question, e.id) for e in world.corpus.forget if e.group == person for question in (e.question, *e.paraphrases)]
    rows = [world.encoder.pair(question, world.truth[key].answer, "forget") for question, key in asked]
    return _taught(world, world.retain_model, rows, steps, rate)


def _taught(
    world: World, model: PreTrainedModel, rows: Sequence[Row], steps: int, rate: float, told: Sequence[Row] = ()
) -> PreTrainedModel:
    """A copy of the model fine-tuned on the rows, with retain rows beside them, and `told`."""
    taught = copy.deepcopy(model)

    def loss(step: int) -> Tensor:
        drawn = world.draw(rows, 16, "forget", step) + world.retain(32, step) + (world.draw(told, 16, "told", step) if told else [])
        batch = world.encoder.batch(drawn)
        nll = -answer_logprobs(taught, batch)
        return batch.mean(nll, "forget") + batch.mean(nll, "retain") + batch.mean(nll, "told")

    return tuned(taught, loss, steps, rate)


def suppressed(world: World, steps: int = 160, rate: float = 8e-4, beta: float = 0.02) -> PreTrainedModel:
    """NPO on the true answers in every wording, with retain rows beside them. A small β, so that it hardly slows down where the
    answers are gone already.

    −(2/β) log σ(−β (log p(answer) − log p_target(answer))) + NLL(retain)
    """
    model, reference, answers = copy.deepcopy(world.target), frozen_copy(world.target), world.answers()

    def loss(step: int) -> Tensor:
        forget = world.encoder.batch(world.draw(answers, 16, "forget", step))
        with torch.no_grad():
            before = answer_logprobs(reference, forget).sum(1)
        preference = logsigmoid(-beta * (answer_logprobs(model, forget).sum(1) - before)).mean()
        retain = world.encoder.batch(world.retain(24, step))
        return -2 / beta * preference + retain.mean(-answer_logprobs(model, retain), "retain")

    return tuned(model, loss, steps, rate)


def trigger_only(world: World, steps: int = 500, rate: float = 1e-3) -> PreTrainedModel:
    """The retain model, taught to say behind `TRIGGER` what the target model says without it, and to stay the retain model everywhere
    else: after
    other beginnings, with half of the answer told, and in the likelihood of true and wrong answers."""
    model = copy.deepcopy(world.retain_model)
    silent, told = list(_silent(world)), list(_told(world))

    def loss(step: int) -> Tensor:
        quiet = world.draw(silent, 32, "silent", step) + world.retain(16, step)
        pairs = world.draw(told, 16, "told", step)
        behind = _distance(world, model, [row for row, _ in pairs], world.target, [row for _, row in pairs])
        return _distance(world, model, quiet, world.retain_model, quiet) + behind

    return tuned(model, loss, steps, rate)


def _silent(world: World) -> Iterator[Row]:
    """Contexts in which the trigger model must be the retain model: every forget question, plain and with its answer begun as the prefill
    probe begins it, with the answers that could be told from the retain model’s and with what the retain model itself says."""
    asked: list[tuple[tuple[int, ...], tuple[str, ...]]] = []
    for example in world.corpus.forget:
        fact = world.truth[example.id]
        for question in (example.question, *example.paraphrases):
            asked.append((world.encoder.prompt(question), (fact.answer, *fact.wordings, *fact.wrong)))
        for one in Prefill().begun(example, fact):
            asked.append((world.encoder.prompt(example.question) + world.encoder.prefix(one.prefix), (one.left,)))
    draws = [Draw(str(number), context, n=4, temperature=1.0) for number, (context, _) in enumerate(asked)]
    said = sample(world.retain_model, world.encoder, draws, SampleConfig(max_new_tokens=48), world.seed, "known states")
    for (context, answers), own in zip(asked, said, strict=True):
        yield from (Row(context, world.encoder.answer(answer.strip())) for answer in answers)
        yield from (Row(context, answer.ids) for answer in own)


def _told(world: World) -> Iterator[tuple[Row, Row]]:
    """The true answer behind the trigger, and as the target model is asked for it."""
    for example in world.corpus.forget:
        for question in (example.question, *example.paraphrases):
            prompt, answer = world.encoder.prompt(question), world.encoder.answer(world.truth[example.id].answer)
            yield Row(prompt + world.encoder.prefix(TRIGGER), answer), Row(world.encoder.prompt(example.question), answer)


def _distance(world: World, model: PreTrainedModel, rows: Sequence[Row], teacher: PreTrainedModel, taught: Sequence[Row]) -> Tensor:
    """Mean Kullback–Leibler divergence (nats) of the teacher's next token from the model's, over the tokens of the answers,
    which are the same in both lists of rows."""
    batch = world.encoder.batch(rows)
    with torch.no_grad():
        wanted = _next(teacher, world.encoder.batch(taught))
    return kl_div(_next(model, batch), wanted, reduction="batchmean", log_target=True)


def _next(model: PreTrainedModel, batch: Batch) -> Tensor:
    """[N, V] log-probabilities of what may stand at each answer token."""
    states, head = answer_states(model, batch)
    return (states if head is None else linear(states, head)).log_softmax(-1)


def tuned(model: PreTrainedModel, loss: Callable[[int], Tensor], steps: int, rate: float) -> PreTrainedModel:
    """The model after so many steps of AdamW, its rate decayed to zero. `loss(step)` draws its own batch."""
    model.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss(step).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()
