"""Adapters: a few small matrices trained in place of the weights (LoRA, arXiv 2106.09685), and the model as it was before.

peft injects them into the model itself (`PreTrainedModel.add_adapter`) instead of wrapping it: the object stays the
`PreTrainedModel` that everything else knows, with its own forward, head and configuration, and with the adapters switched
off it *is* the untouched model, to the bit. So a method that compares with that model needs no second copy.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from unsay.config import ConfigError, LoraConfig, Recipe
from unsay.lm.encode import Encoder
from unsay.lm.layers import layer_states
from unsay.lm.model import States, answer_logprobs, answer_states, default_device, frozen_copy, load, plain_head, trainable
from unsay.lm.rows import Batch, Row
from unsay.store import ranks
from unsay.store.files import new_folder

_NAME = "default"


def load_to_train(recipe: Recipe, name: str | None = None) -> tuple[PreTrainedModel, Encoder]:
    """The model `name` as an optimizer gets it: its weights quantised, its adapters injected and its activations
    recomputed, where the recipe says so. Raises `ConfigError`."""
    model, encoder = load(recipe.model, name, quantized=True, device=default_device())
    prepare(model, recipe)
    return model, encoder


def prepare(model: PreTrainedModel, recipe: Recipe) -> None:
    """Give the model adapters, and have its activations recomputed, where the recipe says so."""
    if recipe.lora.rank:
        adapt(model, recipe.lora, recipe.seed)
    if recipe.train.gradient_checkpointing:
        checkpoint_activations(model)


def adapt(model: PreTrainedModel, config: LoraConfig, seed: int = 0) -> None:
    """Inject fresh adapters into `model`: the only parameters that train from now on, in float32 whatever the weights are.

    They begin as no change at all. Raises `ConfigError` where a module cannot take one.
    """
    if adapted(model):
        raise ValueError("the model has adapters already")
    targets = "all-linear" if config.targets == ("all-linear",) else list(config.targets)
    # peft would set `fan_in_fan_out` itself for Conv1D, with a warning for every layer.
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }
    wanted = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in linear.values()),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model.add_adapter(wanted, _NAME)
        except ValueError as error:
            # Among them: `out_proj` of state-space models, whose fused kernels read its weight past any adapter.
            why = str(error).partition("\n")[0].partition(". ")[0]
            if "version of PEFT" in why:
                raise ConfigError(
                    f"adapters cannot be made with the libraries installed ({why}); install such a peft, or an older transformers"
                ) from error
            names = sorted(linear, key=lambda name: -linear[name].weight.numel())
            raise ConfigError(
                f"lora.targets = {list(config.targets)} does not suit this model ({why}); "
                f"name one or more of its linear layers ({', '.join(names)}), for example --set 'lora.targets=[\"{names[0]}\"]'"
            ) from error
    heads = (model.get_input_embeddings(), model.get_output_embeddings())
    if model.config.get_text_config().tie_word_embeddings and any(isinstance(head, LoraLayer) for head in heads):
        raise ConfigError(
            "lora.targets names an embedding that the model also uses as its head; an adapter on one would change both: leave it out"
        )
    for parameter in trainable(model).values():
        parameter.data = parameter.data.float()


def adapted(model: PreTrainedModel) -> bool:
    """Whether `model` carries adapters."""
    return any(isinstance(module, LoraLayer) for module in model.modules())


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Keep only the input of every layer in training and compute the rest again in the backward pass.

    Non-reentrant, so that frozen embeddings cut no gradient. Raises `ConfigError` where the architecture cannot.
    """
    # transformers gave it a new name in 5.x and keeps the old one until 6.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(f"{type(model).__name__} cannot recompute activations: --set train.gradient_checkpointing=false") from error


@contextmanager
def without_adapters(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The model with its adapters, if any, switched off and in evaluation mode (no dropout), as long as the block lasts."""
    training, switch = model.training, adapted(model)
    model.eval()
    if switch:
        model.disable_adapters()
    try:
        yield model
    finally:
        if switch:
            model.enable_adapters()
        model.train(training)


def plain_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """The weights of the plain model that does what `model` does now, by name: each with its adapter added, if any is switched on,
    summed in float32 and rounded once."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    for name, parameter in model.named_parameters():
        module, base, last = name.rpartition(".base_layer.")
        weight, layer = parameter.detach(), layers.get(module)
        if layer is not None and last == "weight" and not layer.disable_adapters:
            weight = (weight.float() + layer.get_delta_weight(_NAME).detach()).to(weight.dtype)
        if ".lora_" not in name:
            yield (f"{module}.{last}" if base else name), weight


_REMEMBERED, _READ_AT_ONCE = 1 << 28, 32
"""Most bytes of states that are kept, and rows that are read together for it."""


class Untouched:
    """The model before training, for methods that compare with it. No gradient, no dropout.

    With adapters it is the model in training with its adapters off. Without, it is a frozen copy: what PMC compares
    (fluency) are candidates that no step before could know, so their likelihoods cannot be computed ahead.
    """

    def __init__(self, model: PreTrainedModel):
        """Of `model` as it is now: before its first step, and before any saved state is restored."""
        self._model = model if adapted(model) else frozen_copy(model)
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self._head: Tensor | None = None

    def model(self) -> AbstractContextManager[PreTrainedModel]:
        """The untouched model, as long as the block lasts."""
        return without_adapters(self._model)

    def answer_logprobs(self, batch: Batch) -> Tensor:
        """[B, A] log-probabilities (nats) of the answer tokens under the untouched model; 0 outside `batch.mask`."""
        with torch.no_grad(), self.model() as model:
            return answer_logprobs(model, batch)

    def answer_states(self, batch: Batch) -> States:
        """What predicts each answer token (`model.answer_states`) under the untouched model."""
        keys = batch.keys() if self._kept else []
        if not any(key in self._kept for key in keys):
            return self._read(batch)
        new = torch.tensor([key not in self._kept for key in keys], device=batch.ids.device)
        read = iter(self._read(batch.of(new))[0].split(batch.mask[new].sum(1).tolist()) if new.any() else ())
        return torch.cat([self._kept[key] if key in self._kept else next(read) for key in keys]), self._head

    def layer_states(self, batch: Batch) -> tuple[States, list[Tensor]]:
        """`answer_states`, and what every layer puts out [B, T, H]; never from memory."""
        with layer_states(self._model) as found:
            return self._read(batch), found

    def _read(self, batch: Batch) -> States:
        with torch.no_grad(), self.model() as model:
            return answer_states(model, batch)

    def take_part(self, batch: Batch) -> None:
        """Ask for nothing, with the first row. Where the model is spread, a process without a row to ask about comes here: it *is* the
        model in training, which all processes put together at once, or wait for each other."""
        if ranks.split() and adapted(self._model):
            self.answer_states(batch.of(torch.arange(len(batch.roles), device=batch.ids.device) == 0))

    def remember(self, rows: Sequence[Row], encoder: Encoder) -> None:
        """Read these rows now, and answer for them from memory. They are read in batches of their own, so that what an interrupted run
        remembers is the same to the bit. Nothing is remembered where the states would be logits, or take more than `_REMEMBERED` bytes."""
        with torch.no_grad(), self.model() as model:
            width = getattr(model.config.get_text_config(), "hidden_size", 0)
            tokens = sum(len(row.answer) for row in rows)
            if not plain_head(model) or tokens * width * model.dtype.itemsize > _REMEMBERED:
                return
            ordered = sorted(dict.fromkeys(rows), key=lambda row: row.length)
            for start in range(0, len(ordered), _READ_AT_ONCE):
                batch = encoder.batch(ordered[start : start + _READ_AT_ONCE], model.device)
                states, self._head = answer_states(model, batch)
                self._kept |= zip(batch.keys(), states.split(batch.mask.sum(1).tolist()), strict=True)


@ranks.main_only
def save_adapter(model: PreTrainedModel, folder: Path) -> None:
    """The adapters alone, as a peft folder. It appears whole."""
    with new_folder(folder) as partial:
        model.save_pretrained(partial, safe_serialization=True)


def merged(model: PreTrainedModel, recipe: Recipe, name: str | None = None) -> PreTrainedModel:
    """A plain model that does what the adapted `model` does, made from it (which is used up) or, where its weights are
    quantised, from the full weights of `name` loaded again on the CPU: the checkpoint then carries no rounding to 4 bits."""
    if recipe.model.quantization != "none":
        model = refilled(recipe, name, trainable(model))
    fold(model)
    return model


@torch.no_grad()
def refilled(recipe: Recipe, name: str | None, weights: Mapping[str, Tensor]) -> PreTrainedModel:
    """The model `name` on the CPU, neither in few bits nor spread, with these weights in place of those that train."""
    model, _ = load(recipe.model, name, device=torch.device("cpu"))
    if recipe.lora.rank:
        adapt(model, recipe.lora)
    for key, parameter in trainable(model).items():
        parameter.copy_(weights[key])
    return model


@contextmanager
def passing(model: PreTrainedModel, config: LoraConfig, seed: int = 0) -> Iterator[PreTrainedModel]:
    """The model with fresh adapters, as long as the block lasts; then it is what it was. For an attack that needs no copy."""
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    adapt(model, config, seed)
    try:
        yield model
    finally:
        fold(model, keep=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])


@torch.no_grad()
def fold(model: PreTrainedModel, keep: bool = True) -> None:
    """Take every adapter away and, with `keep`, add it to the weight under it: W + (α/r)·BA, summed in float32 and rounded once to
    W's type."""
    for name, layer in [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]:
        if name.endswith(".base_layer"):
            continue
        wrapped: list[LoraLayer] = []  # the stacked experts of a mixture carry one adapter around another
        inner: Any = layer
        while isinstance(inner, LoraLayer):
            wrapped.append(inner)
            inner = inner.base_layer
        if keep:
            _merge(wrapped, inner)
        model.set_submodule(name, inner)
    del model.peft_config
    model._hf_peft_config_loaded = False


def _merge(wrapped: Sequence[LoraLayer], inner: torch.nn.Module) -> None:
    dtypes = [(parameter, parameter.dtype) for parameter in inner.parameters(recurse=False)]
    for parameter, _ in dtypes:
        parameter.data = parameter.data.float()
    for layer in reversed(wrapped):
        layer.merge(adapter_names=[_NAME])
    for parameter, dtype in dtypes:
        parameter.data = parameter.data.to(dtype)
