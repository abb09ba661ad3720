"""A dataclass from a table of values: unknown keys and wrong types are named, with the way out."""

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from unsay.tables import ConfigError as ConfigError
from unsay.tables import near

T = TypeVar("T")
_NAME = re.compile(r"[\w.+~\\:/-]{0,200}", re.ASCII)
_WHOLE = 2**63
"""Whole numbers of TOML have 64 bits; what comes after (seeds, tensors) has no room for more."""
_WAYS = (
    "typo, surname, first name, initial, base64, letter by letter, answer in letters, Chinese, French, German, Spanish, bare text, "
    "foreign system message, second turn"
)
FIXED: dict[str, dict[str, Any]] = {
    "beams": {"width": 4},
    "damage": {"noise": [0.1, 0.4], "pruned": [0.3, 0.6]},
    "depth": {"layers": 16},
    "diversity": {"order": 4},
    "drift": {"text": "auto", "windows": 100, "words": 64, "occurrences": 500},
    "fluency": {"scale": 8.3},
    "likelihood": {"k": 0.2, "options": 5},
    "openings": {"most": 8, "texts": 32, "words": 3},
    "perturbed": {"ways": _WAYS.split(", ")},
    "pmc": {"max_temperature": 1.6},
    "prefill": {"other_wordings": True, "threshold": 0.5},
    "prompt_variants": {"shots": 3, "language": "French"},
    "refusal": {"close": 0.5},
    "relearn": {"share": 0.25},
    "tofu": {"unknown_entities": 40},
    "train": {"mixed_rows": 0},
}
"""Knobs of before 2026-11-30, and the one value that all runs have now."""


_hints = functools.cache(typing.get_type_hints)


class NoFolder(ConfigError):
    """A model is looked for in a folder that is not there."""


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind`; unknown keys and wrong types raise `ConfigError` naming `where.key`."""
    hints = _hints(kind)  # type: ignore[arg-type]
    known = [f.name for f in dataclasses.fields(kind) if f.init]  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        path = _below(where, key)
        if key not in known:
            fixed = f"no knob any more, it is {FIXED[where][key]!r} in every run; take it out" if key in FIXED.get(where, ()) else ""
            raise ConfigError(f"unknown key {path!r}: {fixed or near(key[:80], known)}")
        arguments[key] = _convert(hints[key], value, path)
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]
        if f.init and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in arguments:
            raise ConfigError(f"{where}.{f.name} is missing" if where else f"the key {f.name!r} is missing")
    return kind(**arguments)


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{path} is a table of settings, not {_kind(value)}")
        return build(hint, value, path)  # type: ignore[arg-type]
    if origin in (types.UnionType, typing.Union):
        if value is None or value == "none":
            return None
        return _convert(next(p for p in parameters if p is not type(None)), value, path)
    if origin in (tuple, Sequence):
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{path} is a list, not {_kind(value)}")
        many = origin is Sequence or parameters[-1] is ...
        if not many and len(value) != len(parameters):
            raise ConfigError(f"{path} is a list of {len(parameters)}, not of {len(value)}")
        kinds = parameters[:1] * len(value) if many else parameters
        return tuple(_convert(kind, item, path) for kind, item in zip(kinds, value, strict=True))
    if origin is not None:  # Mapping
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} is a table, not {_kind(value)}")
        inner = parameters[1]
        return {key: value[key] if inner is Any else _convert(inner, value[key], _below(path, key)) for key in value}
    if hint is Any:
        return value
    if isinstance(value, int) and not -_WHOLE <= value < _WHOLE:
        raise ConfigError(f"{path} is a whole number of more than 64 bits")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} = {value} must be a finite number")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path} takes {hint.__name__}, not {_kind(value)}")
    return value


def _below(where: str, key: str) -> str:
    """The dotted name of a key, as a message may show it."""
    shown = key if _NAME.fullmatch(key) else f"(a key of {len(key):,} characters)"
    return f"{where}.{shown}" if where else shown


def _kind(value: Any) -> str:
    """A value as a message may show it: a text may be what must not get out."""
    if isinstance(value, bool | float) or (isinstance(value, int) and -_WHOLE <= value < _WHOLE):
        return repr(value)
    kinds = {str: "a text", int: "a number of more than 64 bits", dict: "a table", list: "a list"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def named(text: str) -> str:
    """What should be a name, as a message may show it: in quotes where it looks like one, else by its length alone."""
    return repr(text) if _NAME.fullmatch(text) else f"(a text of {len(text):,} characters)"


def first_of(names: Sequence[str], most: int = 5) -> str:
    """The first `most` of some names, and how many more there are.

    >>> first_of(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key} = {named(value)}: {near(value[:80], allowed)}")


def positive(table: str, **values: float) -> None:
    for key, value in values.items():
        if not value > 0:  # NaN is not positive either
            raise ConfigError(f"{table}.{key} = {value} must be positive")


def share(table: str, **values: float) -> None:
    for key, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{table}.{key} = {value} must be a share, from 0 to 1")


def not_negative(table: str, **values: float) -> None:
    for key, value in values.items():
        if value < 0:
            raise ConfigError(f"{table}.{key} = {value} must not be negative")
