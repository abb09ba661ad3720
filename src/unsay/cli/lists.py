"""What there is: methods, rewards, probes, corpora (with the built-in models), recipes."""

from collections.abc import Mapping
from typing import Annotated

import typer

from unsay.cli import completing
from unsay.cli.app import LISTS, JsonOption, SetOption, app, messages, print_json
from unsay.config import load, recipes_folder
from unsay.lm import builtin
from unsay.tables import describe

Part = Annotated[
    str,
    typer.Argument(
        help="Of a probe, reward, method or corpus, of this package or of an installed one.",
        autocompletion=completing.parts,
    ),
]


def _show(entries: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        print_json(entries)
        return
    width = max(map(len, entries), default=0)
    for name, line in entries.items():
        print(f"{name:{width}}  {line}")


def _list(kind: str, name: str, says: str) -> None:
    """A command that lists one of the four tables of parts."""

    @app.command(name, rich_help_panel=LISTS, help=says)
    def show(as_json: JsonOption = False) -> None:
        _show(describe(kind), as_json)


_list("method", "methods", "How a model can be changed.")
_list("reward", "rewards", "How an answer can be scored.")
_list("probe", "probes", "How a model can be attacked.")
_list("corpus", "corpora", "Where questions come from.")


@app.command("models", rich_help_panel=LISTS)
def list_models(as_json: JsonOption = False) -> None:
    """Models that have a name here; any folder or hub id will do as well."""
    _show(builtin.describe(), as_json)


@app.command("recipes", rich_help_panel=LISTS)
def list_recipes(as_json: JsonOption = False) -> None:
    """Known runs that come with the package."""
    _show({path.stem: load(path).title for path in sorted(recipes_folder().glob("*.toml"))}, as_json)


@app.command("check-plugin", rich_help_panel=LISTS)
def check_plugin(name: Part, settings: SetOption = None) -> None:
    """Run the contract tests on a probe, reward, method or corpus: what it promises, and whether it keeps it."""
    from unsay.contract import broken, kinds_of

    with messages():
        tables = load(None, settings or []).tables
        found = [(kind, line) for kind in kinds_of(name) for line in broken(kind, name, tables.get(name, {}))]
    for kind, line in found:
        print(f"{kind} {name}: {line}")
    if found:
        raise typer.Exit(1)
    print(f"{name} keeps its contract.")
