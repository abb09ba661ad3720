"""Record: corpus + model → the run folder. Later stages know the corpus from here alone (`finetune`, where there is one, comes before).

Everything later stages know, they read from here: the questions, the retain rows, what the model used to answer
(greedily, and sampled: the openings are cut from those), and, apart from all that, the truth for the audit.
"""

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from unsay import config, corpora
from unsay.config import Recipe
from unsay.corpora import Source
from unsay.encode import Encoder, Row
from unsay.folder import RunFolder, write_text
from unsay.model import default_device, fingerprint, load
from unsay.rehearsal import Said, rehearse
from unsay.sample import Draw, first_tokens, sample, uniform
from unsay.subject import row_logprobs
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
    write_text(folder.recipe_file, config.dump(recipe), mode=0o600)  # named strings may stand in it
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
    ids = [example.id for example in corpus.forget]
    contexts = [encoder.prompt(example.question) for example in corpus.forget]
    greedy = [Draw(key, context) for key, context in zip(ids, contexts, strict=True)]
    sampled = [replace(draw, n=recipe.record.answers, temperature=recipe.record.temperature) for draw in greedy]
    answers = sample(model, encoder, greedy + sampled, recipe.sample, recipe.seed, "record")
    branched = _branches(model, encoder, recipe, ids, contexts)
    rows = []
    for i, key in enumerate(ids):
        favourite = answers[i][0].text
        every = (*answers[len(ids) + i], *branched[i])
        held = {text for text in dict.fromkeys(answer.text for answer in branched[i]) if uniform(recipe.seed, key, text, "withheld") < 0.5}
        held |= {answer.text for answer in every if _begins(answer.text, recipe.record.withheld)}
        held.discard(favourite)  # what the model would say anyway is where depth matters most
        kept = [dataclasses.asdict(answer) for answer in every if answer.text not in held]
        rows.append({"id": key, "answer": favourite, "answers": kept, "withheld": sorted(held)})
    folder.keep("baseline", rows)
    if recipe.record.rehearsal:
        measured = [*corpus.utility_heldout.values(), corpus.strangers]
        spared = [pair.question for pairs in measured for pair in pairs]
        questions, baselines = [example.question for example in corpus.forget], [found[0].text for found in answers[: len(ids)]]
        said = rehearse(model, encoder, recipe.sample, questions, baselines, recipe.record.rehearsal, recipe.seed, spared)
        folder.keep("rehearsal", map(dataclasses.asdict, said))
    folder.note(model={"name": recipe.model.name, "leaking_fingerprint": fingerprint(model)})


def _branches(
    model: PreTrainedModel, encoder: Encoder, recipe: Recipe, ids: Sequence[str], contexts: Sequence[tuple[int, ...]]
) -> list[list[Answer]]:
    """For each question the greedy answers behind its most likely first tokens, those that the model finds coherent."""
    knobs = recipe.record
    if not knobs.branches:
        return [[] for _ in ids]
    firsts = first_tokens(model, encoder, contexts, knobs.branches)
    starts = [(i, token) for i, tokens in enumerate(firsts) for token in tokens]
    draws = [Draw(f"{ids[i]}|{token}", (*contexts[i], token)) for i, token in starts]
    rests = [found[0] for found in sample(model, encoder, draws, recipe.sample, recipe.seed, "branch")]
    whole = [(i, token, draw, rest) for (i, token), draw, rest in zip(starts, draws, rests, strict=True) if rest.finished]
    scores = row_logprobs(model, encoder, [Row(draw.context, rest.ids) for _, _, draw, rest in whole])
    branches: list[list[Answer]] = [[] for _ in ids]
    for (i, token, _, rest), score in zip(whole, scores, strict=True):
        if float(score.mean()) >= knobs.least_logprob:
            branches[i].append(Answer((token, *rest.ids), encoder.decode((token, *rest.ids)), True))
    return branches


def _begins(text: str, beginnings: Sequence[str]) -> bool:
    return any(text.casefold().startswith(beginning.casefold()) for beginning in beginnings)


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
    path = folder.vault / "rehearsal.jsonl"
    return [config.build(Said, row, "rehearsal.jsonl") for row in folder.kept("rehearsal")] if path.exists() else []
