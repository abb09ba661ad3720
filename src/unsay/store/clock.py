"""The time, and what a stage has cost so far, looking at it left out: methods are compared at equal cost, and an evaluation is no part of
one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Cost:
    """Seconds: on the wall, and of the process on all of its threads (which another program beside it does not lengthen)."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds - other.seconds, self.cpu_seconds - other.cpu_seconds)


def now() -> str:
    """The time as the manifest has it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def duration(seconds: float) -> str:
    """Seconds for a reader.

    >>> duration(4.2), duration(42.4), duration(90), duration(8000)
    ('4.2 s', '42 s', '1 min 30 s', '2 h 13 min')
    """
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Clock:
    """A stopwatch that starts when it is made and can be paused. `before`: what a stage that goes on had cost when it was interrupted."""

    def __init__(self, before: Cost | None = None):
        self._begun = _now() - (before or Cost())

    def cost(self) -> Cost:
        return _now() - self._begun

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is not counted."""
        stopped = _now()
        try:
            yield
        finally:
            self._begun += _now() - stopped


def _now() -> Cost:
    return Cost(time.perf_counter(), time.process_time())
