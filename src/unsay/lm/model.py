"""Loading, saving and identifying a model. Everything Hugging Face is kept behind these few functions."""

import copy
import hashlib
import importlib.util
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from unsay.config import ConfigError, ModelConfig, first_of
from unsay.config.build import named
from unsay.extras import install
from unsay.lm import builtin, placement
from unsay.lm.encode import Encoder
from unsay.lm.files import look_at
from unsay.lm.linear import quicken
from unsay.lm.logprobs import head_divergences, head_logprobs, token_divergences, token_logprobs
from unsay.lm.reading import accepted, positions
from unsay.lm.rows import Batch
from unsay.store import ranks
from unsay.store.files import new_folder


def load(
    config: ModelConfig, name: str | None = None, quantized: bool = False, device: torch.device | None = None
) -> tuple[PreTrainedModel, Encoder]:
    """The model `name` (default: `config.name`) in evaluation mode and its encoder. Raises `ConfigError`.

    Only safetensors are read; code that comes with a model runs only with `trust_remote_code`. A checkpoint whose tensors are
    not those of the model, or whose weights are not finite, is refused. `quantized`: with the weights in
    `config.quantization`, as training wants them; else whole. `device`: default, what `config.device_map` says.
    """
    name = name or config.name
    where, split = builtin.resolve(name), device is None and config.device_map == "auto"
    device = device or default_device()
    if split and ranks.count() > 1:
        raise ConfigError('model.device_map = "auto" gives all cards to one process: record and audit without --processes, or leave it out')
    look_at(where)
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code, "revision": config.revision}
    few_bits = _few_bits(config, device) if quantized and config.quantization != "none" else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        # `auto` would share a model that one card holds among all of them, and what is in several places cannot be attacked.
        options |= few_bits or ({"device_map": "sequential", "max_memory": placement.room()} if split else {})
        # Tensors of another shape are let through here, to be refused with their names.
        model, found = AutoModelForCausalLM.from_pretrained(
            where,
            dtype=getattr(torch, config.dtype),
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever transformers, tokenizers and safetensors say about a damaged folder
        raise ConfigError(f"cannot load model {named(name)}: {_why(error)}") from error
    _complete(name, model, found, config)
    if config.freeze_embeddings:
        freeze_embeddings(model)
    stops = model.generation_config.eos_token_id
    stop_ids = [stops] if isinstance(stops, int) else list(stops or ())
    if model.device.type == "meta":
        raise ConfigError(f"cannot load model {named(name)}: no device has room even for its embeddings; free some memory")
    if few_bits:
        _stay_differentiable(model)
    elif not placement.is_split(model):
        quicken(model)
    # Quantised weights are made where they stay, and so are those of a model in several places.
    placed = model.eval() if few_bits or split else model.eval().to(device)
    _finite(name, placed)
    vocabulary, room = model.get_input_embeddings().weight.shape[0], _room(model)
    return placed, Encoder(
        tokenizer, config.template, config.system_prompt, stop_ids, config.template_options, vocabulary, room, config.stop
    )


def freeze_embeddings(model: PreTrainedModel) -> None:
    for matrix in (model.get_input_embeddings(), model.get_output_embeddings()):
        if matrix is not None:  # a model may keep its head to itself
            matrix.requires_grad_(False)


def _why(error: Exception) -> str:
    """The beginning of what a library says, with its kind where it is not meant for people, and our own way out."""
    said = " ".join(str(error).split())[:300]
    if "custom code" in said or "trust_remote_code" in str(error):
        return f"{said} It runs only where you ask for it, after reading it: --set model.trust_remote_code=true"
    if isinstance(error, OSError | ValueError) and said:
        return said
    return f"{type(error).__name__} ({said}); its files are damaged or do not belong together, so copy it again"


def _complete(name: str, model: PreTrainedModel, found: Mapping[str, Iterable[Any]], config: ModelConfig) -> None:
    """Raises `ConfigError` where tensors of the model are not in the checkpoint, in another shape, or the other way round.

    transformers fills the missing ones with random numbers, and only warns.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ConfigError(f"model {named(name)} is a set of adapters; merge them into their model and name the merged folder")
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(
            f"cannot load model {named(name)}: its weights lack {first_of(missing)}, which would be random; the download is incomplete, or "
            "config.json belongs to another model"
        )
    if odd := sorted(found["mismatched_keys"]):
        shapes = [f"{key} ({list(there)} instead of {list(wanted)})" for key, there, wanted in odd]
        raise ConfigError(
            f"cannot load model {named(name)}: config.json wants another shape of {first_of(shapes)}; use the model's own config.json"
        )
    extra = sorted(found["unexpected_keys"])
    if extra and config.extra_tensors == "refuse":
        raise ConfigError(
            f"cannot load model {named(name)}: its weights hold {first_of(extra)}, for which config.json has no place, so it would be "
            "another model than was saved; use the model's own config.json, or --set model.extra_tensors=ignore"
        )


@torch.no_grad()
def _finite(name: str, model: PreTrainedModel) -> None:
    """Raises `ConfigError` where a weight is not a number: whatever such a model says is noise, and so would be every score."""
    weights = {name for name, _ in model.named_parameters()}
    for key, tensor in placement.tensors(model):
        if key in weights and tensor.dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64) and tensor.numel():
            low, high = tensor.aminmax()
            if not bool(torch.isfinite(low) & torch.isfinite(high)):
                raise ConfigError(
                    f"cannot load model {named(name)}: {key} holds NaN or infinity; take another checkpoint, or model.dtype=float32"
                )


def _room(model: PreTrainedModel) -> int | None:
    """The longest text the model reads, in tokens; `None` where its configuration names no limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def _few_bits(config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """How transformers is asked for weights of 4 bits (NF4 with its scales quantised too, arXiv 2305.14314) or 8 (LLM.int8,
    arXiv 2208.07339). The embeddings and the head keep `config.dtype`."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(f"model.quantization = {config.quantization!r} needs bitsandbytes: {install('bitsandbytes')}")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it would say at every multiplication that it rounds its input
    wanted = BitsAndBytesConfig(
        load_in_4bit=config.quantization == "4bit",
        load_in_8bit=config.quantization == "8bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, config.dtype),
    )
    return {"quantization_config": wanted, "device_map": {"": device}}


def _stay_differentiable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from packing 4-bit weights anew when a model is first asked on a processor with AVX-512 and bfloat16:
    it never unpacks them, and what they are multiplied with then gets no gradient, without a word (seen in 0.50.2)."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def default_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("ACCELERATE_USE_CPU") == "true":
        return torch.device("cpu")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@ranks.main_only
def save(model: PreTrainedModel, encoder: Encoder, folder: Path, card: str = "") -> None:
    """A plain Hugging Face folder: safetensors, configuration, tokenizer and, where given, a model card.

    It appears whole: written beside its place, then renamed. Raises `WriteError`.
    """
    with new_folder(folder) as partial:
        model.save_pretrained(partial, safe_serialization=True)
        encoder.tokenizer.save_pretrained(partial)
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")


def frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that no optimizer touches: the untouched model, for what compares with it while it is trained."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def trainable(model: PreTrainedModel) -> dict[str, Tensor]:
    """Name → parameter of everything an optimizer may move."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of all weights, names and shapes included: equal fingerprints are equal models, to the bit."""
    digest = hashlib.sha256()
    for name, tensor in placement.tensors(model):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def answer_logprobs(model: PreTrainedModel, batch: Batch) -> Tensor:
    """[B, A] log-probabilities (nats) of the answer tokens; 0 outside `batch.mask`."""
    found = state_logprobs(answer_states(model, batch), batch.answers())
    return torch.zeros(batch.mask.shape, device=batch.ids.device).index_put(batch.mask.nonzero(as_tuple=True), found)


States = tuple[Tensor, Tensor | None]
"""What predicts some tokens: hidden states [N, H] and the head [V, H] that makes logits of them, or logits [N, V] and nothing."""


def answer_states(model: PreTrainedModel, batch: Batch) -> States:
    """What predicts each answer token, in the order of `batch.places()`.

    Logits are made for answer tokens alone: by whoever takes these states, a few at a time, where the model's head is a plain
    matrix; else here, by giving the head nothing else.
    """
    mask = batch.attention
    inputs = {"input_ids": batch.ids} | accepted(model, attention_mask=mask, position_ids=positions(mask), use_cache=False)
    rows, columns = batch.places()
    before = columns - 1
    if plain_head(model):
        # Spread over processes, a model is put together in calls that FSDP knows (sharded.py).
        states, head = getattr(model, "states_and_head", partial(states_and_head, model))(**inputs)
        return states[rows, before], head

    def predicting(states: Tensor) -> Tensor:
        return states[rows.to(states.device), before.to(states.device)]  # a head may lie on another card

    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, given: (predicting(given[0])[None], *given[1:])) if head is not None else None
    try:
        logits = model(**inputs).logits
    finally:
        if hook is not None:
            hook.remove()
    # Where no such module makes the logits, they are those of all tokens; one row never has as many answer tokens as tokens.
    return predicting(logits) if logits.shape[:2] == batch.ids.shape else logits[0], None


def states_and_head(model: PreTrainedModel, **inputs: Any) -> tuple[Tensor, Tensor]:
    """Hidden states [B, T, H] and the head [V, H]."""
    return model.base_model(**inputs).last_hidden_state, model.get_output_embeddings().weight


def state_logprobs(states: States, ids_N: Tensor) -> Tensor:
    """[N] log p(ids), in nats and float32."""
    found, head = states
    return token_logprobs(found[None], ids_N[None])[0] if head is None else head_logprobs(found, head, ids_N)


def state_divergences(states: States, taught: States, temperatures: Sequence[float]) -> Tensor:
    """[N] Σ T²·KL(taught ‖ model) over the temperatures, in nats and float32, of the distributions that predict the same tokens.
    `taught` gets no gradient."""
    (found, head), (wanted, taught_head) = states, taught
    if head is None or taught_head is None:
        return token_divergences(found, wanted, temperatures)
    return head_divergences(found, head, wanted, taught_head, temperatures)


_PLAIN_HEADS: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def plain_head(model: PreTrainedModel) -> bool:
    """Whether logits are nothing but hidden states times a matrix: no bias, no scale, no cap. Found out by trying, once per
    model, because no attribute says so for every architecture."""
    if model not in _PLAIN_HEADS:
        training = model.training
        try:
            _PLAIN_HEADS[model] = _try_plain_head(model.eval())
        except (AttributeError, TypeError, RuntimeError):
            _PLAIN_HEADS[model] = False
        model.train(training)
    return _PLAIN_HEADS[model]


@torch.no_grad()
def _try_plain_head(model: PreTrainedModel) -> bool:
    ids = torch.arange(1, 5, device=model.device)[None]
    head = model.get_output_embeddings()
    # An adapted head shows the weight under its adapter, which may be zero still.
    if not isinstance(head, torch.nn.Linear) or head.bias is not None:
        return False
    logits = model(input_ids=ids, use_cache=False).logits.float()
    made = (model.base_model(input_ids=ids, use_cache=False).last_hidden_state @ head.weight.T).float()
    return made.shape == logits.shape and torch.allclose(made, logits, rtol=1e-2, atol=1e-2 * float(logits.abs().max()))
