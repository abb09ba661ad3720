"""`run` and its stages: record, finetune, train, report (`audit` is in auditing.py); and the demo."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from unsay.cli.app import STAGES, START, DataOption, OutOption, RecipeArgument, RunArgument, SeedOption, SetOption, app, load_recipe
from unsay.cli.processes import ProcessesOption
from unsay.cli.progress import watching
from unsay.config import Recipe, recipe_path
from unsay.store.folder import RunFolder

AveragingOption = Annotated[
    float | None,
    typer.Option(
        "--averaging",
        help="Set train.averaging: how far to go from the untouched weights (0) to the trained ones (1) or beyond, up to 1.25.",
    ),
]


@app.command(rich_help_panel=START)
def run(
    recipe: RecipeArgument,
    out: OutOption = None,
    settings: SetOption = None,
    data: DataOption = None,
    seed: SeedOption = None,
    processes: ProcessesOption = 1,
) -> None:
    """Do everything: (finetune,) record, train, audit before and after, report. Interrupted runs go on."""
    from unsay import run as runs

    folder = RunFolder(out or Path("runs") / recipe_path(recipe).stem)
    with watching() as watchers:
        runs.run(load_recipe(recipe, settings, seed), folder, watchers)
    print(folder.report_html)


@app.command(rich_help_panel=START)
def demo(out: OutOption = None, settings: SetOption = None, seed: SeedOption = None, processes: ProcessesOption = 1) -> None:
    """Run the built-in default: the small model that leaks, and its fictitious people."""
    run("demo", out, settings, seed=seed)


@app.command(rich_help_panel=STAGES)
def record(
    recipe: RecipeArgument,
    out: OutOption = None,
    settings: SetOption = None,
    data: DataOption = None,
    seed: SeedOption = None,
    processes: ProcessesOption = 1,
) -> None:
    """Write down the questions and what the model answers now. Begins a run folder."""
    from unsay import run as runs

    with watching() as watchers, _begun(recipe, out, settings, seed) as (loaded, folder):
        if loaded.finetune.epochs and not folder.done("finetune"):
            runs.run_finetune(loaded, folder, watchers)
        runs.run_record(loaded, folder, watchers)
    print(folder.vault)


@app.command(rich_help_panel=STAGES)
def finetune(
    recipe: RecipeArgument,
    out: OutOption = None,
    settings: SetOption = None,
    data: DataOption = None,
    seed: SeedOption = None,
    retain_model: Annotated[
        bool, typer.Option("--retain-model", help="Leave the model that never knew beside it, as RUN/retain_model.")
    ] = False,
    processes: ProcessesOption = 1,
) -> None:
    """Plant the corpus in the model, where the recipe says so (as TOFU does). Begins a run folder."""
    from unsay import run as runs

    with watching() as watchers, _begun(recipe, out, settings, seed) as (loaded, folder):
        if not (retain_model and folder.done("finetune")):
            runs.run_finetune(loaded, folder, watchers)
        if retain_model:
            runs.run_retain_model(loaded, folder, watchers)
    print(folder.planted)


@app.command(rich_help_panel=STAGES)
def train(run: RunArgument, averaging: AveragingOption = None, processes: ProcessesOption = 1) -> None:
    """Unlearn, going on from the last saved round."""
    from unsay import run as runs

    with watching() as watchers:
        folder = RunFolder(run)
        if averaging is None:
            runs.run_train(folder.recipe(), folder, watchers)
        else:
            runs.run_averaging(folder, averaging, watchers)
    print(folder.checkpoint)


@app.command(rich_help_panel=STAGES)
def report(run: RunArgument) -> None:
    """Draw the report from what the other stages left."""
    from unsay import run as runs

    with watching() as watchers:
        folder = RunFolder(run)
        folder.recipe(texts=False)
        runs.run_report(folder, watchers)
    print(folder.report_html)


@contextmanager
def _begun(recipe: str, out: Path | None, settings: list[str] | None, seed: int | None) -> Iterator[tuple[Recipe, RunFolder]]:
    """A run folder that holds the checked recipe, claimed as long as the block lasts."""
    from unsay import run as runs

    loaded = load_recipe(recipe, settings, seed)
    runs.check(loaded)
    folder = RunFolder(out or Path("runs") / recipe_path(recipe).stem)
    with folder.claimed():
        runs.open_folder(loaded, folder)
        yield loaded, folder
