"""Answers about what should stay: what an audit may write outside of the vault, and what never."""

import dataclasses
from collections.abc import Sequence

import pytest

from unsay.config import Recipe, load
from unsay.corpora import general
from unsay.lm.subject import Prompt
from unsay.run.kept import answers as kept_answers
from unsay.types import Answer, Case, Corpus, Example, Fact, Finding, Pair

OURS = general.load()[:3]
MINE = Pair("retain-0", "When does the town hall open?", "The town hall opens at nine.")
FORGET = Example("f0", "Where does Jane Roe live?", strings=("Elm Street",))


class Parrot:
    """Says one thing to everybody."""

    weights = None

    def __init__(self, text: str) -> None:
        self.text = text

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        return [[Answer((1,), self.text, True)] for _ in prompts]

    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> None:
        return None


CASE = Case(
    Corpus("files", (FORGET,), utility_heldout={"general": OURS, "retain": (MINE,)}),
    {"f0": Fact("f0", "Jane Roe lives at 14 Elm Street in Turin.")},
    "ground truth",
)
FINDINGS = [
    Finding("utility", "rouge_l_recall", 1.0, pair.id, f"heldout:{name}")
    for name, some in CASE.corpus.utility_heldout.items()
    for pair in some
]


def recipe(*settings: str) -> Recipe:
    return load(None, ["corpus=files", *settings])


def shown(text: str, *settings: str, findings: Sequence[Finding] = FINDINGS) -> list[str]:
    rows = kept_answers(Parrot(text), CASE, recipe(*settings), findings)
    return [row["id"] for row in rows if "said" in row]


def test_only_public_questions_unless_the_operator_says_so() -> None:
    ours = [pair.id for pair in OURS]
    assert shown("It is nine.") == ours
    assert shown("It is nine.", "report.show_kept=true") == [*ours, "retain-0"]
    assert shown("It is nine.", findings=FINDINGS[:1]) == ours[:1], "only what utility has measured"


def test_rows_of_a_public_corpus_are_shown() -> None:
    assert len(shown("It is nine.", "corpus=people")) == 4


@pytest.mark.parametrize("text", ["He lives in Elm Street.", "She is in Turin, at 14.", "Ask Jane Roe."], ids=["named", "told", "subject"])
def test_an_answer_that_touches_a_secret_is_counted_and_not_written(text: str) -> None:
    rows = kept_answers(Parrot(text), CASE, recipe("report.show_kept=true"), FINDINGS)
    assert rows == [{"id": pair.id} for pair in (*OURS, MINE)]


def test_secrets_of_earlier_requests_are_secrets() -> None:
    asked = Corpus("earlier", (Example("e0", "Whom did John Doe marry?"),))
    met = dataclasses.replace(CASE, corpus=asked, facts={"e0": Fact("e0", "Zoe Quill")})
    rows = kept_answers(Parrot("Zoe Quill"), dataclasses.replace(CASE, earlier={"request 1": met}), recipe(), FINDINGS)
    assert not any("said" in row for row in rows)
