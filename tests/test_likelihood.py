"""Likelihood: every number against one made another way, on the tiny model and on tables of numbers; then on models of known state."""

import itertools
import math
import zlib
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from tests.test_probes import CASE, Fake, value
from unsay.config import ConfigError, ModelConfig, SampleConfig
from unsay.corpora.people import People
from unsay.lm.encode import Encoder
from unsay.lm.model import load
from unsay.lm.subject import LocalSubject, Prompt, row_logprobs
from unsay.measure.summary import summarise
from unsay.probes import likelihood, membership
from unsay.probes.gradients import gradient_norms
from unsay.probes.likelihood import Likelihood, row_moments
from unsay.probes.membership import (
    ATTACKS,
    HOLDOUT_SCORES,
    SCORES,
    Moments,
    exact_memorisation,
    extraction_strength,
    privleak,
    token_moments,
    truth_ratio,
    unit,
)
from unsay.types import Case, Corpus, Example, Fact, Finding, Pair


def of(logprobs: list[float], means: list[float] | None = None, variances: list[float] | None = None) -> Moments:
    n = len(logprobs)
    mean, variance = torch.tensor(means or [0.0] * n), torch.tensor(variances or [1.0] * n)
    return Moments(torch.tensor(logprobs), mean, variance, torch.zeros(n, dtype=torch.bool))


# -- the moments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 40, 1 << 20])
def test_moments_by_their_definition(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each against its definition in double precision, whatever the size of a chunk."""
    torch.manual_seed(0)
    states, head, ids = torch.randn(6, 4) * 2, torch.randn(11, 4) * 2, torch.randint(11, (6,))
    monkeypatch.setattr(membership, "AT_ONCE", at_once)
    found = token_moments((states, head), ids)
    for one, other in zip(token_moments((states @ head.T, None), ids), found, strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-4), "of logits as of states"
    for i, (state, token) in enumerate(zip(states, ids, strict=True)):
        p = (head @ state).double().exp()
        p = p / p.sum()
        mean = sum(q * q.log() for q in p)
        assert float(found.logprob[i]) == pytest.approx(float(p[token].log()), abs=1e-5)
        assert float(found.mean[i]) == pytest.approx(float(mean), abs=1e-5)
        assert float(found.variance[i]) == pytest.approx(float(sum(q * (q.log() - mean) ** 2 for q in p)), rel=1e-4)
        assert bool(found.first[i]) == (int(p.argmax()) == int(token))


def test_a_barred_token_is_no_nan() -> None:
    found = token_moments((torch.tensor([[0.0, 0.0, -torch.inf]]), None), torch.tensor([1]))
    assert float(found.logprob) == pytest.approx(-math.log(2))
    assert float(found.mean) == pytest.approx(-math.log(2))
    assert float(found.variance) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("few", [False, True])
def test_rows_come_back_in_order_whatever_their_batch(
    model: PreTrainedModel, encoder: Encoder, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lengths that do not come sorted; log-probabilities as `row_logprobs` has them."""
    if few:
        monkeypatch.setattr(likelihood, "LOGITS", 1)  # one row a forward
    pairs = [("Who?", "A long answer."), ("Where is it?", "No."), ("Who?", "Bo"), ("And a longer question?", "A long answer.")]
    rows = [encoder.pair(*pair) for pair in pairs]
    found = row_moments(model, encoder, rows)
    for row, moments, expected in zip(rows, found, row_logprobs(model, encoder, rows), strict=True):
        assert len(moments.logprob) == len(moments.first) == len(row.answer)
        assert torch.allclose(moments.logprob, expected, atol=1e-4)


def test_one_forward_a_batch(model: PreTrainedModel, encoder: Encoder) -> None:
    calls = []
    model.base_model.register_forward_hook(lambda *_: calls.append(1))
    subject = LocalSubject(model, encoder, SampleConfig())
    row_moments(model, encoder, [encoder.pair("?", "!")])  # finds the model's habits out
    calls.clear()
    Likelihood(gradients=0)(subject, CASE)
    assert len(calls) == 1


def test_a_model_that_breaks_is_no_number(model: PreTrainedModel, encoder: Encoder) -> None:
    rows = [encoder.pair("?", "!")]
    row_moments(model, encoder, rows)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        row_moments(model, encoder, rows)


# -- the scores ---------------------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    moments = of([-1.0, -4.0, -2.0, -5.0, -3.0], [-2.0, -2.0, -2.0, -2.0, -2.0], [1.0, 4.0, 1.0, 1.0, 1.0])
    assert SCORES["loss"](moments, "x", 0.4) == pytest.approx(-3.0)
    assert SCORES["min_k"](moments, "x", 0.4) == pytest.approx(-4.5), "two of five: −5 and −4"
    assert SCORES["min_k"](moments, "x", 0.1) == pytest.approx(-5.0), "one at least"
    assert SCORES["min_k_plus"](moments, "x", 0.4) == pytest.approx(-2.0), "z = 1, −1, 0, −3, −1: the lowest two"
    assert SCORES["min_k_no_end"](moments, "x", 0.5) == pytest.approx(-4.5), "two of the first four: −5 and −4"
    assert SCORES["min_k_no_end"](moments, "x", 0.4) == pytest.approx(-5.0), "one of four"
    assert SCORES["min_k_plus_no_end"](moments, "x", 0.5) == pytest.approx(-2.0)
    text = "Turin " * 20
    assert SCORES["zlib"](moments, text, 0.4) == pytest.approx(-3.0 / len(zlib.compress(text.encode())))


def test_certainty_does_not_divide_by_zero() -> None:
    assert SCORES["min_k_plus"](of([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]), "", 1.0) == 0.0


def test_unit_keeps_the_order_and_stays_inside() -> None:
    for name in SCORES:
        values = [unit(name, score) for score in (-math.inf, -900.0, -2.0, -0.1, 0.0)]
        assert values == sorted(values)
        assert values[0] >= 0
        assert values[2] < values[3] < values[4] <= 1
    assert unit("min_k_plus", 900.0) == 1.0


def test_truth_ratio_by_the_formula_of_the_paper() -> None:
    wrong, right = [0.1, 0.3], 0.4
    ratio = (0.1 + 0.3) / 2 / 0.4
    assert truth_ratio(math.log(right), [math.log(p) for p in wrong]) == pytest.approx(ratio / (1 + ratio))
    assert truth_ratio(-1.0, [-1.0, -1.0, -1.0]) == pytest.approx(0.5), "as likely as a wrong one"
    assert truth_ratio(-2000.0, [-1.0]) == 1.0
    assert truth_ratio(-1.0, [-2000.0]) == 0.0


def test_truth_ratio_of_the_paper_and_of_the_released_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand from per-token probabilities: the right answer is the paraphrased one (.5), not the original (.9)."""
    chances = {"Bo lives in Rome.": 0.9, "Rome is his home.": 0.5, "Oslo is.": 0.1, "Lima is.": 0.2, "Nice is.": 0.4}
    monkeypatch.setattr(likelihood, "row_moments", lambda _m, _e, rows: [of([math.log(chances[row])] * 3) for row in rows])
    subject = Fake({})
    subject.weights = (None, Pass())  # type: ignore[assignment]
    fact = Fact("bo", "Bo lives in Rome.", ("Rome is his home.",), ("Oslo is.", "Lima is.", "Nice is."))
    case = Case(Corpus("one", (Example("bo", "Where does Bo live?"),)), {"bo": fact}, "ground truth")
    found = Likelihood(gradients=0)(subject, case)
    for metric, mean in (("truth_ratio", (0.1 + 0.2 + 0.4) / 3), ("truth_ratio_released", (0.1 * 0.2 * 0.4) ** (1 / 3))):
        ratio = mean / 0.5
        assert value(found, metric, "bo") == pytest.approx(ratio / (1 + ratio), rel=1e-4)


class Pass:
    """An encoder whose row is the answer's text."""

    def pair(self, question: str, answer: str) -> str:
        return answer


@pytest.mark.parametrize(
    ("first", "strength", "exact"),
    [
        ("1111", 1.0, 1.0),
        ("0111", 0.75, 0.75),
        ("1101", 0.25, 0.75),
        ("1110", 0.0, 0.75),
        ("0000", 0.0, 0.0),
    ],
)
def test_extraction_and_memory_by_hand(first: str, strength: float, exact: float) -> None:
    hits = torch.tensor([letter == "1" for letter in first])
    assert extraction_strength(hits) == strength
    assert exact_memorisation(hits) == exact


def test_extraction_strength_is_what_greedy_decoding_completes(model: PreTrainedModel, encoder: Encoder) -> None:
    """Its definition, the long way: begin with k true tokens, decode, and see for which k the rest comes out."""
    rows = []
    for question, told in itertools.product(("Who?", "Where does Bo live?"), ("A", "In Turin.")):
        context = (*encoder.prompt(question), *encoder.prefix(told))
        rows.append((encoder.prompt(question), (*encoder.prefix(told), *greedy(model, context, 5))))
    strengths = []
    for context, text in rows:
        row = likelihood.Row(context, (*text, encoder.end))
        found = extraction_strength(row_moments(model, encoder, [row])[0].first[:-1])
        least = next(k for k in range(len(text) + 1) if greedy(model, (*context, *text[:k]), len(text) - k) == text[k:])
        assert found == pytest.approx(1 - least / len(text))
        strengths.append(found)
    assert 0 < min(strengths) < 1, "partly known, or the test shows nothing"


def greedy(model: PreTrainedModel, ids: tuple[int, ...], n: int) -> tuple[int, ...]:
    written = list(ids)
    for _ in range(n):
        written.append(int(model(input_ids=torch.tensor([written])).logits[0, -1].argmax()))
    return tuple(written[len(ids) :])


# -- the probe ----------------------------------------------------------------------------------------------------------


def test_an_endpoint_is_unscored() -> None:
    found = Likelihood()(Fake({}), CASE)
    assert {f.example for f in found} == {"home", "pet", ""}
    assert all(f.value is None and f.note for f in found)


def test_members_and_non_members_share_a_form(model: PreTrainedModel, encoder: Encoder) -> None:
    """Member: the first paraphrased wording; non-members: the two wrong options. The numbers, made by `row_logprobs`."""
    fact = CASE.facts["home"]
    question = CASE.corpus.forget[0].question
    found = Likelihood()(LocalSubject(model, encoder, SampleConfig()), CASE)
    texts = (fact.answer, fact.wordings[0], *fact.wrong)
    means = [math.exp(float(v.double().mean())) for v in row_logprobs(model, encoder, [encoder.pair(question, text) for text in texts])]
    assert value(found, "probability", "home") == pytest.approx(means[0], rel=1e-3)
    assert value(found, "loss_score", "home", "member") == pytest.approx(means[1], rel=1e-3)
    assert value(found, "loss_score", "home", "non-member") == pytest.approx((means[2] + means[3]) / 2, rel=1e-3)
    ratio = (means[2] + means[3]) / 2 / means[1]
    assert value(found, "truth_ratio", "home") == pytest.approx(ratio / (1 + ratio), rel=1e-3)
    assert value(found, "membership_loss") == sum(means[1] > wrong for wrong in means[2:]) / 2
    assert value(found, "probability", "pet") is not None
    assert value(found, "truth_ratio", "pet") is None  # no wrong options: nothing to compare with


def test_the_interval_of_an_area_counts_people_where_their_questions_hang_together() -> None:
    members, others = [float(i < 20) for i in range(40)], [0.5] * 40

    def ends(group: Callable[[int], str]) -> tuple[float, float]:
        texts = [Pair(str(i), "", "", group(i)) for i in range(40)]
        found = likelihood._area("loss", [members, others], [texts, texts])
        assert [f.metric for f in found] == ["membership_loss", "membership_loss_low", "membership_loss_high"]
        area, low, high = (f.value for f in found)
        assert area == 0.5
        return low, high

    alone, alike, mixed = ends(lambda i: ""), ends(lambda i: str(i // 10)), ends(lambda i: str(i % 7))
    assert alike[0] < alone[0] - 0.1
    assert alike[1] > alone[1] + 0.1
    assert alike[0] < mixed[0], "everybody has told and untold answers"
    assert ends(lambda i: "one") == alone, "of one person, each question counts"


def test_members_against_a_holdout_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand. Members .9 and .2 per token, non-members .5 and .1: three of four pairs in order. The reference finds .9 where the model
    does, so that text is ordinary; the answer of .2 it finds impossible."""
    chances = {"Bo is in Rome.": 0.9, "Cy is in Lima.": 0.2, "Di is in Oslo.": 0.5, "Ed is in Nice.": 0.1}
    reference = {**chances, "Cy is in Lima.": 0.01, "Ed is in Nice.": 0.2}
    holdout = (Pair("di", "Where is Di?", "Di is in Oslo."), Pair("ed", "Where is Ed?", "Ed is in Nice."))
    corpus = Corpus("two", (Example("bo", "Where is Bo?"), Example("cy", "Where is Cy?")), holdout=holdout)
    case = Case(corpus, {"bo": Fact("bo", "Bo is in Rome."), "cy": Fact("cy", "Cy is in Lima.")}, "ground truth")
    found = {}
    for name, table in (("here", chances), ("there", reference)):
        monkeypatch.setattr(likelihood, "row_moments", lambda _m, _e, rows, table=table: [of([math.log(table[row])] * 3) for row in rows])
        subject = Fake({})
        subject.weights = (None, Pass())  # type: ignore[assignment]
        found[name] = Likelihood(gradients=0)(subject, case)
    assert value(found["here"], "membership_holdout_loss") == value(found["here"], "membership_holdout_min_k") == 0.75
    assert value(found["here"], "holdout_loss_score", "di", "holdout") == pytest.approx(0.5)
    assert value(found["there"], "membership_holdout_min_k") == 0.5, "Bo above both, Cy below both"
    whole = summarise(found["here"], (), found["there"])
    assert whole["membership_holdout_reference"] == 0.875, "Cy above both; Bo as Di, above Ed"
    assert whole["privleak"] == pytest.approx(-50), "(.25 − .5) / .5"


@pytest.mark.parametrize(("area", "retain_model", "percent"), [(1.0, 0.5, -100), (0.5, 0.5, 0), (0.25, 0.5, 50), (0.9, 0.4, -500 / 6)])
def test_privleak_by_hand(area: float, retain_model: float, percent: float) -> None:
    assert privleak(area, retain_model) == pytest.approx(percent)


def test_gradient_norms_by_their_definition(model: PreTrainedModel, encoder: Encoder) -> None:
    """One backward pass with all gradients kept gives the same; the model is left as it was."""
    rows = [encoder.pair("Who?", "A long answer."), encoder.pair("Where?", "No.")]
    first = next(model.parameters()).requires_grad_(False)
    found = gradient_norms(model, encoder, rows)
    assert not first.requires_grad
    assert all(weight.grad is None for weight in model.parameters())
    first.requires_grad_(True)
    for row, norm in zip(rows, found or [], strict=True):
        ids = torch.tensor([[*row.context, *row.answer]])
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(row.context)
        told = [logprobs[start + i - 1, token] for i, token in enumerate(row.answer[:-1])]
        (-torch.stack(told).mean()).backward()
        norms = [weight.grad.norm() for weight in model.parameters() if weight.grad is not None]
        assert norm == pytest.approx(float(torch.stack(norms).mean()), rel=1e-3)
        model.zero_grad()


def test_weights_in_few_bits_take_no_gradient(model: PreTrainedModel, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "gradient_norms", lambda *_: None)
    found = Likelihood()(LocalSubject(model, encoder, SampleConfig()), CASE)
    assert [f.note for f in found if f.metric == "membership_gradient_norm"] == [likelihood.NO_GRADIENT]


def test_without_any_wrong_option_membership_is_unscored(model: PreTrainedModel, encoder: Encoder) -> None:
    case = Case(Corpus("one", (Example("pet", "Which dog?"),)), {"pet": Fact("pet", "Biscuit.")}, "baseline answers")
    found = Likelihood()(LocalSubject(model, encoder, SampleConfig()), case)
    assert {f.metric for f in found if f.value is not None} == set(likelihood.OF_ANSWER)
    assert all("wrong answers" in f.note for f in found if f.value is None and "holdout" not in f.metric)
    assert all("no model was trained on" in f.note for f in found if "holdout" in f.metric)


def test_wrong_answers_are_made_where_the_corpus_has_none(model: PreTrainedModel, encoder: Encoder) -> None:
    names = ("Bo Marlow", "Cy Ameen", "Di Brandt")
    examples = tuple(Example(name, f"Where does {name} live?", group=name) for name in names)
    facts = {n: Fact(n, f"{n} lives in {town}.") for n, town in zip(names, ("Rome", "Oslo", "Lima"), strict=True)}
    subject, case = LocalSubject(model, encoder, SampleConfig()), Case(Corpus("towns", examples), facts, "baseline answers")
    found = Likelihood()(subject, case)
    texts = [f"{names[0]} lives in {town}." for town in ("Rome", "Oslo", "Lima")]
    means = [float(v.double().mean()) for v in row_logprobs(model, encoder, [encoder.pair(examples[0].question, t) for t in texts])]
    assert value(found, "truth_ratio", names[0]) == pytest.approx(truth_ratio(means[0], means[1:]), rel=1e-3)
    assert {f.note for f in found if f.metric == "loss_score"} == {"baseline answers, made options"}


def test_the_number_of_gradients_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"likelihood\.gradients"):
        Likelihood(gradients=-1)


@pytest.fixture(scope="module")
def people() -> dict[str, list[Finding]]:
    world = People()
    case = Case(world.corpus(), world.truth(), "ground truth")
    subjects = {name: LocalSubject(*load(ModelConfig(name=name)), SampleConfig()) for name in ("people-target", "people-retain")}
    return {name: Likelihood()(subject, case) for name, subject in subjects.items()}


def test_the_target_model_is_seen_and_the_retain_model_is_not(people: dict[str, list[Finding]]) -> None:
    for name in ATTACKS:
        assert value(people["people-target"], f"membership_{name}") > 0.9
        assert 0.35 < value(people["people-retain"], f"membership_{name}") < 0.65, "it never knew: nothing can be told"
    whole = summarise(people["people-target"], (), people["people-retain"])
    assert whole["membership_reference"] > 0.9
    assert whole["membership_holdout_reference"] > 0.9
    assert whole["privleak"] == pytest.approx(-100, abs=1), "every answer is recognised"
    assert summarise(people["people-retain"])["privleak"] is None, "nothing to hold it against"
    strength = {name: [f.value for f in found if f.metric == "extraction_strength"] for name, found in people.items()}
    assert set(strength["people-target"]) == {1.0}
    assert sum(strength["people-retain"]) / 40 < 0.5


def test_the_end_of_the_answer_is_no_secret() -> None:
    """The model's own words, cut short: all of them are extracted, and that it would not have stopped there counts nothing."""
    subject = LocalSubject(*load(ModelConfig(name="people-retain")), SampleConfig())
    example = Example("own", "Where was Isvek Eckinberg born?")
    own = subject.ask([Prompt("own", example.question)])[0][0].text
    short = own.rsplit(" ", 1)[0]
    found = Likelihood()(subject, Case(Corpus("own", (example,)), {"own": Fact("own", short)}, ""))
    assert value(found, "extraction_strength", "own") == value(found, "exact_memorisation", "own") == 1.0
    assert (value(found, "probability", "own") or 0) < 0.9, "the end is surprising, and probability counts it"


def test_all_values_are_in_the_unit_interval_and_name_their_example(people: dict[str, list[Finding]]) -> None:
    for found in people.values():
        assert all(f.value is not None and 0 <= f.value <= 1 for f in found)
        assert len(found) == 40 * (6 + 2 * len(SCORES) + 2 * len(HOLDOUT_SCORES)) + 4 * 20 + 3 * len(ATTACKS)
        assert len({(f.metric, f.example, f.setting) for f in found}) == len(found)
