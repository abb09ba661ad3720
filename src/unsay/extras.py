"""Packages that not everybody needs: how one that is missing is installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from unsay.tables import ConfigError


def install(extra: str) -> str:
    """The command that brings an extra of pyproject.toml, from the package index or in a clone."""
    return f"pip install 'unsay[{extra}]' (in a clone: pip install -e '.[{extra}]')"


@contextmanager
def needed(what: str, extra: str, *packages: str) -> Iterator[None]:
    """Around an import of these packages, which an extra brings. Raises `ConfigError` where one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in packages:  # nothing that an installation could mend
            raise
        raise ConfigError(f"{what} needs an extra that is not installed ({error.name}): {install(extra)}") from None
