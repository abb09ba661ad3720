"""What a person sees while a command works: on the error stream, and never with secret text.

At a terminal a bar for the stage and one for the model's work within it; in a log lines, at every tenth of a stage and now and then.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from unsay.cli.app import console, loudness
from unsay.store.clock import duration

if TYPE_CHECKING:
    from unsay.run import Watchers

_REFRESH = 0.1
_OFTEN, _SELDOM = 10.0, 0.05
"""Least seconds between two lines of a log, and least share of the time so far."""


@contextmanager
def watching() -> Iterator["Watchers"]:
    """Shows what the stages inside tell, and what is told of the model's work (`unsay.lm.progress`)."""
    from unsay.lm.progress import listening
    from unsay.run import Watchers

    if loudness.quiet:
        yield Watchers()
        return
    shown = _Shown()
    with shown.bars, listening(shown.work):
        yield Watchers(shown.stage, shown.steps, shown.note)
        shown.finish()


class _Shown:
    """The bars, or, where there is no terminal, the lines."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _Count(), _Rate(), TimeElapsedColumn())
        more = (TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.fields[note]}"))
        # Without a terminal nothing is drawn; rates and times left are kept all the same. The period: a probe may take an hour.
        self.bars = Progress(*columns, *more, console=console, disable=not console.is_terminal, speed_estimate_period=3600.0)
        self._stage: Task | None = None
        self._work = self._added("", visible=False, whole=int)
        self._begun = self._printed = self._updated = time.monotonic()
        self._tenth = -1

    def stage(self, name: str) -> None:
        self.finish()
        self._stage, self._tenth = self._added(name), -1
        self.bars.remove_task(self._work.id)
        self._work = self._added("", visible=False, whole=int)  # below it
        self._begun = time.monotonic()
        self._line()

    def steps(self, done: float, total: float, text: str) -> None:
        if self._stage is None:
            return
        self.bars.update(self._stage.id, completed=done, total=total or None, note=text)
        self.bars.update(self._work.id, visible=False)
        tenth = int(10 * done // max(1, total))
        if tenth != self._tenth or self._due():
            self._tenth = tenth
            self._line()

    def work(self, done: float, total: float, what: str) -> None:
        now = time.monotonic()
        if now - self._updated < _REFRESH and done < total:
            return
        self._updated, task = now, self._work
        if task.description != f"  {what}" or done < task.completed:
            self.bars.reset(task.id, total=total, description=f"  {what}")
        self.bars.update(task.id, completed=done, total=total, visible=done < total)
        if self._due():
            self._line()

    def note(self, text: str) -> None:
        self.bars.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def finish(self) -> None:
        self.bars.update(self._work.id, visible=False)
        if self._stage is not None:
            self.bars.update(self._stage.id, total=1, completed=1, note="done")

    def _added(self, name: str, visible: bool = True, whole: Callable[[float], int] = ceil) -> Task:
        # A stage counts the step that runs now (`ceil`), the work below it only what is finished (`int`).
        number = self.bars.add_task(name, total=None, note="", visible=visible, whole=whole)
        return next(task for task in self.bars.tasks if task.id == number)

    def _due(self) -> bool:
        now = time.monotonic()
        return now - self._printed >= (1.0 if loudness.verbose else max(_OFTEN, _SELDOM * (now - self._begun)))

    def _line(self) -> None:
        if console.is_terminal:
            return
        self._printed = time.monotonic()
        self.note("; ".join(_described(task) for task in (self._stage, self._work) if task is not None and task.visible))


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.total is None or task.fields["note"] == "done" else _count(task))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_rate(task))


def _described(task: Task) -> str:
    """A task in words."""
    if task.total is None:
        return " ".join(filter(None, (task.description, task.fields["note"])))
    left = task.time_remaining
    head = f"{task.description} {_count(task)}" if task.fields["whole"] is ceil else f"{_count(task)} {task.description.strip()}"
    parts = [f"{head} {task.fields['note']}".strip(), _rate(task), f"about {duration(left)} left" if left else ""]
    return ", ".join(filter(None, parts))


def _count(task: Task) -> str:
    return f"{task.fields['whole'](task.completed):,}/{int(task.total or 0):,}"


def _rate(task: Task) -> str:
    """Per second, or seconds for each where that is more."""
    if not task.speed or task.finished:
        return ""
    return f"{task.speed:.3g}/s" if task.speed >= 1 else f"{1 / task.speed:.3g} s each"
