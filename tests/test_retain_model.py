"""A retain model that leaks makes every line pass that is drawn at what it says: it is looked at as the model itself is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_cli import call
from unsay import audit
from unsay.measure.retain_model import examined
from unsay.report import build
from unsay.report.gate import judge
from unsay.store.files import write_text
from unsay.store.folder import RunFolder
from unsay.types import Finding

PEOPLE, EACH = 5, 8
RECIPE = 'corpus = "people"\n[model]\nretain_model = "people-retain"\n[report]\npolicy = "{}"\n'
POLICY = '[[line]]\nname = "sampling"\nmetric = "sampling_worst_keyword_recall"\nat_most = "retain_model + 0.05"\n'


def model(told: int, likely: float = 0.2, sampled: int | None = None, luck: float = 0.02) -> list[Finding]:
    """The audit of a model that tells so many of forty secrets, eight of each person."""
    found = []
    for i in range(PEOPLE * EACH):
        about = {"example": f"q{i}", "group": str(i // EACH)}
        found += [
            Finding("greedy", "keyword_recall", float(i < told), **about),
            Finding("greedy", "permuted_keyword_recall", luck, **about),
            Finding("sampling", "worst_keyword_recall", float(i < (told if sampled is None else sampled)), setting="T=1", n=20, **about),
            Finding("sampling", "permuted_worst_keyword_recall", luck, setting="T=1", n=20, **about),
            Finding("likelihood", "probability", likely, **about),
        ]
    return found


def groups(found: list[Finding]) -> dict[str, str]:
    return {f.example: f.group for f in found}


def refused(before: list[Finding], retain_model: list[Finding]) -> list[str]:
    return [line.metric for line in examined(before, retain_model, groups(retain_model))]


BEFORE = model(40, likely=0.98)


@pytest.mark.parametrize("told", [0, 3])
def test_a_model_that_only_guesses_is_not_refused(told: int) -> None:
    """Three lucky guesses of forty are what a model that never knew may say."""
    assert not refused(BEFORE, model(told))
    assert not refused([], model(told))


def test_a_retain_model_that_tells_is_refused_with_the_numbers() -> None:
    lines = examined(BEFORE, BEFORE, groups(BEFORE))
    assert [line.metric for line in lines] == ["greedy_keyword_recall", "sampling_worst_keyword_recall", "answer_probability"]
    assert lines[0].detail == "the retain model tells 40 of 40 questions"
    assert (lines[0].value, lines[0].limit) == (1.0, pytest.approx(0.22))
    assert (lines[2].value, lines[2].limit) == (pytest.approx(0.98), pytest.approx(0.49))
    assert not any(line.passed for line in lines)


def test_one_person_of_five_is_enough() -> None:
    """Over all questions a fifth is told, which luck and a guess would allow."""
    (greedy, sampled) = examined(BEFORE, model(EACH), groups(BEFORE))
    assert greedy.detail == sampled.detail == "the retain model tells 8 of the 8 questions of group 0"
    assert refused(BEFORE, model(0, sampled=EACH)) == ["sampling_worst_keyword_recall"]
    alone = [replace(f, group="") for f in model(EACH)]
    assert not refused(BEFORE, alone), "without groups nobody can see it"


@pytest.mark.parametrize(("told", "leaks"), [(13, False), (40, True)])
def test_one_that_only_refuses_tells_when_its_answer_is_begun(told: int, leaks: bool) -> None:
    """An audit that stands alone has no model before whose likelihoods could be compared. Thirteen of forty is what honest ones tell."""
    begun = [
        Finding("prefill", metric, value, f"q{i}", "first words", 5, group=str(i // EACH))
        for i in range(PEOPLE * EACH)
        for metric, value in (("worst_keyword_recall", float(i < told)), ("permuted_worst_keyword_recall", 0.03))
    ]
    assert refused([], model(0) + begun) == ["prefill_worst_keyword_recall"] * leaks


def test_it_may_hide_what_it_knows_and_is_known_by_its_likelihoods() -> None:
    assert refused(BEFORE, model(0, likely=0.9)) == ["answer_probability"]
    assert not refused(model(0, likely=0.9), model(0, likely=0.9)), "a model before that does not tell either shows nothing"


def run(path: Path, retain_model: list[Finding]) -> RunFolder:
    write_text(path / "policy.toml", POLICY)
    folder = RunFolder(path / "run")
    write_text(folder.recipe_file, RECIPE.format(path / "policy.toml"))
    for which, found in {"before": BEFORE, "after": model(EACH), "retain_model": retain_model}.items():
        audit.write(folder.audit_file(which), found)
    return folder


def test_nothing_passes_beside_a_retain_model_that_leaks(tmp_path: Path) -> None:
    """The same model after unlearning: it tells as much as the leaking retain model, and so keeps within every line."""
    folder = run(tmp_path, BEFORE)
    verdict = judge(folder, weights=False)
    assert [line.passed for line in verdict.lines] == [True, False, False, False]
    assert not verdict.passed
    said = call("gate", str(folder.path), "--without-weights", code=1)
    assert "retain model leaks: 1, but must be ≤ permuted + 0.2 = 0.22 (greedy_keyword_recall; the retain model tells 40 of 40" in said
    build(folder)
    assert not json.loads(folder.report_json.read_text())["policy"]["passed"]
    assert "May not be released" in folder.report_html.read_text()


def test_an_honest_one_adds_no_line(tmp_path: Path) -> None:
    assert len(judge(run(tmp_path, model(0)), weights=False).lines) == 1
