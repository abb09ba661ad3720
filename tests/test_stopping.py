"""Stopping early changes what is written and never what is chosen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsay.config import ModelConfig, SampleConfig
from unsay.corpora.people import People
from unsay.methods import Visit
from unsay.methods.collapse import PartialModelCollapse
from unsay.methods.gate import Gate
from unsay.methods.stopping import completed
from unsay.model import load
from unsay.rewards.overlap import Keys, Overlap
from unsay.sample import Draw, sample
from unsay.sampler import Sampler
from unsay.types import Answer, Candidate, Reference

WORDS = ("ada", "lives", "in", "turin", "Paris", "12", "élan", "東京都", "at", "art", "artist", "don't", "3,000", "Ada-Lee", "—", "x.")
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), min_size=1, max_size=12).map(" ".join)


@given(TEXTS, TEXTS, TEXTS, st.integers(0, 60))
def test_what_is_said_stays_said(baseline: str, other: str, text: str, cut: int):
    """The bound of a beginning is no lower than the value of the whole, and a gate that shut stays shut."""
    reference = Reference("who is ada?", baseline, (other,), ("where is she?",), strings=("turin",))
    begun = completed(text[:cut])
    whole = [Candidate(Answer((1,), text, True), 0)]
    for reward in (Overlap(), Overlap(min_words=5), Keys()):
        bound, (value,) = reward.upper_bound(begun, reference), reward(whole, reference)
        assert (bound is None) == (value is None)
        assert bound is None or bound >= value
    gate = Gate(reference, (baseline,), 0.5, 0.25, 0.67, 3)
    assert gate.leaks(text) or not gate.leaks(begun)


def test_a_word_that_may_go_on_does_not_count():
    reference = Reference("", "an artist in art")
    assert completed("an art") == "an"
    assert Overlap().upper_bound(completed("an art"), reference) == 0.75
    assert Overlap().upper_bound("an art", reference) == 0.5


@pytest.fixture(scope="module")
def leaking() -> tuple[Sampler, list[Visit]]:
    """The small model that tells on people, asked about some of them: most of what it says repeats what it said."""
    model, encoder = load(ModelConfig(name="people-leaking"))
    sampler = Sampler(model, encoder, SampleConfig(max_new_tokens=48))
    examples = People().corpus().forget[::5]
    draws = [Draw(example.id, encoder.prompt(example.question), 3, 1.0) for example in examples]
    recorded = sample(model, encoder, draws, sampler.config)
    texts = [answers[0].text for answers in recorded]
    visits = [
        Visit(example, text, tuple(answers), tuple(t for t in texts if t != text), tuple("?" for t in texts if t != text))
        for example, text, answers in zip(examples, texts, recorded, strict=True)
    ]
    return sampler, visits


@pytest.mark.parametrize(
    "knobs",
    [
        {"samples": 12, "temperature": 1.0},
        {"samples": 12, "temperature": 1.0, "memory": "best", "freeze_at": 0.0, "openings": 0.5},
        {"samples": 12, "rewards": {"overlap": 1.0, "keys": 0.5}, "openings": 0.5},
        {"samples": 12, "gate": True, "min_words": 1, "tries": 2, "openings": 0.5, "repulsion": 3.0},
        {"samples": 12, "gate": True, "min_words": 1, "selection": "bradley-terry"},
    ],
    ids=["paper", "official", "keys", "gate", "bradley-terry"],
)
def test_the_choice_is_the_same_with_and_without(leaking: tuple[Sampler, list[Visit]], knobs: dict[str, object]):
    sampler, visits = leaking
    method, stopped = PartialModelCollapse(preset="paper", **knobs), 0
    for seed in range(3):
        seeded = replace(sampler, seed=seed)
        early, state = method.targets(visits, seeded, {})
        whole, other_state = replace(method, early_stop=False).targets(visits, seeded, {})
        assert [replace(target, stopped=()) for target in early] == whole
        assert state == other_state
        stopped += sum(len(target.stopped) for target in early)
    assert stopped > 0, "nothing was stopped, so nothing was shown"
