"""A model too large to be loaded, measured on two that are not: the same shape with one layer and with two, in random weights.

Layers are alike, so everything that is measured or counted lies on a line over their number. Answers of random weights mean nothing,
so their length is taken from the retain rows.
"""

import copy
import dataclasses
from typing import Any, TypeVar

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from unsay.config import ConfigError, Recipe
from unsay.doctor.cost import Costs
from unsay.doctor.memory import Sizes
from unsay.lm import builtin
from unsay.lm.adapters import prepare
from unsay.lm.encode import Encoder
from unsay.lm.model import default_device, freeze_embeddings

T = TypeVar("T", Sizes, Costs)


def whole_size(recipe: Recipe) -> int:
    """Bytes of the recipe's model in its own `dtype`, from the configuration alone. Raises `ConfigError`."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(_configuration(recipe), trust_remote_code=recipe.model.trust_remote_code)
    return int(model.num_parameters()) * int(getattr(torch, recipe.model.dtype).itemsize)


def layers_of(recipe: Recipe) -> int:
    return int(_configuration(recipe).get_text_config().num_hidden_layers)


def shallow(recipe: Recipe, layers: int) -> tuple[PreTrainedModel, Encoder]:
    """The recipe's model with random weights and so many layers, ready to train, and its encoder. Raises `ConfigError`."""
    where, config = builtin.resolve(recipe.model.name), copy.deepcopy(_configuration(recipe))
    text = config.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    torch.manual_seed(0)
    kind = getattr(torch, recipe.model.dtype)
    model = AutoModelForCausalLM.from_config(config, dtype=kind, trust_remote_code=recipe.model.trust_remote_code)
    if recipe.model.freeze_embeddings:
        freeze_embeddings(model)
    prepare(model, recipe)
    knobs = recipe.model
    tokenizer = AutoTokenizer.from_pretrained(where, revision=knobs.revision, trust_remote_code=knobs.trust_remote_code)
    encoder = Encoder(tokenizer, knobs.template, knobs.system_prompt, (), knobs.template_options, stop=knobs.stop)
    return model.eval().to(default_device()), encoder


def stretched(one: T, two: T, layers: int) -> T:
    """What the line through one layer and two says for `layers`; a figure that two layers make smaller stays as it was.

    >>> stretched(Costs({"update": 1.0}, {}, 1.0), Costs({"update": 1.5}, {}, 1.0), 5).wall["update"]
    3.0
    """

    def stretch(first: Any, second: Any) -> Any:
        if isinstance(first, dict):
            return {key: stretch(first[key], second[key]) for key in first}
        return first + (layers - 1) * max(0, second - first)

    grows = ("parameters", "layers", "token", "cached_row", "cached_token", "wall", "cpu")
    names = [name for name in grows if hasattr(one, name)]
    return dataclasses.replace(one, **{name: stretch(getattr(one, name), getattr(two, name)) for name in names})


def _configuration(recipe: Recipe) -> Any:
    knobs = recipe.model
    try:
        return AutoConfig.from_pretrained(builtin.resolve(knobs.name), revision=knobs.revision, trust_remote_code=knobs.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the configuration of model {knobs.name!r}: {str(error).splitlines()[0]}") from error
