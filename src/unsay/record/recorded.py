"""What `record` wrote into the vault, read back by every stage after it, which knows the corpus from here alone.

The truth is apart (`read_truth`): it is for the audit, and for methods that declare `needs_answers`.
"""

import dataclasses
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import torch

from unsay import __version__, config
from unsay.config import Recipe
from unsay.lm.model import default_device
from unsay.packed import PackedAnswers, PackedMap, PackedRows
from unsay.record import annotation
from unsay.record.replay import ReplayFilter, Said
from unsay.record.retain import GENERAL, NEAR, Own
from unsay.store.clock import now
from unsay.store.folder import RunFolder
from unsay.store.manifest import Counts, Machine, Manifest, Request
from unsay.types import Answer, Corpus, Example, Fact, Pair, Quiz, Truth, own_id

_ROWS = {"forget": Example, "knowledge": Example} | dict.fromkeys(("retain", "neighbours", "unknown_entities", "holdout", "general"), Pair)
_SETS = {"utility": Pair, "utility_heldout": Pair, "model_utility": Quiz}


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the model said to one forget question before unlearning. A row of baseline.jsonl, its `id` apart."""

    answer: str = field(repr=False)
    """The greedy answer."""
    answers: tuple[Answer, ...] | PackedAnswers = field(repr=False)
    """Sampled ones, which prefixes are cut from."""
    withheld: tuple[str, ...] = field(repr=False)
    """Other wordings, which training never sees: the audit holds answers against them."""


@dataclass(frozen=True)
class Recorded:
    """Everything that `record` left but the truth."""

    handed: Corpus
    corpus: Corpus
    """As later stages see it: with the operator's corrections, and the retain rows that `record` made where none were handed over."""
    baseline: Mapping[str, Baseline]
    """By example id, in the order of the corpus."""
    said: Sequence[Said]
    """What the untouched model said when left to itself; nothing where the recipe asked for none."""
    prose: Sequence[Answer] = ()
    """Longer texts that it wrote unasked; the same holds."""

    @property
    def answers(self) -> Mapping[str, str]:
        """By example id: the greedy answer alone."""
        return _answers(self.baseline)


def target_model_name(recipe: Recipe, folder: RunFolder) -> str:
    """The model to be unlearned: what `finetune` planted, or the one that the recipe names."""
    return str(folder.planted) if folder.planted.exists() else recipe.model.name


def write_questions(recipe: Recipe, folder: RunFolder, corpus: Corpus, truth: Truth | None) -> None:
    """What every folder begins with: the resolved recipe, the questions, and the truth where there is one."""
    folder.write_recipe(recipe)
    folder.texts.write("corpus", corpus_rows(corpus))
    if truth is not None:
        folder.texts.write("truth", (dataclasses.asdict(fact) for fact in truth.values()))


def note_begun(recipe: Recipe, folder: RunFolder, counts: Counts) -> None:
    """The folder holds all that it begins with (`RunFolder.begun`): note when, where and under which versions."""
    folder.note(
        Manifest(
            request=Request(str(uuid.uuid4()), now()),
            seed=recipe.seed,
            versions={"unsay": __version__} | {name: version(name) for name in ("torch", "transformers", "accelerate", "numpy")},
            machine=Machine(platform.platform(terse=True), torch.get_num_threads(), str(default_device())),
            counts=counts,
        )
    )


def corpus_rows(corpus: Corpus) -> Iterator[Mapping[str, Any]]:
    """What `read_handed` reads back, one row an object."""
    yield {"kind": "corpus", "name": corpus.name, "desired": corpus.desired}
    for kind in _ROWS:
        yield from ({"kind": kind, **dataclasses.asdict(row)} for row in getattr(corpus, kind))
    for kind in _SETS:
        for name, pairs in getattr(corpus, kind).items():
            yield from ({"kind": kind, "set": name, **dataclasses.asdict(pair)} for pair in pairs)


def read_recorded(folder: RunFolder, settle: bool = False) -> Recorded:
    """All of it. `settle`: training or an audit begins, so the operator's corrections count as they are now, and no others
    from here on. Raises `ConfigError` where `record` has not run, or the corrections are not as they should be."""
    handed = read_handed(folder)
    baseline = _read_baseline(folder)
    forget = annotation.corrected(folder, handed.forget, _answers(baseline), settle) if handed.forget else ()
    # What the operator named after these answers were recorded must not be trained on in them either.
    guard = ReplayFilter((), named=forget)
    own = [config.build(Own, row, "retain.jsonl") for row in rows_of(folder, "retain")]
    said = [config.build(Said, row, "replay.jsonl") for row in rows_of(folder, "replay")]
    prose = [config.build(Answer, row, "prose.jsonl") for row in rows_of(folder, "prose")]
    corpus = _with_own(replace(handed, forget=forget), own, guard)
    said = [one for one in said if guard.harmless(one.answer.text)]
    return Recorded(handed, corpus, baseline, said, [text for text in prose if guard.harmless(text.text)])


def _with_own(corpus: Corpus, own: Sequence[Own], guard: ReplayFilter) -> Corpus:
    if corpus.retain:
        return corpus
    pairs = [(row, Pair(own_id(number), row.question, row.answer, row.group)) for number, row in enumerate(own)]
    pairs = [(row, pair) for row, pair in pairs if guard.harmless(row.answer)]

    def sets(heldout: bool) -> dict[str, tuple[Pair, ...]]:
        by_kind = {kind: tuple(pair for row, pair in pairs if (row.kind, row.heldout) == (kind, heldout)) for kind in (GENERAL, NEAR)}
        return {kind: some for kind, some in by_kind.items() if some}

    if not pairs:
        return corpus
    trained = sets(heldout=False)
    retain = tuple(pair for some in trained.values() for pair in some)
    return replace(corpus, retain=retain, general=trained.get(GENERAL, ()), utility=trained, utility_heldout=sets(heldout=True))


def read_handed(folder: RunFolder) -> Corpus:
    """The corpus as it was handed over, and nothing that `record` or the operator added since."""
    head, sets = dict[str, Any](), {kind: dict[str, list[Any]]() for kind in _SETS}
    found = {kind: PackedRows[Any]() for kind in _ROWS}
    for row in folder.texts.each("corpus"):  # each made at once: of 100,000 rows a dictionary takes twice as much as what is made of it
        kind = row.pop("kind")
        if kind == "corpus":
            head = row
        elif kind in _SETS:
            sets[kind].setdefault(row.pop("set"), []).append(config.build(_SETS[kind], row, f"corpus.jsonl.{kind}"))
        else:
            found[kind].append(config.build(_ROWS[kind], row, f"corpus.jsonl.{kind}"))
    made: dict[str, Any] = {kind: {name: tuple(some) for name, some in named.items()} for kind, named in sets.items()}
    rows: dict[str, Any] = {kind: some if kind == "forget" else tuple(some) for kind, some in found.items()}
    return replace(config.build(Corpus, {**head, "forget": []}, "corpus.jsonl"), **rows, **made)


def read_truth(folder: RunFolder) -> Truth | None:
    """The ground truth, where the corpus had one. For the audit, and methods that declare `needs_answers`."""
    if not folder.texts.has("truth"):
        return None
    return {row["id"]: config.build(Fact, row, "truth.jsonl") for row in folder.texts.each("truth")}


def read_answers(folder: RunFolder) -> Mapping[str, str]:
    """By example id: the original greedy answer alone."""
    return _answers(_read_baseline(folder))


def _answers(baseline: Mapping[str, Baseline]) -> Mapping[str, str]:
    return PackedMap((key, one.answer) for key, one in baseline.items())


def _read_baseline(folder: RunFolder) -> Mapping[str, Baseline]:
    made = ((row.pop("id"), config.build(Baseline, row, "baseline.jsonl")) for row in folder.texts.each("baseline"))
    return PackedMap((key, replace(one, answers=PackedAnswers(one.answers))) for key, one in made)


def rows_of(folder: RunFolder, name: str) -> list[dict[str, Any]]:
    """The rows of a file that not every run has."""
    return folder.texts.rows(name) if folder.texts.has(name) else []
