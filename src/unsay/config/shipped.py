"""Recipes that come with the package, by name."""

from pathlib import Path

from unsay.config.build import ConfigError
from unsay.tables import near

_PACKAGE = Path(__file__).resolve().parents[1]


def recipes_folder() -> Path:
    """`recipes/` inside the installed package, or beside the sources."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parents[1] / "recipes"


def recipe_path(name: str) -> Path:
    """A file as it is, else the shipped recipe of that name. Raises `ConfigError` with the near names."""
    path = Path(name)
    shipped = recipes_folder() / f"{name.removesuffix('.toml')}.toml"
    if path.is_file() or (path.suffix == ".toml" and not shipped.is_file()):
        return path
    if shipped.is_file():
        return shipped
    raise ConfigError(f"no recipe {name!r}: {near(name, [file.stem for file in recipes_folder().glob('*.toml')])}")
