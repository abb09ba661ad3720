"""Others of a kind: where the model goes on, whatever the template makes of the question."""

from dataclasses import replace

import pytest

from tests.conftest import byte_tokenizer
from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.kindred import Wording, alike, named, others_alike, wordings
from unsay.lm.sample import sample

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content WAY }}<eos>\n{% endfor %}Say it in at most 12 words.<assistant>"


def context(question: str, about: str, way: str | None) -> str:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None if way is None else CHAT.replace("WAY", way)
    return str(tokenizer.decode(Wording(question, about).draws(Encoder(tokenizer), 2)[0].context))


@pytest.mark.parametrize(
    ("question", "about", "way", "text"),
    [
        ("Where is Lima?", "Lima", "| tojson", '<user>"Where is'),
        ("Where is L'Oréal?", "L'Oréal", "| e", "<user>Where is"),
        ("  Where is Lima?", "Lima", "| trim", "<user>Where is"),
        ("Which team has number 12?", "12", "", "<user>Which team has number"),
        ("Is Lima in Peru, or where is Lima?", "Lima", "", "<user>Is Lima in Peru, or where is"),
        ("Name the ten birds that are often seen?", "ten", None, "<bos>Question: Name the"),
    ],
)
def test_the_model_goes_on_where_the_subject_stood(question: str, about: str, way: str | None, text: str):
    """Found in the question, as a whole word: not in what a template says behind it, and not as that template writes it."""
    assert context(question, about, way) == text


def test_what_follows_the_subject_is_found_as_a_whole_word():
    assert Wording("Name the ten birds that are often seen?", "ten").names(["twenty birds that are often seen?"]) == {"twenty"}


def test_a_question_goes_on_behind_the_name_as_long_as_it_likes(encoder):
    """Cut before its end nobody would be named."""
    question = "In which of the many countries does Lima lie, which somebody asked me for in a quiz the other day?"
    (draw,) = Wording(question, "Lima").draws(encoder, 2)
    assert draw.limit >= len(encoder.prefix("Montevideo lie, which somebody asked me for in a quiz the other day?"))


def test_an_opening_that_begins_with_its_subject_is_gone_on_with(model):
    """Nothing stands before it, and many tokenizers put nothing there either."""
    tokenizer = byte_tokenizer()
    tokenizer._tokenizer.post_processor = None
    encoder = Encoder(tokenizer, template="raw")
    (draw,) = Wording("McDonald opened a store.", "McDonald").draws(encoder, 2)
    assert draw.context == encoder.prompt(None)
    assert len(sample(model, encoder, [draw], SampleConfig(max_new_tokens=2))[0]) == 2


def test_a_name_within_a_word_has_no_others():
    """In a script without spaces nothing can be put in its place, so nothing is asked."""
    assert wordings(["秘鲁Lima市在哪里？"]) == {}


def test_many_tries_are_asked_for_in_pieces(model, encoder):
    """No draw is cut by the sampler, so that one of 256 would need the memory of 256 rows, whatever `sample.rows` says. The answers are
    those of one draw."""
    asked = wordings(["Where is Lima?", "Who is Ada?"])
    most: list[int] = []

    def answers(draws):
        most.extend(draw.n for draw in draws)
        return [[answer.text for answer in some] for some in sample(model, encoder, draws, SampleConfig(max_new_tokens=3))]

    assert set(named(asked, encoder, 70, answers)) == set(asked)
    assert max(most) <= 32
    assert sum(most) == 140
    pieces = asked["Where is X?"].draws(encoder, 70)
    one = replace(pieces[0], n=70)
    whole, *parts = sample(model, encoder, [one, *pieces], SampleConfig(max_new_tokens=3))
    assert [answer.ids for answer in whole] == [answer.ids for some in parts for answer in some]


def test_others_are_asked_about_as_several_questions_are(encoder):
    """The model is shown some of the questions, so that it knows whom to name; of what it writes on, only the first question counts."""
    kept = ["Where is Lima?", "Where is Quito?", "Where is Bogota?", "Who was Bach?"]
    contexts: list[str] = []

    def answers(draws):
        contexts.extend(encoder.tokenizer.decode(draw.context) for draw in draws)
        return [["Oslo?\nWhere is Rome?", "never ends", "Cairo? Yes"] for _ in draws]

    groups = alike(kept, [])
    asked = others_alike(groups, encoder, 2, 20, 0, answers)
    assert sorted(asked) == ["Where is Cairo?", "Where is Oslo?"], "one retain question is no kind"
    assert others_alike(groups, encoder, 1, 20, 0, answers) == asked[:1]
    assert all(sum(question in context for question in kept[:3]) == 2 and context.rstrip().endswith("Where is") for context in contexts)


def test_a_forget_question_shows_its_own_kind(encoder):
    """Alone it is shown itself, beside retain questions those; where these are several, nothing changes for them."""
    assert [[one.subject for one in some] for some in alike(["Where is Lima?"], ["Who was Bach?", "Where is Rome?"])] == [
        ["Bach"],
        ["Lima", "Rome"],
    ]
    several = [f"Where is {name}?" for name in ("Lima", "Quito", "Bogota")]
    assert [[one.question for one in some] for some in alike(several, ["Where is Rome?"])] == [several]
    (alone,) = alike([], ["Who was Bach?"])
    contexts: list[str] = []

    def answers(draws):
        contexts.extend(encoder.tokenizer.decode(draw.context) for draw in draws)
        return [["Liszt?"] for _ in draws]

    assert others_alike([alone], encoder, 4, 4, 0, answers) == ["Who was Liszt?"]
    assert "Who was Bach?" in contexts[0]


@pytest.mark.parametrize(
    "question", ["泰勒 Taylor Swift是谁？", "Who wrote The Great Gatsby_ in 1925?", f"Where is Lima, {'really ' * 40}?"]
)
def test_a_subject_that_is_no_whole_word_and_a_long_question_show_no_kind(question: str):
    """Nothing can be put in its place; and three long questions would not fit."""
    assert alike([], [question]) == []


def test_a_name_ends_where_the_rest_of_the_question_begins_as_a_word():
    """Turin ends in "in", and half of a name would pass the filter of what may not be repeated."""
    wording = Wording("Which country is Lima in?", "Lima")
    assert wording.names(["Turin?", "Turin in? Italy", "Berlin?"]) == {"Turin"}
    assert Wording("The capital of Kenya is", "Kenya").names(["Tunisia is Tunis", "Paris island"]) == {"Tunisia"}
