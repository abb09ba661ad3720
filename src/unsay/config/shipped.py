"""Recipes that come with the package, by name."""

from pathlib import Path

from unsay.config.build import ConfigError
from unsay.tables import near

_PACKAGE = Path(__file__).resolve().parents[1]


def recipes_folder() -> Path:
    """`recipes/` inside the installed package, or beside the sources."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parents[1] / "recipes"


def recipe_names(folder: str = "", prefix: str = "") -> list[str]:
    """The names of the shipped recipes, or of the sweeps in `folder`; of those that begin with `prefix`, what follows it."""
    return sorted(path.stem.removeprefix(prefix) for path in (recipes_folder() / folder).glob(f"{prefix}*.toml"))


def recipe_path(name: str) -> Path:
    """A file as it is, else the shipped recipe of that name. Raises `ConfigError` with the near names."""
    return _named(name, "recipe", "", written=Path(name).suffix == ".toml")


def sweep_path(name: str) -> Path:
    """A file as it is, else the shipped sweep of that name. Raises `ConfigError` with the near names."""
    return _named(name, "sweep", "sweeps")


def _named(name: str, kind: str, folder: str, written: bool = False) -> Path:
    """`written`: a path that leads to nothing comes back as it is, for whoever reads it to complain."""
    path, shipped = Path(name), recipes_folder() / folder / f"{name.removesuffix('.toml')}.toml"
    if path.is_file() or (written and not shipped.is_file()):
        return path
    if shipped.is_file():
        return shipped
    raise ConfigError(f"no {kind} {name!r}: {near(name, recipe_names(folder))}")
