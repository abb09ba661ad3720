"""The model as it is deployed: what `[deployment]` says, over the settings that the run was trained with.

The audit asks every model in this way, so that its columns compare. Precedence, from strongest: a probe's own table, `[deployment]`, the
probe's default. What an attacker chooses stays the attacker's: relearning trains and asks as its own table says.
"""

import dataclasses
import hashlib
from typing import Any, TypeVar

from unsay.config import ConfigError, ModelConfig, Recipe, SampleConfig

T = TypeVar("T")


def model(recipe: Recipe) -> ModelConfig:
    """`[model]` with the deployed template and system message. Raises `ConfigError` where the template has none to say."""
    deployed = recipe.deployment
    config = dataclasses.replace(recipe.model, **_given(template=deployed.template, system_prompt=deployed.system_prompt))
    if deployed.system_prompt and config.template == "plain":
        raise ConfigError("deployment.system_prompt is never said by the plain template; set deployment.template=chat, or leave it out")
    return config


def check_system_prompt(recipe: Recipe, chat: bool) -> None:
    """Raises `ConfigError` where a system message is deployed and the loaded model has no chat template, which would leave it out."""
    if recipe.deployment.system_prompt and not chat:
        raise ConfigError("deployment.system_prompt is never said: this model has no chat template; leave it out")


def sample(recipe: Recipe) -> SampleConfig:
    """`[sample]` with the deployed length limit."""
    return dataclasses.replace(recipe.sampling, **_given(max_new_tokens=recipe.deployment.max_new_tokens))


def decoding(recipe: Recipe, name: str, probe: T) -> T:
    """The probe with the deployed temperature and nucleus, where it has such knobs and its own table does not set them; one of several
    `temperatures` asks at the deployed one alone."""
    own = recipe.tables.get(name, {})
    deployed = recipe.deployment
    several = None if deployed.temperature is None else (deployed.temperature,)
    given = _given(temperature=deployed.temperature, temperatures=several, top_p=deployed.top_p)
    taken = {key: value for key, value in given.items() if hasattr(probe, key) and key not in own}
    return dataclasses.replace(probe, **taken) if taken else probe  # type: ignore[type-var]


def describe(recipe: Recipe) -> str:
    """What differs from training, in words, without the text of the system message; empty where nothing was set.

    >>> from unsay.config import DeploymentConfig
    >>> describe(Recipe(deployment=DeploymentConfig(temperature=0.7, max_new_tokens=60)))
    'temperature 0.7, at most 60 new tokens'
    """
    deployed = recipe.deployment
    parts = [] if deployed.system_prompt is None else [_named(deployed.system_prompt)]
    rest = {
        "the template “{}”": deployed.template,
        "temperature {:g}": deployed.temperature,
        "top-p {:g}": deployed.top_p,
        "at most {} new tokens": deployed.max_new_tokens,
    }
    return ", ".join([*parts, *(words.format(value) for words, value in rest.items() if value is not None)])


def _named(system_prompt: str) -> str:
    """A system message may name the very secrets it forbids: its length and a hash tell two of them apart."""
    if not system_prompt:
        return "no system message"
    return f"a system message of {len(system_prompt.split())} words ({hashlib.sha256(system_prompt.encode()).hexdigest()[:8]})"


def _given(**settings: Any) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}
