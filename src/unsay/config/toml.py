"""Recipes as text: a TOML file and `a.b=value` settings in, the resolved recipe out."""

import codecs
import dataclasses
import json
import re
import tomllib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from unsay.config.build import FIXED, ConfigError, build, named
from unsay.config.knobs import Recipe
from unsay.config.shipped import recipe_path
from unsay.tables import near

_KEY = re.compile(r"[\w-]{1,60}")
_DEEPEST = 8
"""Tables and lists within one another; no knob has more than three."""
_CONTROL = {"control", "band", "gain", "most"}
"""Of `[watch]` until 2026-11-27: a controller of the retain weight, off by default, and its knobs."""


def load(path: Path | str | None = None, settings: Iterable[str] = (), begun: bool = False) -> Recipe:
    """A recipe from a TOML file, or from a shipped one by its name, and `a.b=value` settings, the later winning. Raises `ConfigError`.

    `begun`: it is that of a run, perhaps of an older version."""
    raw = read(path, settings, begun)
    watch = raw.get("watch")
    if isinstance(watch, dict) and watch.get("control") is False:  # off, as every recipe.toml of before says
        raw = _without(raw, {"watch": _CONTROL})
    own = {f.name for f in dataclasses.fields(Recipe)} - {"tables"}
    chosen = {key: value for key, value in raw.items() if key in own}
    tables = {key: value for key, value in raw.items() if key not in own}
    for key, value in tables.items():
        if not isinstance(value, dict):
            raise ConfigError(f"unknown key {named(key)}: {near(key[:80], own)}")
        _plain(value, f"[{key}]" if _KEY.fullmatch(key) else "a table of another name", _DEEPEST)
    return build(Recipe, chosen | {"tables": tables}, "")


def read(path: Path | str | None, settings: Iterable[str] = (), begun: bool = False) -> dict[str, Any]:
    """The tables of a TOML file with `a.b=value` settings in them; without the knobs that are no more where it is that of a run which has
    `begun` (a setting of one is a mistake there too). Raises `ConfigError`."""
    path = recipe_path(path) if isinstance(path, str) else path
    raw = {} if path is None else parse(path, f"no recipe at {path}; `unsay recipes` lists the ones that come with the package")
    raw = _without(raw, FIXED) if begun else raw
    for one in settings:
        _apply(raw, one)
    return raw


def obsolete_knobs(path: Path) -> list[str]:
    """The knobs of a run's file that are no more and had another value there than all runs have now, such as `beams.width = 8`; none
    where there is no file."""
    raw = parse(path, f"no recipe at {path}") if path.exists() else {}
    tables = {name: table for name, table in raw.items() if isinstance(table, dict)}
    had = [(name, key, now) for name, knobs in FIXED.items() for key, now in knobs.items() if key in tables.get(name, ())]
    return [f"{name}.{key} = {as_toml(tables[name][key])}" for name, key, now in had if tables[name][key] != now]


def _without(raw: dict[str, Any], gone: Mapping[str, Container[str]]) -> dict[str, Any]:
    for name, knobs in gone.items():
        if isinstance(table := raw.get(name), dict):
            left = {key: value for key, value in table.items() if key not in knobs}
            raw = raw | {name: left} if left or not table else {key: value for key, value in raw.items() if key != name}
    return raw


def parse(path: Path, missing: str) -> dict[str, Any]:
    """The tables of a TOML file. Raises `ConfigError`, in the words of `missing` where there is no such file."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(missing) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{named(str(path))} cannot be read: {getattr(error, 'strerror', None) or 'not a path'}") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path} is UTF-16, not UTF-8; save it as UTF-8")
    try:
        return tomllib.loads(content.removeprefix(codecs.BOM_UTF8).decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 (line {content.count(10, 0, error.start) + 1})"
    except tomllib.TOMLDecodeError as error:
        # "Cannot overwrite a value" is how tomllib says that a key stands twice.
        reason = str(error).replace("Cannot overwrite a value", "A key stands twice")[:200]
    except (ValueError, RecursionError):
        reason = "a number is too long, or lists are nested too deep"
    raise ConfigError(f"{path} is not valid TOML: {reason}")  # out here: what was caught carries the text


def setting(key: str, value: Any) -> str:
    """`a.b=value` as `read` takes it.

    >>> setting("npo.beta", 0.1)
    'npo.beta=0.1'
    """
    return f"{key}={as_toml(value)}"


def parsed(setting: str) -> tuple[str, Any]:
    """`a.b=value` as a key and its value, which is TOML or a bare string. Raises `ConfigError`.

    >>> parsed("npo.beta=0.1")
    ('npo.beta', 0.1)
    """
    key, sign, text = setting.partition("=")
    key = key.strip()
    if not sign or not key:
        raise ConfigError(f"--set takes key=value, not {named(setting)}; for example --set train.rounds=20")
    if any("\ud800" <= c <= "\udfff" for c in setting):
        raise ConfigError(f"--set {named(key)}: the value is not UTF-8, or holds half of a surrogate pair")
    if not all(_KEY.fullmatch(part) for part in key.split(".")):
        raise ConfigError(f"--set {named(key)}: a key is names with dots between them; for example --set train.rounds=20")
    return key, _value(text)


def _apply(raw: dict[str, Any], setting: str) -> None:
    """Put `a.b=value` into the nested tables."""
    key, value = parsed(setting)
    *tables, last = key.split(".")
    for table in tables:
        raw = raw.setdefault(table, {})
        if not isinstance(raw, dict):
            raise ConfigError(f"--set {key}: {table} is a value, not a table")
    raw[last] = value


def _value(text: str) -> Any:
    """A TOML value; what is none, or more than one, is a text."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if found.keys() == {"value"} else text


def _plain(value: Any, where: str, depth: int) -> None:
    """Raises `ConfigError` where something stands in a table that no knob can hold and `dump` could not write back."""
    if isinstance(value, dict | list):
        if not depth:
            raise ConfigError(f"{where} is nested too deep")
        for inner in value.values() if isinstance(value, dict) else value:
            _plain(inner, where, depth - 1)
    elif not isinstance(value, str | bool | int | float):
        raise ConfigError(f"{where} holds a {type(value).__name__}; write it as a text, in quotes")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ConfigError(f"{where} holds a whole number of more than 64 bits")


def dump(recipe: Recipe) -> str:
    """The recipe as TOML that `load` reads back to an equal one."""
    top: dict[str, Any] = {}
    tables: dict[str, Mapping[str, Any]] = {}
    for key, value in dataclasses.asdict(recipe).items():
        if key == "tables":
            tables |= value
        elif isinstance(value, dict):
            tables[key] = value
        else:
            top[key] = value
    return flat(top) + "".join(f"\n[{name}]\n{flat(table)}" for name, table in tables.items())


def flat(values: Mapping[str, Any]) -> str:
    """Values as TOML that `read` reads back: a line each, tables within the line."""
    return "".join(f"{key} = {as_toml(value)}\n" for key, value in values.items())


def as_toml(value: Any) -> str:
    """A value as it stands behind the sign of equality."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # the one sign that TOML alone forbids
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{as_toml(str(key))} = {as_toml(item)}" for key, item in value.items()) + " }"
    return "[" + ", ".join(as_toml(item) for item in value) + "]"
