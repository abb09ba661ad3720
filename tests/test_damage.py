"""Noise and pruning: what is damaged, by how much, and that the model itself stays as it was."""

import pytest
import torch

from tests.conftest import tiny_model
from tests.test_prompt_variants import CASE, Fake, scores
from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.model import fingerprint
from unsay.lm.subject import LocalSubject
from unsay.probes.damage import Damage, attacks, damaged
from unsay.probes.quantise import linear_layers

SETTINGS = {"noise 0.1", "noise 0.4", "pruned 0.3", "pruned 0.6"}


def test_every_strength_is_asked_on_a_copy(encoder: Encoder) -> None:
    model = tiny_model()
    before = fingerprint(model)
    found = Damage()(LocalSubject(model, encoder, SampleConfig(max_new_tokens=4)), CASE)
    assert set(scores(found)) == SETTINGS
    assert all(f.value is not None for f in found)
    assert fingerprint(model) == before


def test_the_damage_is_as_strong_as_it_says_and_the_same_again() -> None:
    model = tiny_model()
    for setting, damage in attacks(seed=0):
        kind, strength = setting.split()
        twin, again = (linear_layers(damaged(model, damage)) for _ in range(2))
        for name, layer in linear_layers(model).items():
            weight, now = layer.weight, twin[name].weight
            assert torch.equal(now, again[name].weight)
            if kind == "pruned":
                assert float((now == 0).float().mean()) == pytest.approx(float(strength), abs=0.01)
                assert torch.equal(now[now != 0], weight[now != 0])
            else:
                assert float((now - weight).std() / weight.std()) == pytest.approx(float(strength), rel=0.1)
    assert twin.keys() == linear_layers(model).keys()


def test_without_weights_it_is_unscored() -> None:
    found = Damage()(Fake(), CASE)
    assert {f.note for f in found} == {"this model shows no weights"}
    assert scores(found) == dict.fromkeys(SETTINGS)


def test_a_fault_in_scoring_is_not_taken_for_one_of_the_model(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr("unsay.probes.scoring.secret_recall", fails)
    with pytest.raises(ValueError, match="a fault of ours"):
        Damage()(LocalSubject(tiny_model(), encoder, SampleConfig(max_new_tokens=4)), CASE)
