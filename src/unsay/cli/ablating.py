"""`ablate`: what one knob does, over its values and several seeds."""

import os
from pathlib import Path
from typing import Annotated

import typer

from unsay.cli import completing
from unsay.cli.app import RESEARCH, DataOption, SetOption, app, messages
from unsay.cli.progress import landed, watching
from unsay.cli.sweeping import Workers, needing_extra
from unsay.config import ConfigError, recipe_path

Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe file or a shipped one; without --over, what an ablation left.", autocompletion=completing.recipes
    ),
]
Over = Annotated[list[str] | None, typer.Option("--over", metavar="KNOB=VALUE,VALUE", help="A knob and its values; may be repeated.")]
Out = Annotated[Path | None, typer.Option("--out", help="The ablation's folder; default runs/ablate-RECIPE.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Runs of each value, with the seeds 0, 1, 2 …")]


@app.command(rich_help_panel=RESEARCH)
def ablate(
    recipe: Recipe,
    over: Over = None,
    out: Out = None,
    settings: SetOption = None,
    data: DataOption = None,
    seeds: Seeds = 3,
    workers: Workers = 1,
) -> None:
    """Vary one knob at a time, and draw forget quality, utility and held-out utility over its values. Interrupted ablations go on."""
    from unsay.research import ablate_report

    with messages():
        if not over:
            found = Path(recipe)
            if not found.exists() or found.suffix == ".toml":
                raise ConfigError(f"{recipe} is no ablation's folder; to run one, say what varies: --over KNOB=VALUE,VALUE")
            folder = out or (Path("runs") / found.name.partition(".")[0] if found.is_file() else found)
        else:
            with needing_extra():
                from unsay.research.ablate import ablation
                from unsay.research.sweep import launch
            if data:
                os.environ["UNSAY_DATA"] = data
            found = folder = out or Path("runs") / f"ablate-{recipe_path(recipe).stem}"
            shared = ablation(recipe, over, folder, settings or [], seeds)
            if workers == 1:
                with watching() as watchers:
                    launch.work(shared, watchers)
            else:
                launch.submit(shared, workers, "local", [])
        paths = ablate_report.write(ablate_report.ablated(found), folder)
    for path in paths:
        landed(path)
