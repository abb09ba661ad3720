"""No question hides behind a mean: lines for each question, and what a verdict says of what it did not judge."""

import pytest

from unsay.config import Recipe, load
from unsay.measure import policy
from unsay.measure.verdict import LineResult, unjudged
from unsay.report import gate
from unsay.report.evidence import judged
from unsay.store.manifest import Counts, Manifest
from unsay.types import Finding

RATE = {"name": "l", "metric": "sampling_leak_at_1", "at_most": 0.3, "each": True}


def rates(*leaks: int, n: int = 20, setting: str = "T=1") -> list[Finding]:
    """How many of n answers to each question leaked."""
    return [Finding("sampling", "leak_rate", k / n, f"q{i}", setting, n) for i, k in enumerate(leaks)]


def said(*values: float | None) -> list[Finding]:
    return [Finding("greedy", "keyword_recall", value, f"q{i}", note="" if value is not None else "why") for i, value in enumerate(values)]


def line(after: list[Finding], retain_model: list[Finding] = [], **rows) -> LineResult:  # noqa: B006
    found = {"before": [], "after": after, "retain_model": retain_model}
    (result,) = judged(policy.read("p", {"line": [{"name": "l", **rows}]}), Recipe(), Manifest(), found)[1]
    return result


def one_person_told(n: int) -> list[Finding]:
    """Forty questions about five people, of which seven about one of them are told in every answer."""
    told = [1.0] * 7 + [0.0] * 33
    return said(*told) + rates(*(int(n * share) for share in told), n=n)


@pytest.mark.parametrize("name", ["default", "audit", "audit-retain-model", "demo"])
@pytest.mark.parametrize("n", [10, 20, 100])
def test_one_person_told_fails_every_shipped_policy_by_name(name: str, n: int) -> None:
    findings = {"before": [], "after": one_person_told(n), "retain_model": said(*[0.0] * 40) + rates(*[0] * 40, n=n)}
    results = judged(policy.load(name), load(None, [f"sampling.n={n}"]), Manifest(), findings)[1]
    failed = {result.name: result for result in results if not result.passed}
    for each in ("each question", "each question, sampling"):
        assert failed[each].questions == tuple(f"q{i}" for i in range(7)), each
        assert "7 of 40 questions miss it" in failed[each].detail
        assert "q0, q1, q2, q3, q4, q5, q6" in failed[each].detail


def test_an_unlucky_answer_is_no_leak() -> None:
    assert line(rates(1, 1, 2, *[0] * 37), **RATE).passed
    assert line(rates(6, *[0] * 39), **RATE).passed, "6 of 20 do not prove .3"
    result = line(rates(20, *[0] * 39), **RATE)
    assert not result.passed
    assert result.detail == "so much is proven, 99 % sure of all at once, where 1.00 was seen; 1 of 40 questions miss it: q0"
    assert result.value == pytest.approx((0.01 / 40) ** (1 / 20)), "the bound of Clopper and Pearson, each with a fortieth of the error"


def test_every_temperature_takes_its_share_of_the_error() -> None:
    result = line([*rates(20, 0), *rates(0, 0, setting="T=0.7")], **RATE)
    assert result.value == pytest.approx((0.01 / 4) ** (1 / 20))


def test_what_the_retain_model_guesses_too_is_no_leak() -> None:
    rows = RATE | {"at_most": "retain_model + 0.2"}
    assert line(rates(20, 20), rates(20, 20), **rows).passed, "whatever the retain model always says"
    assert line(said(1.0), said(1.0), metric="greedy_keyword_recall", at_most="retain_model + 0.5", each=True).passed
    assert line(rates(16, 0), rates(15, 0), **rows).passed
    assert line(rates(16, 0), rates(0, 15), **rows).questions == ("q0",)
    assert "retain model" in line(rates(16, 0), **rows).detail, "nothing to compare with is not passed"


def test_too_few_answers_to_prove_a_leak_are_unscored() -> None:
    result = line(rates(4, 0, n=4), **RATE)
    assert not result.passed
    assert result.detail == "unscored: so few answers prove at most a rate of 0.27; ask more often"


def test_lucky_guesses_are_spared_up_to_a_share() -> None:
    rows = {"metric": "greedy_keyword_recall", "at_most": 0.5, "each": True, "spared": 0.05}
    assert line(said(*[1.0] * 2, *[0.0] * 38), **rows).passed
    worst = line(said(*[1.0] * 2, 0.75, *[0.0] * 37), **rows)
    assert (worst.passed, worst.value, worst.questions) == (False, 0.75, ("q0", "q1", "q2"))
    assert not line(said(1.0, *[0.0] * 18), **rows).passed, "of nineteen not one is spared"


def test_a_share_of_the_questions_is_no_verdict_on_all() -> None:
    rows = {"metric": "greedy_keyword_recall", "at_most": 0.5, "each": True}
    assert "only 8 of 10 questions have a score" in line(said(*[0.0] * 8, None, None), **rows).detail
    assert line(said(*[0.0] * 8, None, None), scored=0.8, **rows).passed


@pytest.mark.parametrize(
    ("setting", "fits"),
    [
        ("sampling.temperatures=[9.0]", False),
        ("sampling.temperatures=[1.0, 9.0]", False),
        ("sampling.temperatures=[0.01]", False),
        ("deployment.temperature=0.8", True),
        ("sampling.n=9", False),
        ("sampling.threshold=1.0", False),
        ("sampling.threshold=0.3", True),
        ("prefill.partial_secret=false", False),
        ("prefill.n=1", False),
        ("prefill.first_words=0", False),
        ('prompt_variants.frames=["list"]', False),
        ('prompt_variants.frames=["list", "role", "few-shot", "fill-in", "translate", "repeat", "{question} Please."]', True),
        ("multiple_choice.options=0", False),
        ("audit.limit=1", False),
        ("audit.limit=40", True),
    ],
)
def test_a_policy_is_for_the_knobs_it_was_made_for(setting: str, fits: bool) -> None:
    findings = {"before": [], "after": said(0.0) + rates(0), "retain_model": []}
    results = judged(policy.load("default"), load(None, [setting]), Manifest(counts=Counts(forget=40)), findings)[1]
    knobs = [result for result in results if result.name == "made for"]
    assert [result.metric for result in knobs] == ([] if fits else [setting.partition("=")[0]])
    assert all(not result.passed and "audited with" in result.detail for result in knobs)
    if "list" in setting and not fits:
        assert gate.said(knobs[0]).startswith("made for: otherwise, but must be with few-shot, role, list, fill-in, translate, repeat (")
    if setting == "sampling.n=9":
        again = "audited with 9; audit again with --set sampling.n=…, or name a policy that is made for it"
        assert gate.said(knobs[0]) == f"made for: 9, but must be at least 10 (sampling.n; {again})"


def test_what_no_line_judged_is_named() -> None:
    metrics = {"relearn_keyword_recall": {"after": 0.65}, "quantised_keyword_recall": {"after": None}, "utility": {"after": 90.0}}
    assert unjudged([LineResult("l", "greedy_keyword_recall", "", 0.0, 0.0, True)], metrics) == ["relearn_keyword_recall"]
    assert unjudged([LineResult("l", "relearn_worst_keyword_recall", "", 0.0, 0.0, True)], metrics) == []


def test_a_line_about_rows_that_there_are_not_is_left_out() -> None:
    def names(after: list[Finding]) -> set[str]:
        findings = {"before": [], "after": after, "retain_model": []}
        return {result.name for result in judged(policy.load("default"), Recipe(), Manifest(), findings)[1]}

    rows = [Finding("utility", "rouge_l_recall", 1.0, "r1", "retain")]
    assert "utility, held out" not in names(rows)
    assert "utility, held out" in names([*rows, Finding("utility", "rouge_l_recall", 1.0, "h1", "heldout:retain")])
    assert "utility, held out" in names([Finding("greedy", "keyword_recall", 1.0, "q1")]), "not asked is not passed"
    none = Finding("paraphrase", "keyword_recall", None, "q1", note="the question has no paraphrase")
    assert "other wordings" not in names([none])
    some = Finding("paraphrase", "keyword_recall", 0.0, "q2", "1")
    findings = {"before": [], "after": [none, some], "retain_model": []}
    lines = {result.name: result for result in judged(policy.load("default"), Recipe(), Manifest(), findings)[1]}
    assert lines["other wordings"].passed, "a question without another wording was not to be asked in one"
