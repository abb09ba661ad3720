"""The pilot: every stage's own code, run on a share of the questions with a stand-in for the model, and counted.

Nothing here knows what a method or a probe does. The share of everything that is asked is the same, so what is counted is divided by
it. The first round of training, in which the model says what it used to say, is counted apart from the later ones.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

from unsay import audit
from unsay import run as runs
from unsay.config import Recipe, deployment
from unsay.doctor.cost import Work
from unsay.doctor.counting import Tally, counted
from unsay.doctor.standin import Said
from unsay.lm.encode import Encoder
from unsay.lm.model import default_device, load
from unsay.lm.plan import for_many
from unsay.lm.reading import habits
from unsay.lm.subject import LocalSubject
from unsay.probes.scoring import spread
from unsay.record import record, source, start
from unsay.record.recorded import corpus_rows, read_handed
from unsay.store.folder import RunFolder
from unsay.train import method_of, needs_untouched, train
from unsay.train.finetune import plant
from unsay.types import Corpus, Pair

_FEW = 12
"""Forget questions that are asked where there are more."""


class _Seen(Exception):
    """Enough rounds have been counted."""


@dataclass(frozen=True)
class Attack:
    """What a probe does to the weights, or by them, as memory sees it."""

    tokens: int = 0
    """Most tokens of a batch of its own that is read with gradients; 0 where none is."""
    few_bits: float = 0.0
    """Bytes for a number of the linear layers in a copy of few bits."""
    trains: bool = True
    """Whether a copy of the model is trained on such batches; else their gradients are of the input alone."""


@dataclass(frozen=True)
class Stage:
    """One stage's work, by part, and what decides its memory."""

    name: str
    parts: Mapping[str, Work]
    batches: frozenset[tuple[int, int]] = frozenset()
    """Of answers: rows, and the tokens that the cache has room for in each."""
    tokens: float = 0.0
    """Most tokens of a micro-batch, padding included, for each forget question (in `finetune`, each row) in it."""
    attacks: Mapping[str, Attack] = field(default_factory=dict)
    reference: bool = False
    """Whether training compares with the untouched model."""
    questions: int = 0
    """Forget questions that are asked: very many are asked in smaller batches (lm/plan.py)."""
    notes: tuple[str, ...] = ()

    @property
    def work(self) -> Work:
        return sum(self.parts.values(), Work())


@dataclass(frozen=True)
class Pilot:
    """What is needed to run a recipe small."""

    recipe: Recipe
    """With the stand-in in the place of the model."""
    encoder: Encoder
    corpus: Corpus
    said: Said
    heavier: float
    """Numbers in the whole model, beside those that the recipe trains."""
    retain_model: str | None
    """The recipe's `model.retain_model`, which the stand-in has none of."""
    say: Callable[[str], None]

    def stages(self) -> list[Stage]:
        """Every stage of `unsay run`, in order."""
        n, step = len(self.corpus.forget), self.recipe.train.batch * self.recipe.train.accumulation
        share = min(1.0, step * ceil(_FEW / step) / n)
        self.said.know(self.encoder, [example.question for example in self.corpus.forget])
        with tempfile.TemporaryDirectory(prefix="unsay-doctor-") as name:
            folder, small = RunFolder(Path(name) / "run"), _cut_recipe(self.recipe, share)
            small = replace(small, sample=for_many(small.sample, default_device().type, n))
            found = [self._planting("finetune", Path(name), retain_model=False)] if self.recipe.finetune.epochs else []
            found += [self._recording(small, folder, share), self._training(small, folder, share)]
            audits = self._audit(small, folder, share)
            found += [self._planting("retain model", Path(name), retain_model=True)] if self.retain_model == "finetune" else []
        found = [replace(stage, parts={"loading": Work({"model load": 1}), **stage.parts}) for stage in found]
        audits = replace(audits, parts={"loading": Work({"model load": 2}), **audits.parts})  # the reference judge is one more
        names = ["audit before", "audit after"] + (["audit retain_model"] if self.retain_model else [])
        return found + [replace(audits, name=name) for name in names]

    def _planting(self, name: str, work: Path, retain_model: bool) -> Stage:
        knobs, rows = self.recipe.finetune, source(self.recipe).finetuning_rows(retain_model)
        share = min(1.0, 2 * knobs.batch / len(rows))
        few = spread(rows, round(share * len(rows)))
        with self._counted(f"{name}, {len(few)} of {len(rows)} rows", share) as tally:
            plant(replace(self.recipe, finetune=replace(knobs, epochs=1)), few, few[: ceil(40 * share)], work / name, None)
            epochs = tally.take() * (knobs.epochs / share)
        note = f"counts all {knobs.epochs} epochs; recall of {knobs.stop_at_recall:g} ends it earlier"
        notes = (note,) if knobs.stop_at_recall < 1 else ()
        return Stage(name, epochs.parts("recall after each epoch"), _batches(tally), self._longest(rows), notes=notes)

    def _recording(self, recipe: Recipe, folder: RunFolder, share: float) -> Stage:
        start(recipe, folder)
        folder.texts.write("corpus", corpus_rows(_cut_corpus(read_handed(folder), share)))
        with self._counted("record", share) as tally:
            record(recipe, folder)
            return Stage("record", {"asking": tally.take() * (1 / share)}, _batches(tally), questions=len(self.corpus.forget))

    def _training(self, recipe: Recipe, folder: RunFolder, share: float) -> Stage:
        works: list[Work] = []
        with self._counted("two rounds of train", share) as tally, suppress(_Seen):

            def look(*_: Any) -> bool:
                works.append(tally.take() * (1 / share))
                self.said.unlearned = True
                if len(works) == min(2, recipe.train.rounds):
                    raise _Seen
                return True

            # The guards look as they will, but never end it: the second round stands for all later ones.
            watched = replace(recipe.watch, patience=0, enough=recipe.watch.enough and recipe.train.rounds + 1)
            config = replace(recipe.train, save_every=2, max_minutes=None)
            train(replace(recipe, train=config, watch=watched), folder, watch=look)
        self.said.unlearned = False
        work = works[0] + sum(works[1:], Work()) * max(0, recipe.train.rounds - 1)
        # Sooner or later a batch has the longest rows of them all.
        tokens = max(tally.tokens, tally.rows * self._longest(self.corpus.retain or self.corpus.general)) / recipe.train.batch
        reference, questions = needs_untouched(recipe, method_of(recipe)), len(self.corpus.forget)
        return Stage("train", work.parts("sampling and scoring"), _batches(tally), tokens, reference=reference, questions=questions)

    def _audit(self, recipe: Recipe, folder: RunFolder, share: float) -> Stage:
        """One audit, by probe; those of a run are alike."""
        case = runs.case(recipe, folder)
        model, encoder = load(deployment.model(recipe))
        subject = LocalSubject(model, encoder, for_many(deployment.sample(recipe), model.device.type), recipe.seed)
        self.said.know(subject.encoder, [example.question for example in self.corpus.forget])
        judging = LocalSubject(*load(recipe.model), recipe.sample, recipe.seed)
        for model in (subject.model, judging.model):
            habits(model)  # found out once; no probe is to be charged for it
        whole, embeddings = subject.model.num_parameters(), subject.model.get_input_embeddings().weight.numel()
        parts, batches, attacks = dict[str, Work](), frozenset[tuple[int, int]](), dict[str, Attack]()
        for name in recipe.audit.probes:
            with self._counted(f"audit, {name}", share, whole) as tally:
                audit.run(subject, case, replace(recipe, audit=replace(recipe.audit, probes=(name,))), judging, knew=True)
                # An attack takes its steps however many questions there are.
                rest, steps = tally.take().parts("").values()
            parts[name] = rest * (1 / share) + steps
            batches |= _batches(tally)
            if tally.moved or tally.few_bits or tally.tokens:
                attacks[name] = Attack(tally.tokens, tally.few_bits / (whole - embeddings), trains=bool(tally.moved))
        return Stage("audit", parts, batches, attacks=attacks)

    @contextmanager
    def _counted(self, what: str, share: float, whole: float = 0.0) -> Iterator[Tally]:
        self.say(f"counting {what}")
        with counted(self.said, share, whole, self.heavier) as tally:
            yield tally

    def _longest(self, rows: Sequence[Pair]) -> int:
        return max((self.encoder.pair(row.question, row.answer).length for row in spread(rows, 500)), default=0)


def _batches(tally: Tally) -> frozenset[tuple[int, int]]:
    """As large as they are with all questions; `memory` holds them to `sample.rows`."""
    return frozenset((ceil(rows / tally.share), capacity) for rows, capacity in tally.batches)


def _cut_recipe(recipe: Recipe, share: float) -> Recipe:
    """Of what a recipe asks for in numbers of questions the same share."""

    def part_of(n: int) -> int:
        return ceil(share * n)

    record = recipe.record
    limited = {name: knobs.limit for name, knobs in audit.probes_of(recipe).items() if hasattr(knobs, "limit")}
    tables = {name: {**recipe.tables.get(name, {}), "limit": part_of(limit)} for name, limit in limited.items()}
    return replace(
        recipe,
        record=replace(record, replay=part_of(record.replay), prose=part_of(record.prose), own_retain=part_of(record.own_retain)),
        audit=replace(recipe.audit, limit=part_of(recipe.audit.limit)),
        tables={**recipe.tables, **tables},
    )


def _cut_corpus(corpus: Corpus, share: float) -> Corpus:
    """The same share of everything in it."""

    def cut(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: cut(rows) for name, rows in value.items()}
        return tuple(spread(value, ceil(share * len(value))))

    lists = ("forget", "retain", "general", "neighbours", "unknown_entities", "utility", "utility_heldout", "model_utility")
    return replace(corpus, **{name: cut(getattr(corpus, name)) for name in lists})
