"""Adapters: off they are the untouched model to the bit, on they train alone, folded they are a plain model that says the same."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from accelerate import Accelerator
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
)

from tests.conftest import tiny_model
from unsay.config import ConfigError, LoraConfig, Recipe, SampleConfig, load
from unsay.lm.adapters import Untouched, adapt, adapted, checkpoint_activations, fold, load_to_train, merged, passing, save_adapter
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs, fingerprint, trainable
from unsay.lm.model import load as load_model
from unsay.lm.rows import Batch, Row
from unsay.lm.subject import LocalSubject
from unsay.probes.relearn import Relearn
from unsay.train.step import Weights, optimizer_step
from unsay.types import Case, Corpus, Example, Fact

ROOT = Path(__file__).resolve().parents[1]
LORA = LoraConfig(rank=4)
SPECIAL = {"vocab_size": 259, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, **SPECIAL}
bitsandbytes = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")


def architectures() -> dict[str, PreTrainedModel]:
    return {
        "untied": tiny_model(),
        "tied": LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **SMALL)),
        "Conv1D": GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, **SPECIAL)),
        "experts": MixtralForCausalLM(MixtralConfig(num_local_experts=4, **SMALL)),
        "state-space": MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, **SPECIAL)),
    }


@pytest.fixture
def rows(encoder: Encoder) -> list[Row]:
    return [encoder.pair("What is it?", "It is a thing."), encoder.pair("Who?", "Someone else entirely.")]


def stir(model: PreTrainedModel) -> None:
    """Fresh adapters change nothing; these do."""
    torch.manual_seed(1)
    for name, parameter in trainable(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)


@pytest.mark.parametrize("kind", ["untied", "tied", "Conv1D", "experts", "state-space"])
def test_off_untouched_on_trained_folded_plain(kind: str, encoder: Encoder, rows: list[Row]) -> None:
    model = architectures()[kind].eval().requires_grad_(False)  # torch may multiply in another order where a gradient is wanted
    batch = encoder.batch(rows)
    before, layout = answer_logprobs(model, batch).detach(), {n: (p.shape, p.dtype) for n, p in model.state_dict().items()}
    adapt(model, replace(LORA, targets=("in_proj", "x_proj")) if kind == "state-space" else LORA)
    assert torch.equal(answer_logprobs(model, batch), before)  # B = 0
    stir(model)
    on = answer_logprobs(model, batch)
    assert not torch.allclose(on, before, atol=1e-3)
    untouched = Untouched(model)
    assert torch.equal(untouched.answer_logprobs(batch), before)
    assert torch.equal(answer_logprobs(model, batch), on)  # and on again
    on.sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in trainable(model).values())
    assert not any(p.grad is not None for n, p in model.named_parameters() if "lora_" not in n)
    fold(model)
    assert not adapted(model)
    assert {n: (p.shape, p.dtype) for n, p in model.state_dict().items()} == layout
    assert torch.allclose(answer_logprobs(model, batch), on, atol=1e-4)


def test_looking_at_the_untouched_model_costs_no_gradient(model: PreTrainedModel, encoder: Encoder, rows: list[Row]) -> None:
    """The reference is read between the forward and the backward pass of the same model, which is in training with dropout."""
    adapt(model, replace(LORA, dropout=0.5))
    stir(model)
    batch, gradients = encoder.batch(rows), []
    for look in (False, True):
        model.train()
        torch.manual_seed(3)
        loss = -answer_logprobs(model, batch).sum()
        if look:
            reference = Untouched(model)
            assert torch.equal(reference.answer_logprobs(batch), reference.answer_logprobs(batch))  # no dropout
            assert model.training
        model.zero_grad()
        loss.backward()
        gradients.append([p.grad.clone() for p in trainable(model).values()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_without_adapters_the_reference_is_a_copy(model: PreTrainedModel, encoder: Encoder, rows: list[Row]) -> None:
    batch = encoder.batch(rows)
    reference, before = Untouched(model), answer_logprobs(model, batch).detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    assert torch.equal(reference.answer_logprobs(batch), before)
    assert not torch.allclose(answer_logprobs(model, batch), before)


def test_one_seed_gives_one_adapter_and_leaves_the_random_numbers_alone(model: PreTrainedModel) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    adapt(model, LORA, seed=1)
    assert torch.equal(torch.rand(3), expected)
    other = tiny_model()
    adapt(other, LORA, seed=1)
    assert fingerprint(model) == fingerprint(other)


def test_an_adapted_head_is_not_mistaken_for_its_matrix(model: PreTrainedModel, encoder: Encoder, rows: list[Row]) -> None:
    batch = encoder.batch(rows)
    adapt(model, replace(LORA, targets=("lm_head",)))
    before = answer_logprobs(model, batch).detach()
    stir(model)
    assert not torch.allclose(answer_logprobs(model, batch), before, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "targets", "message"),
    [
        ("state-space", ("all-linear",), r"out_proj.*in_proj"),
        ("untied", ("no_such_layer",), r"no_such_layer.*gate_proj"),
        ("tied", ("embed_tokens",), "also uses as its head"),
    ],
)
def test_what_cannot_take_an_adapter_is_said_with_the_way_out(kind: str, targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        adapt(architectures()[kind], replace(LORA, targets=targets))


def test_adapters_stay_float32_on_half_precision_weights(encoder: Encoder, rows: list[Row]) -> None:
    model = tiny_model().to(torch.bfloat16)
    adapt(model, LORA)
    stir(model)
    assert {p.dtype for p in trainable(model).values()} == {torch.float32}
    on = answer_logprobs(model, encoder.batch(rows))
    assert on.dtype == torch.float32
    fold(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.allclose(answer_logprobs(model, encoder.batch(rows)), on, atol=0.1)


def test_folding_rounds_once() -> None:
    """1 + 3 · 2⁻⁹ lies midway between bfloat16 numbers; what counts is the float32 sum, not a delta rounded before it."""
    model = tiny_model().to(torch.bfloat16)
    layer = model.model.layers[0].self_attn.q_proj
    before = layer.weight.detach().clone()
    adapt(model, LORA)
    stir(model)
    adapter = model.model.layers[0].self_attn.q_proj
    a, b = adapter.lora_A["default"].weight, adapter.lora_B["default"].weight
    expected = (before.float() + LORA.alpha / LORA.rank * (b @ a)).to(torch.bfloat16)
    fold(model)
    assert torch.equal(model.model.layers[0].self_attn.q_proj.weight, expected)


def test_the_adapter_alone_can_be_served(model: PreTrainedModel, encoder: Encoder, rows: list[Row], tmp_path: Path) -> None:
    batch = encoder.batch(rows)
    adapt(model, LORA)
    stir(model)
    save_adapter(model, tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    served = peft.PeftModel.from_pretrained(tiny_model(), tmp_path / "adapter").eval()
    assert torch.allclose(answer_logprobs(served.base_model.model, batch), answer_logprobs(model, batch), atol=1e-5)


def test_passing_adapters_leave_no_trace(model: PreTrainedModel, encoder: Encoder, rows: list[Row]) -> None:
    model.get_input_embeddings().requires_grad_(False)
    before, wanted = fingerprint(model), [p.requires_grad for p in model.parameters()]
    with passing(model, LORA) as attacked:
        assert adapted(attacked)
        stir(attacked)
    assert (fingerprint(model), [p.requires_grad for p in model.parameters()]) == (before, wanted)
    assert not adapted(model)
    adapt(model, LORA)  # and it can take new ones


def test_an_attacker_with_adapters_needs_no_copy(model: PreTrainedModel, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = tuple(Example(name, f"Where does {name} live?") for name in ("Ada", "Bob", "Cy", "Di"))
    facts = {e.id: Fact(e.id, "In Arles.") for e in examples}
    subject, before = LocalSubject(model, encoder, SampleConfig(max_new_tokens=12)), fingerprint(model)
    monkeypatch.setattr(type(model), "__deepcopy__", lambda *_: pytest.fail("copied the model"), raising=False)
    probe = Relearn(steps=(1, 60), learning_rates=(3e-3,), batch=4, n=1, rank=32)  # not at the edge of what converges
    found = probe(subject, Case(Corpus("test", examples, ()), facts, "ground truth"))
    keys = {step: [f.value for f in found if f.metric == "keyword_recall" and f.setting == f"{step} steps"] for step in (1, 60)}
    assert keys == {1: [0.0] * 3, 60: [1.0] * 3}  # one answer for all: what was not shown is relearned too
    assert fingerprint(model) == before


# -- activations computed again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [0, 4], ids=["weights", "adapters"])
@pytest.mark.parametrize("frozen", [False, True], ids=["moving head", "fixed head"])
def test_recomputed_activations_give_the_same_loss_and_gradients(lora: int, frozen: bool, encoder: Encoder, rows: list[Row]) -> None:
    found = []
    for again in (False, True):
        model = tiny_model()
        if frozen:
            for matrix in (model.get_input_embeddings(), model.get_output_embeddings()):
                matrix.requires_grad_(False)
        if lora:
            adapt(model, replace(LORA, dropout=0.5))
            stir(model)
        answer_logprobs(model, encoder.batch(rows))  # the model's habits are found out by trying
        calls = _count(model)
        if again:
            checkpoint_activations(model)
        model.train()
        torch.manual_seed(2)
        loss = -answer_logprobs(model, encoder.batch(rows)).sum()
        loss.backward()
        found.append((loss.detach(), [p.grad for p in trainable(model).values()], len(calls)))
    (loss, gradients, once), (loss_again, gradients_again, twice) = found
    assert (once, twice) == (1, 2)  # it did compute again
    assert torch.equal(loss, loss_again)
    assert all(torch.equal(a, b) for a, b in zip(gradients, gradients_again, strict=True))


def _count(model: PreTrainedModel) -> list[int]:
    calls: list[int] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(
    ("dtype", "rank", "coefficients"), [("float32", 0, (32, 16, 8, 0)), ("bfloat16", 0, (20, 8, 4, 0)), ("bfloat16", 8, (36, 10, 4, 28))]
)
def test_the_activations_kept_are_those_of_the_formula(dtype: str, rank: int, coefficients: tuple[int, ...]) -> None:
    """A layer's bytes a token (docs/memory.md), from what autograd keeps of models that differ in their number of layers."""
    hidden, inner, keys, tokens = 256, 896, 64, 128

    def kept(layers: int) -> int:
        shape = {"vocab_size": 512, "hidden_size": hidden, "intermediate_size": inner, "num_attention_heads": 8, "num_key_value_heads": 2}
        model = MistralForCausalLM(MistralConfig(num_hidden_layers=layers, head_dim=32, **shape)).to(getattr(torch, dtype))
        if rank:
            adapt(model, LoraConfig(rank=rank))
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        found: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            found[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.train().model(input_ids=torch.arange(tokens)[None])
        return sum(t.untyped_storage().nbytes() for pointer, t in found.items() if pointer not in weights)

    predicted = sum(c * size for c, size in zip(coefficients, (hidden, inner, keys, rank), strict=True))
    assert (kept(4) - kept(2)) / 2 / tokens == pytest.approx(predicted, rel=0.03)


# -- half precision ----------------------------------------------------------------------------------------------------


def test_small_steps_are_not_lost_in_half_precision(encoder: Encoder, rows: list[Row]) -> None:
    """A step of 1e-5 is far below the spacing of bfloat16 numbers around most weights: kept exactly, the steps add up."""
    model = tiny_model().to(torch.bfloat16)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    weights = Weights(model)
    optimizer = torch.optim.AdamW(weights.exact.values(), lr=1e-5, weight_decay=0.0)

    def loss(batch: Batch) -> dict[str, torch.Tensor]:
        return {"retain": batch.mean(-answer_logprobs(model, batch), "retain")}

    for _ in range(20):
        optimizer_step(Accelerator(cpu=True), weights, optimizer, encoder, rows, loss, parts=2)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(parameter, weights.exact[name].to(torch.bfloat16))
    moved = torch.cat([(weights.exact[n].detach() - p.float()).abs().flatten() for n, p in start.items()])
    assert float(moved[moved > 0].median()) == pytest.approx(20 * 1e-5, rel=0.5)  # AdamW moves by about its rate each time


def test_float32_weights_and_adapters_are_moved_themselves(model: PreTrainedModel) -> None:
    assert all(exact is parameter for exact, parameter in zip(Weights(model).exact.values(), trainable(model).values(), strict=True))
    half = tiny_model().to(torch.bfloat16)
    adapt(half, LORA)
    assert all(exact is parameter for exact, parameter in zip(Weights(half).exact.values(), trainable(half).values(), strict=True))


# -- few bits ----------------------------------------------------------------------------------------------------------


def recipe_for(folder: Path, *more: str) -> Recipe:
    return load(None, [f'model.name="{folder}"', "lora.rank=4", *more])


@bitsandbytes
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_quantised_base_trains_adapters_and_merges_into_the_full_weights(
    bits: str, encoder: Encoder, rows: list[Row], tmp_path: Path
) -> None:
    # Blocks of 64 weights share a scale, so the rows must be as long.
    wide = LlamaForCausalLM(LlamaConfig(**SMALL | {"hidden_size": 128, "intermediate_size": 128}))
    wide.save_pretrained(tmp_path / "base")
    encoder.tokenizer.save_pretrained(tmp_path / "base")
    recipe = recipe_for(tmp_path / "base", f"model.quantization={bits}", "train.gradient_checkpointing=true")
    model, _ = load_to_train(recipe)
    packed = model.model.layers[0].self_attn.q_proj.base_layer.weight
    assert packed.dtype == (torch.uint8 if bits == "4bit" else torch.int8)
    batch = encoder.batch(rows)
    whole = answer_logprobs(load_model(recipe.model)[0], batch)
    before = Untouched(model).answer_logprobs(batch)
    assert 0 < float((before - whole).abs().max()) < 0.5  # close to the full weights, and not them
    weights = Weights(model)
    optimizer = torch.optim.AdamW(weights.exact.values(), lr=2e-3)
    model.train()
    losses = []
    for _ in range(10):
        terms, _ = optimizer_step(
            Accelerator(cpu=True),
            weights,
            optimizer,
            encoder,
            rows,
            lambda b: {"retain": b.mean(-answer_logprobs(model, b), "retain")},
        )
        losses.append(terms["retain"])
    assert losses[-1] < losses[0] - 0.3
    on = answer_logprobs(model.eval(), batch)
    assert torch.equal(Untouched(model).answer_logprobs(batch), before)
    plain = merged(model, recipe)
    plain.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert getattr(again.config, "quantization_config", None) is None
    # What is left between them is the rounding of the base, which the merged model does not carry.
    assert float((answer_logprobs(again, batch) - on).abs().max()) < 0.5 < float((on - before).abs().max())


@bitsandbytes
def test_a_quantised_base_passes_its_gradient_on_after_it_was_asked(encoder: Encoder, rows: list[Row], tmp_path: Path) -> None:
    """The loop asks and trains in turn, and what asking does to 4-bit weights must not stop the gradient: it is that of the
    same weights unpacked."""
    import bitsandbytes as bnb

    wide = LlamaForCausalLM(LlamaConfig(**SMALL | {"hidden_size": 128, "intermediate_size": 128}))
    wide.save_pretrained(tmp_path / "base")
    encoder.tokenizer.save_pretrained(tmp_path / "base")
    model, _ = load_to_train(recipe_for(tmp_path / "base", "model.quantization=4bit"))
    for name, module in model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            plain = wide.get_submodule(name.removesuffix(".base_layer"))
            plain.weight.data = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
    adapt(wide, LORA, seed=0)
    gradients = []
    for one in (wide.eval(), model.eval()):
        stir(one)
        with torch.inference_mode():
            answer_logprobs(one, encoder.batch(rows))
        answer_logprobs(one.train(), encoder.batch(rows)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trainable(one).values()]))
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))


def test_a_missing_bitsandbytes_is_said_with_the_command(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[bitsandbytes\]'"):
        load_to_train(recipe_for(tiny_folder, "model.quantization=4bit"))


# -- what the documents say --------------------------------------------------------------------------------------------


def test_the_predicted_memory_is_that_of_the_model_and_the_recipe() -> None:
    """The worked example of docs/memory.md, counted on the model itself, which holds no numbers here."""
    recipe = load(str(ROOT / "recipes" / "own-7b-24gb.toml"))
    shape = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
    with torch.device("meta"):
        model = MistralForCausalLM(MistralConfig(vocab_size=32768, num_key_value_heads=8, **shape))
        weights = sum(p.numel() for p in model.parameters())
        ends = model.get_input_embeddings().weight.numel() + model.get_output_embeddings().weight.numel()
        adapt(model, recipe.lora)
    adapters = sum(p.numel() for p in trainable(model).values())
    row = recipe.sample.max_new_tokens + 96
    rows = recipe.train.batch * (1 + recipe.train.retain_rows + recipe.train.replay_rows)
    layer = 36 * 4096 + 10 * 14336 + 4 * 1024 + 28 * recipe.lora.rank
    predicted = {
        "weights, bfloat16": 2 * weights,
        "weights, 4 bits": 0.516 * (weights - ends) + 2 * ends,
        "adapters": 16 * adapters,
        "kept activations": 2 * 32 * rows * row * 4096,
        "one layer in full": rows * row * layer,
        "key–value cache": recipe.sample.rows * row * 2 * 2 * 32 * 1024,
    }
    text = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    told = {cells[1].strip(): cells[-2].strip() for line in text.splitlines() if len(cells := line.split("|")) == 5}
    assert {part: told[part] for part in predicted} == {part: f"{size / 1e9:.2f}" for part, size in predicted.items()}
