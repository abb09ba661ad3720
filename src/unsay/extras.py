"""Packages that not everybody needs: how one that is missing is installed."""


def install(extra: str) -> str:
    """The command that brings an extra of pyproject.toml, from the package index or in a clone."""
    return f"pip install 'unsay[{extra}]' (in a clone: pip install -e '.[{extra}]')"
