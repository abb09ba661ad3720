"""Stopping by Ctrl-C or by a scheduler (SIGINT, SIGTERM): the command ends with the exit code that shells expect. Files are written whole,
so stopping anywhere is safe. Training first ends its round (`deferred`); a second signal stops at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from unsay.store import ranks

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_waiting: list[None] = []
"""One entry for every `deferred` block that is open; a list, so that a signal handler may read it at any time."""
_asked: list[int] = []
"""The signal that came while one was open."""


class Interrupted(BaseException):
    """Like `KeyboardInterrupt`: no `except Exception` may keep it."""

    def __init__(self, number: int, where: str = ""):
        super().__init__(number, where)
        self.name, self.where, self.code = signal.Signals(number).name, where, 128 + number


def listen() -> None:
    """Answer signals from here on. Only the main thread may call it."""
    for number in _SIGNALS:
        signal.signal(number, _heard)


def _heard(number: int, frame: FrameType | None) -> None:
    if _waiting and not _asked:
        _asked.append(number)
        if ranks.is_main():
            os.write(2, b"unsay: stopping at the end of this round, which is then saved; once more stops at once\n")
        return
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)  # a third signal ends the process without tidying up
    raise Interrupted(number)


@contextmanager
def deferred() -> Iterator[None]:
    """The first signal waits: for `stop`, or for the end of the block."""
    _waiting.append(None)
    try:
        yield
    finally:
        _waiting.pop()
    if not _waiting:
        stop()


def asked() -> int:
    """The signal that is waiting; 0 where none is."""
    return _asked[0] if _asked else 0


def stop(where: str = "", number: int = 0) -> None:
    """Raise `Interrupted` where a signal is waiting, here or in another process (its `number`); `where`: how far the work has come."""
    if number := number or asked():
        _asked.clear()
        raise Interrupted(number, where)
