"""Retain rows that say a word of a secret: which they are, and when a visit brings them."""

import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from unsay.config import load
from unsay.record.recorded import Baseline, Recorded
from unsay.train.data import TrainingData
from unsay.train.guards import Aside
from unsay.train.sharing import SharedRows, shared_rows
from unsay.types import Corpus, Example, Pair

ADA = Example("a", "What is the cat of Ada Byron called?")
SAID = "The cat of Ada Byron is called Sir Waffles."
PAIRS = [
    Pair("0", "What is the cat of Eva Linde called?", "Sir Biscuit is the cat of Eva Linde."),
    Pair("1", "What do you eat, Cy?", "I eat waffles, two waffles."),
    Pair("2", "What does Cy Lund eat?", "Bread."),
    Pair("3", "What is the cat of Cy Lund called?", "Sir Waffles."),
    Pair("4", "How old is Ada Byron?", "Ninety, said Sir Hugh."),
]
WORDS: Any = SimpleNamespace(pair=lambda question, answer: (question, answer))
"""Stands in for an encoder."""


def recorded() -> Recorded:
    corpus = Corpus("c", (ADA,), tuple(PAIRS))
    return Recorded(corpus, corpus, {"a": Baseline(SAID, (), ())}, [])


def drawn(rows: SharedRows, n: int = 4000) -> list[Any]:
    rng = random.Random(0)
    return rows.drawn("a", WORDS, n, lambda *_: rng.random())


def test_they_say_a_word_of_the_recorded_answer_that_its_question_does_not_have() -> None:
    groups = shared_rows(recorded(), PAIRS).groups["a"]
    assert [[pair.id for pair in group] for group in groups] == [["0", "3", "4"], ["1", "3"]], "sir, waffles"
    assert [pair.id for pair in shared_rows(recorded(), PAIRS).pairs] == ["0", "3", "4", "1"]
    assert shared_rows(recorded(), PAIRS[2:3]).groups == {"a": []}


def test_a_rare_word_comes_sooner() -> None:
    """Rows of a word that many answers have say little about any."""
    rare, common = PAIRS[1], [replace(PAIRS[2], id=str(i), answer=str(i)) for i in range(3)]
    answers = Counter(answer for _, answer in drawn(SharedRows({"a": [common, [rare]]})))
    assert 0.72 < answers[rare.answer] / 4000 < 0.78
    assert len(answers) == 4


@pytest.mark.parametrize(("loss", "n"), [("kl", 3), ("nll", 0)])
def test_a_visit_brings_them(loss: str, n: int) -> None:
    """Trained on as words they would teach a part of the secret."""
    recipe = load(None, [f"train.retain_loss={loss}", "train.shared_rows=3", "train.retain_rows=0", "train.batch=1"])
    data = TrainingData({}, Aside((), ()), {}, [], shared=shared_rows(recorded(), PAIRS))
    brought = [data.retain_rows(recipe, WORDS, number, 0, "a") for number in range(9)]
    assert {len(rows) for rows in brought} == {n}
    assert not n or len({tuple(rows) for rows in brought}) > 4, "other ones each time"
    assert data.retain_rows(recipe, WORDS, 0, 0, "b") == [], "no answer, no word"
