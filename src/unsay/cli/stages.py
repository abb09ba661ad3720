"""`run` and its stages: record, finetune, train, audit, report; and the demo."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from unsay import run as runs
from unsay.cli.app import (
    DataOption,
    OutOption,
    RecipeArgument,
    RunArgument,
    SeedOption,
    SetOption,
    app,
    console,
    load_recipe,
    messages,
    recipe_path,
)
from unsay.config import ConfigError, Recipe
from unsay.endpoint import EndpointConfig
from unsay.folder import RunFolder

Which = Annotated[str | None, typer.Option("--which", help="before, after or gold; default all that can be audited.")]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="Audit what answers at this URL (OpenAI-compatible) instead.")]
ServedModel = Annotated[str, typer.Option("--model", help="The model's name there; default the one it lists.")]
Api = Annotated[str, typer.Option("--api", help="chat, or completions (plain “Question: … Answer:”).")]
KeyEnv = Annotated[str, typer.Option("--key-env", help="Environment variable that holds the key; default sends none.")]


@app.command()
def run(
    recipe: RecipeArgument, out: OutOption = None, settings: SetOption = None, data: DataOption = None, seed: SeedOption = None
) -> None:
    """Do everything: (finetune,) record, train, audit before and after, report. Interrupted runs go on."""
    with messages():
        _run(recipe, out or Path("runs") / recipe_path(recipe).stem, settings, data, seed)


@app.command()
def demo(out: OutOption = None, settings: SetOption = None, seed: SeedOption = None) -> None:
    """Run the built-in default: the small model that leaks, and its fictitious people."""
    with messages():
        _run("demo", out or Path("runs/demo"), settings, None, seed)


@app.command()
def record(
    recipe: RecipeArgument, out: OutOption = None, settings: SetOption = None, data: DataOption = None, seed: SeedOption = None
) -> None:
    """Write down the questions and what the model answers now. Begins a run folder."""
    with messages(), _watchers() as watchers:
        loaded, folder = _begin(recipe, out, settings, data, seed)
        if loaded.finetune.epochs and not folder.planted.exists():
            runs.run_finetune(loaded, folder, watchers)
        runs.run_record(loaded, folder, watchers)
    _landed(folder.vault)


@app.command()
def finetune(
    recipe: RecipeArgument, out: OutOption = None, settings: SetOption = None, data: DataOption = None, seed: SeedOption = None
) -> None:
    """Plant the corpus in the model, where the recipe says so (as TOFU does). Begins a run folder."""
    with messages(), _watchers() as watchers:
        loaded, folder = _begin(recipe, out, settings, data, seed)
        runs.run_finetune(loaded, folder, watchers)
    _landed(folder.planted)


@app.command()
def train(run: RunArgument) -> None:
    """Unlearn, going on from the last saved round."""
    with messages(), _watchers() as watchers:
        folder = RunFolder(run)
        runs.run_train(folder.recipe(), folder, watchers)
    _landed(folder.checkpoint)


@app.command()
def audit(
    run: RunArgument, which: Which = None, endpoint: Endpoint = None, model: ServedModel = "", api: Api = "chat", key_env: KeyEnv = ""
) -> None:
    """Attack the model before, after and gold with the recipe's probes, or what is deployed at a URL."""
    with messages(), _watchers() as watchers:
        folder = RunFolder(run)
        recipe = folder.recipe()
        if endpoint is not None:
            if which:
                raise ConfigError("--endpoint audits what is deployed, --which the models of the run; give one of them")
            runs.run_endpoint(recipe, folder, EndpointConfig(endpoint, model, api, key_env), watchers)
            _landed(folder.audit_file("endpoint"))
            return
        if model or key_env or api != "chat":
            raise ConfigError("--model, --api and --key-env say how to reach a server; give its URL with --endpoint")
        able = {"before": True, "after": folder.checkpoint.exists(), "gold": recipe.model.gold is not None}
        for one in [which] if which else [name for name in runs.WHICH if able[name]]:
            runs.run_audit(recipe, folder, one, watchers)
    _landed(folder.audit_file("before").parent)


@app.command()
def report(run: RunArgument) -> None:
    """Draw the report from what the other stages left."""
    with messages(), _watchers() as watchers:
        folder = RunFolder(run)
        folder.recipe()
        runs.run_report(folder, watchers)
    _landed(folder.report_html)


def _begin(recipe: str, out: Path | None, settings: list[str] | None, data: str | None, seed: int | None) -> tuple[Recipe, RunFolder]:
    """A run folder that holds the checked recipe."""
    loaded = load_recipe(recipe, settings, seed, data)
    runs.check(loaded)
    folder = RunFolder(out or Path("runs") / recipe_path(recipe).stem)
    runs.open_folder(loaded, folder)
    return loaded, folder


def _run(recipe: str, out: Path, settings: list[str] | None, data: str | None, seed: int | None) -> None:
    folder = RunFolder(out)
    with _watchers() as watchers:
        runs.run(load_recipe(recipe, settings, seed, data), folder, watchers)
    _landed(folder.report_html)


@contextmanager
def _watchers() -> Iterator[runs.Watchers]:
    """A bar per stage on a terminal, a line per tenth of it in a log; on the error stream, and never with secret text."""
    if console.is_terminal:
        with _bars() as watchers:
            yield watchers
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator[runs.Watchers]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        current: list[TaskID] = []

        def finish() -> None:
            for task in current:
                progress.update(task, total=1, completed=1, note="done")

        def stage(name: str) -> None:
            finish()
            current[:] = [progress.add_task(name, total=None, note="")]

        def steps(done: int, total: int, text: str) -> None:
            progress.update(current[0], completed=done, total=total, note=text)

        yield runs.Watchers(stage, steps, lambda text: progress.console.print(text, highlight=False, markup=False, soft_wrap=True))
        finish()


def _lines() -> runs.Watchers:
    shown: list[str | int] = ["", -1]

    def stage(name: str) -> None:
        shown[:] = [name, -1]
        console.print(name, highlight=False)

    def steps(done: int, total: int, text: str) -> None:
        tenth = 10 * done // max(1, total)
        if tenth != shown[1]:
            shown[1] = tenth
            console.print(f"{shown[0]} {done}/{total} {text}", highlight=False)

    return runs.Watchers(stage, steps, lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True))


def _landed(path: Path) -> None:
    print(path)
