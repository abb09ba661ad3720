"""Rows of a file and what is wrong with them: every complaint names the file, the line, the key and the way out.

A message never quotes what stands in a row: a row may hold the secret, and messages end up in logs. Names of keys are
shown only where all of them look like names; in a file without its header line the first "names" are somebody's data.
"""

import codecs
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from unsay.config import ConfigError
from unsay.tables import near

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LABEL = 200
"""Characters of an `id` or a `group`: they stand in findings, messages and reports."""
_KINDS = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


class RowError(ConfigError):
    """What is wrong at one place of a file."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        """`file`, `file:line` or `file row n`."""
        self.problem = problem


@dataclass
class Problems:
    """Where complaints go. A run wants the first one raised; `unsay check` collects them all and reads on."""

    collect: bool = False
    found: list[ConfigError] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)
    """Keys of all rows that were read, in order, to complain about one that no file has."""

    def saw(self, rows: Iterable["FileRow"]) -> None:
        self.columns |= dict.fromkeys(key for row in rows for key in row.values)

    def add(self, problem: str, where: str = "") -> None:
        """Keep the complaint, or raise it. `where`: the place that it is about, if it is about one."""
        error = RowError(where, problem) if where else ConfigError(problem)
        if not self.collect:
            raise error
        self.found.append(error)

    def attempt(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T | None:
        """What the function returns; `None` where it complained and complaints are collected."""
        try:
            return function(*arguments)
        except ConfigError as error:
            if not self.collect:
                raise
            self.found.append(error)
        return None


@dataclass(frozen=True, slots=True)
class FileRow:
    """One object of a file, and where it stands."""

    where: str
    """`file:line` (from 1), or what names a row elsewhere."""
    values: Mapping[str, Any] = field(repr=False)
    table: bool = False
    """Out of a table: an empty cell is a missing key, and a list may be written as JSON."""
    chat: bool = False
    """Question and answer were turns of a conversation."""

    def text(self, key: str) -> str:
        """The string under `key`, which must hold more than blanks. Raises `ConfigError`."""
        if key not in self.values:
            raise self.error(f"has no key {key!r}{among(key, self.values)}")
        value = self.values[key]
        if not isinstance(value, str) or not says(value):
            raise self.error(f"{key!r} must be a text that is not empty")
        self._sound(key, value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of strings under `key`; a missing key is an empty list. Raises `ConfigError`."""
        value = self.values.get(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) and says(item) for item in value):
            raise self.error(f'{key!r} must be a list of texts, for example ["one", "two"]')
        for item in value:
            self._sound(key, item)
        return tuple(value)

    def label(self, key: str, missing: str = "") -> str:
        """The short name under `key`, a text or a whole number; `missing` where there is none. Raises `ConfigError`."""
        value = self.values.get(key, missing)
        number = isinstance(value, int) and not isinstance(value, bool)
        found = str(value) if number else self.text(key) if key in self.values else missing
        if len(found) > _LABEL or "\n" in found or "\r" in found:
            raise self.error(f"{key!r} must be a short name: one line of at most {_LABEL} characters")
        return found

    def only(self, known: Iterable[str], table: str = "files") -> None:
        """Raises `ConfigError` at a key that is not one of `known`."""
        for key in self.values:
            if key not in known:
                name = f" {key!r}: {near(key, known)}" if nameable(self.values) else f"; known: {', '.join(sorted(known))}"
                raise self.error(f"has an unknown key{name}; to leave one unread, list it in {table}.ignore")

    def error(self, problem: str) -> RowError:
        return RowError(self.where, problem)

    def _sound(self, key: str, value: str) -> None:
        """Neither may reach a tokenizer or the vault: tokenizers cut at one and refuse the other."""
        if "\0" in value:
            raise self.error(f"{key!r} holds a NUL character; remove it")
        if _SURROGATE.search(value):
            raise self.error(
                f"{key!r} holds half of a surrogate pair (a broken emoji?), which no UTF-8 text can; write the whole character"
            )


def says(text: str) -> bool:
    """Whether anything in it can be seen: more than blanks, controls and invisible marks (a zero-width space)."""
    return any(unicodedata.category(c) not in ("Cc", "Cf", "Zs", "Zl", "Zp") for c in text)


def nameable(keys: Iterable[str]) -> bool:
    """Whether all of them look like names of keys and none like somebody's data."""
    return all(_NAME.fullmatch(key) for key in keys)


def among(key: str, keys: Iterable[str]) -> str:
    """The end of a complaint that `key` is not among `keys`: the near names and all names, where they are names."""
    keys = list(keys)
    if not keys:
        return ": it is empty"
    return f": {near(key, keys)}" if nameable(keys) else ""


def read(path: Path, problems: Problems | None = None) -> list[FileRow]:
    """All that `each` reads."""
    return [*each(path, problems)]


def each(path: Path, problems: Problems | None = None) -> Iterator[FileRow]:
    """The objects of a UTF-8 JSON Lines file; blank lines are skipped, an empty file is an error. Raises `ConfigError`."""
    problems = problems or Problems()
    before, empty = len(problems.found), True
    for where, line in _lines(path, problems):
        values = problems.attempt(parse, where, line)
        if isinstance(values, dict):
            empty = False
            yield FileRow(where, values)
        elif values is not None:
            problems.add(not_an_object(kind(values)), where)
    if empty and len(problems.found) == before:
        problems.add(f"{path} is empty; put one JSON object on each line")


def parse(where: str, text: str) -> Any:
    """JSON as Python values, never `None`. Raises `ConfigError`."""
    try:
        value = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        reason = f"{error.msg.removesuffix(' at')} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _Twice) else "numbers too long or lists nested too deep"
    else:
        if value is not None:
            return value
        reason = "null"
    # Raised out here: a JSONDecodeError carries the whole line, which must not travel along.
    raise RowError(where, not_an_object(reason))


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), "null")


def not_an_object(reason: str) -> str:
    return f'not one JSON object ({reason}); each line is an object such as {{"question": "…"}}'


class _Twice(ValueError):
    pass


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json`, which would silently take the last of two equal keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice("a key stands in it twice")
    return found


def lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file that hold more than blanks. Raises `ConfigError`."""
    return [line for _, line in _lines(path, Problems())]


def located(name: str) -> Path:
    """The path that `name` means, `~` resolved. Raises `ConfigError` where it is none."""
    try:
        path = Path(name).expanduser()
        path.stat()
    except FileNotFoundError:
        return path
    except (OSError, ValueError, RuntimeError) as error:
        shown = name if len(name) <= _LABEL and name.isprintable() else f"a name of {len(name):,} characters"
        raise ConfigError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or 'not a path'}") from None
    return path


def content(path: Path) -> bytes:
    """The bytes of a file, without a byte order mark. Links are followed: who names a link means what it leads to. Raises `ConfigError`."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():  # a pipe may never end
        raise ConfigError(f"{path} is no regular file (a pipe or a device?); write its content into a file")
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        start = "" if path.is_absolute() else " (a relative path begins where you call unsay)"
        raise ConfigError(f"there is no file {path}{start}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not a path'}") from None
    wide = _wide(found[:4])
    if wide:
        raise RowError(f"{path}:1", f"{wide[:6]}, not UTF-8; {_converted(path, wide)}")
    return found.removeprefix(codecs.BOM_UTF8)


def _wide(start: bytes) -> str:
    """The name of an encoding of two or four bytes a character, by how a file in it begins; empty where it does not."""
    if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "UTF-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    if len(start) < 2 or (start[0] == 0) == (start[1] == 0):
        return ""
    return "UTF-16BE" if start[0] == 0 else "UTF-16LE"


def _converted(path: Path, encoding: str) -> str:
    return f"convert the file, for example: iconv -f {encoding} -t UTF-8 {path.name} > utf8{path.suffix}"


def not_utf8(path: Path) -> str:
    return f"not UTF-8; {_converted(path, 'WINDOWS-1252')}"


def _lines(path: Path, problems: Problems) -> Iterator[tuple[str, str]]:
    # Split as bytes: a text may contain line separators that are no line ends in JSON Lines (U+2028, U+0085).
    for number, raw in enumerate(BytesIO(problems.attempt(content, path) or b""), start=1):
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            line = None
        if line is None:  # outside of the except: a UnicodeDecodeError carries the line
            problems.add(not_utf8(path), f"{path}:{number}")
        elif line:
            yield f"{path}:{number}", line
