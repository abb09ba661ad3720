"""The vault: the one room that reads and writes sensitive texts. Its files are for their owner alone; a key file encrypts them.

Rows named `baseline` lie in `vault/baseline.jsonl.sealed`, without a key in `vault/baseline.jsonl`. Whether a vault is encrypted is settled
when its first file is written, and `vault/key.json` then says with which key, by a hash of it (keys.py); nothing is ever written in plain
beside it but what a person is to read (`look`). The key is a file outside of the run folder, named by `vault.key_file` or the environment
variable UNSAY_VAULT_KEY_FILE, which wins: a folder may be moved to another machine. It is never an argument or a knob.

Erased is what cannot be decrypted any more. Files that are removed from a disk may be recoverable, so `destroy` claims nothing unless the
vault was encrypted and its key is gone everywhere.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from unsay.config import ConfigError
from unsay.store import ranks
from unsay.store.clock import now
from unsay.store.files import each_jsonl, jsonl, links, parse_jsonl, remove, write_jsonl, write_text, writing
from unsay.store.keys import Lock

ENVIRONMENT = "UNSAY_VAULT_KEY_FILE"
SOON = 30
"""Days before the end of the retention date from which on it is worth a word."""
_SEALED = ".sealed"
_MARK, _TOMBSTONE = "key.json", "destroyed.json"


@dataclass(frozen=True)
class Held:
    """One file of a vault."""

    name: str
    bytes: int
    encrypted: bool


class Vault:
    """The sensitive texts of one run folder. `named` says where the key file lies; empty where there is none."""

    def __init__(self, path: Path, named: Callable[[], str] = lambda: ""):
        self.path = path
        self._named = named
        self._lock: Lock | None = None
        self._settled = False

    # -- whole files ---------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether rows of that name are kept."""
        return self.file(name).exists()

    def file(self, name: str) -> Path:
        """Where they lie, or would."""
        return _file(self.path, f"{name}.jsonl{_SEALED if self.encrypted else ''}")

    @ranks.main_only
    def write(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep the rows, whole or not at all. Raises `ConfigError` where the vault was destroyed, or its key is not at hand."""
        if lock := self.settle():
            write_text(self.file(name), lock.seal(jsonl(rows)), mode=0o600)
        else:
            write_jsonl(self.file(name), rows, mode=0o600)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """What was kept under that name. Raises `ConfigError` where there is nothing, or no key to read it with."""
        return [*self.each(name)]

    def each(self, name: str) -> Iterator[dict[str, Any]]:
        """The same row by row, so that nobody need hold all; an encrypted file is opened whole."""
        self.alive()
        path = self.file(name)
        if not path.exists():
            raise ConfigError(f"{path} is missing; run `unsay record` on this folder first")
        yield from parse_jsonl(self.lock.open(path.read_text(encoding="utf-8"), path)) if self.encrypted else each_jsonl(path)

    @ranks.main_only
    def remove(self, pattern: str, but: str = "") -> None:
        """Remove the rows of every name that the pattern fits, but one."""
        for path in [*self.path.glob(f"{pattern}.jsonl"), *self.path.glob(f"{pattern}.jsonl{_SEALED}")]:
            if path.name.partition(".jsonl")[0] != but:
                path.unlink()

    def page(self, name: str, text: str) -> Path:
        """A page for a person, in plain: a browser reads nothing else. `name` is a path in the vault."""
        self.settle()
        path = self.path / name
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)
        write_text(path, text, mode=0o600)
        return path

    # -- files to which lines are added --------------------------------------------------------------------------------

    def seal(self, row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """A row as one line of a file that grows: as it is, or its text encrypted under the same key for `find`."""
        lock = self.settle()
        return {"key": lock.named(key), "sealed": lock.seal(json.dumps(row, ensure_ascii=False))} if lock else row

    def named(self, key: str) -> str:
        """What `key` is called in such a file: a hash of a prompt would let somebody try out prompts."""
        return self.lock.named(key) if self.encrypted else key

    def unseal(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A line back. Raises `ValueError` where it was changed, or put in plain among encrypted ones."""
        if not self.encrypted:
            return dict(row)
        if "sealed" not in row:
            raise ValueError("plain")
        found: dict[str, Any] = json.loads(self.lock.decrypt(str(row["sealed"])))
        return found

    # -- the key -------------------------------------------------------------------------------------------------------

    @property
    def encrypted(self) -> bool:
        return _file(self.path, _MARK).exists()

    @property
    def lock(self) -> "Lock":
        """The key of an encrypted vault. Raises `ConfigError` where it is not at hand, or another one is."""
        if self._lock is None:
            files = self.key_files()
            if not files:
                raise ConfigError(
                    f"{self.path} is encrypted; name its key file: export {ENVIRONMENT}=PATH, or vault.key_file in "
                    f"{self.path.parent / 'recipe.toml'}"
                )
            there = [path for path in files if path.exists()]
            if not there:
                raise ConfigError(
                    f"{self.path} is encrypted, and there is no key file {files[0]}; put it back, or name its copy: {ENVIRONMENT}"
                )
            self._lock = next((lock for path in there if (lock := Lock(path)).identity == self._known()), None)
        if self._lock is None:
            raise ConfigError(f"{self.path} was encrypted with another key than the one in {there[0]}; name the file of that key")
        return self._lock

    def _known(self) -> str | None:
        """The identity of its key; `None` where it has none."""
        mark = self.path / _MARK
        if not mark.exists():
            return None
        try:
            found: str = json.loads(mark.read_text(encoding="utf-8"))["key"]
            if re.fullmatch("[0-9a-f]{32}", found):
                return found
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            pass
        raise ConfigError(
            f"{mark} does not say which key the vault is encrypted with; put that file back from a copy of the run folder (without it the "
            "vault can only be destroyed: remove the file, then `unsay vault destroy`)"
        )

    def settle(self) -> "Lock | None":
        """Make the directory and settle whether it is encrypted: by what is there, else by whether a key file is named."""
        self.alive()
        if self.encrypted:
            return self.lock
        if self._settled:
            return None
        files = self.key_files()
        if files and any(path.suffix == ".jsonl" for path in self.path.rglob("*")):
            raise ConfigError(
                f"{self.path} was begun without a key, and a part of it stays readable whatever comes after; "
                f"take {ENVIRONMENT} or vault.key_file away to go on without one, or begin another run folder (--out)"
            )
        lock = Lock(files[0]) if files else None
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)
        if lock:
            write_text(self.path / _MARK, json.dumps({"cipher": "fernet", "key": lock.identity}) + "\n", mode=0o600)
            self._lock = lock
        self._settled = True
        return lock

    def key_files(self) -> list[Path]:
        """The key files that are named, whether they are there or not: by the environment, by the recipe."""
        found = [Path(name).expanduser() for name in dict.fromkeys((os.environ.get(ENVIRONMENT), self._named())) if name]
        for path in found:
            if path.resolve().is_relative_to(self.path.parent.resolve()):
                raise ConfigError(f"the key file {path} lies in the run folder that it is to lock; keep it elsewhere")
        return found

    # -- what is there, and the end of it ------------------------------------------------------------------------------

    def held(self) -> list[Held]:
        """Every file, marks left out, in order of its name."""
        marks = [self.path / name for name in (_MARK, _TOMBSTONE)]
        found = sorted(path for path in self.path.rglob("*") if path.is_file() and path not in marks)
        return [Held(str(path.relative_to(self.path)), path.stat().st_size, _is_sealed(path)) for path in found]

    @property
    def destroyed(self) -> dict[str, Any] | None:
        """When the vault was destroyed and how it had been kept; `None` while it lives."""
        mark = self.path / _TOMBSTONE
        if not mark.exists():
            return None
        try:
            found: dict[str, Any] = json.loads(mark.read_text(encoding="utf-8"))
            return found | {"at": str(found["at"]), "encrypted": found["encrypted"] is True}
        except (ValueError, TypeError, KeyError):
            raise ConfigError(f"{mark} cannot be read; remove it where this vault was not destroyed") from None

    def alive(self) -> None:
        """Raises `ConfigError` where the vault was destroyed."""
        if (gone := self.destroyed) is not None:
            raise ConfigError(
                f"the vault of {self.path.parent} was destroyed on {gone['at'][:10]}: its questions and answers are gone. What stands in "
                "report.html and audit/ can still be read; anything else needs another run folder (--out)"
            )

    def own_key(self, path: Path) -> Path:
        """The key file that a person names for removal, as an absolute path; one that an earlier call has removed, too. What the run
        folder itself names is never removed: who made the folder may have written anything there. Raises `ConfigError` where the file is
        not the key of this vault, or the key would stay under another name."""
        path, gone = path.expanduser().absolute(), self.destroyed or {}
        if not os.path.lexists(path) and gone.get("key_file") == str(path):
            return path
        if Lock(path).identity != (gone.get("key") or self._known()):
            raise ConfigError(f"{path} is not the key of {self.path}; name the file of that key")
        if path.is_symlink() or path.stat().st_nlink > 1:
            raise ConfigError(f"{path} is a link, or has another name on its disk, under which the key would stay; name the file itself")
        return path

    def destroy(self, key: Path | None = None) -> dict[str, Any]:
        """Remove every file, then this key file, and leave a mark that says when. Returns that mark. It comes first: what was broken off
        is dead already, and the same call ends it. No link is followed. Raises `ConfigError` where something cannot be removed."""
        told = self.destroyed
        if told is None:
            told = {"at": now(), "key": self._known()}
            told["encrypted"] = self.encrypted and all(one.encrypted for one in self.held()) and not links(self.path)
        told |= {"key_file": str(key)} if key else {}
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(self.path / _TOMBSTONE, json.dumps(told) + "\n", mode=0o600)
        for path in self.path.iterdir():
            if path.name != _TOMBSTONE:
                remove(path)
        if not self.emptied:
            raise ConfigError(f"{self.path} could not be emptied; look at the rights of what is in it, then give this command again")
        if key:
            with writing(key):
                key.unlink(missing_ok=True)
        self._lock, self._settled = None, False
        return told

    @property
    def emptied(self) -> bool:
        """Whether nothing is left of a destroyed vault but its mark."""
        return self.destroyed is not None and all(path.name == _TOMBSTONE for path in self.path.iterdir())


_SEALED_LINE = re.compile(rb'(\{"key": "[0-9a-f]{64}", "left": \d+, "sealed": ")?(gAAAA[\w-]*=*)?("\})?\n?')
"""What a line of an encrypted file is made of; every token of Fernet begins with gAAAA."""


def _is_sealed(path: Path) -> bool:
    """Whether nothing in a file is plain, by looking: its name may say anything."""
    with path.open("rb") as file:
        return all(_SEALED_LINE.fullmatch(line) for line in file)


# -- how long it may be kept -------------------------------------------------------------------------------------------


def retention(until: str, today: date) -> str:
    """A warning where the vault is to be gone by now, or within a month; empty else.

    >>> retention("2027-01-31", date(2027, 2, 2))
    'its retention date, 2027-01-31, passed 2 days ago'
    """
    days = (date.fromisoformat(until) - today).days if until else SOON + 1
    if days > SOON:
        return ""
    many = f"{abs(days)} day{'s' * (abs(days) != 1)}"
    return f"its retention date, {until}, {f'passed {many} ago' if days < 0 else f'is {many} away' if days else 'is today'}"


@lru_cache(maxsize=64)  # pathlib interns a path's parts anew each time, and for each of a million answers that table of Python's grew
def _file(folder: Path, name: str) -> Path:
    return folder / name
