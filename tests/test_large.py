"""Many forget questions: what is done for each of them does not grow with how many there are. Function calls are counted, not seconds."""

import copy
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from zlib import decompress as zlib_decompress

import pytest
import torch

from unsay import packed
from unsay.config import ConfigError
from unsay.lm import subject
from unsay.lm.sample import uniform
from unsay.lm.subject import Prompt
from unsay.methods import Visit
from unsay.methods.selection import Ask, Settled
from unsay.metric import Metric, by_question
from unsay.packed import Packed, PackedMap, PackedRows, Places
from unsay.probes import classes
from unsay.probes.classes import ReferenceJudge
from unsay.probes.greedy import Greedy
from unsay.probes.sampling import Sampling
from unsay.probes.scoring import known
from unsay.record import annotation
from unsay.record.recorded import Baseline, Recorded
from unsay.record.replay import ReplayFilter
from unsay.report import worst
from unsay.report.bounds import Bound
from unsay.rewards.overlap import other_leak
from unsay.store.files import write_json, write_jsonl
from unsay.store.folder import read_findings
from unsay.text import Spread
from unsay.train.data import _visits
from unsay.types import Answer, Case, Corpus, Example, Fact, Finding, Pair, Reference

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


class Reader(Parrot):
    """Finds a text likeliest behind itself."""

    def logprobs(self, asked: list[str], texts: list[str]) -> list[torch.Tensor]:
        return [torch.full((2,), -float(question != text)) for question, text in zip(asked, texts, strict=True)]


def trained(n: int) -> None:
    forget = tuple(questions(n))
    baseline = {example.id: Baseline(answer(i, n), (Answer((1, 2), answer(i, n), True),), ()) for i, example in enumerate(forget)}
    corpus = Corpus("many", forget)
    visits = _visits(Recorded(corpus, corpus, baseline, ()), {}, (), ())
    for i, visit in enumerate(visits.values()):
        assert other_leak(answer((i + 1) % n, n), visit.reference()) == 1.0


def settled(n: int) -> None:
    memory: dict[str, dict[str, object]] = {example.id: {} for example in questions(n)}
    now, sampler = Settled(memory), SimpleNamespace(uniform=lambda *_: 0.5)
    for i, example in enumerate(questions(n)):
        ask = Ask(Visit(example, answer(i, n)), (), Reference("", ""))
        assert len(now.said_by_others(ask, sampler)) == min(i, 8)
        now.put(example.id, answer(i, n))
        assert now.unused(ask) == []


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
    guard = ReplayFilter([(example.question, answer(i, n)) for i, example in enumerate(questions(n))])
    for i in range(n):
        assert not guard.harmless(answer(i, n))
        assert guard.harmless(f"A nearby place{n}x{i}.")


def fitting(n: int) -> None:
    judge = ReferenceJudge(Reader())
    asked = [example.question for example in questions(n)]
    assert all(judge.fits(asked, asked))


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


def measured(n: int) -> Iterator[Finding]:
    for i in range(n):
        for metric in range(12):
            yield Finding(
                "greedy", f"metric {metric}", i % 7 / 7 if metric else None, f"question {i}", note="ground truth", group=f"{i // 4}"
            )


def test_packed_findings_are_the_same_and_take_a_few_bytes_each() -> None:
    found, packed = [*measured(300)], Packed(measured(300))
    assert packed == found
    assert [*packed.kind("greedy", "metric 3")] == [one for one in found if one.metric == "metric 3"]
    assert {*packed.scored()} == {one for one in found if one.value is not None}
    assert len(packed.scored()) == 300 * 11
    metric = Metric("greedy_m", "", "", finding="metric 3", probe="greedy")
    assert by_question(metric, packed) == by_question(metric, found) == {("", f"question {i}"): i % 7 / 7 for i in range(300)}
    few, many = (peak(lambda n=n: Packed(measured(n))) for n in (2_000, 12_000))
    assert many - few < 10_000 * 600, "twelve findings as objects take three times that"


def test_what_was_measured_twice_is_found_whatever_lies_between(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    write_jsonl(path, map(asdict, [*measured(1_000), Finding("greedy", "metric 7", 0.0, "question 30")]))
    with pytest.raises(ConfigError, match=r"line 12001: this was measured on an earlier line"):
        read_findings(path)


def test_json_is_written_piece_by_piece(tmp_path: Path) -> None:
    def bounds(n: int) -> dict[str, object]:
        return {"bounds": [Bound(f"question {i}", "T=1", 100, i % 3, 0.1, 0.2, None, (0.1, 0.2, 0.3)) for i in range(n)]}

    path, held = tmp_path / "report.json", bounds(8_000)
    write_json(path, held, Bound.as_json)
    plain = {"bounds": [one.as_json() for one in bounds(8_000)["bounds"]]}  # type: ignore[attr-defined]
    assert path.read_text() == json.dumps(plain, indent=1) + "\n"
    assert peak(lambda: write_json(path, held, Bound.as_json)) < path.stat().st_size / 2


def test_where_answers_are_kept_takes_few_bytes_and_the_newest_counts() -> None:
    places = Places()

    def put(keys: Iterable[int], start: int) -> None:
        for key in keys:
            places.put(f"key {key}", start + key)

    put(range(100_000), 0)
    plain = peak(lambda: {f"key {key}": (key, key) for key in range(1_000_000, 1_100_000)})
    assert peak(lambda: put(range(100_000, 200_000), 0)) < plain / 2
    put(range(5), 1_000_000)
    assert [places.get(f"key {key}") for key in (0, 4, 5, 199_999, 200_000)] == [1_000_000, 1_000_004, 5, 199_999, None]


def test_many_questions_are_asked_in_parts_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(Parrot):
        most = 0

        def ask(self, prompts: list[Prompt], n: int = 1, *given: object, **named: object) -> list[list[Answer]]:
            self.most = max(self.most, len(prompts))
            number = {f"q{i}": i for i in range(30)}
            return [[Answer((number[one.key], 2), answer(number[one.key] // 2, 30), True)] * n for one in prompts]

    forget = tuple(questions(30))
    facts = {example.id: Fact(example.id, answer(i, 30)) for i, example in enumerate(forget)}
    found = []
    for size in (1024, 7):
        monkeypatch.setattr(subject, "AT_ONCE", size)
        model, case = Counting(), Case(Corpus("many", forget), facts, "ground truth")
        found.append([*Greedy()(model, case), *Sampling(n=2, temperatures=(0.5, 1.0))(model, case)])
        assert model.most == min(size, 30)
    assert found[0] == found[1]


def test_packed_rows_are_the_same_rows_in_little_room() -> None:
    asked = questions(3000)
    rows = PackedRows(asked)
    assert rows == asked
    assert (len(rows), rows[1023], rows[1024], rows[-1], rows[1020:1030]) == (3000, asked[1023], asked[1024], asked[-1], asked[1020:1030])
    with pytest.raises(IndexError):
        rows[3000]
    rows.append(asked[0])
    assert rows == [*asked, asked[0]]
    by_id = PackedMap((one.id, one) for one in asked)
    assert ([*by_id], by_id["q2999"], by_id.get("q3000"), "q0" in by_id) == ([one.id for one in asked], asked[-1], None, True)
    held = held_by(lambda: PackedMap((one.id, one) for one in questions(6144)))
    assert held < 100 * 6144, "three or four hundred bytes each, as they are"


def test_who_jumps_about_in_packed_rows_unpacks_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that do not sort in the order of their questions, or a corrected file in another order: a part for each row would take hours."""
    rows, unpacked = PackedRows(questions(20 * 1024)), list[int]()
    monkeypatch.setattr(packed.zlib, "decompress", lambda part: (unpacked.append(1), zlib_decompress(part))[1])
    places = sorted(range(len(rows)), key=lambda place: uniform(0, place))
    assert [rows[place].id for place in places] == [f"q{place}" for place in places]
    assert len(unpacked) <= 3 * 20


def test_packed_rows_are_found_in_another_process() -> None:
    """Hashes of texts are others there."""
    sent = "import pickle, sys; from unsay.packed import PackedMap; sys.stdout.buffer.write(pickle.dumps(PackedMap([('a', 1), ('b', 2)])))"
    read = "import pickle, sys; print(pickle.load(sys.stdin.buffer)['b'])"
    told = b""
    for seed, code in enumerate((sent, read)):
        env = {**os.environ, "PYTHONHASHSEED": str(seed)}
        told = subprocess.run([sys.executable, "-c", code], input=told, capture_output=True, check=True, env=env).stdout
    assert told.strip() == b"2"
    case = Case(Corpus("one", questions(1)), {"q0": Fact("q0", "In Turin.")}, "")
    assert known(case)
    assert vars(pickle.loads(pickle.dumps(case))).keys() == {one.name for one in fields(case)} < vars(case).keys()


def test_an_audit_finds_the_same_of_packed_questions() -> None:
    n = 1100
    forget = questions(n)
    facts = {one.id: Fact(one.id, answer(i, n)) for i, one in enumerate(forget)}
    case = Case(Corpus("many", forget, retain=(Pair("r", "Where is it?", "In a town."),)), facts, "", judge=ReferenceJudge(Reader()))
    packed = replace(case, corpus=replace(case.corpus, forget=PackedRows(forget)), facts=PackedMap(facts.items()))
    for probe in (Greedy(), Sampling(n=2, temperatures=(1.0,))):
        assert [*probe(Parrot(), packed)] == [*probe(Parrot(), case)]


def test_freed_memory_goes_back_between_parts_of_many_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the gaps that each part leaves add up; a step of training is no such part."""
    given = list[int]()
    monkeypatch.setattr(subject, "trim", lambda: given.append(1))
    assert (len([*subject.parts(range(3000))]), len(given)) == (3, 2)
    assert (len([*subject.parts(range(3000), 8)]), len(given)) == (375, 2)
    forget = questions(1100)
    case = Case(Corpus("many", forget), {one.id: Fact(one.id, answer(i, 1100)) for i, one in enumerate(forget)}, "")
    when, ask = list[int](), Parrot.ask
    monkeypatch.setattr(Parrot, "ask", lambda *asked, **how: when.append(len(given)) or ask(*asked, **how))
    assert [*Sampling(n=1, temperatures=(0.7, 1.0))(Parrot(), case)]
    assert when == [2, 3, 3, 4]


def test_a_judge_reads_a_thousand_rows_at_once_and_gives_back_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, given = list[int](), list[int]()
    read = Reader.logprobs
    monkeypatch.setattr(Reader, "logprobs", lambda self, asked, texts: rows.append(len(texts)) or read(self, asked, texts))
    monkeypatch.setattr(classes, "trim", lambda: given.append(1))
    asked = [example.question for example in questions(1100)]
    assert all(ReferenceJudge(Reader()).fits(asked, asked))
    assert (sum(rows), max(rows) <= 1024, len(given)) == (9 * 1100, True, 10)


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


def held_by(made: Callable[[], object]) -> int:
    """Bytes of what is made, without what was needed to make it."""
    tracemalloc.start()
    try:
        left = made()
        held, _ = tracemalloc.get_traced_memory()
        del left
        return held - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_packed_findings_can_be_copied_and_those_scored_asked_for_by_probe() -> None:
    values = (0.5, None, 0.0, 1.0)
    found = [Finding(probe, metric, value, f"q{i}") for i, value in enumerate(values) for probe in "ab" for metric in "mk"]
    packed = Packed(found)
    assert pickle.loads(pickle.dumps(packed)) == copy.deepcopy(packed) == packed
    scored = packed.scored()
    assert pickle.loads(pickle.dumps(scored)) == scored
    assert [*scored.probe("b")] == [f for metric in "mk" for f in found if (f.probe, f.metric) == ("b", metric) and f.value is not None]
