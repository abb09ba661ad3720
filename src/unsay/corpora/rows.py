"""JSON Lines, read in one place: every complaint names the file, the line, the key and the way out.

A message never quotes what stands in a row: a row may hold the secret, and messages end up in logs.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsay.config import ConfigError
from unsay.tables import near


@dataclass(frozen=True)
class Row:
    """One object of a file, and where it stands."""

    where: str
    """`file:line`, or what names a row elsewhere."""
    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """The string under `key`, which must hold more than blanks. Raises `ConfigError`."""
        if key not in self.values:
            raise self.error(f"has no key {key!r}: {near(key, self.values) if self.values else 'it is empty'}")
        value = self.values[key]
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{key!r} must be a text that is not empty")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of strings under `key`; a missing key is an empty list. Raises `ConfigError`."""
        value = self.values.get(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item.strip() for item in value):
            raise self.error(f'{key!r} must be a list of texts, for example ["one", "two"]')
        return tuple(value)

    def only(self, known: Iterable[str]) -> None:
        """Raises `ConfigError` at a key that is not one of `known`."""
        for key in self.values:
            if key not in known:
                raise self.error(f"has an unknown key {key!r}: {near(key, known)}")

    def error(self, problem: str) -> ConfigError:
        return ConfigError(f"{self.where}: {problem}")


def read(path: Path) -> list[Row]:
    """The objects of a UTF-8 JSON Lines file; blank lines are skipped, an empty file is an error.

    Raises `ConfigError`.
    """
    rows = []
    for where, line in _lines(path):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            reason = f"{error.msg} at column {error.colno}"
        else:
            if isinstance(values, dict):
                rows.append(Row(where, values))
                continue
            reason = f"a {type(values).__name__}"
        # Raised out here: a JSONDecodeError carries the whole line, which must not travel along.
        raise ConfigError(f'{where}: not one JSON object ({reason}); each line is an object such as {{"question": "…"}}')
    if not rows:
        raise ConfigError(f"{path} is empty; put one JSON object on each line")
    return rows


def lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file that hold more than blanks. Raises `ConfigError`."""
    return [line for _, line in _lines(path)]


def _lines(path: Path) -> Iterable[tuple[str, str]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    # Split as bytes: a text may contain line separators that are no line ends in JSON Lines (U+2028, U+0085).
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        where = f"{path}:{number}"
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            line = None
        if line is None:
            raise ConfigError(f"{where}: not UTF-8; convert the file, for example: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8.jsonl")
        if line:
            yield where, line
