"""Where progress goes."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Watchers:
    """Where progress goes; the command line draws bars, a script may leave them out."""

    stage: Callable[[str], None] = lambda name: None
    steps: Callable[[int, int, str], None] = lambda done, total, text: None
    note: Callable[[str], None] = lambda text: None
