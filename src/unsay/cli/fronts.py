"""`front`: what the methods of one or several sweeps reach, drawn and tabulated."""

import json
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unsay.cli.app import RESEARCH, JsonOption, app, messages
from unsay.cli.progress import landed
from unsay.config import ConfigError

if TYPE_CHECKING:
    from unsay.research.front import tables

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="DIR [DIR ...]", help="Folders of `unsay sweep`, or files kept of them (results/); those of several are pooled."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Where the pictures and tables go; default the first folder, or runs/front-NAME of a file.")
]
AtMost = Annotated[
    list[str] | None,
    typer.Option("--at-most", metavar="METRIC=VALUE", help="Count only checkpoints that score no more, such as class_degenerate=0.05."),
]

Budget = Annotated[
    float | None,
    typer.Option(help="Count only checkpoints that cost at most so many seconds; default a tenth over the sweep's budget, 0 counts all."),
]


@app.command("front", rich_help_panel=RESEARCH)
def draw(found: Folders, out: Out = None, at_most: AtMost = None, budget: Budget = None, as_json: JsonOption = False) -> None:
    """Draw and tabulate the trade between forgetting and usefulness for all methods of a sweep, with bars and at equal cost."""
    from unsay.research.front import pictures, tables
    from unsay.research.front.trade import front

    with messages():
        if budget is not None and not 0 <= budget < inf:
            raise ConfigError(f"--budget {budget}: give a number of seconds, or 0 to count all")
        if (at_most or budget is not None) and out is None:
            raise ConfigError("--at-most and --budget draw another picture than the sweep's own; say with --out where it goes")
        result = front(found, at_most=dict(map(_bound, at_most or ())), budget=budget)
        first = found[0]  # a folder takes its pictures; a kept file cannot
        paths = pictures.write(result, out or (Path("runs") / f"front-{first.name.partition('.')[0]}" if first.is_file() else first))
    if as_json:
        print(json.dumps(tables.as_json(result), ensure_ascii=False, indent=1))
        return
    show = Console(highlight=False)
    show.print("Hypervolume, 0 to 1 (95 % interval)", soft_wrap=True)
    show.print(_table(tables.volumes(result, brief=True)))
    show.print("\n" + tables.halved(result), markup=False, soft_wrap=True)
    if result.rows:
        show.print(_table(tables.equal_cost(result)))
    for line in (*tables.failures(result), *result.notes):
        show.print(line, markup=False, soft_wrap=True)
    for path in paths:
        landed(path)


def _bound(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        found = name.strip(), float(value)
        if not found[0] or not isfinite(found[1]):
            raise ValueError
        return found
    except ValueError:
        raise ConfigError(f"--at-most {text}: give a metric and a number, such as class_degenerate=0.05") from None


def _table(found: "tables.Table") -> Table:
    head, rows = found
    table = Table(*map(escape, head), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
