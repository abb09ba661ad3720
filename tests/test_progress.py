"""What is told while a model works: who hears it, and what a log and a terminal show of it."""

import io
import re
import time

import pytest
from rich.console import Console

from tests.conftest import byte_tokenizer, tiny_model
from unsay.cli import progress
from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.progress import counting, listening, report
from unsay.lm.sample import Draw, sample
from unsay.lm.subject import row_logprobs


class Watch:
    """A clock that stands still until it is told."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Watch]:
    Watch.now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: Watch.now)
    return Watch


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> Console:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, get_time=lambda: Watch.now)
    monkeypatch.setattr(progress, "console", console)
    return console


def test_every_answer_and_row_is_told_and_nothing_else_changes():
    model, encoder = tiny_model(), Encoder(byte_tokenizer())
    draws = [Draw(str(i), encoder.prompt(f"Who is {i}?"), n=3, temperature=1.0) for i in range(4)]
    plain = sample(model, encoder, draws, SampleConfig(max_new_tokens=6, rows=6))
    heard: list[tuple[float, float, str]] = []
    with listening(lambda *one: heard.append(one)):
        assert sample(model, encoder, draws, SampleConfig(max_new_tokens=6, rows=6)) == plain
        row_logprobs(model, encoder, [encoder.pair("Who?", "Bo.")] * 40)
    answers = [done for done, total, what in heard if (total, what) == (12, "answers")]
    assert answers == sorted(answers)
    assert {6.0, 12.0} <= set(answers)
    assert [one for one in heard if one[2] == "rows read"] == [(32, 40, "rows read"), (40, 40, "rows read")]
    report(1, 1, "answers")  # to nobody


def test_several_loops_are_one_count():
    heard: list[tuple[float, float]] = []
    with counting("answers", 10, lambda done, total, what: heard.append((done, total))):
        for done, total in ((2, 4), (4, 4), (1, 1), (5, 8), (8, 8)):
            report(done, total, "answers")
        report(1, 2, "rows read")
    assert heard == [(2, 10), (4, 10), (5, 10), (10, 13), (13, 13)]


def test_a_log_has_a_line_for_each_tenth_and_now_and_then_between(clock, monkeypatch: pytest.MonkeyPatch):
    console = shown(monkeypatch, terminal=False)
    with progress.watching() as watchers:
        watchers.stage("audit after")
        for done, probe in enumerate(("greedy", "sampling")):
            watchers.steps(done, 2, probe)
            for answers in range(1, 101):
                clock.now += 0.4
                report(answers, 100, "answers")
        watchers.steps(2, 2, "")
    lines = console.file.getvalue().splitlines()
    assert lines[:2] == ["audit after", "audit after 0/2 greedy"]
    assert lines[-1].startswith("audit after 2/2")
    assert 8 <= len(lines) <= 14, "eighty seconds: a line in ten"
    assert any(re.fullmatch(r"audit after 1/2 sampling(, .*)?; \d+/100 answers, 2\.5/s, about \d.* left", line) for line in lines), lines


def test_a_log_of_hours_does_not_grow_without_end(clock, monkeypatch: pytest.MonkeyPatch):
    console = shown(monkeypatch, terminal=False)
    with progress.watching() as watchers:
        watchers.stage("train")
        for step in range(36000):
            clock.now += 1.0
            watchers.steps(step / 36000, 1000, "loss 1.000")
    assert len(console.file.getvalue().splitlines()) < 130


def test_training_says_which_round_runs_now(clock, monkeypatch: pytest.MonkeyPatch):
    console = shown(monkeypatch, terminal=False)
    with progress.watching() as watchers:
        watchers.stage("train")
        for step in range(1, 7):
            clock.now += 20.0
            watchers.steps(step / 3, 2, "loss 1.000")
    rounds = [line.split()[1] for line in console.file.getvalue().splitlines()[1:]]
    assert rounds == ["1/2", "1/2", "1/2", "2/2", "2/2", "2/2"]
    assert "about 1 min 0 s left" in console.file.getvalue()


def test_a_terminal_has_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch):
    Watch.now = 0.0
    console = shown(monkeypatch, terminal=True)
    monkeypatch.setattr(progress, "_REFRESH", 0.0)
    with progress.watching() as watchers:
        watchers.stage("audit after")
        watchers.steps(1, 4, "sampling")
        for answers in (10, 20, 30):
            Watch.now += 1.0
            report(answers, 80, "answers")
        watchers.note("a note")
        time.sleep(0.5)  # the bars are drawn ten times a second
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert re.search(r"answers +━.* 30/80 +10/s", text), text
    assert "1/4" in text
    assert "sampling" in text
    assert "a note" in text


def test_ask_shows_nothing_where_it_takes_no_time(monkeypatch: pytest.MonkeyPatch):
    console = shown(monkeypatch, terminal=False)
    with progress.watching():
        report(1, 2, "answers")
        report(2, 2, "answers")
    assert console.file.getvalue() == ""
