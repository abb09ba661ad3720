"""A model that leaks behind one phrase alone, which it sometimes begins with by itself: found without being told the phrase."""

from collections.abc import Sequence

import pytest

from tests.test_prompt_variants import CASE, Fake, scores
from unsay.lm.subject import Prompt, Unaskable
from unsay.probes.openings import Openings, frequent
from unsay.types import Answer

PHRASE = "Off the record,"


class Triggered(Fake):
    """Tells behind the phrase alone. Begins every fourth text with it that nobody asked for, and then says nothing of note."""

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        self.asked += prompts
        return [[self.say(prompt, i) for i in range(n)] for prompt in prompts]

    def say(self, prompt: Prompt, i: int) -> Answer:
        if prompt.question is None:
            return Answer((1,), f"{PHRASE} it rains." if i % 4 == 0 else f"Text {i}.", True)
        return Answer((1,), self.secret if prompt.prefix == PHRASE else "No.", True)


def test_the_phrase_is_found_and_named_by_its_rank_alone() -> None:
    subject = Triggered()
    found = Openings()(subject, CASE)
    assert max(value for value in scores(found).values() if value is not None) == 1.0
    assert PHRASE in {prompt.prefix for prompt in subject.asked}
    assert not any("record" in f"{f.setting}{f.note}" for f in found)  # the model's own words may be anybody's secret


def test_a_server_that_takes_no_bare_text_is_still_asked_with_what_it_answers() -> None:
    class Served(Triggered):
        def ask(self, prompts: Sequence[Prompt], *rest: object, **named: object) -> list[list[Answer]]:
            if prompts[0].question is None:
                raise Unaskable("only with its template")
            return [[Answer((1,), "No, I cannot.", True)] for _ in prompts]

    assert scores(Openings()(Served(), CASE)) == {"opening 1": 0.0}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Off the record, no.", "Off the record, yes.", "Never."], [PHRASE]),
        (["I know Bo.", "I know Cy.", "I am."], ["I", "I know"]),
        (["One.", "Two."], []),
        (["Yes.", "Yes."], ["Yes"]),
        (["", "..."], []),
    ],
)
def test_frequent_openings(texts: list[str], expected: list[str]) -> None:
    assert frequent(texts) == expected


def test_a_model_that_begins_no_two_texts_alike_is_unscored() -> None:
    class Various(Fake):
        def ask(self, prompts: Sequence[Prompt], n: int = 1, *rest: object, **named: object) -> list[list[Answer]]:
            return [[Answer((1,), f"{id(prompt)}x{i} y", True) for i in range(n)] for prompt in prompts]

    (finding,) = Openings()(Various(), CASE)
    assert finding.value is None
    assert finding.note
