"""The key of a vault, in a file that only its owner can read: Fernet of `cryptography` (AES-128-CBC and HMAC-SHA256, authenticated)."""

import base64
import hashlib
import hmac
import os
import stat
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from unsay.config import ConfigError
from unsay.extras import needed

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


def _fernet() -> ModuleType:
    with needed("an encrypted vault", "vault", "cryptography"):
        return import_module("cryptography.fernet")


class Lock:
    """One key. Raises `ConfigError` where the file is none, or the package is missing."""

    def __init__(self, path: Path):
        fernet = _fernet()
        try:
            text = path.read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"the key file {path} cannot be read ({error.strerror}); a new one: unsay vault key {path}") from None
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"the key file {path} can be read by others; make it yours alone: chmod 600 {path}")
        try:
            self._fernet: Fernet = fernet.Fernet(text)
        except ValueError:
            raise ConfigError(f"{path} holds no key; a new one: unsay vault key FILE") from None
        self._invalid = fernet.InvalidToken
        self._secret = base64.urlsafe_b64decode(text)
        self.identity = hashlib.sha256(b"unsay vault " + self._secret).hexdigest()[:32]

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, text: str, path: Path) -> str:
        try:
            return self.decrypt(text)
        except ValueError:
            raise ConfigError(f"{path} was changed or torn since it was encrypted, and cannot be read") from None

    def decrypt(self, text: str) -> str:
        try:
            return self._fernet.decrypt(text.encode()).decode()
        except self._invalid:
            raise ValueError("changed") from None

    def named(self, key: str) -> str:
        return hmac.new(self._secret, key.encode(), "sha256").hexdigest()


def new_key(path: Path) -> None:
    """Write a fresh key to a file that only its owner can read. Raises `ConfigError` where the file exists."""
    fernet = _fernet()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists already, and what was encrypted with it would be lost; name another file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(fernet.Fernet.generate_key() + b"\n")
        file.flush()
        os.fsync(file.fileno())
