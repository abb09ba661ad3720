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
from unsay.train.data import TrainingData
from unsay.train.guards import Aside
from unsay.train.mixing import mixed_rows, named, towards_name
from unsay.types import Example, Pair, Told

ADA = Pair("a", "Where does Ada Byron live?", "In Rome.")
PAIRS = [ADA, Pair("b", "Who painted Guernica?", "Pablo."), Pair("c", "how are you?", "Well.")]


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


def test_a_longer_name_is_passed_over_evenly(encoder: Encoder) -> None:
    row = towards_name(encoder, ADA, "Ada Byron", "Ada 123456789", 0.5)
    assert places(encoder, row) == ("Byron", "13579")


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


def test_names_of_several_words_are_moved_towards_names_of_several_words(encoder: Encoder) -> None:
    known, draws = named(PAIRS), torch.rand(60, generator=torch.Generator().manual_seed(0)).tolist()
    rows = mixed_rows(known, "Eva Linde", encoder, 20, lambda number, what: draws[3 * number + ["pair", "part", "share"].index(what)])
    assert {row.answer for row in rows} == {encoder.answer("In Rome.")}
    assert {places(encoder, row)[1] for row in rows} == {"Ev", "Linde", "Eva Linde"}
    shares = {
        towards: [row.mixes[0].share for row in rows if places(encoder, row)[1] == towards] for towards in ("Ev", "Linde", "Eva Linde")
    }
    assert all(0.1 <= share <= 1 for some in shares.values() for share in some)
    assert max(shares["Eva Linde"]) <= 0.6 < max(shares["Ev"] + shares["Linde"]), "at the end of the whole way lies what is to go"
    (one,) = mixed_rows(known, "Guernika", encoder, 1, lambda *_: 0.5)
    assert places(encoder, one) == ("c", "k")


@pytest.mark.parametrize(("loss", "mixed"), [("kl", 3), ("nll", 0)])
def test_a_visit_brings_its_own(loss: str, mixed: int, encoder: Encoder) -> None:
    """Drawn anew at each visit, towards the name that its question is about; only where the untouched model says what to answer."""
    asked = {key: Visit(Example(key, f"What does {name} eat?"), "", (), Told(())) for key, name in (("x", "Eva Linde"), ("y", "Bo Ek"))}
    data = TrainingData(asked, Aside((), (ADA,)), {}, [], named=named(PAIRS))
    recipe = load(None, [f"train.retain_loss={loss}", "train.mixed_rows=3", "train.retain_rows=1", "train.batch=1"])
    seen = set()
    for number, (key, letters) in enumerate({"x": "EvaLinde", "y": "BoEk"}.items()):
        rows = [row for row in data.retain_rows(recipe, encoder, number, 0, key) if row.mixes]
        assert len(rows) == mixed
        assert all(set(places(encoder, row)[1]) <= {*letters, " "} for row in rows)
        seen |= {row.mixes[0].share for row in rows}
    assert len(seen) == 2 * mixed
    assert data.drawn_often(load(None, ["train.retain_loss=kl", "train.mixed_rows=3"]), encoder) == [encoder.pair(ADA.question, ADA.answer)]


@pytest.mark.parametrize("name", ["", "Eva Linde"])
def test_where_there_is_no_such_name_there_is_no_row(name: str, encoder: Encoder) -> None:
    assert mixed_rows(named(PAIRS[1:]), name, encoder, 3, lambda *_: 0.5) == []
