"""The pilot: every stage's own code, run on a few questions with a stand-in for the model, and counted.

Nothing here knows what a stage, a method or a probe does. It is run on few questions and on more, in a temporary folder, and the
line through both is extended to all of them. A method's first round, in which the model says what it used to say, is counted
apart from the later ones, in which it says something else.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from unsay import audit
from unsay import run as runs
from unsay.config import Recipe, deployment
from unsay.doctor.cost import TRAINING, Work, total
from unsay.doctor.standin import PER_RANK, Voice
from unsay.doctor.tape import Asked, Tape, taped
from unsay.lm.encode import Encoder
from unsay.lm.model import load
from unsay.lm.reading import habits
from unsay.lm.subject import LocalSubject
from unsay.probes.scoring import spread
from unsay.record import record, source, start
from unsay.record.recorded import corpus_rows, read_handed
from unsay.store.folder import RunFolder
from unsay.train import train
from unsay.train.finetune import plant
from unsay.types import Case, Corpus, Pair

_WHOLE = 12
"""So many forget questions, or pairs of an audit, are not cut down."""
_FEW, _MORE = 4, 8
"""Forget questions of the two pilots where there are many."""
T = TypeVar("T")


@dataclass(frozen=True)
class Attack:
    """What a probe does to the weights, as memory sees it."""

    tokens: int = 0
    """Most tokens of a micro-batch of its own training; 0 where it trains nothing."""
    rank: float = 0.0
    """Rank of the adapters that it trains; 0 where it trains a whole copy."""
    few_bits: float = 0.0
    """Bytes for a number of the linear layers in a copy of few bits."""


@dataclass(frozen=True)
class Stage:
    """One stage's work, by part, and what decides its memory."""

    name: str
    parts: Mapping[str, Work]
    asked: frozenset[Asked] = frozenset()
    """The batches of answers, alike ones once."""
    step_tokens: int = 0
    """Most tokens of a micro-batch, padding included."""
    attacks: Mapping[str, Attack] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def work(self) -> Work:
        return total(self.parts.values())


@dataclass(frozen=True)
class Pilot:
    """What is needed to run a recipe small."""

    recipe: Recipe
    """With the stand-in in the place of the model."""
    encoder: Encoder
    corpus: Corpus
    voice: Voice
    heavier: float
    """Numbers in the whole model, beside those that the recipe trains."""
    retain_model: str | None
    """The recipe's `model.retain_model`, which the stand-in has none of."""
    say: Callable[[str], None]

    def stages(self) -> list[Stage]:
        """Every stage of `unsay run`, in order."""
        questions = [example.question for example in self.corpus.forget]
        self.voice.know(self.encoder, questions)
        sizes = _sizes(len(questions), self.recipe.train.batch * self.recipe.train.accumulation)
        with tempfile.TemporaryDirectory(prefix="unsay-doctor-") as name:
            work = Path(name)
            folders = {size: RunFolder(work / f"run-{size}") for size in sizes}
            planted = [self._planting("finetune", work, retain_model=False)] if self.recipe.finetune.epochs else []
            found = [*planted, self._recording(folders), self._training(folders)]
            audits = self._audit(folders[sizes[-1]])
            found += [self._planting("retain model", work, retain_model=True)] if self.retain_model == "finetune" else []
        names = ["audit before", "audit after"] + (["audit retain_model"] if self.retain_model else [])
        return found + [replace(audits, name=name) for name in names]

    # -- the stages ----------------------------------------------------------------------------------------------------

    def _planting(self, name: str, work: Path, retain_model: bool) -> Stage:
        knobs, rows = self.recipe.finetune, source(self.recipe).finetuning_rows(retain_model)
        secret = {example.id for example in self.corpus.forget}
        watched = ([row for row in rows if row.id in secret] if not retain_model else []) or rows
        recipe = replace(self.recipe, finetune=replace(knobs, epochs=1))
        works: dict[int, Work] = {}
        for size in _sizes(len(rows), 2 * knobs.batch):
            with self._taped(f"{name}, {size} of {len(rows)} rows") as tape:
                plant(recipe, spread(rows, size), watched, work / f"{name}-{size}", None)
                works[size] = tape.take()
        epoch = self._line(works, len(rows)) * knobs.epochs
        note = f"counts all {knobs.epochs} epochs; recall of {knobs.stop_at_recall:g} ends it earlier"
        tokens = max(tape.tokens, tape.rows * self._longest(rows))
        return Stage(
            name, _split(epoch, "recall after each epoch"), frozenset(tape.asked), tokens, notes=(note,) * (knobs.stop_at_recall < 1)
        )

    def _recording(self, folders: Mapping[int, RunFolder]) -> Stage:
        works: dict[int, Work] = {}
        n = len(self.corpus.forget)
        for size, folder in folders.items():
            start(self.recipe, folder)
            corpus = read_handed(folder)
            folder.keep("corpus", corpus_rows(replace(corpus, forget=tuple(spread(corpus.forget, size)))))
            with self._taped(f"record, {size} of {n} questions") as tape:
                record(self.recipe, folder)
                works[size] = tape.take()
        return Stage("record", {"asking": self._line(works, n)}, self._widened(tape.asked, n / max(folders)))

    def _training(self, folders: Mapping[int, RunFolder]) -> Stage:
        config, n = self.recipe.train, len(self.corpus.forget)
        rounds = replace(config, rounds=min(2, config.rounds), save_every=1000, max_minutes=None)
        pilots: dict[int, list[Work]] = {}
        for size, folder in folders.items():
            self.voice.unlearned = False
            with self._taped(f"two rounds of train, {size} of {n} questions") as tape:

                def look(*_: object, tape: Tape = tape, works: list[Work] = pilots.setdefault(size, [])) -> bool:  # noqa: B008
                    works.append(tape.take())
                    self.voice.unlearned = True
                    return True

                train(replace(self.recipe, train=rounds), folder, watch=look)
        self.voice.unlearned = False
        lines = [self._line({size: works[i] for size, works in pilots.items()}, n) for i in range(rounds.rounds)]
        work = total(lines[:1]) + total(lines[1:]) * max(0, config.rounds - 1)
        # Sooner or later a batch has the longest rows of them all.
        tokens = max(tape.tokens, tape.rows * self._longest(self.corpus.retain or self.corpus.general))
        return Stage("train", _split(work, "sampling and scoring"), self._widened(tape.asked, n / max(folders)), tokens)

    def _audit(self, folder: RunFolder) -> Stage:
        """One audit, by probe; the three of a run are alike."""
        recipe = self.recipe
        case, config = runs.case(recipe, folder), deployment.model(recipe)
        subject = LocalSubject(*load(config), deployment.sample(recipe), recipe.seed)
        self.voice.know(subject.encoder, [example.question for example in self.corpus.forget])
        judging = LocalSubject(*load(recipe.model), recipe.sample, recipe.seed)
        habits(subject.model)  # found out once; no probe is to be charged for it
        n, pairs = len(spread(self.corpus.forget, recipe.audit.limit)), _pairs(case)
        few, more = _sizes(n, _MORE)[0], _sizes(n, _MORE)[-1]
        less, large = (1.0, 1.0) if pairs <= _WHOLE else (0.15, 0.3)
        cuts = {key: _cut(case, *key) for key in ((few, less), (more, less), (few, large))}
        times = {(few, large): pairs / max(1, _pairs(cuts[few, large])), (more, less): n / more, (few, less): n / few}
        whole, embeddings = subject.model.num_parameters(), subject.model.get_input_embeddings().weight.numel()
        parts, asked, attacks = dict[str, Work](), set[Asked](), dict[str, Attack]()
        for name in recipe.audit.probes:
            one = replace(recipe, audit=replace(recipe.audit, probes=(name,)))
            works, seen = dict[tuple[int, float], Work](), set[Asked]()
            for key, cut in cuts.items():
                with self._taped(f"audit, {name}", whole) as tape:
                    audit.run(subject, cut, one, judging, knew=True)
                    works[key] = tape.take()
                asked |= self._widened(tape.asked - seen, times[key])
                seen |= tape.asked
                if tape.moved or tape.few_bits:
                    rank = tape.moved / PER_RANK if tape.moved < whole else 0.0
                    attacks[name] = Attack(tape.tokens, rank, tape.few_bits / (whole - embeddings))
                if tape.moved:
                    break
            first = works[few, less]
            if name in attacks and attacks[name].tokens:
                # It trains, which is slow even here, and as long for few questions as for many: once is enough.
                steps = first.only(TRAINING)
                parts[name] = self._filled(steps + first.above(steps) * (n / few))
                continue
            by_question = self._line({few: first, more: works[more, less]}, n)
            by_pair = self._line({_pairs(cuts[few, share]): works[few, share] for share in (less, large)}, pairs)
            parts[name] = self._filled(by_question + by_pair.above(first))
        return Stage("audit", parts, frozenset(asked), attacks=attacks)

    # -- shared --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _taped(self, what: str, whole: float = 0.0) -> Iterator[Tape]:
        self.say(f"counting {what}")
        with taped(self.voice, whole, self.heavier) as tape:
            yield tape

    def _line(self, works: Mapping[int, Work], n: int) -> Work:
        """The work for n, from that for fewer."""
        (few, less), *_, (more, work) = (*works.items(), *works.items())
        return self._filled(work if more in (few, n) else less + work.above(less) * ((n - few) / (more - few)))

    def _filled(self, work: Work) -> Work:
        """With as many decoding steps as its tokens need at least: on few questions batches have room left."""
        steps = max(work["decode step"], work["decoded token"] / self.recipe.sample.rows)
        return replace(work, counts={**work.counts, "decode step": steps})

    def _widened(self, asked: set[Asked], times: float) -> frozenset[Asked]:
        """Batches as they are with so many times the questions."""
        found = set()
        for one in asked:
            rows = max(one.rows, min(self.recipe.sample.rows, round(one.rows * times)))
            found.add(replace(one, rows=rows, prompts=-(-one.prompts * rows // one.rows)))
        return frozenset(found)

    def _longest(self, rows: Sequence[Pair]) -> int:
        encoded = [self.encoder.pair(row.question, row.answer) for row in spread(rows, 500)]
        contexts, answers = ([len(getattr(row, part)) for row in encoded] for part in ("context", "answer"))
        return max(contexts, default=0) + max(answers, default=0)


def _split(work: Work, rest: str) -> dict[str, Work]:
    steps = work.only(TRAINING)
    return {rest: work.above(steps), "steps": steps}


def _sizes(n: int, step: int) -> tuple[int, ...]:
    """All n, where these are few; else a step of them, and two."""
    return (n,) if n <= max(_WHOLE, step) else (max(_FEW, step), min(n, 2 * max(_FEW, step)))


def _pairs(case: Case) -> int:
    corpus = case.corpus
    sets = (corpus.utility, corpus.utility_heldout, corpus.model_utility)
    return len(corpus.neighbours) + len(corpus.unknown_entities) + sum(len(pairs) for one in sets for pairs in one.values())


def _cut(case: Case, questions: int, share: float) -> Case:
    """The case with so many forget questions, and that share of everything else that is asked."""

    def some(pairs: Sequence[T]) -> tuple[T, ...]:
        return tuple(spread(pairs, max(1, round(share * len(pairs))))) if pairs else ()

    corpus = case.corpus
    return replace(
        case,
        corpus=replace(
            corpus,
            forget=tuple(spread(corpus.forget, questions)),
            neighbours=some(corpus.neighbours),
            unknown_entities=some(corpus.unknown_entities),
            utility={name: some(pairs) for name, pairs in corpus.utility.items()},
            utility_heldout={name: some(pairs) for name, pairs in corpus.utility_heldout.items()},
            model_utility={name: some(pairs) for name, pairs in corpus.model_utility.items()},
        ),
    )
