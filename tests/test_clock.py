"""A clock that stands still while it is paused, on a time made up here."""

import pytest

from unsay.store import clock
from unsay.store.clock import Clock, Cost


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[Cost]:
    now = [Cost(100.0, 50.0)]
    monkeypatch.setattr(clock, "_now", lambda: now[0])
    return now


def test_it_counts_from_its_making_and_not_what_happens_in_a_pause(time: list[Cost]):
    running = Clock()
    time[0] = Cost(103.0, 54.0)
    assert running.cost() == Cost(3.0, 4.0)
    with running.paused():
        time[0] = Cost(203.0, 104.0)
    time[0] = Cost(204.0, 105.0)
    assert running.cost() == Cost(4.0, 5.0)


def test_it_goes_on_from_what_was_spent_before(time: list[Cost]):
    running = Clock(Cost(10.0, 20.0))
    time[0] = Cost(101.0, 51.0)
    assert running.cost() == Cost(11.0, 21.0)


def test_a_pause_that_ends_in_an_error_costs_nothing_either(time: list[Cost]):
    running = Clock()

    def fail() -> None:
        with running.paused():
            time[0] = Cost(200.0, 200.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert running.cost() == Cost(0.0, 0.0)
