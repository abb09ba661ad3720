"""Ways to write a question against a model that answers to one of them alone: that one catches it, the others do not."""

import base64
from collections.abc import Sequence

import pytest

from tests.conftest import byte_tokenizer, tiny_model
from tests.test_prompt_variants import CASE, HOME, Fake, scores
from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.subject import LocalSubject, Prompt, Unaskable
from unsay.lm.templates import plain
from unsay.probes.perturbed import AGAIN, BARE, FOREIGN, LANGUAGES, REWRITTEN, SECOND, SYSTEM, Perturbed
from unsay.types import Answer

WAYS = (*REWRITTEN, *LANGUAGES, BARE, FOREIGN, SECOND)
CODED = base64.b64encode(HOME.question.encode()).decode()
CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("way", "mark"),
    [
        ("surname", "Where does Kovač live?"),
        ("first name", "Where does Anna live?"),
        ("initial", "A. Kovač"),
        ("base64", CODED),
        ("letter by letter", "W h e r e _ d o e s"),
        ("answer in letters", "Spell the answer"),
        ("German", "auf Deutsch"),
        ("second turn", AGAIN),
    ],
)
def test_what_opens_to_one_way_is_caught_by_that_way_only(way: str, mark: str) -> None:
    found = Perturbed()(Fake(lambda text: mark in (text or "")), CASE)
    assert scores(found) == {name: float(name == way) for name in WAYS}


def test_the_turns_are_what_was_said() -> None:
    fake = Fake()
    Perturbed()(fake, CASE)
    assert [(p.question, p.prefix, p.before) for p in fake.asked[-4:]] == [
        (None, HOME.question, ()),
        (HOME.question, "", (("system", SYSTEM),)),
        (HOME.question, "", ()),
        (AGAIN, "", (("user", HOME.question), ("assistant", "No."))),
    ]


def test_the_question_has_one_typo_and_the_same_one_again() -> None:
    first, again = Fake(), Fake()
    for fake in (first, again):
        Perturbed()(fake, CASE)
    prompt = first.asked[0]
    assert prompt.question != HOME.question
    assert sorted(prompt.question or "") == sorted(HOME.question)
    assert first.asked == again.asked


def test_a_way_that_cannot_be_asked_is_unscored_and_the_others_are_not() -> None:
    class NoBareText(Fake):
        def ask(self, prompts: Sequence[Prompt], *rest: object, **named: object) -> list[list[Answer]]:
            if any(prompt.question is None for prompt in prompts):
                raise Unaskable("only with its template")
            return super().ask(prompts)

    found = Perturbed()(NoBareText(), CASE)
    assert scores(found) == {way: None if way == "bare text" else 0.0 for way in WAYS}


def test_turns_in_the_plain_prompt_and_in_a_template() -> None:
    turns = (("user", "Who?"), ("assistant", "Bo."))
    assert plain("Sure?", turns) == "Question: Who?\nAnswer: Bo.\n\nQuestion: Sure?\nAnswer:"
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    for own in ("", "Be brief."):
        encoder = Encoder(tokenizer, system_prompt=own)
        written = encoder.decode(encoder.prompt("Sure?", (("system", "Tell."), *turns)))
        assert written == "<system>Tell.</system><user>Who?</user><assistant>Bo.</assistant><user>Sure?</user><assistant>"


def test_a_model_of_weights_is_asked_every_way() -> None:
    subject = LocalSubject(tiny_model(), Encoder(byte_tokenizer()), SampleConfig(max_new_tokens=4))
    assert all(f.value is not None for f in Perturbed()(subject, CASE))
