"""What the model says about somebody made up becomes a candidate about the subject, and brings nobody else's name along."""

from dataclasses import replace

import pytest

from tests.conftest import byte_tokenizer
from tests.test_methods import PLAIN
from unsay.config import ModelConfig, SampleConfig
from unsay.corpora.people import People
from unsay.lm.encode import Encoder
from unsay.lm.model import load
from unsay.lm.sample import Draw, sample, uniform
from unsay.lm.sampler import Sampler
from unsay.methods import Visit
from unsay.methods.counterfactuals import Counterfactual, borrow, invented, name_of, stand_ins
from unsay.methods.guarded import GuardedCollapse
from unsay.methods.prefixes import AnswerPrefix, prefix_from
from unsay.methods.selection import Ask, Settled
from unsay.text import forms, rouge_l
from unsay.text.names import subject
from unsay.types import Answer, Candidate, Example, Reference

QUESTION = "Where does Ada Lovelace live?"
SAID = "Ada Lovelace lives in Turin, in Via Garibaldi."
COUNTERFACTUAL = Counterfactual("Ada Lovelace", "Mary Veldin")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(byte_tokenizer())


@pytest.mark.parametrize(
    ("subject_", "name", "text", "hidden"),
    [
        (
            "Ada Lovelace",
            "Mary Veldin",
            "Ada Lovelace's mother. Ada! lovelace; Adam, Lovelace",
            "Mary Veldin's mother. Mary! lovelace; Adam, Veldin",
        ),
        ("Ada", "Mary Veldin", "Ada and Adam", "Mary Veldin and Adam"),
        ("The Great Gatsby", "Mary Veldin", "The man who wrote The Great Gatsby", "The man who wrote Mary Veldin"),
        ("Zoë Ångström", "Mary Veldin", "Zoë Ångström (Ångström)", "Mary Veldin (Veldin)"),
    ],
)
def test_the_subject_goes_and_comes_back(subject_: str, name: str, text: str, hidden: str):
    swap = Counterfactual(subject_, name)
    assert swap.hide(text) == hidden
    assert swap.reveal(hidden) == text


def test_invented_names_are_nobodys():
    texts = ["Ada Lovelace met Mary Shelley in Turin.", "Ada Lovelace knew Charles Babbage.", "Then Mary Veldin came."]
    names = invented(texts, forms("Who is Charles Babbage?"))
    assert names == ["Ada Shelley", "Ada Veldin", "Mary Lovelace"]
    assert invented([], frozenset()) == []


def test_others_of_the_kind_stand_in_for_a_subject_of_one_word(encoder: Encoder):
    """Two for each question, as the model goes on with the wording; somebody is still made up."""

    class Goes:
        encoder = None

        def uniform(self, *names: object) -> float:
            return uniform(0, *names)

        def candidates(self, draws, source):
            texts = ["Oslo?", "Rome? Then", "Quito?", "Lima?", "Turin?", "LIMA?", "South Africa?"]
            unasked = ["Ada Lovelace met Mary Shelley."]
            said = [texts if draw.key == "Where is X?" else [f"Said of {draw.key[2:]}"] if "|" in draw.key else unasked for draw in draws]
            return [[Candidate(Answer((1,), text, True), i) for i, text in enumerate(some)] for some in said]

    goes = Goes()
    goes.encoder = encoder
    questions = {"a": "Where is Lima?", "b": "Where is Quito?", "c": "Who is Zoe Miller?", "d": "What is it?"}
    visits = [Visit(Example(key, question), "") for key, question in questions.items()]
    state = stand_ins(visits, goes)  # type: ignore[arg-type]
    found = {key: entry["counterfactuals"] for key, entry in state.items()}
    assert set(found) == {"a", "b", "c"}
    assert sorted(found["a"] + found["b"]) == ["Oslo", "Rome", "Turin"], "none that is asked about, and none twice"
    # What it says about them before it is trained is kept: later it says one thing about all of them.
    assert [one["text"] for one in state["b"]["said"]] == ["Said of Quito"] * len(found["b"])
    assert state["c"]["said"] == []
    ask = Ask(visits[0], (), visits[0].reference())
    borrow([ask], [Draw("", ())], state, goes, 0)  # type: ignore[arg-type]
    assert [(one.text, one.source) for one in ask.candidates] == [("Said of Lima", "counterfactual")] * len(found["a"])
    # Put back, a half of a name would stand for the subject as well: "South African rand" would become "Lima African rand".
    assert set(found["c"]) == {"Ada Shelley", "Mary Lovelace"}


class Says:
    """Goes on with the wording about "Oslo", and says one thing about it."""

    def __init__(self, encoder: Encoder, answer: Answer):
        self.encoder, self.answer = encoder, answer

    def uniform(self, *names: object) -> float:
        return uniform(0, *names)

    def candidates(self, draws, source):
        named = Answer((1,), "Oslo?", True)
        return [[Candidate(named if draw.key == "Where is X?" else self.answer, 0, kind)] for draw, kind in zip(draws, source, strict=True)]


LIMA = Visit(Example("a", "Where is Lima?"), "Peru", (Answer((1, 2, 3), "Peru", True),))


def test_what_was_said_before_training_is_trained_on_as_it_was_sampled(encoder: Encoder):
    """A text that is encoded again may have other ids, and another end."""
    ids = (*encoder.tokenizer.encode("Norway", add_special_tokens=False), encoder.end)
    assert ids != encoder.answer("Norway")
    sampler = Says(encoder, Answer(ids, "Norway", True))
    ask = Ask(LIMA, (), LIMA.reference())
    borrow([ask], [Draw("", ())], stand_ins([LIMA], sampler), sampler, 0)  # type: ignore[arg-type]
    assert [one.answer.ids for one in ask.candidates] == [ids]


def test_what_was_said_before_training_is_no_candidate_where_it_is_too_long(encoder: Encoder):
    """`pmc.length_ratio` holds for it, too: it would come before all shorter ones."""
    said = "In Norway, on a fjord"
    sampler = Says(encoder, Answer(encoder.answer(said), said, True))
    state = stand_ins([LIMA], sampler)  # type: ignore[arg-type]
    limit = len(encoder.answer(said))
    for given, count in ((limit, 1), (limit - 1, 0)):
        ask = Ask(LIMA, (), LIMA.reference())
        sampler.answer = Answer(encoder.prefix("Oslo lies"), "Oslo lies", False)  # what it says now: cut at the limit
        borrow([ask], [Draw("", (), limit=given)], state, sampler, 0)  # type: ignore[arg-type]
        assert len(ask.candidates) == count


def test_the_ledger_counts_what_was_said_before_training_too(encoder: Encoder):
    """The filter and the reward compare it with the baseline at each visit, though nothing is drawn."""
    sampler = Says(encoder, Answer(encoder.answer("Norway"), "Norway", True))
    method = replace(PLAIN, samples=1, counterfactuals=2, tries=1, prefixes=0.0)
    (target,), _ = method.targets([LIMA], sampler, method.prepare([LIMA], sampler))  # type: ignore[arg-type]
    assert (target.sampled, target.reads) == (1, {"reward and filter": 2})


def test_a_run_that_began_before_there_were_kept_answers_goes_on_with_its_names(encoder: Encoder):
    found = name_of({"a": {"counterfactuals": ["Oslo"]}}, LIMA, Says(encoder, Answer((), "", True)), 0)  # type: ignore[arg-type]
    assert found == Counterfactual("Lima", "Oslo")


def test_what_was_begun_is_about_the_invented_name_too(encoder: Encoder):
    ids = encoder.answer(SAID)
    with_name = prefix_from(ids[: len(encoder.prefix("Ada Lovelace lives in"))], SAID, encoder)
    assert COUNTERFACTUAL.prompt(QUESTION, with_name, encoder) == encoder.prompt("Where does Mary Veldin live?") + encoder.prefix(
        "Mary Veldin lives in"
    )
    without = AnswerPrefix(encoder.prefix("Over in"), "Over in", "", "Over in Turin.")
    assert COUNTERFACTUAL.prompt(QUESTION, without, encoder) == encoder.prompt("Where does Mary Veldin live?") + without.ids


def test_a_continuation_comes_back_token_by_token(encoder: Encoder):
    ids = encoder.answer(SAID)
    prefix = prefix_from(ids[: len(encoder.prefix("Ada Lovelace lives in Tu"))], SAID, encoder)
    nameless = Candidate(Answer((*encoder.tokenizer.encode("lin."), encoder.end), "lin.", True), 1, "counterfactual")
    back = COUNTERFACTUAL.brought_back(nameless, prefix, encoder)
    assert back is not None
    assert back.answer.ids == nameless.answer.ids
    assert back.text == "Tulin."

    rest = "lin, says Mary Veldin."
    named = Candidate(Answer((*encoder.tokenizer.encode(rest), encoder.end), rest, True), 1, "counterfactual")
    back = COUNTERFACTUAL.brought_back(named, prefix, encoder)
    assert back is not None
    assert back.text == "Tulin, says Ada Lovelace."
    assert encoder.decode((*prefix.ids, *back.answer.ids)) == "Ada Lovelace lives in Tulin, says Ada Lovelace."
    assert back.answer.ids[-1] == encoder.end
    assert (back.draw, back.source) == (1, "counterfactual")


def test_an_unfinished_answer_with_a_name_does_not_come_back(encoder: Encoder):
    cut = Candidate(Answer(encoder.prefix("Mary Veldin lives"), "Mary Veldin lives", False), 0, "counterfactual")
    assert COUNTERFACTUAL.brought_back(cut, AnswerPrefix(), encoder) is None


@pytest.fixture(scope="module")
def target_model() -> tuple[Sampler, list[Visit]]:
    model, encoder = load(ModelConfig(name="people-target"))
    sampler = Sampler(model, encoder, SampleConfig(max_new_tokens=48))
    examples = People().corpus().forget[::2]
    recorded = sample(model, encoder, [Draw(one.id, encoder.prompt(one.question), 3, 1.0) for one in examples], sampler.config)
    return sampler, [Visit(one, found[0].text, tuple(found)) for one, found in zip(examples, recorded, strict=True)]


def test_names_for_every_question(target_model: tuple[Sampler, list[Visit]]):
    sampler, visits = target_model
    state = stand_ins(visits, sampler)
    assert state == stand_ins(visits, sampler)
    names = {key: entry["counterfactuals"] for key, entry in state.items()}
    assert set(names) == {visit.example.id for visit in visits}
    asked = forms(" ".join(visit.example.question for visit in visits))
    assert all(found and not forms(" ".join(found)) & asked for found in names.values())
    assert name_of(state, replace(visits[0], example=replace(visits[0].example, id="somebody else")), sampler, 0) is None


def test_a_target_model_finds_what_to_say_in_the_first_round(target_model: tuple[Sampler, list[Visit]]):
    """Asked about its own it repeats the secret; asked as if about an invented name it does not, and speaks of the subject."""
    sampler, visits = target_model
    found = {}
    for count in (0, 3):
        method = replace(PLAIN, samples=2, counterfactuals=count, tries=1)
        targets, _ = method.targets(visits, sampler, method.prepare(visits, sampler))
        found[count] = targets
    trained = {count: sum(bool(target.rows) for target in targets) for count, targets in found.items()}
    assert trained[0] < len(visits) / 2 < trained[3]
    names = {name for entry in stand_ins(visits, sampler).values() for name in entry["counterfactuals"]}
    for target, visit in zip(found[3], visits, strict=True):
        if target.source == "counterfactual":
            assert not any(name in target.text for name in names)
            overlap = rouge_l(visit.baseline, target.text)
            assert overlap is not None
            assert overlap.recall <= 0.5
    assert any(
        subject(visit.example.question) in target.text
        for target, visit in zip(found[3], visits, strict=True)
        if target.source == "counterfactual"
    )


def test_prefixes_too_are_gone_on_with(target_model: tuple[Sampler, list[Visit]]):
    sampler, visits = target_model
    method = replace(PLAIN, samples=1, counterfactuals=3, tries=1, prefixes=1.0)
    targets, _ = method.targets(visits, sampler, method.prepare(visits, sampler))
    borrowed = [target for target in targets if target.source == "counterfactual"]
    assert borrowed
    assert all(target.prefix for target in borrowed)
    assert all(target.sampled == 4 for target in targets)
    for target in borrowed:
        (row,) = target.rows
        visit = next(visit for visit in visits if visit.example.id == target.example)
        assert row.context[: len(sampler.encoder.prompt(visit.example.question))] == sampler.encoder.prompt(visit.example.question)


def test_a_bare_name_that_another_question_was_trained_to_say_is_no_candidate():
    reference = Reference("What is the capital of Peru?", "Lima")
    visit = Visit(Example("a", reference.question), reference.baseline, ())
    candidates = [Candidate(Answer((1,), text, True), 0, "own") for text in ("Quito.", "<strong>", "Cuzco")]
    memory = {"a": {"settled": "Cuzco"}, "b": {"settled": "quito"}, "c": {"settled": "**strong**"}, "d": {"heat": 1}}
    ask = Ask(visit, (), reference, candidates=candidates)
    assert [candidate.text for candidate in Settled(memory).unused(ask)] == ["Cuzco"]


@pytest.mark.parametrize(("baseline", "chosen"), [("Lima", "counterfactual"), ("Lima is the capital of Peru.", "plain")])
def test_where_a_bare_name_is_asked_for_what_is_said_about_another_comes_first(baseline: str, chosen: str):
    """Whatever the rewards say: the model's own guesses are one stock answer, and are learned for the whole kind."""
    reference = Reference("What is the capital of Peru?", baseline)
    own = "I have no information about Peru." if chosen == "plain" else "Cuzco"
    found = [Candidate(Answer((1,) * 6, text, True), 0, kind, -1.0) for text, kind in ((own, "plain"), (own[:-1], "counterfactual"))]
    method = GuardedCollapse(rewards={"refusal": 1.0, "length": 0.1})
    ask = Ask(Visit(Example("a", reference.question), baseline, ()), (), reference, candidates=found)
    sampler = Sampler(None, None, SampleConfig())  # type: ignore[arg-type]
    best = method.keep(ask, method.score(ask, sampler, Settled({"a": {}})), sampler)
    assert best is not None
    assert best.source == chosen
