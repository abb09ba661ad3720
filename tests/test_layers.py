"""The states of all layers: each row's as when it is read alone, and the retain term's part that holds them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from tests import architectures
from tests.conftest import small_run
from tests.test_retain_loss import batch, moved
from tests.test_train import begin
from unsay.config import ConfigError, LoraConfig, TrainConfig, load
from unsay.lm.adapters import Untouched, adapt, checkpoint_activations
from unsay.lm.encode import Encoder
from unsay.lm.layers import decoder_layers, layer_states, state_distances
from unsay.lm.model import answer_states
from unsay.methods.retain_loss import retain_logprobs, softened
from unsay.train import loop, train

PADS = [name for name in architectures.TABLE if name != "rwkv"]
"""All but the one that cannot read past padding."""


@torch.no_grad()
def alone(model: PreTrainedModel, ids: Tensor) -> list[Tensor]:
    with layer_states(model) as found:
        model(input_ids=ids[None], use_cache=False)
    return [layer[0] for layer in found]


@pytest.mark.parametrize("name", PADS)
def test_a_row_moves_as_far_in_a_batch_as_alone(name: str, encoder: Encoder) -> None:
    model = architectures.build(name).eval()
    untouched, one = Untouched(model), batch(encoder, "rrr")
    texts = [ids[attended.bool()] for ids, attended in zip(one.ids, one.attention, strict=True)]
    before = [alone(model, ids) for ids in texts]
    _, wanted = untouched.layer_states(one)
    moved(model)
    with torch.no_grad(), layer_states(model) as found:
        answer_states(model, one)
    shares = [
        [((b - a).norm(dim=-1) / a.norm(dim=-1)) ** 2 for a, b in zip(was, alone(model, ids), strict=True)]
        for was, ids in zip(before, texts, strict=True)
    ]
    by_hand = torch.stack([torch.stack(layers).mean() for layers in shares])
    assert len(found) == model.config.get_text_config().num_hidden_layers
    assert by_hand.min() > 1e-4
    assert torch.allclose(state_distances(found, wanted, one.attention), by_hand, rtol=1e-3)


def test_the_retain_term_takes_it_by_its_weight(encoder: Encoder, model: PreTrainedModel) -> None:
    untouched, one = Untouched(model), batch(encoder)
    moved(model)
    plain, held = (retain_logprobs(model, untouched, replace(one, state_weight=weight)) for weight in (0.0, 3.0))
    with torch.no_grad(), layer_states(model) as found:
        answer_states(model, one)
    far = state_distances(found, untouched.layer_states(one)[1], one.attention)
    assert torch.equal(held[0], plain[0]), "what is to be forgotten is free to move"
    assert torch.allclose((plain - held)[1:], 3.0 * far[1:, None] * one.mask[1:], atol=1e-5)


@pytest.mark.parametrize("rank", [0, 2])
def test_recomputed_activations_give_the_same_gradients(rank: int, encoder: Encoder) -> None:
    def gradients(recomputed: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = architectures.build("llama").train()
        if rank:
            adapt(model, LoraConfig(rank=rank), seed=0)
        untouched = Untouched(model)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.02 * torch.randn_like(parameter)
        if recomputed:
            checkpoint_activations(model)
        retain_logprobs(model, untouched, replace(batch(encoder, "rrr"), state_weight=5.0)).sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    kept, recomputed = gradients(False), gradients(True)
    assert kept.keys() == recomputed.keys()
    assert max(float(gradient.abs().max()) for gradient in kept.values()) > 1e-3
    assert all(torch.allclose(kept[name], recomputed[name], rtol=1e-4, atol=1e-6) for name in kept)


def test_no_gradient_reaches_the_untouched_model(encoder: Encoder, model: PreTrainedModel) -> None:
    _, wanted = Untouched(model).layer_states(batch(encoder, "rrr"))
    assert not any(layer.requires_grad for layer in wanted)


def test_nothing_listens_afterwards(encoder: Encoder, model: PreTrainedModel) -> None:
    with layer_states(model) as found:
        pass
    answer_states(model, batch(encoder))
    assert not found


def test_a_model_whose_layers_are_not_found_is_named(model: PreTrainedModel) -> None:
    model.config.num_hidden_layers = 77
    with pytest.raises(ConfigError, match="layers of LlamaForCausalLM"):
        decoder_layers(model)


def test_the_layers_that_read_pictures_are_not_taken(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be as many."""
    monkeypatch.setitem(architectures._VISION, "num_hidden_layers", 2)
    model = architectures.build("gemma3-multimodal").eval()
    assert sum(isinstance(part, torch.nn.ModuleList) and len(part) == 2 for part in model.modules()) > 1
    with torch.no_grad(), layer_states(model) as found:
        answer_states(model, batch(encoder))
    assert [layer.shape[-1] for layer in found] == [32, 32]


def test_no_state_is_no_distance() -> None:
    with pytest.raises(ValueError, match="state_weight = 0"):
        state_distances([], [], torch.ones(2, 3))


def test_the_recipe_says_how_much_they_are_held(encoder: Encoder) -> None:
    one = batch(encoder)
    held, words = (load(None, ["train.state_weight=3", f"train.retain_loss={loss}"]) for loss in ("kl", "nll"))
    assert softened(one, held).state_weight == 3.0
    assert softened(one, words).state_weight == 0.0, "the rows' own words are no states"


def test_training_holds_them_and_remembers_nothing(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the untouched model said to a row is not enough then."""
    settings = [*small_run(tiny_folder, tmp_path, 3, 6), "train.retain_loss=kl", "train.rounds=4", "method=gd"]
    free, folder = begin(tmp_path / "free", settings)
    train(free, folder)
    monkeypatch.setattr(Untouched, "remember", lambda *_: pytest.fail("it remembers"))
    held, other = begin(tmp_path / "held", settings, "train.state_weight=1000")
    train(held, other)
    before = load_file(tiny_folder / "model.safetensors")
    far = [
        sum(float((weight - before[name]).square().sum()) for name, weight in load_file(one.checkpoint / "model.safetensors").items())
        for one in (folder, other)
    ]
    assert far[1] < far[0]


def test_layers_that_are_not_found_are_told_first(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, folder = begin(tmp_path / "run", [*small_run(tiny_folder, tmp_path, 3, 6), "train.retain_loss=kl"], "train.state_weight=1")

    def missing(model: PreTrainedModel) -> None:
        raise ConfigError("the layers of it are not found")

    monkeypatch.setattr(loop, "decoder_layers", missing)
    with pytest.raises(ConfigError, match="not found"):
        train(recipe, folder)
    assert not folder.checkpoint.exists()


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="state_weight"):
        TrainConfig(state_weight=-1.0)
