"""Rows with mixed names: which places are moved where, how models read them, and when a visit brings them."""

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from tests import architectures
from unsay.config import LoraConfig, load
from unsay.lm.adapters import Untouched, adapt
from unsay.lm.encode import Encoder
from unsay.lm.mixup import Mix
from unsay.lm.model import answer_logprobs
from unsay.lm.rows import Row
from unsay.methods import Visit
from unsay.text import forms
from unsay.train.data import TrainingData
from unsay.train.guards import Aside
from unsay.train.mixing import mixed_rows, named, towards_name
from unsay.types import Example, Pair, Told

ADA = Pair("a", "Where does Ada Byron live?", "In Rome.")
PAIRS = [
    ADA,
    Pair("d", "Where does Cy Lund live?", "In Oslo."),
    Pair("b", "Who painted Guernica?", "Pablo."),
    Pair("c", "how are you?", "Well."),
]


def places(encoder: Encoder, row: Row) -> tuple[str, str]:
    """What stands at the places that are moved, and what they are moved to."""
    return encoder.decode([row.context[mix.place] for mix in row.mixes]), encoder.decode([mix.token for mix in row.mixes])


@pytest.mark.parametrize(
    ("towards", "old", "new"),
    [
        ("Eva Byron", "Ad", "Ev"),
        ("Ada Linde", "Byron", "Linde"),
        ("Eva Linde", "Ada Byron", "Eva Linde"),
        ("Ada Bo", "yron", "oooo"),
        ("Ada Byron", "", ""),
    ],
)
def test_the_name_is_moved_and_nothing_else(towards: str, old: str, new: str, encoder: Encoder) -> None:
    row = towards_name(encoder, ADA, "Ada Byron", towards, 0.5)
    assert places(encoder, row) == (old, new)
    assert replace(row, mixes=()) == encoder.pair(ADA.question, ADA.answer)
    assert {mix.share for mix in row.mixes} <= {0.5}


def test_each_token_has_its_counterpart_at_about_the_same_part_of_the_other_name(encoder: Encoder) -> None:
    for other, passed in (("123456789", "13579"), ("1234", "12334")):
        row = towards_name(encoder, ADA, "Ada Byron", f"Ada {other}", 0.5)
        assert places(encoder, row) == ("Byron", passed)


@pytest.mark.parametrize("name", sorted(architectures.TABLE))
def test_every_architecture_reads_a_row_that_is_moved_all_the_way_as_the_other(name: str, encoder: Encoder) -> None:
    model = architectures.build(name)
    row = towards_name(encoder, ADA, "Ada Byron", "Eva Linde", 1.0)
    other = encoder.pair("Where does Eva Linde live?", ADA.answer)
    plain, half = replace(row, mixes=()), replace(row, mixes=tuple(mix._replace(share=0.5) for mix in row.mixes))
    found = answer_logprobs(model, encoder.batch([plain, row, half, other]))
    assert torch.allclose(found[1], found[3], atol=1e-4)
    assert not torch.allclose(found[2], found[0], atol=1e-3)
    assert not torch.allclose(found[2], found[3], atol=1e-3)
    assert torch.allclose(found[0], answer_logprobs(model, encoder.batch([plain]))[0], atol=1e-4), "other rows are read as ever"


@pytest.mark.parametrize("rank", [0, 2])
def test_the_untouched_model_reads_them_beside_what_it_remembers(encoder: Encoder, model: PreTrainedModel, rank: int) -> None:
    if rank:
        adapt(model, LoraConfig(rank=rank), seed=0)
    plain = encoder.pair(ADA.question, ADA.answer)
    rows = [replace(plain, mixes=(Mix(3, 70, 0.4),)), plain, replace(plain, mixes=(Mix(3, 70, 0.9),))]
    untouched = Untouched(model)
    wanted, _ = untouched.answer_states(encoder.batch(rows))
    untouched.remember([plain], encoder)
    found, _ = untouched.answer_states(encoder.batch(rows))
    assert torch.allclose(found, wanted, atol=1e-5)
    each = found.view(3, len(plain.answer), -1)
    assert not torch.allclose(each[0], each[1], atol=1e-3)
    assert not torch.allclose(each[0], each[2], atol=1e-3)


def rows_of(known: list[Pair], name: str, encoder: Encoder, part: float, way: float) -> Row:
    (row,) = mixed_rows(named(known), name, (), encoder, 1, lambda _, what: {"pair": 0.0, "part": part, "share": way}[what])
    return row


@pytest.mark.parametrize(
    ("part", "new", "most"), [(0.0, "Ev", 0.4), (0.33, "Ev", 0.4), (0.34, "Linde", 0.7), (0.66, "Linde", 0.7), (0.67, "Eva Linde", 0.4)]
)
def test_a_third_of_the_rows_each_moves_the_first_word_the_rest_and_all(part: float, new: str, most: float, encoder: Encoder) -> None:
    """None of them far: at the end of the way lies what is to be forgotten, and the untouched model would teach it."""
    for way, share in ((0.0, 0.1), (0.5, (0.1 + most) / 2), (1.0, most)):
        row = rows_of(PAIRS, "Eva Linde", encoder, part, way)
        assert places(encoder, row)[1] == new
        assert row.mixes[0].share == pytest.approx(share)


@pytest.mark.parametrize("name", ["Ada Linde", "ADA Linde's"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_somebody_with_the_forgotten_first_name_goes_less_far(name: str, part: float, encoder: Encoder) -> None:
    assert all(mix.share <= 0.4 + 1e-9 for mix in rows_of([ADA], name, encoder, part, 1.0).mixes)


def test_nothing_goes_towards_a_name_that_is_held_out(encoder: Encoder) -> None:
    """Who is held out measures what is lost: "Ada Linde", between the known Ada Byron and the forgotten Eva Linde."""
    spared = frozenset([forms("Ada Linde")])
    for part, moved in ((0.0, True), (0.5, False), (0.9, True)):
        draws = {"pair": 0.0, "part": part, "share": 0.5}
        (row,) = mixed_rows(named([ADA]), "Eva Linde", spared, encoder, 1, lambda _, what, draws=draws: draws[what])
        assert bool(row.mixes) == moved


def test_every_known_name_is_drawn(encoder: Encoder) -> None:
    for draw, answer in ((0.0, "In Rome."), (0.49, "In Rome."), (0.5, "In Oslo."), (0.99, "In Oslo.")):
        (row,) = mixed_rows(named(PAIRS), "Eva Linde", (), encoder, 1, lambda _, what, draw=draw: draw)
        assert row.answer == encoder.answer(answer)
    (one,) = mixed_rows(named(PAIRS), "Guernika", (), encoder, 1, lambda *_: 0.5)
    assert places(encoder, one) == ("c", "k")


def test_a_name_that_stands_twice_is_left_alone(encoder: Encoder) -> None:
    for question in ("Where did Ada Byron live, and did Ada paint?", "Did Ada Byron know Ada Byron?"):
        pair = Pair("a", question, "Yes.")
        assert towards_name(encoder, pair, "Ada Byron", "Zo Miller", 0.5) == encoder.pair(question, "Yes.")


def test_numbers_are_no_names() -> None:
    assert named([Pair("a", "What is 12 times 7?", "84.")]) == {True: [], False: []}


@pytest.mark.parametrize(("loss", "mixed"), [("kl", 3), ("nll", 0)])
def test_a_visit_brings_its_own(loss: str, mixed: int, encoder: Encoder) -> None:
    """Drawn anew at each visit, towards the name that its question is about; only where the untouched model says what to answer."""
    asked = {key: Visit(Example(key, f"What does {name} eat?"), "", (), Told(())) for key, name in (("x", "Eva Linde"), ("y", "Bo Ek"))}
    data = TrainingData(asked, Aside((), (ADA,)), {}, [], named=named(PAIRS))
    recipe = load(None, [f"train.retain_loss={loss}", "train.mixed_rows=3", "train.retain_rows=1", "train.batch=1"])
    assert data.retain_rows(recipe, encoder, 0, 0, "x") != data.retain_rows(recipe, encoder, 0, 1, "x") or not mixed
    seen = set()
    for number, (key, letters) in enumerate({"x": "EvaLinde", "y": "BoEk"}.items()):
        rows = [row for row in data.retain_rows(recipe, encoder, number, 0, key) if row.mixes]
        assert len(rows) == mixed
        assert all(set(places(encoder, row)[1]) <= {*letters, " "} for row in rows)
        seen |= {row.mixes[0].share for row in rows}
    assert len(seen) == 2 * mixed


def test_they_are_as_many_as_fill_a_step_and_nothing_that_is_drawn_often(encoder: Encoder) -> None:
    asked = {"x": Visit(Example("x", "What does Eva Linde eat?"), "", (), Told(()))}
    data = TrainingData(asked, Aside((), (ADA,)), {}, [], named=named(PAIRS))
    settings = ["train.retain_loss=kl", "train.batch=4", "train.retain_rows=1"]
    recipe = load(None, [*settings, "train.mixed_rows=3"])
    assert sum(bool(row.mixes) for row in data.retain_rows(recipe, encoder, 0, 0, "x")) == 12
    often = encoder.pair(ADA.question, ADA.answer)
    for rounds, wanted in ((1, [often]), (0, [])):
        for mixed in (0, 40):
            assert data.drawn_often(load(None, [*settings, f"train.mixed_rows={mixed}", f"train.rounds={rounds}"]), encoder) == wanted
    few = TrainingData(asked, Aside((), tuple(PAIRS)), {}, [], named=named(PAIRS))
    for mixed in (0, 40):  # four rows, four draws
        assert few.drawn_often(load(None, [*settings, f"train.mixed_rows={mixed}", "train.rounds=1"]), encoder) == []


@pytest.mark.parametrize("name", ["", "Eva Linde"])
def test_where_there_is_no_such_name_there_is_no_row(name: str, encoder: Encoder) -> None:
    assert mixed_rows(named(PAIRS[2:]), name, (), encoder, 3, lambda *_: 0.5) == []
