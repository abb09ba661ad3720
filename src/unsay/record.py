"""Record: corpus + model → the run folder. The only stage that loads a corpus.

Everything later stages know, they read from here: the questions, the retain rows, what the model used to answer
(greedily, and sampled: the openings are cut from those), and, apart from all that, the truth for the audit.
"""

import dataclasses
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from unsay import config, corpora
from unsay.config import Recipe
from unsay.corpora import Source
from unsay.folder import RunFolder, write_text
from unsay.model import default_device, fingerprint, load
from unsay.sample import Draw, sample
from unsay.tables import lookup
from unsay.types import Answer, Corpus, Example, Fact, Pair, Truth

_PAIRS = ("retain", "neighbours", "strangers", "general")
_SETS = ("utility", "utility_heldout")


def source(recipe: Recipe) -> Source:
    """The corpus that the recipe names, with its knobs."""
    kind = lookup(recipe.corpus, corpora.TABLE, corpora.GROUP)
    made: Source = recipe.knobs(recipe.corpus, kind)
    return made


def start(recipe: Recipe, folder: RunFolder) -> None:
    """The resolved recipe, the questions and the truth; no model yet."""
    where = source(recipe)
    corpus, truth = where.corpus(), where.truth()
    write_text(folder.recipe_file, config.dump(recipe))
    folder.keep("corpus", _corpus_rows(corpus))
    if truth is not None:
        folder.keep("truth", (dataclasses.asdict(fact) for fact in truth.values()))
    folder.note(
        seed=recipe.seed,
        versions={name: version(name) for name in ("unsay", "torch", "transformers", "accelerate", "numpy")},
        machine={"system": platform.platform(terse=True), "threads": torch.get_num_threads(), "device": str(default_device())},
        counts={"forget": len(corpus.forget), "retain": len(corpus.retain)},
    )


def record(recipe: Recipe, folder: RunFolder) -> None:
    """What the leaking model says now: one greedy answer and some sampled ones to every forget question."""
    corpus = read_corpus(folder)
    model, encoder = load(recipe.model, leaking_name(recipe, folder))
    ids, knobs = [example.id for example in corpus.forget], recipe.record
    contexts = [encoder.prompt(example.question) for example in corpus.forget]
    hot = knobs.answers // 2 if knobs.lead else 0
    draws = [Draw(key, context) for key, context in zip(ids, contexts, strict=True)]
    draws += [Draw(key, context, knobs.answers - hot, knobs.temperature) for key, context in zip(ids, contexts, strict=True)]
    draws += [
        Draw(f"{key}|lead", context, hot, knobs.temperature, lead=knobs.lead, lead_temperature=knobs.lead_temperature)
        for key, context in zip(ids, contexts, strict=True)
        if hot
    ]
    found = sample(model, encoder, draws, recipe.sample, recipe.seed, "record")
    rows = []
    for i, key in enumerate(ids):
        others = [answer for start in range(len(ids), len(draws), len(ids)) for answer in found[start + i]]
        rows.append({"id": key, "answer": found[i][0].text, "answers": [dataclasses.asdict(answer) for answer in others]})
    folder.keep("baseline", rows)
    folder.note(model={"name": recipe.model.name, "leaking_fingerprint": fingerprint(model)})


def leaking_name(recipe: Recipe, folder: RunFolder) -> str:
    """The model to be unlearned: what `finetune` planted, or the one that the recipe names."""
    return str(folder.planted) if folder.planted.exists() else recipe.model.name


# -- the vault's rows, and back ----------------------------------------------------------------------------------------


def _corpus_rows(corpus: Corpus) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = [{"kind": "corpus", "name": corpus.name, "desired": corpus.desired}]
    rows += [{"kind": "forget", **dataclasses.asdict(example)} for example in corpus.forget]
    for kind in _PAIRS:
        rows += [{"kind": kind, **dataclasses.asdict(pair)} for pair in getattr(corpus, kind)]
    for kind in _SETS:
        for name, pairs in getattr(corpus, kind).items():
            rows += [{"kind": kind, "set": name, **dataclasses.asdict(pair)} for pair in pairs]
    return rows


def read_corpus(folder: RunFolder) -> Corpus:
    """The corpus as `record` wrote it down."""
    head: dict[str, Any] = {}
    forget: list[Example] = []
    pairs: dict[str, list[Pair]] = {kind: [] for kind in _PAIRS}
    sets: dict[str, dict[str, list[Pair]]] = {kind: {} for kind in _SETS}
    for row in folder.kept("corpus"):
        kind = row.pop("kind")
        if kind == "corpus":
            head = row
        elif kind == "forget":
            forget.append(config.build(Example, row, "corpus.jsonl"))
        elif kind in pairs:
            pairs[kind].append(config.build(Pair, row, "corpus.jsonl"))
        else:
            sets[kind].setdefault(row.pop("set"), []).append(config.build(Pair, row, "corpus.jsonl"))
    return Corpus(
        name=head["name"],
        forget=tuple(forget),
        retain=tuple(pairs["retain"]),
        utility={name: tuple(found) for name, found in sets["utility"].items()},
        utility_heldout={name: tuple(found) for name, found in sets["utility_heldout"].items()},
        neighbours=tuple(pairs["neighbours"]),
        strangers=tuple(pairs["strangers"]),
        general=tuple(pairs["general"]),
        desired=tuple(head["desired"]),
    )


def read_truth(folder: RunFolder) -> Truth | None:
    """The ground truth, where the corpus had one. For the audit, and methods that declare `needs_answers`."""
    path: Path = folder.vault / "truth.jsonl"
    if not path.exists():
        return None
    return {row["id"]: config.build(Fact, row, "truth.jsonl") for row in folder.kept("truth")}


def read_baseline(folder: RunFolder) -> dict[str, tuple[str, tuple[Answer, ...]]]:
    """By example id: the original greedy answer and the sampled ones."""
    return {
        row["id"]: (row["answer"], tuple(Answer(tuple(a["ids"]), a["text"], a["finished"]) for a in row["answers"]))
        for row in folder.kept("baseline")
    }
