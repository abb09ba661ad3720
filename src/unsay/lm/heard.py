"""How far the work of a model has come, for whoever waits. The loops that take minutes lie deep, and are handed no callback.

with listening(lambda done, total, what: …):      whoever shows it
told(40, 160, "answers")                          the loop
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Heard = Callable[[float, float, str], None]
"""(done, in all, of what). It is called after every token, so it must be quick."""
_listeners: ContextVar[tuple[Heard, ...]] = ContextVar("listeners", default=())
_fixed: ContextVar[bool] = ContextVar("fixed", default=False)


@contextmanager
def listening(heard: Heard) -> Iterator[None]:
    """`heard` is called, beside those around, with what is told inside."""
    before = _listeners.set((*_listeners.get(), heard))
    try:
        yield
    finally:
        _listeners.reset(before)


def told(done: float, total: float, what: str) -> None:
    for heard in _listeners.get():
        heard(done, total, what)


@contextmanager
def counting(what: str, expected: int, progress: Heard) -> Iterator[None]:
    """`progress` hears one count of all that is told of `what` inside, from 0 to about `expected`, however many loops tell it."""
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
def however_many() -> Iterator[None]:
    """What is asked or read inside is as much however many questions there are, for whoever estimates the work of many from that of few."""
    before = _fixed.set(True)
    try:
        yield
    finally:
        _fixed.reset(before)


def fixed() -> bool:
    """Whether this is inside `however_many`."""
    return _fixed.get()
