"""What each stage of a recipe will ask of the model: counts, before anything is computed.

`record` and `finetune` are counted from the recipe's knobs. For `train` and the audits the method and the probes are run
themselves, on canned answers (meter.py): on at most `_COUNTED` forget questions, the rest in proportion.
"""

import importlib.util
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unsay import audit, probes
from unsay.config import Recipe
from unsay.doctor.cost import NOTHING, Lengths, Work, padded, reading, total, training
from unsay.doctor.lengths import Said
from unsay.doctor.meter import Asked, Meter, MeteredSampler, MeteredSubject
from unsay.encode import Encoder, Row
from unsay.methods import Method, Prepared, Visit, anchored
from unsay.probes import unrelated
from unsay.probes.classes import Yardstick
from unsay.probes.likelihood import Likelihood
from unsay.probes.quantise import Quantise
from unsay.probes.scoring import known, spread
from unsay.probes.weights import Relearn, split
from unsay.record import source
from unsay.rehearsal import TRIED, known_names, near_misses, neighbours
from unsay.sample import Draw, uniform
from unsay.step import chunks
from unsay.subject import Prompt
from unsay.train import method_of
from unsay.types import Answer, Case, Corpus, Example, Fact, Pair, Truth

_COUNTED = 48
"""Forget questions on which methods and probes are counted."""


@dataclass(frozen=True)
class Stage:
    """One stage's work, by part, and what decides its memory."""

    name: str
    parts: Mapping[str, Work]
    asked: frozenset[Asked] = frozenset()
    """The batches of answers, alike ones once."""
    step_tokens: int = 0
    """Most tokens of a micro-batch, padding included."""
    answer_tokens: int = 0
    """Answer tokens among them."""
    notes: tuple[str, ...] = ()

    @property
    def work(self) -> Work:
        return total(self.parts.values())


@dataclass(frozen=True)
class Plan:
    """What is needed to count a recipe: no model, only its encoder and what it says."""

    recipe: Recipe
    encoder: Encoder
    corpus: Corpus
    truth: Truth | None
    said: Said
    padding: bool = True
    relearned: float = 1.0
    """Parameters that the relearning attack trains, as a multiple of those that the recipe trains."""

    def stages(self) -> list[Stage]:
        """Every stage of `unsay run`, in order."""
        found = []
        if self.recipe.finetune.epochs:
            found.append(self.planting("finetune", gold=False))
        found += [self.record(), self.train()]
        audits = self.audit()
        if self.recipe.model.gold == "finetune":
            found.append(self.planting("gold model", gold=True))
        names = ["audit before", "audit after"] + (["audit gold"] if self.recipe.model.gold else [])
        return found + [replace(audits, name=name) for name in names]

    # -- finetune ----------------------------------------------------------------------------------------------------

    def planting(self, name: str, gold: bool) -> Stage:
        knobs = self.recipe.finetune
        rows = source(self.recipe).planting(gold)
        lengths = [self._lengths(row.question, row.answer) for row in rows]
        secret = {example.id for example in self.corpus.forget}
        watched = ([row for row in rows if row.id in secret] if not gold else []) or rows
        meter = self._meter()
        MeteredSubject(meter).ask([_prompt(row) for row in watched[:40]])
        steps = total(training(some) for some in chunks(lengths, knobs.batch))
        return Stage(
            name,
            {"steps": steps * knobs.epochs, "recall after each epoch": meter.work * knobs.epochs},
            frozenset(meter.asked),
            *_widest(lengths, knobs.batch),
            (f"counts all {knobs.epochs} epochs; recall of {knobs.stop_at_recall:g} ends it earlier",) if knobs.stop_at_recall < 1 else (),
        )

    # -- record ------------------------------------------------------------------------------------------------------

    def record(self) -> Stage:
        knobs, encoder = self.recipe.record, self.encoder
        forget = self.corpus.forget
        contexts = {example.id: encoder.prompt(example.question) for example in forget}
        meter, parts = self._meter(), {}
        greedy = [Draw(key, context) for key, context in contexts.items()]
        meter.sample([*greedy, *(replace(draw, n=knobs.answers, temperature=knobs.temperature) for draw in greedy)])
        parts["answers"] = meter.work
        if knobs.branches:
            meter.work = reading([(len(context), 0) for context in contexts.values()])
            draws = [Draw(f"{key}|{i}", (*context, encoder.pad)) for key, context in contexts.items() for i in range(knobs.branches)]
            rests = [answers[0] for answers in meter.sample(draws)]
            meter.read(_finished(draws, rests))
            parts["branches"] = meter.work
        if knobs.rehearsal:
            meter.work = NOTHING
            self._rehearse(meter, knobs.rehearsal)
            parts["rehearsal"] = meter.work
        if knobs.near_misses:
            meter.work = NOTHING
            self._near(meter, knobs.near_misses)
            parts["near misses"] = meter.work
        return Stage("record", parts, frozenset(meter.asked))

    def _rehearse(self, meter: Meter, n: int) -> None:
        """Texts written unasked, then neighbours of the forget questions: about names that stand in the retain rows, which
        are the ones that the model will write."""
        empty = self.encoder.prompt(None)
        meter.sample([Draw(f"unasked {start}", empty, min(32, n - start), 1.0) for start in range(0, n, 32)])
        questions = [example.question for example in self.corpus.forget]
        texts = [f"{pair.question} {pair.answer}" for pair in self.corpus.retain]
        # A model that writes no names has no neighbours.
        names = neighbours(questions, [answer.text for answer in self.said.unasked], 1, self.recipe.seed)
        asked = list(neighbours(questions, texts or list(names), TRIED * n, self.recipe.seed)) if names else []
        draws = [Draw(f"near {i}", self.encoder.prompt(question)) for i, question in enumerate(asked)]
        rests = [answers[0] for answers in meter.sample(draws)]
        meter.read(_finished(draws, rests))

    def _near(self, meter: Meter, each: int) -> None:
        written = [answer.text for answer in self.said.unasked]
        asked = near_misses(self.corpus.forget, known_names(self.corpus.retain, written, each), each, self.recipe.seed)
        draws = [Draw(f"near miss {i}", self.encoder.prompt(question)) for i, question in enumerate(asked)]
        meter.sample(draws)

    # -- train -------------------------------------------------------------------------------------------------------

    def train(self) -> Stage:
        """The first round as the model is; all others as if it had learned to say something else."""
        config, method = self.recipe.train, method_of(self.recipe)
        visits = self._visits()
        counted = list(spread(visits, _COUNTED))
        share = len(visits) / len(counted)
        rounds = {"first": 1.0, "later": max(0.0, config.rounds - 1.0)}
        parts: dict[str, Work] = {"sampling and scoring": NOTHING, "steps": NOTHING}
        batches, tokens, answers = set[Asked](), 0, 0
        for number, (when, times) in enumerate(rounds.items()):
            if not times:
                continue
            meter = self._meter(unlearned=when == "later")
            targets = self._targets(method, counted, meter, number)
            parts["sampling and scoring"] += meter.work * (share * times)
            batches |= meter.asked
            for chosen in chunks(targets, config.batch * config.accumulation):
                lengths = [(len(row.context), len(row.answer)) for _, own in chosen for row in own]
                lengths += [self._anchor(name, number, i) for name, _ in chosen for i in range(self._anchors)]
                parts["steps"] += training(lengths, config.accumulation) * (share * times * config.passes)
                size, longest = -(-len(lengths) // config.accumulation), _longest([*lengths, *self._longest_anchors()])
                tokens, answers = max(tokens, size * sum(longest)), max(answers, size * longest[1])
        return Stage("train", parts, frozenset(batches), tokens, answers)

    def _targets(self, method: Method, visits: Sequence[Visit], meter: Meter, number: int) -> list[tuple[str, tuple[Row, ...]]]:
        config = self.recipe.train
        size = len(visits) if config.resample == "round" else config.batch * config.accumulation
        sampler = MeteredSampler(meter, self.encoder, self.recipe.sample, self.recipe.seed, number)
        found: list[tuple[str, tuple[Row, ...]]] = []
        state: Mapping[str, Mapping[str, object]] = {}
        if isinstance(method, Prepared):
            state = method.prepare(visits, sampler)  # type: ignore[arg-type]
            meter.off = 0.0
            if number:  # it was done before the first round, once
                meter.work = NOTHING
        start = time.process_time()
        for group in chunks(visits, size):
            targets, state = method.targets(group, sampler, state)  # type: ignore[arg-type]
            found += [(target.example, target.rows) for target in targets]
        meter.work += Work({}, max(0.0, time.process_time() - start - meter.off))
        return found

    def _longest_anchors(self) -> list[Lengths]:
        """Sooner or later a batch has the longest of them all."""
        found = [self._lengths(pair.question, pair.answer) for pair in spread(self._anchor_pairs, 500)]
        unasked = self.said.unasked if self.recipe.record.rehearsal and self.recipe.train.rehearsal_rows else ()
        limit = self.recipe.sample.max_new_tokens
        return found + [(0, limit if not answer.finished else len(answer.ids)) for answer in unasked]

    @property
    def _anchors(self) -> int:
        config = self.recipe.train
        if not anchored(method_of(self.recipe)):
            return 0
        retain = config.retain_rows if self._anchor_pairs else 0
        knobs = self.recipe.record
        return retain + (config.rehearsal_rows if knobs.rehearsal else 0) + (config.near if knobs.near_misses else 0)

    @property
    def _anchor_pairs(self) -> Sequence[Pair]:
        return self.corpus.retain or self.corpus.general

    def _anchor(self, name: str, number: int, i: int) -> tuple[int, int]:
        """Lengths of the i-th anchor of a visit: retain rows first; of the rehearsed ones a quarter are texts written unasked."""
        if i >= self.recipe.train.retain_rows and self.said.unasked and uniform(0, number, name, "unasked", i) < 0.25:
            text = self.said.unasked[int(uniform(0, number, name, "text", i) * len(self.said.unasked))]
            return len(self.encoder.prompt(None)), len(text.ids)
        pairs = self._anchor_pairs
        if not pairs:
            return 1, self.recipe.sample.max_new_tokens
        pair = pairs[int(uniform(self.recipe.seed, number, name, "retain", i) * len(pairs))]
        return self._lengths(pair.question, pair.answer)

    def _visits(self) -> list[Visit]:
        forget = self.corpus.forget
        answer = self._baseline()
        return [
            Visit(
                example,
                answer[example.id].text,
                tuple(self.said.sampled.get(example.question, ())) or (answer[example.id],),
                others=tuple(answer[other.id].text for other in forget if other.id != example.id),
                other_questions=tuple(other.question for other in forget if other.id != example.id),
                desired=self.corpus.desired,
            )
            for example in forget
        ]

    def _baseline(self) -> dict[str, Answer]:
        most = self.recipe.sample.max_new_tokens
        return {e.id: self.said.answer(e.question, e.id, 0, True, most, 0, self.encoder) for e in self.corpus.forget}

    # -- audit -------------------------------------------------------------------------------------------------------

    def audit(self) -> Stage:
        """One audit, by probe; the three of a run are alike."""
        case = audit.case(self.corpus, self.truth, {key: answer.text for key, answer in self._baseline().items()}, self.recipe.seed)
        limit = self.recipe.audit.limit
        asked = len(spread(self.corpus.forget, limit))
        counted = replace(case, corpus=replace(case.corpus, forget=tuple(spread(spread(case.corpus.forget, limit), _COUNTED))))
        share = asked / max(1, len(counted.corpus.forget))
        parts, batches, tokens, answers = {}, set[Asked](), 0, 0
        for name, probe in audit.probes_of(self.recipe).items():
            meter = self._meter()
            subject = MeteredSubject(meter)
            start = time.process_time()
            fixed = NOTHING
            if isinstance(probe, Relearn):
                fixed, (tokens, answers) = self._relearn(probe, counted, subject)
            elif isinstance(probe, Quantise):
                self._quantise(probe, counted, subject)
            elif isinstance(probe, Likelihood):
                meter.read([self._lengths(*pair) for pair in probe.texts(counted)])
            else:
                probe(subject, replace(counted, judge=Yardstick(subject, knew=True)) if probes.declared_by(probe).judged else counted)
            meter.work += Work({}, max(0.0, time.process_time() - start - meter.off))
            parts[name] = meter.work * (1.0 if name == "utility" else share) + fixed
            batches |= meter.asked
        return Stage("audit", parts, frozenset(batches), tokens, answers)

    def _relearn(self, probe: Relearn, case: Case, subject: MeteredSubject) -> tuple[Work, tuple[int, int]]:
        """The attack's steps, and the tokens of its widest batch; what it asks afterwards is added to the meter."""
        shown, others = split(known(case), probe.share, case.seed)
        if not others:
            return NOTHING, (0, 0)
        shows = [[self._lengths(example.question, fact.answer) for example, fact in shown]]
        if probe.unrelated:
            shows.append([(len(row.context), len(row.answer)) for row in unrelated.rows(self.encoder)])
        update = 1.0 if probe.rank else self.relearned
        steps, widest = NOTHING, (0, 0)
        for lengths in filter(None, shows):
            endless = itertools.cycle(lengths)
            batches = [list(itertools.islice(endless, probe.batch)) for _ in range(max(probe.steps))]
            steps = steps + total(training(some, updates=update) for some in batches)
            widest = max(widest, *(_widest(some, probe.batch) for some in batches))
            for _ in range(len(probe.learning_rates) * len(set(probe.steps))):
                _ask(subject, others, probe.n)
        return steps * len(probe.learning_rates), widest

    @staticmethod
    def _quantise(probe: Quantise, case: Case, subject: MeteredSubject) -> None:
        """As fast as the whole model: what bitsandbytes costs here is not measured."""
        if importlib.util.find_spec("bitsandbytes") is not None:
            for _ in set(probe.bits):
                _ask(subject, known(case), probe.n)

    # -- shared ------------------------------------------------------------------------------------------------------

    def _meter(self, unlearned: bool = False) -> Meter:
        meter = Meter(self.encoder, self.recipe.sample, replace(self.said, unlearned=unlearned), padding=self.padding)
        meter.know([example.question for example in self.corpus.forget])
        return meter

    def _lengths(self, question: str, answer: str) -> tuple[int, int]:
        row = self.encoder.pair(question, answer)
        return len(row.context), len(row.answer)


def _ask(subject: MeteredSubject, pairs: Sequence[tuple[Example, Fact]], n: int) -> None:
    """Once greedily, n times sampled, as the attacks on the weights ask."""
    prompts = [Prompt(example.id, example.question) for example, _ in pairs]
    subject.ask(prompts)
    subject.ask(prompts, n, 1.0)


def _prompt(row: Pair) -> Prompt:
    return Prompt(row.id, row.question)


def _finished(draws: Sequence[Draw], answers: Sequence[Answer]) -> list[Lengths]:
    return [(len(draw.context), len(answer.ids)) for draw, answer in zip(draws, answers, strict=True) if answer.finished]


def _longest(lengths: Sequence[Lengths]) -> Lengths:
    return max(context for context, _ in lengths), max(answer for _, answer in lengths)


def _widest(lengths: Sequence[Lengths], rows: int) -> tuple[int, int]:
    """Tokens, padding included, and answer tokens of the micro-batch with the longest rows."""
    wide = sorted(lengths, key=lambda pair: (pair[1], pair[0]))[-rows:]
    return padded(wide), sum(answer for _, answer in wide)
