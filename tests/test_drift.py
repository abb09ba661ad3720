"""Drift on literal probabilities, and the unrelated text that it reads."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from tests.conftest import tiny_model
from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.subject import LocalSubject, row_logprobs
from unsay.probes import drift, unrelated
from unsay.probes.drift import Drift, sensitive
from unsay.types import Case, Corpus, Example, Fact, Pair

HOME = Example("home", "Where does Anna live?")
CASE = Case(Corpus("one", (HOME,)), {"home": Fact("home", "Anna lives in Zab 7.")}, "ground truth")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little of the built-in text."""
    monkeypatch.delenv("UNSAY_DATA", raising=False)
    for name, value in (("WINDOWS", 3), ("WORDS", 8), ("OCCURRENCES", 5)):
        monkeypatch.setattr(drift, name, value)


class Flat(LocalSubject):
    """A model that gives the token `z` one probability and every other token another."""

    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> list[torch.Tensor]:
        assert set(questions) == {None}
        rare = self.encoder.tokenizer.encode("z", add_special_tokens=False)[0]
        ids = [torch.tensor(self.encoder.answer(text)) for text in answers]
        return [torch.where(row == rare, torch.tensor(0.125).log(), torch.tensor(0.5).log()) for row in ids]


def test_tokens_of_the_secret_are_those_of_its_sensitive_words(encoder: Encoder) -> None:
    found = {encoder.decode([i]) for i in sensitive(CASE, encoder)}
    assert found == {"Z", "a", "b", "7"}  # bytes; the space that comes before a word says nothing
    plain = Case(CASE.corpus, {"home": Fact("home", "Anna lives by the fox.")}, "")
    assert {encoder.decode([i]) for i in sensitive(plain, encoder)} == {"f", "o", "x"}
    assert sensitive(Case(CASE.corpus, {}, ""), encoder) == frozenset()


def test_each_occurrence_has_its_probability(monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel, encoder: Encoder) -> None:
    monkeypatch.setattr(unrelated, "read", lambda: ("built-in", ["zoo zip", "no fee"]))
    monkeypatch.setattr(drift, "WORDS", 2)
    case = Case(CASE.corpus, {"home": Fact("home", "Anna has a fez.")}, "ground truth")
    found = Drift()(Flat(model, encoder, SampleConfig()), case)
    perplexity, *tokens = found
    # " zoo zip" and " no fee": 15 bytes, two of them z; the end of the answer takes no part.
    assert perplexity.metric == "inverse_perplexity"
    assert perplexity.value == pytest.approx((0.125**2 * 0.5**13) ** (1 / 15))
    assert (perplexity.example, perplexity.setting, perplexity.n) == ("", "built-in", 15)
    assert [f.value for f in tokens] == pytest.approx([0.125, 0.125, 0.5, 0.5, 0.5])  # z z f e e
    assert [f.example for f in tokens] == [f"token {i}" for i in range(5)]
    assert {(f.metric, f.setting, f.note) for f in tokens} == {("token_probability", "built-in", "ground truth")}


def test_two_models_pair_up_and_the_change_shows(few: None, encoder: Encoder) -> None:
    before = Drift()(LocalSubject(tiny_model(0), encoder, SampleConfig()), CASE)
    after = Drift()(LocalSubject(tiny_model(1), encoder, SampleConfig()), CASE)
    assert [f.example for f in before] == [f.example for f in after]
    assert [f.value for f in before] != [f.value for f in after]
    assert before == Drift()(LocalSubject(tiny_model(0), encoder, SampleConfig()), CASE)
    assert len(before) == 1 + 5  # capped
    assert all(f.value is not None and 0 <= f.value <= 1 for f in before)


def test_the_numbers_are_the_models(few: None, monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel, encoder: Encoder) -> None:
    monkeypatch.setattr(drift, "WINDOWS", 1)
    monkeypatch.setattr(drift, "OCCURRENCES", 0)
    found = Drift()(LocalSubject(model, encoder, SampleConfig()), CASE)
    text = unrelated.windows(unrelated.built_in(), 8)[0]
    (values,) = row_logprobs(model, encoder, [encoder.pair(None, text)])
    wanted = sensitive(CASE, encoder)
    expected = [float(v.double().exp()) for i, v in zip(encoder.answer(text), values, strict=True) if i in wanted]
    assert expected
    assert [f.value for f in found[1:]] == pytest.approx(expected)


def test_no_likelihoods_no_occurrence_and_no_text_are_unscored(
    few: None, monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel, encoder: Encoder
) -> None:
    class Endpoint:
        weights = None
        ask = LocalSubject.ask

        def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> None:
            return None

    found = Drift()(Endpoint(), CASE)  # type: ignore[arg-type]
    assert [(f.metric, f.value, f.note) for f in found] == [
        ("token_probability", None, "this model shows no likelihoods"),
        ("inverse_perplexity", None, "this model shows no likelihoods"),
    ]
    subject = LocalSubject(model, encoder, SampleConfig())
    found = Drift()(subject, Case(CASE.corpus, {"home": Fact("home", "Anna lives in Ω.")}, ""))
    assert [(f.metric, f.value is None) for f in found] == [("inverse_perplexity", False), ("token_probability", True)]
    monkeypatch.setattr(drift, "SHORT", 2)
    brief = LocalSubject(model, Encoder(encoder.tokenizer, room=20), SampleConfig())
    assert Drift()(brief, CASE)[0].value is not None  # it reads shorter pieces
    monkeypatch.setattr(drift, "SHORT", 8)
    short = LocalSubject(model, Encoder(encoder.tokenizer, room=20), SampleConfig())
    assert {f.value for f in Drift()(short, CASE)} == {None}


# -- the text ----------------------------------------------------------------------------------------------------------


def test_wikitext_is_read_from_the_data_folder_and_spelled_as_people_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNSAY_DATA", str(tmp_path))
    assert unrelated.read()[0] == "built-in"
    (tmp_path / "wikitext-2").mkdir()
    text = ' \n = Heading = \n \n He had 1 @,@ 200 guest @-@ rooms ( two lit ) . <unk> left . Eva \'s " red " door , it is . \n'
    (tmp_path / "wikitext-2" / "test.txt").write_text(text, encoding="utf-8")
    assert unrelated.read() == ("wikitext", ['He had 1,200 guest-rooms (two lit). Eva\'s "red" door, it is.'])


def test_the_real_wikitext_where_it_is() -> None:
    name, paragraphs = unrelated.read()
    if name != "wikitext":
        pytest.skip("WikiText-2 is not here: UNSAY_DATA does not name a folder that holds it")
    assert len(unrelated.windows(paragraphs, drift.WORDS)) >= drift.WINDOWS
    assert not any("<unk>" in p or " @-@ " in p or " ." in p.replace(" ...", "")[-2:] for p in paragraphs)


def test_the_built_in_text_names_nobody_of_the_people() -> None:
    from unsay.corpora.people import People

    text = " ".join(unrelated.built_in())
    assert len(text.split()) > 500
    names = {word for example in People().corpus().forget for word in example.group.split()}
    assert not names & set(text.split())


def test_windows_are_cut_at_words_and_short_rests_dropped() -> None:
    assert unrelated.windows(["a b c d e f", "g", "h i"], 4) == ["a b c d", "e f", "h i"]


def test_harmless_pairs_are_the_corpus_own_without_refusals() -> None:
    rows = (Pair("a", "Who is Bo?", "A baker."), Pair("b", "Who is Cy?", "I do not know."))
    assert [pair.id for pair in unrelated.harmless(Case(Corpus("x", (), rows), {}, ""))] == ["a"]
    assert len(unrelated.harmless(Case(Corpus("x", ()), {}, ""))) > 100


def test_rows_to_relearn_from_fit_the_model(encoder: Encoder) -> None:
    rows = unrelated.rows(encoder)
    assert len(rows) == unrelated.ROWS + len(unrelated.windows(unrelated.built_in(), unrelated.WORDS))
    assert {row.role for row in rows} == {"retain"}
    assert len({row.context for row in rows[32:]}) == 1  # prose without a question
    longest = max(len(row.context) + len(row.answer) for row in rows)
    assert 0 < len(unrelated.rows(Encoder(encoder.tokenizer, room=longest - 1))) < len(rows)


def test_no_data_folder_is_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty UNSAY_DATA names nothing, even where the working folder holds a text of that name."""
    (tmp_path / "wikitext-2").mkdir()
    (tmp_path / "wikitext-2" / "test.txt").write_text("He sat .\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "UNSAY_DATA", "")
    assert unrelated.read()[0] == "built-in"
