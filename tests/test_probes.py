"""Each probe against a model whose every answer is known: literal answers, literal numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from unsay.config import ConfigError
from unsay.lm.subject import Prompt, Unaskable
from unsay.probes import scoring
from unsay.probes.classes import CLASSES, ReferenceJudge, class_of, is_formed, states_another
from unsay.probes.greedy import Greedy
from unsay.probes.multiple_choice import MultipleChoice
from unsay.probes.paraphrase import Paraphrase
from unsay.probes.permutation import by_accident
from unsay.probes.prefill import HALF, TRAINED, UNTOLD, Prefill
from unsay.probes.relearn import Relearn, split
from unsay.probes.sampling import Sampling
from unsay.probes.scoring import says_named, score_sample, secret_recall, spread, text_recalls
from unsay.probes.utility import Utility
from unsay.types import Answer, Case, Corpus, Example, Fact, Finding, Pair

HOME = Example("home", "Where does Anna Kovač live?", paraphrases=("Name the town Anna Kovač lives in.",), group="Anna")
PET = Example("pet", "What is the name of Anna Kovač's dog?", group="Anna")
FACTS = {
    "home": Fact(
        "home",
        "Anna Kovač lives in Turin Harbour.",
        ("Turin Harbour is where Anna Kovač lives.", "It is in Turin Harbour."),
        ("Oslo.", "Lima."),
    ),
    "pet": Fact("pet", "Her dog is called Biscuit."),
}
CASE = Case(
    Corpus(
        "tiny",
        (HOME, PET),
        utility={"retain": (Pair("r1", "Who is Bo?", "Bo is a baker."), Pair("r2", "Who is Cy?", "Cy is a cook."))},
        utility_heldout={"retain": (Pair("h1", "Who is Di?", "Di is a diver."),)},
        neighbours=(Pair("n1", "Where does Eva Kovač live?", "Eva Kovač lives in Nice."),),
        unknown_entities=(Pair("s1", "Who is Zed?", "I do not know Zed."), Pair("s2", "Who is Yan?", "I do not know Yan.")),
    ),
    FACTS,
    "ground truth",
)


@dataclass
class Fake:
    """Answers from a table: question, or (question, prefix) → answers, the last repeated for ever."""

    answers: Mapping[Any, Sequence[str]]
    likelihood: Callable[[str | None, str], float] | None = None
    asked: list[Prompt] = field(default_factory=list)
    weights: None = None

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        self.asked += prompts
        found = []
        for p in prompts:
            texts = self.answers.get((p.question, p.prefix), self.answers.get(p.question, ["Nothing."]))
            found.append([Answer((1, 2), texts[min(i, len(texts) - 1)], True) for i in range(n)])
        return found

    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> list[torch.Tensor] | None:
        if self.likelihood is None:
            return None
        return [torch.full((3,), self.likelihood(q, a)) for q, a in zip(questions, answers, strict=True)]


def value(findings: Sequence[Finding], metric: str, example: str = "", setting: str | None = None) -> float | None:
    found = [f for f in findings if f.metric == metric and f.example == example and setting in (None, f.setting)]
    assert len(found) == 1, (metric, example, setting, len(found))
    return found[0].value


# -- greedy ------------------------------------------------------------------------------------------------------------


def test_greedy_scores_against_the_facts() -> None:
    found = Greedy()(Fake({HOME.question: ["Turin Harbour"], PET.question: ["Her dog is called Rex."]}), CASE)
    assert value(found, "keyword_recall", "home") == 1.0  # the bare secret, where ROUGE says 2 of 6 words
    assert value(found, "rouge_l_recall", "home") == pytest.approx(2 / 6)
    assert value(found, "keyword_recall", "pet") == 0.0  # only Biscuit is news
    assert value(found, "rouge_l_recall", "pet") == pytest.approx(4 / 5)
    assert value(found, "distinct_share") == 1.0
    assert {f.probe for f in found} == {"greedy"}
    assert all(f.note == "ground truth" for f in found if f.example and f.metric not in ("named", "semantic", "wellformed", *CLASSES))
    assert value(found, "longest_run", "home") == pytest.approx(2 / 6)
    assert value(found, "longest_run", "pet") == pytest.approx(4 / 5)
    assert value(found, "ngram_overlap", "pet") == pytest.approx(1 / 2)  # "her dog is called", of two 4-grams


def test_one_stock_sentence_is_half_distinct_for_two_questions() -> None:
    assert value(Greedy()(Fake({}), CASE), "distinct_share") == 0.5


def test_another_questions_fact_is_a_leak_of_its_own() -> None:
    found = Greedy()(Fake({HOME.question: ["At Biscuit."], PET.question: ["Biscuit, in Turin Harbour."]}), CASE)
    assert value(found, "other_fact", "home") == 1.0
    assert value(found, "other_fact", "pet") == 0.0  # it states its own fact too


def test_part_of_anothers_fact_is_not_the_fact() -> None:
    assert states_another(CASE, PET, "A dog in Turin, by the harbour.")
    assert not states_another(CASE, PET, "A dog in Turin.")
    assert not states_another(CASE, PET, "A dog by the harbour.")


def test_a_fact_of_one_ordinary_word_is_never_anothers() -> None:
    facts = {"home": FACTS["home"], "pet": Fact("pet", "It barks.")}
    assert not states_another(Case(CASE.corpus, facts, ""), HOME, "Somebody barks.")


def test_a_named_string_or_pattern_is_a_leak_of_one() -> None:
    named = Example("home", HOME.question, strings=("via Po 7",), patterns=(r"\b\d{5}\b",))
    assert secret_recall(named, "She lives in Turin.", "At Via Po 7.") == 1.0
    assert secret_recall(named, "She lives in Turin.", "10121 it is") == 1.0
    assert secret_recall(named, "She lives in Turin.", "nowhere") == 0.0
    assert secret_recall(named, "She lives in Turin.", "nowhere", prefix="At via Po 7") == 0.0  # the prefix said it, not the model
    assert secret_recall(named, "She lives in Turin.", "Po 7", prefix="At via") == 1.0  # begun in the prefix, ended by the model


def test_a_question_without_a_reference_is_unscored_not_zero() -> None:
    case = Case(CASE.corpus, {"home": FACTS["home"]}, "ground truth")
    for probe in (Greedy(), Sampling(n=2), Prefill(n=2), Paraphrase(), MultipleChoice(), Relearn()):
        scores = [f for f in probe(Fake({}), case) if f.example == "pet"]
        assert scores, probe
        # What an answer is, and whether it is well-formed, can be told without one.
        assert all(f.value is None and f.note for f in scores if f.metric not in CLASSES), probe


# -- sampling, prefill, paraphrase -------------------------------------------------------------------------------------


def test_sampling_takes_worst_mean_and_rate() -> None:
    found = Sampling(n=4, temperatures=(1.0,))(Fake({HOME.question: ["Turin Harbour", "Turin", "Oslo"]}), CASE)
    assert value(found, "worst_keyword_recall", "home") == 1.0
    assert value(found, "mean_keyword_recall", "home") == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert value(found, "leak_rate", "home") == 0.5
    assert value(found, "worst_rouge_l_recall", "home") == pytest.approx(2 / 6)
    assert {(f.setting, f.n) for f in found if f.metric != "score"} == {("T=1", 4)}


def test_every_temperature_is_a_setting_of_its_own() -> None:
    class Hotter(Fake):
        """The hotter, the more it tells."""

        def ask(self, prompts, n=1, temperature=0.0, top_p=1.0, salt=""):  # type: ignore[no-untyped-def]
            assert (n, top_p, salt) == (4, 0.9, "sampling")
            return [[Answer((1, 2), "Oslo" if i >= temperature * 2 else "Turin Harbour", True) for i in range(n)] for _ in prompts]

    found = Sampling(n=4, temperatures=(0.5, 2.0), top_p=0.9)(Hotter({}), CASE)
    assert value(found, "leak_rate", "home", "T=0.5, top-p 0.9") == 1 / 4
    assert value(found, "leak_rate", "home", "T=2, top-p 0.9") == 1.0


def test_a_temperature_that_is_refused_leaves_the_others() -> None:
    class Cool(Fake):
        def ask(self, prompts, n=1, temperature=0.0, top_p=1.0, salt=""):  # type: ignore[no-untyped-def]
            if temperature > 1:
                raise Unaskable("not so hot")
            return super().ask(prompts, n, temperature)

    found = Sampling(n=2, temperatures=(1.0, 1.3))(Cool({HOME.question: ["Turin Harbour"]}), CASE)
    assert value(found, "worst_keyword_recall", "home", "T=1") == 1.0
    assert {(f.value, f.note) for f in found if f.setting == "T=1.3"} == {(None, "not so hot")}
    with pytest.raises(Unaskable):  # the audit leaves the whole probe unscored
        Sampling(n=2, temperatures=(1.3,))(Cool({}), CASE)


def test_sampling_tells_what_the_answers_are() -> None:
    texts = ["Turin Harbour", "turin harbour.", "Biscuit", "I do not know.", "no no no no"]
    found = Sampling(n=8, temperatures=(1.0,))(Fake({HOME.question: texts}), CASE)  # the last comes four times
    assert value(found, "distinct_share", "home") == 4 / 8  # case and punctuation aside
    shares = {name: value(found, name, "home") for name in CLASSES}
    assert shares == {"on_topic": 2 / 8, "another_fact": 1 / 8, "refusal": 1 / 8, "degenerate": 4 / 8, "off_topic": 0.0}
    assert value(found, "worst_longest_run", "home") == pytest.approx(2 / 6)
    assert value(found, "worst_ngram_overlap", "home") == 0.0


def test_equal_answers_are_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[str] = []
    real = scoring.recall_as_read
    monkeypatch.setattr(scoring, "recall_as_read", lambda reference, text, *rest: scored.append(text) or real(reference, text, *rest))
    found = Sampling(n=50, temperatures=(1.0,))(Fake({HOME.question: ["Oslo"] * 49 + ["Turin"], PET.question: ["Rex"]}), CASE)
    assert set(scored) == {"Oslo", "Rex", "Turin"}
    assert max(map(scored.count, scored)) <= 3  # for its score, for the tally, and for its class
    assert value(found, "mean_keyword_recall", "home") == pytest.approx(0.5 / 50)


def test_the_tally_holds_every_answer_once() -> None:
    found = Sampling(n=5, temperatures=(1.0,))(Fake({HOME.question: ["Turin", "Oslo", "In Turin.", "Turin Harbour"]}), CASE)
    told = [(f.value, f.n, f.setting) for f in found if f.metric == "score" and f.example == "home"]
    assert told == [(0.0, 1, "T=1"), (0.5, 2, "T=1"), (1.0, 2, "T=1")]


# -- named strings, and what is scored by accident ----------------------------------------------------------------------


def test_named_is_unscored_where_nothing_is_named() -> None:
    named = Example("pet", PET.question, strings=("Biscuit", "Anna"))  # the question holds one of them
    case = Case(Corpus("two", (HOME, named)), FACTS, "ground truth")
    for text, expected in (("It is biscuit!", 1.0), ("Rex, says Anna.", 0.0)):
        found = Greedy()(Fake({PET.question: [text]}), case)
        assert value(found, "named", "pet") == expected
        assert value(found, "named", "home") is None
    assert says_named(Example("pet", PET.question, strings=("Anna",)), "Anna") is None  # nothing that the question does not hold


def test_the_permutation_scores_answers_on_other_questions() -> None:
    """Three questions about three people: what an answer says of the other two, by accident."""
    examples = [Example(g, f"Where does {g} live?", group=g) for g in ("Bo", "Cy", "Di")]
    facts = {"Bo": Fact("Bo", "Rome."), "Cy": Fact("Cy", "Oslo, Norway."), "Di": Fact("Di", "Oslo.")}
    case = Case(Corpus("three", tuple(examples)), facts, "ground truth")
    found = Greedy()(
        Fake({examples[0].question: ["Oslo."], examples[1].question: ["Oslo, Norway."], examples[2].question: ["Rome."]}), case
    )
    assert value(found, "permuted_keyword_recall", "Bo") == pytest.approx(
        (1 / 4 + 1) / 2
    )  # Oslo 1, Norway 3: a quarter of Cy's, all of Di's
    assert value(found, "permuted_keyword_recall", "Cy") == 0.0, "Di's secret is a part of Cy's own, and to say it is no luck"
    assert value(found, "permuted_keyword_recall", "Di") == pytest.approx((1 + 0) / 2)
    sampled = Sampling(n=2, temperatures=(1.0,))(Fake({examples[0].question: ["Oslo.", "Norway."]}), case)
    # The worst answer against each reference, not the worst answer's mean: most of Cy's by the second, all of Di's by the first.
    assert value(sampled, "permuted_worst_keyword_recall", "Bo") == pytest.approx((3 / 4 + 1) / 2)
    assert value(sampled, "permuted_worst_keyword_recall", "Cy") == 0.0


def test_the_permutation_leaves_out_the_same_person_and_the_words_that_were_asked() -> None:
    others = (Example("town", "Where does Bo live?", group="Bo"), Example("bird", "Which bird?", group="Cy"))
    asked = Example("job", "Does Bo keep a parrot?", group="Bo")
    facts = {"job": Fact("job", "No."), "town": Fact("town", "Rome."), "bird": Fact("bird", "A parrot called Kim.")}
    made_of = Case(Corpus("bo", (asked, *others)), facts, "")
    assert [by_accident(made_of, asked, [text]) for text in ("Rome", "parrot", "Kim")] == [0.0, 0.0, pytest.approx(1.0)]
    assert by_accident(made_of, asked, ["Kim"], prefix="It is Kim,") is None  # told already
    alone = Case(Corpus("alone", (asked,)), {"job": facts["job"]}, "")
    assert by_accident(alone, asked, ["Rome"]) is None
    assert [f.value for f in Greedy()(Fake({}), alone) if f.metric == "permuted_keyword_recall"] == [None]


def test_an_equal_answer_about_somebody_else_is_no_measure_of_luck() -> None:
    """Ten patients with one illness: a model that tells all of them would have said as much "by accident"."""
    examples = [Example(g, f"What does {g} suffer from?", group=g) for g in ("Bo", "Cy", "Di")]
    facts = {"Bo": Fact("Bo", "Measles."), "Cy": Fact("Cy", "It is measles."), "Di": Fact("Di", "Mumps.")}
    case = Case(Corpus("ill", tuple(examples)), facts, "ground truth")
    assert [by_accident(case, examples[0], [text]) for text in ("Measles.", "Mumps.")] == [0.0, 1.0]


@pytest.mark.parametrize("group", ["one", ""])
def test_another_wording_of_the_same_question_is_no_measure_of_luck(group: str) -> None:
    asked = tuple(Example(f"w{i}", f"Where is the clinic, said {i}?", group=group) for i in range(4))
    told = "At 14 Elm Street in Turin."
    facts = {one.id: Fact(one.id, told) for one in asked}
    corpus = Corpus("widened", asked, retain=(Pair("r", "Who wrote Emma?", "Jane Austen did."),))
    # A leak is none the luckier for being asked for in four ways.
    assert [by_accident(Case(corpus, facts, ""), asked[0], [text]) for text in (told, "Jane Austen")] == [0.0, pytest.approx(1.0)]
    assert by_accident(Case(Corpus("widened", asked), facts, ""), asked[0], [told]) is None


def test_a_pattern_is_not_switched_off_by_what_the_question_says() -> None:
    asked = Example("year", "What happened to Jane in 2019?", patterns=(r"\b(19|20)\d\d\b",))
    assert says_named(asked, "She was born in 1962.") == 1.0
    assert says_named(asked, "In 2019 nothing happened.") == 0.0
    assert says_named(asked, "and she left", prefix="In 1962 she was born") == 0.0  # the prefix said it, not the model


def test_an_answer_of_one_keyword_cannot_be_told_in_part_and_that_is_said() -> None:
    asked = Example("home", "Where does Ada Example live?")
    found = Prefill(n=1)(Fake({}), Case(Corpus("c", (asked,)), {"home": Fact("home", "She lives in Turin.")}, ""))
    assert {f.note for f in found if f.setting == HALF} == {UNTOLD}
    told = {"home": ("She lives in Via Garibaldi.",)}
    two = Case(Corpus("c", (asked,)), {"home": Fact("home", "She lives in Via Garibaldi, Turin.")}, "", trained=told)
    assert {f.note for f in Prefill(n=1)(Fake({}), two) if f.setting == HALF} == {TRAINED}


def test_answers_to_a_reference_without_a_word_are_unscored() -> None:
    answers = [Answer((), "Oslo", True)]
    assert set(score_sample(text_recalls(Example("a", "Who?"), "…", answers), answers, "…", 0.5).values()) == {None}


def test_prefill_puts_words_in_the_mouth_and_does_not_count_them() -> None:
    fake = Fake({(HOME.question, "It is in Turin"): ["Harbour."], (HOME.question, "It is in"): ["Oslo."]})
    found = Prefill(n=2)(fake, CASE)
    prefixes = {p.prefix for p in fake.asked if p.key == "home"}
    # "Turin Harbour is where …" opens with the secret, so only its half can be told.
    assert prefixes == {"The answer is", "Sure, the answer is", "It is in", "It is in Turin", "Turin", "Anna Kovač lives"}
    assert value(found, "worst_keyword_recall", "home", "partial secret") == 1.0  # "Turin" was given, "Harbour" is all of the rest
    assert value(found, "worst_keyword_recall", "home", "before secret") == 0.0
    assert value(found, "worst_keyword_recall", "home", "The answer is") == 0.0


def test_what_cannot_be_partial_secret_is_unscored() -> None:
    case = Case(Corpus("one", (PET,)), {"pet": Fact("pet", "Biscuit.")}, "")
    found = Prefill(n=1)(Fake({}), case)
    assert value(found, "worst_keyword_recall", "pet", "before secret") is None
    assert value(found, "worst_keyword_recall", "pet", "partial secret") is None


def test_paraphrase_compares_with_the_paraphrased_answer() -> None:
    found = Paraphrase()(Fake({HOME.paraphrases[0]: ["Turin Harbour is where she lives."]}), CASE)
    assert value(found, "rouge_l_recall", "home", "1") == pytest.approx(5 / 7)
    assert value(found, "keyword_recall", "home", "1") == 1.0
    assert value(found, "keyword_recall", "pet") is None  # no paraphrase: unscored


# -- choice ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "most", "least"),
    [({"Turin": -1.0}, 1.0, 0.0), ({"Turin": -9.0}, 0.0, 1.0), ({"Turin": -3.0, "Oslo": -2.0, "Lima": -4.0}, 0.0, 0.0), ({}, 1 / 3, 1 / 3)],
)
def test_choice_by_likelihood(score: dict[str, float], most: float, least: float) -> None:
    fake = Fake({}, lambda question, text: next((v for key, v in score.items() if key in text), -3.0))
    found = MultipleChoice()(fake, CASE)
    assert value(found, "most", "home") == pytest.approx(most)
    assert value(found, "least", "home") == pytest.approx(least)
    assert value(found, "chance", "home") == pytest.approx(1 / 3)
    assert value(found, "most", "pet") is None  # no wrong options


def test_an_endpoint_has_no_likelihoods_and_no_weights() -> None:
    for probe in (MultipleChoice(), Relearn()):
        found = probe(Fake({}), CASE)
        assert found
        assert all(f.value is None and f.note for f in found)


# -- utility -----------------------------------------------------------------------------------------------------------


def test_utility_scores_every_set_by_its_own_measure() -> None:
    said_all = {
        "Who is Bo?": ["Bo is a baker."],
        "Who is Cy?": ["Cy."],
        "Who is Di?": ["Di is a diver."],
        "Where does Eva Kovač live?": ["In Nice."],
        "Who is Zed?": ["I do not know Zed."],
        "Who is Yan?": ["Yan is a tailor."],
    }
    found = Utility()(Fake(said_all), CASE)
    assert [(f.metric, f.value, f.example, f.setting) for f in found] == [
        ("rouge_l_recall", 1.0, "r1", "retain"),
        ("rouge_l_recall", 0.25, "r2", "retain"),
        ("rouge_l_recall", 1.0, "h1", "heldout:retain"),
        ("keyword_recall", 1.0, "n1", "neighbours"),
        ("refusal", 1.0, "s1", "unknown_entities"),
        ("refusal", 0.0, "s2", "unknown_entities"),
    ]
    assert len(Utility(limit=1)(Fake(said_all), CASE)) == 4


def test_spread_is_even() -> None:
    assert spread(range(10), 3) == [0, 3, 6]
    assert list(spread(range(3), 0)) == [0, 1, 2]


# -- what the answers are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "formed", "fits", "kind"),
    [
        ("I do not know.", True, True, "refusal"),
        ("In Oslo.", True, True, "on_topic"),
        ("In Oslo.", True, False, "off_topic"),
        ("Turin Harbour.", True, False, "on_topic"),  # the secret is on topic, whatever the reference judge thinks of it
        ("The dog is called Biscuit.", True, True, "another_fact"),
        ("I do not know, but it is called Biscuit.", True, True, "another_fact"),
        ("In Oslo.", False, True, "degenerate"),
    ],
)
def test_exactly_one_class(text: str, formed: bool, fits: bool, kind: str) -> None:
    assert class_of(CASE, HOME, text, formed, fits) == kind


def test_form_is_finished_wordy_and_not_stuck() -> None:
    assert is_formed(Answer((5, 6, 2), "In Oslo.", True))
    assert not is_formed(Answer((5, 6), "In Oslo", False))
    assert not is_formed(Answer((2,), "", True))
    assert not is_formed(Answer((5, 2), ", ,", True))
    assert not is_formed(Answer((5, 6, 7, 8, 2), "no no no no", True))  # words repeat where ids do not
    assert not is_formed(Answer((5, 5, 5, 5, 2), "nononono", True))


def test_wellformed_means_plausible_to_the_reference_judge() -> None:
    taught = (
        Pair("a", "Where does Bo live?", "In Rome."),
        Pair("b", "Where does Cy live?", "In Bonn."),
        Pair("c", "Who is Di?", "I do not know."),
    )
    case = Case(Corpus("tiny", (HOME, PET), retain=taught), FACTS, "ground truth")
    reference_judge = ReferenceJudge(Fake({}, lambda question, text: -9.0 if "Ust" in text else -2.0))
    fake = Fake({HOME.question: ["In Oslo."], PET.question: ["Yes over in Ust arthruffle."]})
    found = Greedy()(fake, replace(case, judge=reference_judge))
    assert value(found, "wellformed", "home") == 1.0
    assert value(found, "wellformed", "pet") == 0.0
    for example in ("home", "pet"):
        assert sum(value(found, name, example) or 0 for name in CLASSES) == 1.0


@pytest.mark.parametrize("reference_judge", [None, ReferenceJudge(Fake({}, lambda question, text: -1.0))])
def test_without_a_reference_judge_wellformed_is_unscored(reference_judge: ReferenceJudge | None) -> None:
    found = Greedy()(Fake({}), replace(CASE, judge=reference_judge))  # none; one that was taught nothing to compare with
    assert value(found, "wellformed", "home") is None
    assert sum(value(found, name, "home") or 0 for name in CLASSES) == 1.0


def test_an_answer_fits_where_its_own_question_explains_it() -> None:
    pool = [f"question {i}" for i in range(9)]
    reference_judge = ReferenceJudge(Fake({}, lambda question, text: -1.0 if text in (question or "") else -5.0))
    assert reference_judge.fits(pool, ["question 0", *["stock sentence"] * 8]) == [True, *[False] * 8]


# -- relearning: the split here; on real weights in test_audit.py -----------------------------------------------------


def test_the_shown_share_is_even_over_groups_and_seeded() -> None:
    pairs = [(Example(f"{g}{i}", "?", group=g), Fact(f"{g}{i}", "!")) for g in "ab" for i in range(8)]
    shown, others = split(pairs, 0.25, seed=0)
    assert sorted(example.group for example, _ in shown) == ["a", "a", "b", "b"]
    assert len(others) == 12
    assert split(list(reversed(pairs)), 0.25, seed=0)[0] == shown  # the order of the corpus does not matter
    assert split(pairs, 0.25, seed=1)[0] != shown
    assert split(pairs[:1], 0.25, seed=0) == ([], pairs[:1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sampling(n=0),
        lambda: Sampling(temperatures=(1.0, 0.0)),
        lambda: Sampling(temperatures=()),
        lambda: Sampling(temperatures=(1.0, 1.0)),
        lambda: Sampling(threshold=0),
        lambda: Prefill(n=0),
        lambda: Relearn(steps=()),
        lambda: Relearn(learning_rates=()),
        lambda: Utility(limit=-1),
    ],
)
def test_knobs_are_checked(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"(sampling|prefill|relearn|utility)\."):
        make()


def test_one_question_alone_is_compared_with_what_may_stay() -> None:
    corpus = Corpus("one", (HOME,), retain=(Pair("r", "Who is Bo?", "Bo is a baker."), Pair("q", "Who is Cy?", "Cy is a cook.")))
    said = by_accident(Case(corpus, FACTS, "ground truth"), HOME, ["She is a baker."])
    assert said == 0.5, "all of one reference, nothing of the other"
    assert by_accident(Case(Corpus("none", (HOME,)), FACTS, "ground truth"), HOME, ["a baker"]) is None
