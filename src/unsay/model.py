"""Loading, saving and identifying a model. Everything Hugging Face is kept behind these few functions."""

import copy
import hashlib
import inspect
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from unsay import builtin
from unsay.config import ConfigError, ModelConfig
from unsay.encode import Batch, Encoder
from unsay.logprobs import token_logprobs


def load(config: ModelConfig, name: str | None = None) -> tuple[PreTrainedModel, Encoder]:
    """The model `name` (default: `config.name`) in evaluation mode and its encoder. Raises `ConfigError`.

    Only safetensors are read; code that comes with a model runs only with `trust_remote_code`.
    """
    where = builtin.resolve(name or config.name)
    options = {"trust_remote_code": config.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        model = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, config.dtype), use_safetensors=True, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load model {name or config.name!r}: {str(error).splitlines()[0]}") from error
    if config.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
        model.get_output_embeddings().requires_grad_(False)
    stops = model.generation_config.eos_token_id
    stop_ids = [stops] if isinstance(stops, int) else list(stops or ())
    return model.eval().to(default_device()), Encoder(tokenizer, config.template, config.system_prompt, stop_ids)


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


def replace_folder(new: Path, old: Path) -> None:
    """Put the finished folder `new` in the place of `old`."""
    if old.exists():
        aside = old.with_name(old.name + ".old")
        old.rename(aside)
        new.rename(old)
        for path in sorted(aside.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        aside.rmdir()
    else:
        new.rename(old)


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
    """[B, A] log-probabilities (nats) of the answer tokens; what stands outside `batch.mask` means nothing.

    Logits are made for the answer columns alone, where the model's forward can be told so.
    """
    width = batch.width
    options = accepted(model, position_ids=positions(batch.attention), logits_to_keep=width + 1)
    logits = model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False, **options).logits
    # The last answer token predicts nothing we ask for; the token before the answer predicts its first.
    return token_logprobs(logits[:, -width - 1 : -1], batch.answers)


def positions(attention: Tensor) -> Tensor:
    """[B, T] position of each token, counted from its row's first real token."""
    return (attention.cumsum(1) - 1).clamp_min(0)


def accepted(model: PreTrainedModel, **options: object) -> dict[str, object]:
    """Those of `options` that this model's forward takes: state-space models, for one, know no positions."""
    known = inspect.signature(type(model).forward).parameters
    return {name: value for name, value in options.items() if name in known}
