"""Files and folders that appear whole or not at all: written beside their place, flushed to the disk, then renamed.

A write that fails removes what it has begun, says so (`WriteError`), and what stood there before still does. A process that
dies can only leave hidden names beside their place, `.NAME.partial` and `.NAME.old`, which `tidy` puts right.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from unsay.config import ConfigError
from unsay.store import ranks

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where there is no more room: on the disk, in a quota, in the size that a file may have."""
_TAKEN = frozenset({errno.ENOTDIR, errno.EEXIST})
_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_AT_ONCE = 4096
"""Rows, or pieces of JSON, that are written at once."""
decoded: Callable[[str], Any] = json.JSONDecoder(parse_int=lru_cache(1 << 16)(int)).decode
"""JSON whose whole numbers are there once in memory, however often they occur: most of them are token ids."""
LOCK = ".lock"
"""Name of the lock of a folder that one process at a time writes into."""


class WriteError(ConfigError):
    """Something cannot be written. What stood in its place before still does."""

    def __init__(self, path: Path, number: int):
        super().__init__(
            f"cannot write {path}: {os.strerror(number)}; {_way_out(number)}. What was finished before is whole, "
            "and the same command goes on from there"
        )
        self.number = number


def _way_out(number: int) -> str:
    if number in FULL:
        return "make room there, or choose another place"
    if number in _FORBIDDEN:
        return "make that folder writable for you, or choose another place"
    if number in _TAKEN:
        return "a file stands where a folder should be; choose another place"
    return "see to that disk, or choose another place"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong with the disk inside is raised as `WriteError` naming `path`."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        number = _number(error)
        if number is None:
            raise
        raise WriteError(path, number) from error


def _number(error: BaseException | None) -> int | None:
    """The system's number behind an error. safetensors tells it in words; torch raises an error of its own over the true one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        if told := re.search(r"\(os error (\d+)\)", str(error)):
            return int(told[1])
        error = error.__cause__ or error.__context__
    return None


def jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """What `jsonl` wrote."""
    return [*each_jsonl(path)]


def each_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The same line by line: a text may hold U+2028, which `splitlines` would take for the end of a line."""
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from (decoded(line) for line in file if line != "\n")


def parse_jsonl(text: str) -> list[dict[str, Any]]:
    """What `jsonl` wrote."""
    return [decoded(line) for line in text.split("\n") if line]


def sha256(path: Path) -> str:
    """Of the bytes of a file, in hexadecimal; it may be larger than memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Put `text` at `path`, whole or not at all. Raises `WriteError`."""
    write_bytes(path, text.encode(), mode)


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put `content` at `path`, whole or not at all. Raises `WriteError`."""
    _write(path, [content], mode)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]], mode: int = 0o644) -> None:
    """Put the rows at `path`, whole or not at all, without holding all of their text. Raises `WriteError`."""
    rows = iter(rows)
    _write(path, (jsonl(some).encode() for some in iter(lambda: list(islice(rows, _AT_ONCE)), [])), mode)


def write_json(path: Path, value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Put a value at `path` as indented JSON, whole or not at all, without holding all of its text. `default` makes what JSON has not
    into what it has, when its turn comes. Raises `WriteError`."""
    parts = chain(json.JSONEncoder(indent=1, ensure_ascii=False, default=default).iterencode(value), "\n")
    _write(path, ("".join(some).encode() for some in iter(lambda: list(islice(parts, _AT_ONCE)), [])), 0o644)


@ranks.main_only
def _write(path: Path, parts: Iterable[bytes], mode: int) -> None:
    partial = _partial(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # of a process that died; its mode may be another
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                for content in parts:
                    left = memoryview(content)
                    while left:
                        left = left[os.write(descriptor, left) :]
                    del content, left  # a part is not held as long as the next one is made
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _flush(path.parent)


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """A folder to fill, which stands at `place` when the block ends well, instead of what stood there. Raises `WriteError`."""
    partial = _partial(place)
    with writing(place):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            yield partial
            replace_folder(partial, place)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@ranks.main_only
def replace_folder(new: Path, old: Path) -> None:
    """Put the finished folder `new`, every file of it flushed, in the place of `old`. Raises `WriteError`."""
    aside = old.with_name(f".{old.name}.old")
    with writing(old):
        for path in new.rglob("*"):
            _flush(path)
        _flush(new)
        if old.exists():
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(old, aside)
        # A process that dies here leaves no `old`: `tidy` puts the one that was set aside back.
        os.rename(new, old)
        _flush(old.parent)
        shutil.rmtree(aside, ignore_errors=True)


def links(path: Path) -> list[Path]:
    """What the links at and under a path name: it stays when they are removed."""
    found = [path] if path.is_symlink() else [Path(place, name) for place, folders, names in os.walk(path) for name in (*folders, *names)]
    return sorted({one.resolve() for one in found if one.is_symlink()})


@ranks.main_only
def remove(path: Path) -> None:
    """Remove a file, a link (not what it names) or a folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def tidy(folder: Path) -> None:
    """Put right what processes that died have left under `folder`, while nobody else writes there: folders that were set aside
    come back where nothing took their place, and what is half written goes. Folders below with a lock of their own are left alone."""
    for left in [*folder.rglob(".*.old"), *folder.rglob(".*.partial")]:
        if any((above / LOCK).exists() for above in left.parents if folder in above.parents):
            continue
        place = left.with_name(left.name[1:].rpartition(".")[0])
        if left.suffix == ".old" and not place.exists():
            os.rename(left, place)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _flush(path: Path) -> None:
    """Onto the disk: the bytes of a file, the names in a folder."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # which opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not folder or error.errno != errno.EINVAL:  # some network disks flush no folder
            raise
    finally:
        os.close(descriptor)
