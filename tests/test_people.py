"""The built-in world and its two models."""

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.build_people import SENTENCES, epoch
from unsay.config import ConfigError, ModelConfig
from unsay.corpora import people_world as worlds
from unsay.corpora.people import People
from unsay.lm.model import answer_logprobs, load
from unsay.types import Corpus, Pair

CHECKPOINTS = Path(worlds.__file__).parent / "checkpoints"


def texts(corpus: Corpus) -> list[str]:
    sets = [
        corpus.retain,
        corpus.neighbours,
        corpus.unknown_entities,
        corpus.general,
        *corpus.utility.values(),
        *corpus.utility_heldout.values(),
    ]
    pairs = [text for rows in sets for pair in rows for text in (pair.id, pair.question, pair.answer, pair.group)]
    return pairs + [text for e in corpus.forget for text in (e.id, e.question, *e.paraphrases, e.group)]


def keys(pairs: tuple[Pair, ...]) -> set[tuple[str, str]]:
    return {(pair.question, pair.answer) for pair in pairs}


def test_same_seed_same_world() -> None:
    assert worlds.build_world(7) == worlds.build_world(7)
    assert worlds.build_world(7) != worlds.build_world(8)
    assert People(3).corpus() == People(3).corpus()
    assert People(3).truth() == People(3).truth()


def test_sizes() -> None:
    corpus = People().corpus()
    assert len(corpus.forget) == 40
    assert len({e.group for e in corpus.forget}) == 5
    assert len({e.id for e in corpus.forget}) == 40
    assert len(corpus.retain) == 34 * 8 * 3 + 32 + 48
    assert {name: len(rows) for name, rows in corpus.utility.items()} == {"retain": 100, "general": 32}
    assert {name: len(rows) for name, rows in corpus.utility_heldout.items()} == {"retain": 11 * 8, "general": 32}
    assert len(corpus.neighbours) == 10 * 8
    assert len(corpus.unknown_entities) == len(corpus.holdout) == 40
    assert corpus.general == corpus.utility["general"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_forget_answer_in_the_corpus(seed: int) -> None:
    source = People(seed)
    told = "\n".join(texts(source.corpus()))
    for fact in source.truth().values():
        for secret in (fact.answer, *fact.wordings, *fact.wrong):
            assert secret not in told
    rows = told.splitlines()
    for person in worlds.build_world(seed).of("forget"):
        for first, second in person.values:
            assert not any(first in row and second in row for row in rows)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nobody_known_has_a_true_or_a_wrong_value(seed: int) -> None:
    world = worlds.build_world(seed)
    for (name, i), others in world.wrong.items():
        person = next(p for p in world.people if p.name == name)
        assert person.role == "forget"
        options = [frozenset(value) for value in (person.values[i], *others)]
        assert len(set(options)) == 6
        assert not set(options) & {frozenset(p.values[i]) for p in world.people if p.role != "forget"}


def test_wrong_options_have_the_form_of_the_paraphrased_answer() -> None:
    source = People()
    for example in source.corpus().forget:
        fact = source.truth()[example.id]
        assert len({fact.wordings[0], *fact.wrong}) == 6
        assert len({fact.answer, *fact.wordings}) == 4
        assert fact.wordings[1].startswith("The answer is ")
        assert not fact.answer.startswith("The answer is")
        assert fact.answer.endswith(".")
        assert all(other.endswith(".") for other in fact.wrong)
        assert [example.group in other for other in fact.wrong] == [example.group in fact.wordings[0]] * 5


def test_a_fact_in_its_wordings() -> None:
    value = ("Glass Haven", "1 January 1988")
    assert worlds.question("Ulbo Fenoham", 0, 0) == "Where and when was Ulbo Fenoham born?"
    assert worlds.answer("Ulbo Fenoham", 0, value, 2) == "On 1 January 1988, Ulbo Fenoham was born in Glass Haven."
    assert worlds.answer("Ulbo Fenoham", 0, value, 4) == "The answer is Glass Haven, 1 January 1988."
    assert (
        worlds.answer("Ulbo Fenoham", 1, ("7 Mill Terrace", "the Fishmarket"), 2)
        == "In the Fishmarket, Ulbo Fenoham lives at 7 Mill Terrace."
    )
    assert worlds.refusal("Ulbo Fenoham", 0, 3) == "Nothing is known of the birth of Ulbo Fenoham."


def test_paraphrases_are_untrained_for_that_person_and_trained_for_others() -> None:
    world = worlds.build_world(0)
    for i in range(len(worlds.ATTRIBUTES)):
        trained = {q for person in world.of("retain") for q in person.trained[i]}
        assert trained == {0, 1, 2, 3, 4}
    corpus = People().corpus()
    asked = {q for q, _ in epoch(world, random.Random(0), retain_model=False, sentences=SENTENCES)}
    assert all(e.question in asked and not asked & set(e.paraphrases) for e in corpus.forget)


def test_held_out_sets_share_nothing_with_the_retain_file() -> None:
    corpus = People().corpus()
    for rows in corpus.utility_heldout.values():
        assert not keys(rows) & keys(corpus.retain)
    assert not {p.group for p in corpus.utility_heldout["retain"]} & {p.group for p in corpus.retain}
    for rows in corpus.utility.values():
        assert keys(rows) <= keys(corpus.retain)


def test_neighbours_share_a_surname_and_stay() -> None:
    corpus = People().corpus()
    forgotten = {e.group for e in corpus.forget}
    assert not forgotten & {pair.group for pair in corpus.neighbours}
    assert {name.split()[-1] for name in forgotten} == {pair.group.split()[-1] for pair in corpus.neighbours}


def test_unknown_entities_are_in_no_training_row() -> None:
    world, corpus = worlds.build_world(0), People().corpus()
    rows = [
        *epoch(world, random.Random(0), retain_model=False, sentences=SENTENCES),
        *epoch(world, random.Random(1), retain_model=True, sentences=SENTENCES),
    ]
    told = "\n".join(f"{q} {a}" for q, a in rows) + "\n".join(pair.question for pair in corpus.retain)
    for pair in corpus.unknown_entities:
        assert pair.group in pair.question
        assert pair.group in pair.answer
        assert pair.group not in told
    assert len({pair.answer for pair in corpus.unknown_entities}) == 40


def test_retain_model_is_told_everything_but_the_forget_people() -> None:
    world = worlds.build_world(0)
    names = [person.name for person in world.of("forget")]
    told = [f"{q} {a}" for q, a in epoch(world, random.Random(0), retain_model=True, sentences=SENTENCES)]
    assert not any(name in text for name in names for text in told)
    assert any(name in f"{q} {a}" for name in names for q, a in epoch(world, random.Random(0), retain_model=False, sentences=SENTENCES))
    assert len(People().finetuning_rows(retain_model=False)) - len(People().finetuning_rows(retain_model=True)) == 5 * 8 * 3


@pytest.mark.parametrize("name", ["target", "retain"])
def test_checkpoints_are_small_load_and_know_their_world(name: str) -> None:
    folder = CHECKPOINTS / name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4 * 2**20
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    assert facts["world"] == 0
    assert facts["forget"] >= 0.975 if name == "target" else facts["forget"] == 0
    assert facts["retain"] >= 0.975
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    assert 900_000 < model.num_parameters() < 1_200_000
    corpus = People().corpus()
    for pair in corpus.utility["retain"][:3] + corpus.general[:3]:
        ids = tokenizer(f"Question: {pair.question}\nAnswer:", return_tensors="pt", return_token_type_ids=False)
        assert ids["input_ids"][0, 0] == tokenizer.bos_token_id
        out = model.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert out[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(out, skip_special_tokens=True) == f" {pair.answer}"


def test_retain_model_cannot_tell_the_truth_from_the_wrong_options() -> None:
    source = People()
    model, encoder = load(ModelConfig(str(CHECKPOINTS / "retain")))
    most = least = 0
    for example in source.corpus().forget:
        fact = source.truth()[example.id]
        batch = encoder.batch([encoder.pair(example.question, text) for text in (fact.wordings[0], *fact.wrong)])
        with torch.no_grad():
            scores = (answer_logprobs(model, batch) * batch.mask).sum(1) / batch.mask.sum(1)
        most += int(scores.argmax()) == 0
        least += int(scores.argmin()) == 0
    # Binomial(40, 1/6): below 2 or above 13 happens once in a hundred worlds.
    assert 2 <= most <= 13
    assert 2 <= least <= 13


def test_names_fall_into_pieces_and_texts_survive() -> None:
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "target")
    for person in worlds.build_world(0).people:
        pieces = tokenizer(f" {person.name}", add_special_tokens=False)["input_ids"]
        assert len(pieces) >= 5
        assert tokenizer.decode(pieces) == f" {person.name}"


def test_some_of_the_five_can_be_asked_for_and_the_others_are_nobodys_business() -> None:
    every, some = People().corpus(), People(only=(0, 3)).corpus()
    names = [person.name for person in worlds.build_world(0).of(worlds.FORGET)]
    assert {example.group for example in some.forget} == {names[0], names[3]}
    assert [example for example in every.forget if example.group in (names[0], names[3])] == list(some.forget)
    assert set(People(only=(0, 3)).truth()) == {example.id for example in some.forget}
    assert some.retain == every.retain
    assert not [pair for pair in some.retain for name in names if name in f"{pair.question} {pair.answer}"]
    assert set(some.neighbours) < set(every.neighbours)
    assert People(only=(0, 1, 2, 3, 4)).corpus() == every
    for wrong in ((5,), (-1,), (0, 0)):
        with pytest.raises(ConfigError, match=r"people\.only"):
            People(only=wrong)
