"""`theory`: the recursions behind Partial Model Collapse, by formula and simulated."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unsay.cli.app import RESEARCH, JsonOption, app, messages

Out = Annotated[Path, typer.Option("--out", help="Where theory.md, theory.json and the picture go.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the simulations.")]


@app.command(rich_help_panel=RESEARCH)
def theory(out: Out = Path("runs/theory"), seed: Seed = 0, as_json: JsonOption = False) -> None:
    """Show what the theory of the method says, by formula and simulated: exit code 1 if the two disagree anywhere."""
    from unsay.research import theory as shown

    with messages():
        found = shown.shown(seed)
        paths = shown.write(found, out)
    if as_json:
        print((out / "theory.json").read_text(encoding="utf-8"), end="")
    else:
        show = Console(highlight=False, markup=False)
        for one in found.findings:
            show.print(f"{'agrees' if one.agrees else 'DIFFERS':8} {one.expected:8.4g} {one.found:8.4g}  {one.statement}", soft_wrap=True)
        show.print(*map(str, paths), sep="\n", soft_wrap=True)
    if not all(one.agrees for one in found.findings):
        raise typer.Exit(1)
