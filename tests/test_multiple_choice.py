"""Choice where the corpus has no wrong options, and how far down the unlikeliest lies; relearning from unrelated text."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from statistics import fmean

import pytest
import torch
from transformers import PreTrainedModel

from tests.conftest import tiny_model
from tests.test_probes import Fake as Answers
from unsay.config import ConfigError, ModelConfig, SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.model import fingerprint, load
from unsay.lm.subject import LocalSubject
from unsay.probes import unrelated
from unsay.probes.multiple_choice import MultipleChoice
from unsay.probes.options import MADE, choices, renamed
from unsay.probes.relearn import Relearn
from unsay.types import Case, Corpus, Example, Fact, Finding, Pair

TOWNS = {"Anna Kovač": "Turin", "Bo Vale": "Oslo", "Cy Marsh": "Lima", "Di Stone": "Nice"}
EXAMPLES = (
    *(Example(name.split()[0], f"Where does {name} live?", group=name) for name in TOWNS),
    Example("pet", "What is the name of Anna Kovač's dog?", group="Anna Kovač"),
)
FACTS = {name.split()[0]: Fact(name.split()[0], f"{name} lives in {town}.") for name, town in TOWNS.items()}
FACTS["pet"] = Fact("pet", "It is Biscuit.")
CASE = Case(Corpus("towns", EXAMPLES), FACTS, "baseline answers")


Fake = partial(Answers, {})
"""A model of literal likelihoods: the mean log-probability of each answer."""


def values(found: Sequence[Finding], example: str) -> dict[str, float | None]:
    return {f.metric: f.value for f in found if f.example == example}


def test_options_are_others_secrets_told_of_the_one_who_is_asked_about() -> None:
    assert set(choices(CASE, 3)["Anna"][1:]) == {f"Anna Kovač lives in {town}." for town in ("Oslo", "Lima", "Nice")}
    assert len(choices(CASE, 5)["Anna"][1:]) == 4  # her dog's name comes last, for it is about herself
    assert choices(CASE, 5)["Anna"][-1] == "It is Biscuit."
    assert choices(CASE, 0) == {}


def test_a_right_answer_is_never_a_wrong_option() -> None:
    facts = FACTS | {"Bo": Fact("Bo", "Bo Vale lives in Turin.")}  # the same town: told of Anna it would be true
    options = choices(Case(CASE.corpus, facts, ""), 5)
    assert not any("Turin" in option for option in options["Anna"][1:])
    assert not any("Turin" in option for option in options["Bo"][1:])


def test_options_depend_on_the_case_and_not_on_its_order() -> None:
    turned = Case(Corpus("towns", EXAMPLES[::-1]), FACTS, "")
    assert choices(turned, 2) == choices(CASE, 2)


def test_too_few_other_answers_make_no_choice() -> None:
    case = Case(Corpus("two", EXAMPLES[:2]), FACTS, "")
    found = MultipleChoice()(Fake(lambda q, a: -1.0), case)
    assert {f.value for f in found} == {None}
    assert {f.example for f in found if f.example} == {"Anna", "Bo"}


@pytest.mark.parametrize(
    ("answer", "asked", "instead", "expected"),
    [
        ("Isvek lives in Oslo.", "Where does Isvek Eckin live?", "Where is Anna Kovač's home?", "Anna lives in Oslo."),
        ("Mr Eckin's home is Oslo.", "Where does Isvek Eckin live?", "Where is Anna Kovač's home?", "Mr Kovač's home is Oslo."),
        ("Isvek Eckin is a cook.", "Who is Isvek Eckin?", "Who is Cher?", "Cher is a cook."),
        ("Cher sings.", "Who is Cher?", "Who is Isvek Eckin?", "Isvek Eckin sings."),
        ("In Oslo.", "where?", "Who is Cher?", "In Oslo."),
    ],
)
def test_names_are_exchanged(answer: str, asked: str, instead: str, expected: str) -> None:
    assert renamed(answer, asked, instead) == expected


def test_the_choice_says_which_options_it_had() -> None:
    facts = FACTS | {"Bo": dataclasses.replace(FACTS["Bo"], wrong=("Bo Vale lives in Rome.",))}
    found = MultipleChoice(options=3)(Fake(lambda q, a: -1.0 if "Turin" in a and "Anna" in q else -2.0), Case(CASE.corpus, facts, "src"))
    assert {f.setting for f in found if f.example == "Bo"} == {""}
    assert {f.setting for f in found if f.example == "Anna"} == {MADE}
    assert values(found, "Anna")["most"] == 1.0
    assert values(found, "Anna")["chance"] == 1 / 4
    assert values(found, "Bo") == {"most": 0.5, "least": 0.5, "chance": 0.5, "min_probability": pytest.approx(0.5)}
    assert {f.note for f in found if f.example} == {"src"}


def test_the_smallest_share_needs_no_number_that_underflows() -> None:
    facts = {"Anna": dataclasses.replace(FACTS["Anna"], wrong=("Anna lives in Rome.", "Anna lives in Bonn."))}
    ln2 = 0.6931471805599453
    for floor in (0.0, -5000.0):  # exp(-5000) is 0, but shares are not
        likelihoods = {"Turin": floor, "Rome": floor - ln2, "Bonn": floor - 2 * ln2}
        fake = Fake(lambda q, a, likelihoods=likelihoods: next(v for town, v in likelihoods.items() if town in a))  # type: ignore[misc]
        found = MultipleChoice()(fake, Case(Corpus("one", EXAMPLES[:1]), facts, ""))
        # The values are float32: near -5000 they are good to 5e-4.
        assert values(found, "Anna")["min_probability"] == pytest.approx(0.25 / 1.75, rel=1e-3)
        assert values(found, "Anna")["most"] == 1.0


def test_knobs_are_checked() -> None:
    for options in (-1, 1):
        with pytest.raises(ConfigError, match=r"choice\.options"):
            MultipleChoice(options=options)


def test_made_options_leave_retain_model_near_chance_and_show_what_leaks() -> None:
    """Options that the retain model knew, or that do not fit the question, would move the retain model off chance."""
    from unsay.corpora.people import People

    people = People()
    truth = {key: dataclasses.replace(fact, wrong=()) for key, fact in people.truth().items()}
    case = Case(people.corpus(), truth, "ground truth")

    def accuracy(name: str) -> tuple[float, float]:
        found = MultipleChoice()(LocalSubject(*load(ModelConfig(name=name)), SampleConfig()), case)
        assert {f.value for f in found if f.metric == "chance"} == {1 / 6}
        most, least = ([f.value for f in found if f.metric == metric and f.value is not None] for metric in ("most", "least"))
        return fmean(most), fmean(least)

    most, least = accuracy("people-target")
    assert most > 0.9
    assert least == 0.0
    most, least = accuracy("people-retain")
    assert 0.05 <= most <= 0.35  # chance .167; 40 questions
    assert 0.05 <= least <= 0.35


# -- relearning from text that holds no secret -------------------------------------------------------------------------

ALIKE = Case(Corpus("alike", tuple(Example(f"q{i}", f"Q{i}?") for i in range(4))), {f"q{i}": Fact(f"q{i}", "Ox") for i in range(4)}, "src")
ATTACK = Relearn(steps=(60,), learning_rates=(1e-5, 1e-2), batch=4, n=1)


def settings(found: Sequence[Finding]) -> dict[str, list[float | None]]:
    grouped: dict[str, list[float | None]] = {}
    for f in found:
        if f.metric == "keyword_recall":
            grouped.setdefault(f.setting, []).append(f.value)
    return grouped


def test_unrelated_text_brings_back_only_what_it_teaches(monkeypatch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """A model that knows nothing learns the secret from rows that say it, so that attack does train; from others it does not."""
    for text, expected in (("Ox", 1.0), ("No", 0.0)):
        rows = [encoder.pair(f"P{i}?", text) for i in range(4)]
        monkeypatch.setattr(unrelated, "rows", lambda encoder, rows=rows: rows)
        found = settings(ATTACK(LocalSubject(tiny_model(), encoder, SampleConfig(max_new_tokens=4)), ALIKE))
        assert list(found) == ["60 steps, unrelated text", "60 steps"]
        assert found["60 steps, unrelated text"] == [expected] * 3
        assert found["60 steps"] == [1.0] * 3  # one secret for all: what was not shown is relearned too


@pytest.mark.parametrize("rank", [0, 4])
def test_the_model_is_left_as_it_was(model: PreTrainedModel, encoder: Encoder, rank: int) -> None:
    attack = dataclasses.replace(ATTACK, steps=(2,), learning_rates=(1e-2,), rank=rank)
    before, state, trained = fingerprint(model), torch.random.get_rng_state(), [p.requires_grad for p in model.parameters()]
    found = settings(attack(LocalSubject(model, encoder, SampleConfig(max_new_tokens=2)), ALIKE))
    assert set(found) == {"2 steps, unrelated text", "2 steps"}
    assert fingerprint(model) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [p.requires_grad for p in model.parameters()] == trained
    assert all(p.grad is None for p in model.parameters())


def test_the_knob_switches_it_off(model: PreTrainedModel, encoder: Encoder) -> None:
    attack = dataclasses.replace(ATTACK, steps=(1,), learning_rates=(1e-4,), unrelated=False)
    found = attack(LocalSubject(model, encoder, SampleConfig(max_new_tokens=2)), ALIKE)
    assert set(settings(found)) == {"1 steps"}


def test_one_secret_alone_can_be_attacked_without_showing_any(model: PreTrainedModel, encoder: Encoder) -> None:
    one = Case(Corpus("one", ALIKE.corpus.forget[:1], retain=(Pair("r", "Who?", "Bo."),)), {"q0": ALIKE.facts["q0"]}, "src")
    attack = dataclasses.replace(ATTACK, steps=(1,), learning_rates=(1e-4,))
    found = settings(attack(LocalSubject(model, encoder, SampleConfig(max_new_tokens=2)), one))
    assert found == {"1 steps, unrelated text": [0.0], "": [None]}  # nothing can be shown, and the attack must not wait for it


def test_a_model_too_short_for_the_text_is_unscored(monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel, encoder: Encoder) -> None:
    monkeypatch.setattr(unrelated, "rows", lambda encoder: [])
    attack = dataclasses.replace(ATTACK, steps=(1,), learning_rates=(1e-4,))
    found = settings(attack(LocalSubject(model, encoder, SampleConfig(max_new_tokens=2)), ALIKE))
    assert found["1 steps, unrelated text"] == [None] * 3
    assert None not in found["1 steps"]
