"""Many forget questions: what is done for each of them does not grow with how many there are. Function calls are counted, not seconds."""

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from unsay.config import ConfigError
from unsay.lm.subject import Prompt
from unsay.methods import Visit
from unsay.methods.selection import Ask, Settled
from unsay.probes.classes import ReferenceJudge
from unsay.probes.greedy import Greedy
from unsay.probes.sampling import Sampling
from unsay.record import annotation
from unsay.record.recorded import Baseline, Recorded
from unsay.record.replay import ReplayFilter
from unsay.report import worst
from unsay.rewards.overlap import other_leak
from unsay.store.files import write_jsonl
from unsay.store.folder import read_findings
from unsay.text import Spread
from unsay.train.data import _visits
from unsay.types import Answer, Case, Corpus, Example, Fact, Finding, Reference

FEW, MANY = 100, 400


def questions(n: int) -> list[Example]:
    """Other ones for every n: what was read before is known."""
    return [Example(f"q{i}", f"Where does Person{n}x{i} Family{n}x{i // 4} live?", group=f"{i // 4}") for i in range(n)]


def answer(i: int, n: int) -> str:
    return f"At {i} Street{n}x{i % 97} in Town{n}x{i}."


class Parrot:
    """Says the fact of the next question."""

    def ask(self, prompts: list[Prompt], n: int = 1, *_: object, **__: object) -> list[list[Answer]]:
        return [[Answer((i, 2), answer(i + 1 if i % 2 else i + 1000, len(prompts)), True)] * n for i in range(len(prompts))]

    def logprobs(self, *_: object) -> None:
        return None

    weights = None


def trained(n: int) -> None:
    forget = tuple(questions(n))
    baseline = {example.id: Baseline(answer(i, n), (Answer((1, 2), answer(i, n), True),), ()) for i, example in enumerate(forget)}
    corpus = Corpus("many", forget)
    visits = _visits(Recorded(corpus, corpus, baseline, ()), {}, ())
    for i, visit in enumerate(visits.values()):
        assert other_leak(answer((i + 1) % n, n), visit.reference()) == 1.0


def settled(n: int) -> None:
    memory: dict[str, dict[str, object]] = {example.id: {} for example in questions(n)}
    now, sampler = Settled(memory), SimpleNamespace(uniform=lambda *_: 0.5)
    for i, example in enumerate(questions(n)):
        ask = Ask(Visit(example, answer(i, n)), (), Reference("", ""))
        assert len(now.elsewhere(ask, sampler)) == min(i, 8)
        now.put(example.id, answer(i, n))
        assert now.left(ask) == []


def audited(n: int) -> None:
    forget = tuple(questions(n))
    case = Case(Corpus("many", forget), {example.id: Fact(example.id, answer(i, n)) for i, example in enumerate(forget)}, "ground truth")
    found = [*Greedy()(Parrot(), case), *Sampling(n=2, temperatures=(1.0,))(Parrot(), case)]
    assert sum(f.metric == "another_fact" and f.value == 1 for f in found) > n / 2


def proposed(n: int) -> None:
    spread = Spread([answer(i, n) for i in range(n)])
    for i, example in enumerate(questions(n)):
        assert annotation._proposal(example, answer(i, n), spread)["spans"]


def guarded(n: int) -> None:
    guard = ReplayFilter([example.question for example in questions(n)], [answer(i, n) for i in range(n)])
    for i in range(n):
        assert not guard.harmless(answer(i, n))
        assert guard.harmless(f"A nearby place{n}x{i}.")


def fitting(n: int) -> None:
    judge = ReferenceJudge(Parrot())
    asked = [example.question for example in questions(n)]
    assert judge.fits(asked, asked, asked) is None


@pytest.mark.parametrize("work", [trained, settled, audited, proposed, guarded, fitting])
def test_the_work_for_a_question_does_not_grow_with_their_number(work: Callable[[int], None]) -> None:
    work(3)  # what is made once
    assert calls(work, MANY) < 1.15 * MANY / FEW * calls(work, FEW)


def calls(work: Callable[[int], None], n: int) -> int:
    count = 0

    def heard(frame: object, event: str, _: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(heard)
    try:
        work(n)
    finally:
        sys.setprofile(None)
    return count


def test_the_report_names_the_worst_and_counts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worst, "MOST", 3)
    found = [Finding("greedy", "keyword_recall", i / 10, f"q{i}") for i in range(10)]
    named, scored = worst.leaking(SimpleNamespace(findings={"after": found}))
    assert ([one.example for one in named], scored) == (["q9", "q8", "q7"], 10)


def test_files_are_written_row_by_row_and_equal_texts_are_read_once(tmp_path: Path) -> None:
    path, text = tmp_path / "findings.jsonl", "x" * 200
    small, large = (peak(lambda n=n: write_jsonl(path, ({"note": f"{i}{text}"} for i in range(n)))) for n in (5_000, 20_000))
    assert large < 1.2 * small
    write_jsonl(path, (asdict(Finding("greedy", f"metric {i % 30}", i % 7 / 7, f"question {i // 30}", note=text)) for i in range(30_000)))
    found = read_findings(path)
    assert len({id(one.note) for one in found}) == 1
    assert peak(lambda: read_findings(path)) < 300 * len(found)


def test_findings_whose_place_cannot_be_looked_at_are_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_findings(tmp_path / ("x" * 300))


def peak(work: Callable[[], object]) -> int:
    """Bytes at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
