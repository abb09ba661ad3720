"""What a shell offers at the tab key (`unsay --install-completion`): names of recipes, knobs, methods, probes. Imports no model library."""

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import partial

from unsay.config import Recipe, recipe_names
from unsay.lm.builtin import describe
from unsay.tables import PARTS, entries

Complete = Callable[[str], list[str]]


def _among(names: Callable[[], Iterable[str]]) -> Complete:
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def _settings() -> list[str]:
    """Every knob of a recipe's own tables, with its sign of equality; where it takes a name, with each of them."""
    tables = {one.name: one.default_factory for one in fields(Recipe) if is_dataclass(one.default_factory)}
    knobs = [f"{name}.{knob.name}=" for name, table in tables.items() for knob in fields(table)]  # type: ignore[arg-type]
    named = {key: entries(key) for key in ("method", "corpus")}
    probes = [f'audit.probes=["{name}"]' for name in entries("probe")]
    return [*(f"{key}={name}" for key, names in named.items() for name in names), "seed=", *knobs, *probes]


recipes = _among(recipe_names)
own_recipes = _among(partial(recipe_names, prefix="own-"))
sweeps = _among(partial(recipe_names, "sweeps"))
models = _among(describe)
parts = _among(lambda: sorted({name for kind in PARTS for name in entries(kind)}))
settings = _among(_settings)
