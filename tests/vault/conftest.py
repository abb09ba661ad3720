"""A key, where the extra is installed."""

from pathlib import Path

import pytest

from unsay.store.keys import new_key


@pytest.fixture
def cryptography() -> None:
    pytest.importorskip("cryptography", reason="the extra unsay[vault] is not installed")


@pytest.fixture
def key(cryptography: None, tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "one.key"
    path.parent.mkdir()
    new_key(path)
    return path
