"""What a stage has cost so far, looking at it left out: methods are compared at equal cost, and an evaluation is no part of one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Seconds: on the wall, and of the process on all of its threads (which another program beside it does not lengthen)."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds - other.seconds, self.cpu_seconds - other.cpu_seconds)


class Clock:
    """Runs from its making on, but for its pauses.

    `before` is what an interrupted stage had cost up to where it goes on.
    """

    def __init__(self, before: Cost | None = None):
        self._begun = _now() - (before or Cost())

    def cost(self) -> Cost:
        return _now() - self._begun

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside costs nothing."""
        stopped = _now()
        try:
            yield
        finally:
            self._begun += _now() - stopped


def _now() -> Cost:
    return Cost(time.perf_counter(), time.process_time())
