"""What there is: methods, rewards, probes, corpora (with the built-in models), recipes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated

import typer

from unsay.cli import completing
from unsay.cli.app import LISTS, JsonOption, SetOption, app, print_json
from unsay.config import load, recipe_names, recipes_folder
from unsay.lm import builtin
from unsay.tables import describe

Part = Annotated[
    str,
    typer.Argument(help="Of a probe, reward, method or corpus, of this package or of an installed one.", autocompletion=completing.parts),
]


def _list(name: str, says: str, found: Callable[[], Mapping[str, str]]) -> None:
    """A command that lists names, each with a line about it."""

    @app.command(name, rich_help_panel=LISTS, help=says)
    def show(as_json: JsonOption = False) -> None:
        entries = found()
        if as_json:
            print_json(entries)
            return
        width = max(map(len, entries), default=0)
        for entry, line in entries.items():
            print(f"{entry:{width}}  {line}")


_list("methods", "How a model can be changed.", partial(describe, "method"))
_list("rewards", "How an answer can be scored.", partial(describe, "reward"))
_list("probes", "How a model can be attacked.", partial(describe, "probe"))
_list("corpora", "Where questions come from.", partial(describe, "corpus"))
_list("models", "Models that have a name here; any folder or hub id will do as well.", builtin.describe)
_list(
    "recipes",
    "Known runs that come with the package.",
    lambda: {name: load(recipes_folder() / f"{name}.toml").title for name in recipe_names()},
)


@app.command("check-plugin", rich_help_panel=LISTS)
def check_plugin(name: Part, settings: SetOption = None) -> None:
    """Run the contract tests on a probe, reward, method or corpus: what it promises, and whether it keeps it."""
    from unsay.contract import broken, kinds_of

    tables = load(None, settings or []).tables
    found = [(kind, line) for kind in kinds_of(name) for line in broken(kind, name, tables.get(name, {}))]
    for kind, line in found:
        print(f"{kind} {name}: {line}")
    if found:
        raise typer.Exit(1)
    print(f"{name} keeps its contract.")
