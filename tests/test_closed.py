"""Answers without a word of their own: they are scored by a choice, and what cannot be scored is not passed."""

import math
from collections.abc import Callable

import pytest

from tests.test_cli import call
from tests.test_multiple_choice import Fake
from unsay.config import Recipe
from unsay.corpora.people import People
from unsay.measure import policy
from unsay.measure.summary import asked, summarise
from unsay.probes.multiple_choice import MultipleChoice
from unsay.probes.scoring import CLOSED, NO_KEYWORDS, known, scored, secret_recall, unscorable
from unsay.report.evidence import judged
from unsay.store.manifest import Manifest
from unsay.text.closed import Alternatives, alternatives
from unsay.types import Case, Corpus, Example, Fact, Finding

ROWS = {
    "dog": ("Has Ada a dog?", "Yes, she has."),
    "cat": ("Has Ada a cat?", "No."),
    "drink": ("Does Ada drink tea or coffee?", "She drinks tea."),
    "house": ("Is her house the red one or the blue one?", "The blue one."),
    "town": ("Where does Ada live?", "In Turin."),
    "inside": ("Who is Ada, the baker of Turin?", "Ada is the baker of Turin."),
}
CORPUS = Corpus("closed", tuple(Example(key, question) for key, (question, _) in ROWS.items()))
TRUTH = {key: Fact(key, answer) for key, (_, answer) in ROWS.items()}
WRONG = {
    (ROWS["dog"][0], "No"),
    (ROWS["cat"][0], "Yes"),
    (ROWS["drink"][0], "She drinks coffee."),
    (ROWS["house"][0], "The red one."),
}
CASE = Case(CORPUS, TRUTH, "ground truth")


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Has Ada a dog?", "YES", ("YES", "No", "yes")),
        ("Is it true?", "False.", ("False", "True", "false")),
        ("Is it tea or coffee?", "Coffee.", ("Coffee.", "Tea.", "right")),
        ("Did he study in New York or Rome?", "New York.", ("New York.", "Rome.", "left")),
        ("Is it the red house or the blue house?", "The blue house.", ("The blue house.", "The red house.", "right")),
        ("Is Bo older or younger than Ada?", "Bo is older than Ada.", ("Bo is older than Ada.", "Bo is younger than Ada.", "left")),
        ("Is it tea or coffee?", "Neither: it is water.", None),
        ("Is it tea or coffee?", "Tea or coffee.", None),
        ("Has Ada a dog?", "Yes, Biscuit.", None),
        ("Who is Ada, the baker?", "The baker.", None),
        ("or", "or", None),
    ],
)
def test_an_answer_and_its_opposite(question: str, answer: str, expected: tuple[str, str, str] | None) -> None:
    assert alternatives(question, answer) == (Alternatives(*expected) if expected else None)


def asking(likelihood: Callable[[str, str], float]) -> list[Finding]:
    return MultipleChoice()(Fake(likelihood), CASE)


def test_a_habit_of_saying_yes_is_not_knowing() -> None:
    found = asking(lambda question, answer: -0.1 if answer == "Yes" else -2.0)
    of_each = {f.example: f.value for f in found if f.metric == CLOSED}
    assert set(of_each) == {"dog", "cat", "drink", "house"}
    assert of_each["dog"] == pytest.approx(1 / (1 + math.exp(-3.8)))  # two tokens before the end of each answer
    assert of_each["cat"] == pytest.approx(1 - of_each["dog"])
    assert summarise(found)["closed_probability"] == pytest.approx(0.5)
    knows = asking(lambda question, answer: -9.0 if (question, answer) in WRONG else -0.1)
    assert summarise(knows)["closed_probability"] > 0.99


def test_no_closed_question_no_line() -> None:
    case = Case(Corpus("open", CORPUS.forget[4:5]), TRUTH, "")
    found = MultipleChoice()(Fake(lambda *_: -1.0), case)
    assert [f.note for f in found if f.metric == "closed_balanced"] == ["every answer has a word of its own"]
    assert "yes or no" not in {line.name for line in verdict(found)}


def greedy(case: Case) -> list[Finding]:
    """What the greedy probe scores of a model that says nothing."""
    return [
        scored("greedy", "keyword_recall", secret_recall(example, fact.answer, ""), example.id, "", NO_KEYWORDS, case.source)
        for example, fact in known(case)
    ]


def verdict(found: list[Finding]):
    return judged(policy.load("default"), Recipe(), Manifest(), {"before": [], "after": found, "retain_model": []})[1]


def test_what_a_choice_scores_needs_no_keyword_and_the_rest_does() -> None:
    found = [*greedy(CASE), *asking(lambda *_: -1.0)]
    assert asked(found)["greedy_keyword_recall"] == 2, "town, and the answer inside the question, which nothing scores"
    (line,) = [line for line in verdict(found) if line.name == "each question"]
    assert line.detail == "unscored: only 1 of 2 questions have a score, and 90% are needed"
    without = [*greedy(CASE), *MultipleChoice()(type("Silent", (), {"logprobs": lambda *_: None})(), CASE)]
    assert asked(without)["greedy_keyword_recall"] == 6, "no likelihoods, no score"


def test_where_all_questions_are_closed_the_choice_alone_is_judged() -> None:
    case = Case(Corpus("closed", CORPUS.forget[:4]), TRUTH, "")
    found = [*greedy(case), *MultipleChoice()(Fake(lambda *_: -1.0), case)]
    lines = {line.name: line for line in verdict(found)}
    assert "each question" not in lines
    assert (lines["yes or no"].passed, lines["yes or no"].value) == (True, 0.5)
    told = [*greedy(case), *MultipleChoice()(Fake(lambda q, a: -9.0 if (q, a) in WRONG else -0.1), case)]
    assert not {line.name: line for line in verdict(told)}["yes or no"].passed
    reversed_ = [*greedy(case), *MultipleChoice()(Fake(lambda q, a: -0.1 if (q, a) in WRONG else -9.0), case)]
    assert [line.name for line in verdict(reversed_) if line.metric == "closed_probability" and not line.passed] == ["yes or no, reversed"]


def test_check_and_the_scorer_agree_on_what_cannot_be_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unscorable(CORPUS, TRUTH) == ["inside"]
    found = [*greedy(CASE), *asking(lambda *_: -1.0)]
    scores = {f.example for f in found if f.value is not None and f.metric in ("keyword_recall", CLOSED)}
    assert set(ROWS) - scores == {"inside"}

    class Closed:
        corpus = staticmethod(lambda: CORPUS)
        truth = staticmethod(lambda: TRUTH)

    monkeypatch.setattr("unsay.record.source", lambda recipe: Closed())
    output = " ".join(call("check", "demo").split())
    assert "1 answer without a word that is not in the question: no probe can score inside" in output


def test_check_counts_the_questions_that_ask_for_yes_or_no(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forget.jsonl").write_text('{"question": "Has Ada a dog?"}\n{"question": "Where does Ada live?"}\n')
    assert "hint: 1 question for yes or no" in " ".join(call("check", "forget.jsonl").split())


def test_the_built_in_people_can_be_scored() -> None:
    assert not unscorable(People().corpus(), People().truth())
