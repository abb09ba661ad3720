"""Recipes as text: a TOML file and `a.b=value` settings in, the resolved recipe out."""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unsay.config.build import ConfigError, build
from unsay.config.knobs import Recipe
from unsay.tables import near


def load(path: Path | str | None = None, settings: Iterable[str] = ()) -> Recipe:
    """A recipe from a TOML file and `a.b=value` settings, the later winning. Raises `ConfigError`."""
    raw = read(path, settings)
    own = {f.name for f in dataclasses.fields(Recipe)} - {"tables"}
    chosen = {key: value for key, value in raw.items() if key in own}
    tables = {key: value for key, value in raw.items() if key not in own}
    for key, value in tables.items():
        if not isinstance(value, dict):
            raise ConfigError(f"unknown key {key!r}: {near(key, own)}")
    return build(Recipe, chosen | {"tables": tables}, "")


def read(path: Path | str | None, settings: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a TOML file with `a.b=value` settings in them. Raises `ConfigError`."""
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"no recipe at {path}; `unsay recipes` lists the ones that come with the package") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for one in settings:
        _apply(raw, one)
    return raw


def setting(key: str, value: Any) -> str:
    """`a.b=value` as `read` takes it.

    >>> setting("npo.beta", 0.1)
    'npo.beta=0.1'
    """
    return f"{key}={_toml(value)}"


def _apply(raw: dict[str, Any], setting: str) -> None:
    """Put `a.b=value` into the nested tables; the value is TOML, or a bare string."""
    key, sign, text = setting.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set takes key=value, not {setting!r}; for example --set train.rounds=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        raw = raw.setdefault(table, {})
        if not isinstance(raw, dict):
            raise ConfigError(f"--set {setting}: {table} is a value, not a table")
    raw[last] = value


def dump(recipe: Recipe) -> str:
    """The recipe as TOML that `load` reads back to an equal one."""
    lines: list[str] = []
    nested: dict[str, Mapping[str, Any]] = {}
    for key, value in dataclasses.asdict(recipe).items():
        if key == "tables":
            nested |= value
        elif isinstance(value, dict):
            nested[key] = value
        else:
            lines.append(f"{key} = {_toml(value)}")
    for name, table in nested.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def flat(values: Mapping[str, Any]) -> str:
    """Values as TOML that `read` reads back: a line each, tables within the line."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else f"\\{c}" if c in '"\\' else c for c in value)
        return f'"{escaped}"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + " }"
    return "[" + ", ".join(_toml(item) for item in value) + "]"
