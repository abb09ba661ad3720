"""Loading, saving and identifying a model. Everything Hugging Face is kept behind these few functions."""

import copy
import hashlib
import inspect
import shutil
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from unsay import builtin
from unsay.config import ConfigError, ModelConfig
from unsay.encode import Batch, Encoder
from unsay.logprobs import head_logprobs, token_logprobs


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
    aside = old.with_name(old.name + ".old")
    shutil.rmtree(aside, ignore_errors=True)  # left where a process died between the two renames
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


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
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention, "use_cache": False}
    inputs |= accepted(model, position_ids=positions(batch.attention))
    # The last answer token predicts nothing we ask for; the token before the answer predicts its first.
    if _plain_head(model):
        hidden = model.base_model(**inputs).last_hidden_state[:, -width - 1 : -1][rows, columns]
        found = head_logprobs(hidden, model.get_output_embeddings().weight, batch.answers[rows, columns])
    else:
        logits = model(**inputs, **accepted(model, logits_to_keep=width + 1)).logits[:, -width - 1 : -1]
        found = token_logprobs(logits[rows, columns][None], batch.answers[rows, columns][None])[0]
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
    head, logits = model.get_output_embeddings(), model(input_ids=ids, use_cache=False).logits.float()
    made = (model.base_model(input_ids=ids, use_cache=False).last_hidden_state @ head.weight.T).float()
    close = made.shape == logits.shape and torch.allclose(made, logits, rtol=1e-2, atol=1e-2 * float(logits.abs().max()))
    return close and getattr(head, "bias", None) is None


def positions(attention: Tensor) -> Tensor:
    """[B, T] position of each token, counted from its row's first real token."""
    return (attention.cumsum(1) - 1).clamp_min(0)


def accepted(model: PreTrainedModel, **options: object) -> dict[str, object]:
    """Those of `options` that this model's forward takes: state-space models, for one, know no positions."""
    known = inspect.signature(type(model).forward).parameters
    return {name: value for name, value in options.items() if name in known}
