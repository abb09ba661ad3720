"""How far the work of a model has come, for whoever waits. The loops that take minutes lie deep, and are handed no callback.

with listening(lambda done, total, what: …):      whoever shows it
report(40, 160, "answers")                        the loop
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[float, float, str], None]
"""(done, in all, of what). It is called after every token, so it must be quick."""
_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())
_fixed: ContextVar[bool] = ContextVar("fixed", default=False)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """`listener` is called, beside those around, with what is reported inside."""
    before = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(before)


def report(done: float, total: float, what: str) -> None:
    for listener in _listeners.get():
        listener(done, total, what)


@contextmanager
def counting(what: str, expected: int, progress: Listener) -> Iterator[None]:
    """`progress` hears one count of all that is reported of `what` inside, from 0 to about `expected`, however many loops report it."""
    before, last, ended = 0.0, 0.0, False

    def count(done: float, total: float, of: str) -> None:
        nonlocal before, last, ended
        if of != what:
            return
        before += last if ended else 0.0
        last, ended = done, done >= total
        progress(before + done, max(expected, before + total), what)

    with listening(count):
        yield


@contextmanager
def fixed_work() -> Iterator[None]:
    """The work inside is the same however many questions there are. Whoever estimates the work of many questions from that of few asks
    `is_fixed`."""
    before = _fixed.set(True)
    try:
        yield
    finally:
        _fixed.reset(before)


def is_fixed() -> bool:
    """Whether this is inside `fixed_work`."""
    return _fixed.get()
