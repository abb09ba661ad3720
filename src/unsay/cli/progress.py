"""What a person sees while a stage runs, and where it landed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from unsay.cli.app import console

if TYPE_CHECKING:
    from unsay.run import Watchers


@contextmanager
def watching() -> Iterator["Watchers"]:
    """A bar per stage on a terminal, a line per tenth of it in a log; on the error stream, and never with secret text."""
    if console.is_terminal:
        with _bars() as watchers:
            yield watchers
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator["Watchers"]:
    from unsay.run import Watchers

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

        yield Watchers(stage, steps, lambda text: progress.console.print(text, highlight=False, markup=False, soft_wrap=True))
        finish()


def _lines() -> "Watchers":
    from unsay.run import Watchers

    shown: list[str | int] = ["", -1]

    def stage(name: str) -> None:
        shown[:] = [name, -1]
        console.print(name, highlight=False)

    def steps(done: int, total: int, text: str) -> None:
        tenth = 10 * done // max(1, total)
        if tenth != shown[1]:
            shown[1] = tenth
            console.print(f"{shown[0]} {done}/{total} {text}", highlight=False)

    return Watchers(stage, steps, lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True))


def landed(path: Path) -> None:
    print(path)
