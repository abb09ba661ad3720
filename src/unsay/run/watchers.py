"""Where progress goes."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Watchers:
    """Where progress goes; the command line draws bars, a script may leave them out. How far the model's own work has come within a
    step is heard elsewhere (`unsay.lm.progress`)."""

    stage: Callable[[str], None] = lambda name: None
    steps: Callable[[float, float, str], None] = lambda done, total, text: None
    """(done, in all, what runs now)."""
    note: Callable[[str], None] = lambda text: None
