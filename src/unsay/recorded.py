"""What `record` wrote into the vault, read back: the corpus, the truth, the recorded answers, the sensitive spans.

Every stage after `record` knows the corpus from here alone, and no file of the vault is read anywhere else.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unsay import config, review
from unsay.config import Recipe
from unsay.folder import RunFolder
from unsay.rehearsal import Guard, Said
from unsay.retain import GENERAL, NEAR, Own
from unsay.types import Answer, Corpus, Example, Fact, Pair, Quiz, Truth, own_id

_PAIRS = ("retain", "neighbours", "strangers", "general")
_SETS = ("utility", "utility_heldout")
_QUIZZES = "model_utility"


def leaking_name(recipe: Recipe, folder: RunFolder) -> str:
    """The model to be unlearned: what `finetune` planted, or the one that the recipe names."""
    return str(folder.planted) if folder.planted.exists() else recipe.model.name


def corpus_rows(corpus: Corpus) -> list[Mapping[str, Any]]:
    """What `read_corpus` reads back, one row an object."""
    rows: list[Mapping[str, Any]] = [{"kind": "corpus", "name": corpus.name, "desired": corpus.desired}]
    rows += [{"kind": "forget", **dataclasses.asdict(example)} for example in corpus.forget]
    for kind in _PAIRS:
        rows += [{"kind": kind, **dataclasses.asdict(pair)} for pair in getattr(corpus, kind)]
    for kind in (*_SETS, _QUIZZES):
        for name, pairs in getattr(corpus, kind).items():
            rows += [{"kind": kind, "set": name, **dataclasses.asdict(pair)} for pair in pairs]
    return rows


def read_corpus(folder: RunFolder) -> Corpus:
    """The corpus as later stages see it: with the operator's corrections, and the retain rows that `record` made where none
    were handed over. Raises `ConfigError` where the corrections are not as they should be."""
    corpus = read_handed(folder)
    forget = review.corrected(folder, corpus.forget, read_answers(folder)) if corpus.forget else ()
    return _with_own(replace(corpus, forget=forget), read_own(folder))


def settle(folder: RunFolder) -> None:
    """Training or an audit begins: the operator's corrections count as they are now, and no others from here on."""
    review.settle(folder, read_handed(folder).forget, read_answers(folder))


def _with_own(corpus: Corpus, own: Sequence[Own]) -> Corpus:
    # What the operator named after these answers were recorded must not be trained on in them either.
    guard = Guard((), (), named=corpus.forget)
    pairs = [(row, Pair(own_id(number), row.question, row.answer, row.group)) for number, row in enumerate(own)]
    pairs = [(row, pair) for row, pair in pairs if guard.harmless(row.answer)]
    if corpus.retain or not pairs:
        return corpus

    def chosen(kind: str, heldout: bool) -> tuple[Pair, ...]:
        return tuple(pair for row, pair in pairs if (row.kind, row.heldout) == (kind, heldout))

    sets = {heldout: {kind: found for kind in (GENERAL, NEAR) if (found := chosen(kind, heldout))} for heldout in (False, True)}
    retain = tuple(pair for found in sets[False].values() for pair in found)
    trained = sets[False].get(GENERAL, ())
    return replace(corpus, retain=retain, general=trained, utility=sets[False], utility_heldout=sets[True])


def read_handed(folder: RunFolder) -> Corpus:
    """The corpus as it was handed over, and nothing that `record` or the operator added since."""
    head: dict[str, Any] = {}
    forget: list[Example] = []
    pairs: dict[str, list[Pair]] = {kind: [] for kind in _PAIRS}
    sets: dict[str, dict[str, list[Pair]]] = {kind: {} for kind in _SETS}
    quizzes: dict[str, list[Quiz]] = {}
    for row in folder.kept("corpus"):
        kind = row.pop("kind")
        if kind == "corpus":
            head = row
        elif kind == "forget":
            forget.append(config.build(Example, row, "corpus.jsonl"))
        elif kind in pairs:
            pairs[kind].append(config.build(Pair, row, "corpus.jsonl"))
        elif kind == _QUIZZES:
            quizzes.setdefault(row.pop("set"), []).append(config.build(Quiz, row, "corpus.jsonl"))
        else:
            sets[kind].setdefault(row.pop("set"), []).append(config.build(Pair, row, "corpus.jsonl"))
    return Corpus(
        name=head["name"],
        forget=tuple(forget),
        retain=tuple(pairs["retain"]),
        utility={name: tuple(found) for name, found in sets["utility"].items()},
        utility_heldout={name: tuple(found) for name, found in sets["utility_heldout"].items()},
        model_utility={name: tuple(found) for name, found in quizzes.items()},
        neighbours=tuple(pairs["neighbours"]),
        strangers=tuple(pairs["strangers"]),
        general=tuple(pairs["general"]),
        desired=tuple(head["desired"]),
    )


def read_truth(folder: RunFolder) -> Truth | None:
    """The ground truth, where the corpus had one. For the audit, and methods that declare `needs_answers`."""
    if not folder.texts.has("truth"):
        return None
    return {row["id"]: config.build(Fact, row, "truth.jsonl") for row in folder.kept("truth")}


def read_answers(folder: RunFolder) -> dict[str, str]:
    """By example id: the original greedy answer alone; nothing before `record` has run."""
    return {row["id"]: row["answer"] for row in folder.kept("baseline")} if folder.texts.has("baseline") else {}


def read_own(folder: RunFolder) -> list[Own]:
    """The retain rows that `record` made; none where the corpus brought its own."""
    return [config.build(Own, row, "retain.jsonl") for row in folder.kept("retain")] if folder.texts.has("retain") else []


def read_withheld(folder: RunFolder) -> dict[str, tuple[str, ...]]:
    """By example id: the model's own other wordings that training never sees."""
    return {row["id"]: tuple(row["withheld"]) for row in folder.kept("baseline")}


def read_baseline(folder: RunFolder) -> dict[str, tuple[str, tuple[Answer, ...]]]:
    """By example id: the original greedy answer and the ones that openings are cut from."""
    return {
        row["id"]: (row["answer"], tuple(config.build(Answer, answer, "baseline.jsonl") for answer in row["answers"]))
        for row in folder.kept("baseline")
    }


def read_rehearsal(folder: RunFolder) -> list[Said]:
    """What the untouched model said when left to itself; nothing where the recipe asked for none."""
    if not folder.texts.has("rehearsal"):
        return []
    guard = Guard((), (), named=review.corrected(folder, read_handed(folder).forget, read_answers(folder)))
    said = [config.build(Said, row, "rehearsal.jsonl") for row in folder.kept("rehearsal")]
    return [one for one in said if guard.harmless(one.answer.text)]
