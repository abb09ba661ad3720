"""A dataclass from a table of values: unknown keys and wrong types are named, with the way out."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from unsay.tables import near

T = TypeVar("T")


class ConfigError(ValueError):
    """A recipe that cannot be used. The message names the key and the way out."""


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind`; unknown keys and wrong types raise `ConfigError` naming `where.key`."""
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind) if f.init]  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else key
        if key not in known:
            raise ConfigError(f"unknown key {path!r}: {near(key, known)}")
        arguments[key] = _convert(hints[key], value, path)
    return kind(**arguments)


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{path} is a table of settings, not {value!r}")
        return build(hint, value, path)  # type: ignore[arg-type]
    if origin in (types.UnionType, typing.Union):
        if value is None or value == "none":
            return None
        return _convert(next(p for p in parameters if p is not type(None)), value, path)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{path} is a list, not {_kind(value)}")
        return tuple(_convert(parameters[0], item, path) for item in value)
    if origin is not None:  # Mapping
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} is a table, not {_kind(value)}")
        inner = parameters[1]
        return {key: value[key] if inner is Any else _convert(inner, value[key], f"{path}.{key}") for key in value}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path} takes {hint.__name__}, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    """A value as a message may show it: a text may be what must not get out."""
    return "a text" if isinstance(value, str) else repr(value) if isinstance(value, bool | int | float) else f"a {type(value).__name__}"


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key} = {value!r}: {near(value, allowed)}")


def positive(table: str, **values: float) -> None:
    for key, value in values.items():
        if value <= 0:
            raise ConfigError(f"{table}.{key} = {value} must be positive")
