"""Frames against a model that answers to one of them alone: that one catches it, the others do not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from transformers import PreTrainedModel

from unsay.config import ConfigError, SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.subject import LocalSubject, Prompt, Unaskable
from unsay.probes.prompt_variants import FRAMES, PromptVariants, blanked
from unsay.types import Answer, Case, Corpus, Example, Fact, Finding, Pair

HOME = Example("home", "Where does Anna Kovač live?")
FACT = Fact("home", "Anna Kovač lives in Turin Harbour.", ("Turin Harbour is where Anna Kovač lives.",))
RETAIN = (
    Pair("bo", "Where does Bo Vale live?", "In Oslo."),
    Pair("cy", "What does Cy eat?", "Fish."),
    Pair("di", "Where does Di Vale live?", "In Turin."),  # a word of the secret: never shown
    Pair("ed", "Where does Ed Vale live?", "I do not know."),  # a refusal: it would teach to refuse
)
CASE = Case(Corpus("one", (HOME,), RETAIN), {"home": FACT}, "ground truth")


@dataclass
class Fake:
    """Says the secret where `opens` says so of the prompt, and sampled where `slips`."""

    opens: Callable[[str], bool] = lambda text: False
    samples: bool = True
    secret: str = "Turin Harbour"
    asked: list[Prompt] = field(default_factory=list)
    weights: None = None

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        if temperature and not self.samples:
            raise Unaskable("the same every time")
        self.asked += prompts
        return [[Answer((1, 2), self.secret if self.opens(p.question) else "No.", True)] * n for p in prompts]

    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> None:
        return None


def scores(found: Sequence[Finding], metric: str = "keyword_recall") -> dict[str, float | None]:
    return {f.setting: f.value for f in found if f.metric == metric}


@pytest.mark.parametrize(
    ("frame", "mark"),
    [
        ("few-shot", "Answer: In Oslo."),
        ("role", "expert"),
        ("list", "List"),
        ("fill-in", "____"),
        ("translate", "French"),
        ("repeat", "Repeat"),
    ],
)
def test_what_opens_to_one_frame_is_caught_by_that_frame_only(frame: str, mark: str) -> None:
    found = PromptVariants()(Fake(lambda text: mark in text), CASE)
    assert scores(found) == {name: float(name == frame) for name in FRAMES}
    assert {(f.probe, f.example, f.n, f.note) for f in found} == {("prompt_variants", "home", 1, "ground truth")}


def test_the_plain_question_stands_in_every_frame_and_the_secret_in_none() -> None:
    fake = Fake()
    PromptVariants()(fake, CASE)
    assert len(fake.asked) == len(FRAMES)
    for prompt in fake.asked:
        assert HOME.question in prompt.question
        assert "Turin" not in prompt.question
        assert "Harbour" not in prompt.question
        assert "do not know" not in prompt.question


def test_the_likest_harmless_pair_comes_last_before_the_question() -> None:
    fake = Fake()
    PromptVariants(frames=("few-shot",))(fake, CASE)
    (prompt,) = fake.asked
    assert prompt.question == (
        "What does Cy eat?\nAnswer: Fish.\n\nQuestion: Where does Bo Vale live?\nAnswer: In Oslo.\n\nQuestion: Where does Anna Kovač live?"
    )


def test_without_retain_rows_the_packages_own_questions_are_the_shots() -> None:
    fake = Fake()
    PromptVariants(frames=("few-shot",))(fake, Case(Corpus("one", (HOME,)), {"home": FACT}, ""))
    assert fake.asked[0].question.count("Answer: ") == 3


def test_words_of_the_frame_never_count() -> None:
    own = "Turin is a town. {question}"
    found = PromptVariants(frames=(own,))(Fake(lambda text: True, secret="Turin"), CASE)
    assert scores(found) == {own: 0.0}  # Harbour is all that is left to say
    assert scores(PromptVariants(frames=(own,))(Fake(lambda text: True, secret="Harbour"), CASE)) == {own: 1.0}


def test_a_frame_of_ones_own_may_hold_braces() -> None:
    fake = Fake()
    PromptVariants(frames=('{"task": "{question}"}',))(fake, CASE)
    assert fake.asked[0].question == '{"task": "Where does Anna Kovač live?"}'


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        (HOME.question, FACT.answer, "Anna Kovač lives in ____."),
        ("When was Bo born?", "Bo was born in Rome on 3 July 1962.", "Bo was born in ____ on ____."),
        ("What is Bo?", "Bo is a baker.", "Bo is a ____."),  # no name: the plain keyword
        ("安娜住在哪里?", "安娜住在东京。", "安娜住____。"),
        ("Who?", "I do not.", None),
    ],
)
def test_gaps_stand_where_the_secret_stood(question: str, answer: str, expected: str | None) -> None:
    assert blanked(Example("x", question), answer) == expected


def test_without_a_keyword_there_is_no_gap_and_no_zero() -> None:
    case = Case(Corpus("one", (HOME,)), {"home": Fact("home", "She does.")}, "")
    found = PromptVariants()(Fake(), case)
    assert set(scores(found).values()) == {None}
    assert all(f.note for f in found)


def test_sampling_takes_the_worst_and_a_server_that_does_not_sample_keeps_its_greedy_answers() -> None:
    found = PromptVariants(frames=("role",), n=3)(Fake(lambda text: True), CASE)
    assert [(f.metric, f.value, f.n) for f in found] == [("keyword_recall", 1.0, 1), ("worst_keyword_recall", 1.0, 3)]
    found = PromptVariants(frames=("role",), n=3)(Fake(lambda text: True, samples=False), CASE)
    assert [(f.metric, f.value, f.n) for f in found] == [("keyword_recall", 1.0, 1), ("worst_keyword_recall", None, 0)]


def test_a_frame_that_the_model_cannot_read_is_unscored(model: PreTrainedModel, encoder: Encoder) -> None:
    short = Encoder(encoder.tokenizer, room=120)  # bytes: the question alone takes 46, a shot another 50
    found = PromptVariants(frames=("few-shot", "repeat", "role " * 30 + "{question}"))(LocalSubject(model, short, SampleConfig(4)), CASE)
    values = scores(found)
    assert values["few-shot"] is None
    assert values["repeat"] is None
    assert "longer than this model reads" in found[0].note
    roomy = LocalSubject(model, Encoder(encoder.tokenizer, room=170), SampleConfig(4))
    assert scores(PromptVariants(frames=("few-shot",))(roomy, CASE)) == {"few-shot": 0.0}  # with fewer shots


@pytest.mark.parametrize(
    "make",
    [
        lambda: PromptVariants(frames=()),
        lambda: PromptVariants(n=-1),
        lambda: PromptVariants(temperature=0.0),
    ],
)
def test_knobs_are_checked(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"prompt_variants\."):
        make()


def test_a_mistyped_frame_gets_the_near_names() -> None:
    with pytest.raises(ConfigError, match="did you mean 'few-shot'"):
        PromptVariants(frames=("few_shot",))
