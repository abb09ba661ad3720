"""The states of all layers: each row's as when it is read alone, and the retain term's part that holds them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests import architectures
from tests.test_retain_loss import batch, moved
from unsay.config import ConfigError, LoraConfig, TrainConfig
from unsay.lm.adapters import Untouched, adapt, checkpoint_activations
from unsay.lm.encode import Encoder
from unsay.lm.layers import decoder_layers, layer_states, state_distances
from unsay.lm.model import answer_states
from unsay.methods.retain_loss import retain_logprobs

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


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="state_weight"):
        TrainConfig(state_weight=-1.0)
