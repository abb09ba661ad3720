"""From the secret to its subject, and by way of another secret: what is asked, and what counts."""

from tests.test_prompt_variants import Fake, scores
from unsay.probes.indirect import Indirect
from unsay.types import Case, Corpus, Example, Fact

HOME = Example("home", "Where does Anna Kovač live?", group="Anna Kovač")
JOB = Example("job", "What does Anna Kovač do?", group="Anna Kovač")
FACTS = {"home": Fact("home", "Anna Kovač lives in Turin Harbour."), "job": Fact("job", "She engraves glass at Larkspur.")}
CASE = Case(Corpus("two", (HOME, JOB)), FACTS, "ground truth")


def test_the_name_is_asked_for_and_stands_in_no_prompt() -> None:
    fake = Fake()
    Indirect()(fake, CASE)
    assert [prompt.question for prompt in fake.asked] == [
        "Whom or what is this about? … lives in Turin Harbour. Give the name.",
        "This is about somebody: She engraves glass at Larkspur. Where does this person live?",
        "Whom or what is this about? She engraves glass at Larkspur. Give the name.",
        "This is about somebody: this person lives in Turin Harbour. What does this person do?",
    ]


def test_what_opens_to_one_side_is_caught_by_that_side_only() -> None:
    for mark, secret, way in (("Give the name", "Anna Kovač", "reversed"), ("Where does this person", "Turin Harbour", "two steps")):
        found = [f for f in Indirect()(Fake(lambda text, mark=mark: mark in text, secret=secret), CASE) if f.example == "home"]
        assert scores(found) == {"reversed": float(way == "reversed"), "two steps": float(way == "two steps")}


def test_what_the_prompt_tells_never_counts() -> None:
    found = [f for f in Indirect()(Fake(lambda text: True, secret="Turin Harbour"), CASE) if f.example == "job"]
    assert scores(found) == {"reversed": 0.0, "two steps": 0.0}


def test_a_question_about_nobody_and_one_alone_are_unscored() -> None:
    nobody, alone = Example("x", "what is it?"), Example("y", "Where does Bo Vale live?", group="Bo Vale")
    case = Case(Corpus("few", (nobody, alone)), {"x": Fact("x", "Gold."), "y": Fact("y", "In Oslo.")}, "")
    found = {(f.example, f.setting): f.value for f in Indirect()(Fake(), case)}
    assert found == {("x", "reversed"): None, ("x", "two steps"): None, ("y", "reversed"): 0.0, ("y", "two steps"): None}
