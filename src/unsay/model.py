"""Loading, saving and identifying a model. Everything Hugging Face is kept behind these few functions."""

import copy
import hashlib
import importlib.util
import logging
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from unsay import builtin
from unsay.config import ConfigError, ModelConfig
from unsay.encode import Batch, Encoder
from unsay.files import replace_folder
from unsay.linear import quicken
from unsay.logprobs import head_logprobs, token_logprobs
from unsay.reading import accepted, habits, positions


def load(
    config: ModelConfig, name: str | None = None, quantized: bool = False, device: torch.device | None = None
) -> tuple[PreTrainedModel, Encoder]:
    """The model `name` (default: `config.name`) in evaluation mode and its encoder. Raises `ConfigError`.

    Only safetensors are read; code that comes with a model runs only with `trust_remote_code`. `quantized`: with the
    weights in `config.quantization`, as training wants them; else whole. `device`: default, the accelerator if there is one.
    """
    where, device = builtin.resolve(name or config.name), device or default_device()
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code, "revision": config.revision}
    few_bits = _few_bits(config, device) if quantized and config.quantization != "none" else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        options |= few_bits
        model = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, config.dtype), use_safetensors=True, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load model {name or config.name!r}: {str(error).splitlines()[0]}") from error
    if config.freeze_embeddings:
        for matrix in (model.get_input_embeddings(), model.get_output_embeddings()):
            if matrix is not None:  # a model may keep its head to itself
                matrix.requires_grad_(False)
    stops = model.generation_config.eos_token_id
    stop_ids = [stops] if isinstance(stops, int) else list(stops or ())
    if few_bits:
        _stay_differentiable(model)
    else:
        quicken(model)
    placed = model.eval() if few_bits else model.eval().to(device)  # quantised weights are made where they stay
    vocabulary, room = model.get_input_embeddings().weight.shape[0], _room(model)
    return placed, Encoder(
        tokenizer, config.template, config.system_prompt, stop_ids, config.template_options, vocabulary, room, config.stop
    )


def _room(model: PreTrainedModel) -> int | None:
    """The longest text the model reads, in tokens; `None` where its configuration names no limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def _few_bits(config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """How transformers is asked for weights of 4 bits (NF4 with its scales quantised too, arXiv 2305.14314) or 8 (LLM.int8,
    arXiv 2208.07339). The embeddings and the head keep `config.dtype`."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(f"model.quantization = {config.quantization!r} needs bitsandbytes: pip install 'unsay[bitsandbytes]'")
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
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def save(model: PreTrainedModel, encoder: Encoder, folder: Path, card: str = "") -> None:
    """A plain Hugging Face folder: safetensors, configuration, tokenizer and, where given, a model card.

    It appears whole: written beside its place, then renamed.
    """
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(partial, safe_serialization=True)
    encoder.tokenizer.save_pretrained(partial)
    if card:
        (partial / "README.md").write_text(card, encoding="utf-8")
    replace_folder(partial, folder)


def frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that no optimizer touches: the untouched model of fluency and preference scores."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def trainable(model: PreTrainedModel) -> dict[str, Tensor]:
    """Name → parameter of everything an optimizer may move."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of all weights, names and shapes included: equal fingerprints are equal models, to the bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def answer_logprobs(model: PreTrainedModel, batch: Batch) -> Tensor:
    """[B, A] log-probabilities (nats) of the answer tokens; 0 outside `batch.mask`.

    Logits are made for answer tokens alone: a few at a time where the model's head is a plain matrix, else for the
    answer columns where the forward can be told so.
    """
    width, (rows, columns) = batch.width, batch.mask.nonzero(as_tuple=True)
    values = torch.zeros(batch.mask.shape, device=batch.ids.device)
    padded = habits(model).padding
    ids, attention, moved = (batch.ids, batch.attention, torch.zeros_like(batch.ids[:, 0])) if padded else batch.flush_left()
    inputs = {"input_ids": ids} | accepted(model, attention_mask=attention, position_ids=positions(attention), use_cache=False)
    # The last answer token predicts nothing we ask for; the token before the answer predicts its first.
    before = columns + ids.shape[1] - width - 1 - moved[rows]
    if _plain_head(model):
        hidden = model.base_model(**inputs).last_hidden_state[rows, before]
        found = head_logprobs(hidden, model.get_output_embeddings().weight, batch.answers[rows, columns])
    else:
        logits = model(**inputs, **(accepted(model, logits_to_keep=width + 1) if padded else {})).logits
        chosen = logits[rows, before + logits.shape[1] - ids.shape[1]]
        found = token_logprobs(chosen[None], batch.answers[rows, columns][None])[0]
    return values.index_put((rows, columns), found)


_PLAIN_HEADS: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def _plain_head(model: PreTrainedModel) -> bool:
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
    if not isinstance(head, torch.nn.Linear):  # an adapted head shows the weight under its adapter, which may be zero still
        return False
    logits = model(input_ids=ids, use_cache=False).logits.float()
    made = (model.base_model(input_ids=ids, use_cache=False).last_hidden_state @ head.weight.T).float()
    close = made.shape == logits.shape and torch.allclose(made, logits, rtol=1e-2, atol=1e-2 * float(logits.abs().max()))
    return close and getattr(head, "bias", None) is None
