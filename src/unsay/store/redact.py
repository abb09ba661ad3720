"""The texts of a recipe that may be secret (named strings and patterns, a system message) lie in the vault, not in recipe.toml. The rest
of a recipe is numbers, names and the operator's own title, and may be shown."""

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from unsay.config import ConfigError, Recipe

SENSITIVE = ("strings", "patterns", "system_prompt")
"""Knobs that hold, or may hold, words of the operator's secrets, in whatever table they stand."""
HIDDEN = "[in the vault]"
"""What stands in recipe.toml in the place of such a text."""
_PACKAGE = Path(__file__).parents[1]


def hide(recipe: Recipe) -> tuple[Recipe, list[dict[str, Any]]]:
    """The recipe with a stand-in for each text that may be secret, and these texts, one a row."""
    texts = [{"table": table, "key": key, "value": value} for table, key, value in _texts(recipe)]
    return _put(recipe, [{**row, "value": _hidden(row["value"])} for row in texts]), texts


def restore(recipe: Recipe, texts: Iterable[Mapping[str, Any]]) -> Recipe:
    """The recipe with its texts in the places of their stand-ins; where a setting has put another text there, that stays."""
    present = {(table, key): value for table, key, value in _texts(recipe)}
    return _put(recipe, [row for row in texts if present.get((row["table"], row["key"])) == _hidden(row["value"])])


def refuse_hidden(recipe: Recipe) -> None:
    """Raises `ConfigError` where a text is still in a vault that is not at hand: its stand-in would be taken for the text itself."""
    for table, key, value in _texts(recipe):
        if HIDDEN in (value if isinstance(value, list) else [value]):
            raise ConfigError(
                f"{table}.{key} says {HIDDEN!r}: the text itself lies in the vault of the run that this recipe was copied from; "
                "write it out, or leave the key out"
            )


def _texts(recipe: Recipe) -> Iterator[tuple[str, str, Any]]:
    whole = asdict(recipe)
    tables = whole.pop("tables")
    for name, table in (whole | tables).items():
        for key in SENSITIVE:
            if isinstance(table, Mapping) and table.get(key):
                yield name, key, list(table[key]) if isinstance(table[key], list | tuple) else table[key]


def _hidden(value: Any) -> Any:
    return [HIDDEN] * len(value) if isinstance(value, list) else HIDDEN


def _put(recipe: Recipe, texts: Sequence[Mapping[str, Any]]) -> Recipe:
    own = {field.name for field in fields(recipe)} - {"tables"}
    for row in texts:
        table, change = row["table"], {row["key"]: row["value"]}
        if table in own:
            recipe = replace(recipe, **{table: replace(getattr(recipe, table), **change)})
        else:
            recipe = replace(recipe, tables={**recipe.tables, table: {**recipe.tables.get(table, {}), **change}})
    return recipe


def unexpected(error: BaseException) -> str:
    """What may be shown of an unexpected exception: its type and the last place in this package that it passed. Its message may quote a
    question or an answer."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)] or frames
    where = f" in {Path(own[-1].filename).name}:{own[-1].lineno} ({own[-1].name})" if own else ""
    return f"{type(error).__name__}{where}"
