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
    return _named(name, "recipe", recipes_folder(), written=Path(name).suffix == ".toml")


def sweep_path(name: str) -> Path:
    """A file as it is, else the shipped sweep of that name. Raises `ConfigError` with the near names."""
    return _named(name, "sweep", recipes_folder() / "sweeps")


def _named(name: str, kind: str, folder: Path, written: bool = False) -> Path:
    """`written`: a path that leads to nothing comes back as it is, for whoever reads it to complain."""
    path, shipped = Path(name), folder / f"{name.removesuffix('.toml')}.toml"
    if path.is_file() or (written and not shipped.is_file()):
        return path
    if shipped.is_file():
        return shipped
    raise ConfigError(f"no {kind} {name!r}: {near(name, [file.stem for file in folder.glob('*.toml')])}")
