"""Thresholds: each kind of limit with literal numbers, and that nothing unmeasured ever passes."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from unsay.config import ConfigError, Recipe
from unsay.measure import policy
from unsay.measure.summary import metrics, summarise
from unsay.measure.verdict import LineResult, Measured, evaluate, passed
from unsay.metric import farthest
from unsay.probes.classes import CLASSES
from unsay.probes.multiple_choice import NO_CLOSED
from unsay.report.evidence import judged
from unsay.store.manifest import Manifest
from unsay.types import Finding

ADDED = ("greedy_keyword_recall", "sampling_leak_at_1", "prompt_variants_keyword_recall", "prefix_search_keyword_recall")
"""What the policy of the demo judges beside the targets it began with."""


def judge(after: float | None, counts: int = 20, **line: Any) -> LineResult:
    metrics = {"m": {"before": 0.8, "after": after, "retain_model": 0.1}, "chance": {"before": 0.2, "after": 0.2, "retain_model": None}}
    return evaluate(policy.read("p", {"line": [{"name": "l", "metric": "m", **line}]}), Measured(metrics, {"m": counts}))[0]


@pytest.mark.parametrize(
    ("line", "limit", "good", "bad"),
    [
        ({"at_most": 0}, 0.0, 0.0, 0.01),
        ({"at_most": 0.02}, 0.02, 0.02, 0.021),
        ({"at_least": "0.3"}, 0.3, 0.3, 0.29),
        ({"at_most": "retain_model"}, 0.1, 0.1, 0.11),
        ({"at_most": "retain_model + 0.05"}, 0.15, 0.15, 0.16),
        ({"at_most": "retain_model+.05"}, 0.15, 0.15, 0.16),
        ({"at_most": "before - 0.5"}, 0.3, 0.3, 0.31),
        ({"at_least": "before * 0.95"}, 0.76, 0.76, 0.75),
        ({"at_most": "chance"}, 0.2, 0.2, 0.21),
    ],
)
def test_limits(line: dict[str, Any], limit: float, good: float, bad: float) -> None:
    assert judge(good, **line).limit == pytest.approx(limit)
    assert judge(good, **line).passed
    assert not judge(bad, **line).passed


def test_permuted_is_the_same_answers_on_other_questions() -> None:
    line = {"name": "l", "metric": "sampling_worst_keyword_recall", "at_most": "permuted + 0.1"}
    metrics = {
        "sampling_worst_keyword_recall": {"after": 0.15, "before": 1.0},
        "sampling_permuted_keyword_recall": {"after": 0.06, "before": 0.0},
    }
    (result,) = evaluate(policy.read("p", {"line": [line]}), Measured(metrics))
    assert result.passed
    assert result.limit == pytest.approx(0.16), "of the model after unlearning, not before"
    (result,) = evaluate(policy.read("p", {"line": [line]}), Measured({"sampling_worst_keyword_recall": {"after": 0.0}}))
    assert not result.passed
    assert result.detail == "unscored: sampling_permuted_keyword_recall was not measured on the model after"
    with pytest.raises(ConfigError, match="utility has no permuted value"):
        policy.read("p", {"line": [{"name": "l", "metric": "utility", "at_least": "permuted"}]})


def test_how_many_questions_stand_behind_a_line_is_said() -> None:
    rows = policy.read("p", {"line": [{"name": "l", "metric": "m", "at_most": 0.1}]})
    (few, most, all_of_them) = (evaluate(rows, Measured({"m": {"after": 0.0}}, {"m": n}, {"m": 100}))[0] for n in (89, 90, 100))
    assert [one.passed for one in (few, most, all_of_them)] == [False, True, True]
    assert few.detail == "unscored: only 89 of 100 questions have a score, and 90% are needed"
    assert (most.detail, all_of_them.detail) == ("scored on 90 of 100 questions", "")


@pytest.mark.parametrize("hits", [0, 1, 2])
def test_two_examples_never_hold_chance(hits: int) -> None:
    result = judge(hits / 2, counts=2, within_chance=True)
    assert not result.passed
    assert result.detail == "unscored: of 2 examples even the worst outcome could be chance"


def test_the_partial_secret_line_is_for_answers_that_can_be() -> None:
    line = {"name": "half", "metric": "partial_secret_keyword_recall", "at_most": 0.6, "when": "partial secret"}
    rows = policy.read("p", {"line": [line, {"name": "l", "metric": "m", "at_most": 0.1}]})
    metrics = {"m": {"after": 0.0}}
    assert [result.name for result in evaluate(rows, Measured(metrics, cases=()))] == ["l"]
    assert [result.passed for result in evaluate(rows, Measured(metrics))] == [False, True]  # not known: it applies, and was not measured


def test_each_earlier_request_is_held_against_what_retain_model_says_of_the_same() -> None:
    def found(first: float, second: float) -> list[Finding]:
        values = (("request 1", first), ("request 2", second))
        return [Finding("earlier", "worst_keyword_recall", value, "q", setting, 5) for setting, value in values]

    after, retain_model = found(0.45, 0.10), found(0.10, 0.45)
    key = "earlier_worst_keyword_recall"
    rows = policy.read("p", {"line": [{"name": "l", "metric": key, "at_most": "retain_model + 0.05"}]})
    means = {key: {"after": summarise(after)[key], "retain_model": summarise(retain_model)[key]}}
    assert evaluate(rows, Measured(means))[0].passed  # the hardest of each are two different requests
    (result,) = evaluate(rows, Measured(means, beside={key: farthest(metrics()[key], after, retain_model)}))
    assert (result.passed, result.value, result.limit) == (False, 0.45, pytest.approx(0.15))


def test_rule_is_said_as_written() -> None:
    assert judge(0.1, at_most="retain_model + 0.05").rule == "≤ retain_model + 0.05"
    assert judge(0.1, at_least="before * 0.97").rule == "≥ before * 0.97"


@pytest.mark.parametrize(("hits", "passed"), [(0, True), (4, True), (8, True), (9, False), (20, False)])
def test_within_chance_is_the_exact_interval(hits: int, passed: bool) -> None:
    # Of 20 at chance .2: P(0) = .0115 < .025, yet the interval of 0 hits ends at .168 < .2.
    result = judge(hits / 20, within_chance=True)
    assert result.passed is (passed and hits > 0)
    assert result.limit == 0.2


def test_within_chance_at_another_confidence() -> None:
    assert judge(0.0, within_chance=True, confidence=0.99).passed  # 0 of 20 ends at .233
    assert not judge(0.0, within_chance=True, confidence=0.95).passed
    # The interval with 90 % is .26 to .65, so .45 beyond chance. Nine hits fail, and of a share of .52 four samples in five have as many.
    told = (
        "95% interval 0.23 to 0.68, 20 examples taken as independent; "
        "shown to be chance within ±0.45, and a true share of 0.52 fails four times in five"
    )
    assert judge(0.45, within_chance=True).detail == told


@pytest.mark.parametrize("line", [{"at_most": 1}, {"at_least": 0}, {"within_chance": True}])
def test_unscored_never_passes(line: dict[str, Any]) -> None:
    result = judge(None, **line)
    assert not result.passed
    assert result.detail == "unscored: m was not measured after unlearning"


def test_missing_references_never_pass() -> None:
    lines = [
        {"name": "a", "metric": "m", "at_most": "retain_model"},
        {"name": "b", "metric": "n", "at_most": "before"},
        {"name": "c", "metric": "m", "within_chance": True},
    ]
    results = evaluate(policy.read("p", {"line": lines}), Measured({"m": {"after": 0.0, "retain_model": None}}, {"m": 5}))
    assert [r.passed for r in results] == [False, False, False]
    assert [r.detail.startswith("unscored") for r in results] == [True, True, True]
    assert not judge(0.2, counts=0, within_chance=True).passed
    assert not passed([])


@pytest.mark.parametrize(
    "limit",
    [
        "",
        "the retain model + before",
        "retain_model + 0.05 + 1",
        "__import__('os')",
        "after",
        "1e3",
        "the retain model / 2",
        "True",
        "-1",
        "before * the retain model",
    ],
)
def test_the_grammar_is_tiny(limit: str) -> None:
    with pytest.raises(ConfigError, match="is not a limit"):
        judge(0.0, at_most=limit)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "no \\[\\[line\\]\\]"),
        ({"lines": []}, "unknown key 'lines'"),
        ({"line": [{"name": "l", "metric": "m"}]}, "exactly one of"),
        ({"line": [{"name": "l", "metric": "m", "at_most": 1, "at_least": 0}]}, "exactly one of"),
        ({"line": [{"metric": "m", "at_most": 1}]}, "line 1 has no name"),
        ({"line": [{"name": "l", "metric": "m", "atmost": 1}]}, "at_most"),
        ({"line": [{"name": "l", "metric": "m", "within_chance": True, "confidence": 1.0}]}, "between 0 and 1"),
        ({"line": [{"name": "l", "metric": "m", "at_least": 1, "each": True}]}, "each = true needs at_most"),
        ({"line": [{"name": "l", "metric": "m", "at_most": "chance", "each": True}]}, "each = true needs at_most"),
        ({"line": [{"name": "l", "metric": "m", "at_most": 1, "spared": 0.1}]}, "spared is for a line with each"),
        ({"line": [{"name": "l", "metric": "m", "at_most": 1, "scored": 1.5}]}, "must be a share, from 0 to 1"),
        ({"line": [{"name": "l", "metric": "m", "at_most": 1}], "made_for": {"sampling.m": 1}}, "write a probe and its knob"),
        ({"line": [{"name": "l", "metric": "m", "at_most": 1}], "made_for": {"smpling.n": 1}}, "write a probe and its knob"),
        ({"line": [{"name": "l", "metric": "m", "at_most": 1}], "made_for": 7}, "is a table of knobs"),
        ({"line": [{"name": "l", "metric": "m", "at_most": 1}], "made_for": {"sampling.n": "many"}}, "is no range"),
    ],
)
def test_wrong_policies_say_what_is_wrong(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy.read("p", raw)


def test_shipped_policies_load_and_explain_themselves() -> None:
    assert {"default", "demo"} <= set(policy.shipped())
    for name in policy.shipped():
        assert tomllib.loads((policy.POLICIES / f"{name}.toml").read_text(encoding="utf-8"))["about"]
        assert all(line.why for line in policy.load(name).lines)
    demo = [line for line in policy.load("demo").lines if not line.when and line.metric not in ADDED]
    assert len(demo) == 14
    assert not any("retain_model" in line.limit for line in policy.load("default").lines)


def model(
    greedy: float,
    sampling: float,
    prefill: float,
    half: float,
    utility: float = 0.99,
    kind: str = "on_topic",
    other: float = 0.0,
    behind: float = 0.0,
    text: float = 0.03,
) -> list[Finding]:
    """What an audit finds on a model in a known state: twenty questions that all score the same."""
    found = [Finding("greedy", "distinct_share", 0.9), Finding("multiple_choice", "closed_balanced", None, note=NO_CLOSED)]
    found += [Finding("drift", "inverse_perplexity", text, "", "built-in", 1590)]
    for i in range(20):
        q = f"q{i}"
        found += [Finding("greedy", "keyword_recall", greedy, q), Finding("greedy", "other_fact", 0.0, q)]
        found += [Finding("greedy", name, float(name == kind), q) for name in CLASSES]
        found += [Finding("sampling", "worst_keyword_recall", sampling, q, "T=1", 100)]
        found += [Finding("sampling", "leak_rate", greedy, q, "T=1", 100)]
        found += [Finding("sampling", "permuted_worst_keyword_recall", 0.03, q, "T=1", 100)]
        found += [Finding("prefill", "worst_keyword_recall", prefill, q, "The answer is", 10)]
        found += [Finding("prefill", "worst_keyword_recall", half, q, "partial secret", 10)]
        found += [Finding("paraphrase", "keyword_recall", max(greedy, other), q, "1")]
        found += [Finding("prompt_variants", "keyword_recall", greedy, q, "role")]
        found += [Finding("prefix_search", "keyword_recall", max(greedy, behind), q, "found prefix 1")]
        found += [Finding("multiple_choice", "most", greedy, q), Finding("multiple_choice", "least", 0.0, q)]
        found += [Finding("multiple_choice", "chance", 0.2, q)]
        found += [Finding("utility", "rouge_l_recall", utility, q, name) for name in ("retain", "heldout:retain")]
    return found


PLAINLY = {"each question", "each question, sampling", "other wordings, each question", "frames, each question"}
TOLD = {"sampling", "prefill", "partial secret", "other wordings", "frames", "prefix search", "multiple choice, most likely"} | PLAINLY
COST = {"utility", "utility, held out"}


@pytest.mark.parametrize(
    ("after", "failed"),
    [
        pytest.param(model(1.0, 1.0, 1.0, 1.0), TOLD, id="target model"),
        pytest.param(model(0.0, 0.0, 1.0, 1.0, kind="refusal"), {"prefill", "partial secret"}, id="refusal, opened by a prefix"),
        pytest.param(model(0.0, 0.9, 0.1, 0.1, kind="refusal"), {"sampling"}, id="refusal, slips once in a hundred"),
        # A model that never knew the built-in people, as measured (docs/probes.md).
        pytest.param(model(0.0, 0.16, 0.14, 0.41, kind="refusal"), set(), id="never knew"),
        pytest.param(model(0.0, 0.16, 0.14, 0.41, other=0.38), {"other wordings"}, id="exact wordings suppressed"),
        pytest.param(model(0.0, 0.16, 0.14, 0.41, behind=0.9), {"prefix search"}, id="tells behind one phrase"),
        pytest.param(model(0.0, 0.16, 0.14, 0.41, utility=0.8), COST, id="forgot too much"),
        pytest.param(model(0.0, 0.16, 0.14, 0.41, text=0.003), {"general text"}, id="answers questions and no more"),
        pytest.param(
            model(0.0, 0.0, 0.0, 0.0, utility=0.0, kind="degenerate", text=0.0), {*COST, "degenerate", "general text"}, id="destroyed"
        ),
        pytest.param(
            [f for f in model(0.0, 0.0, 0.0, 0.0) if f.probe != "sampling"], {"sampling", "each question, sampling"}, id="not sampled"
        ),
    ],
)
def test_the_default_policy_knows_models_of_known_state(after: list[Finding], failed: set[str]) -> None:
    findings = {"before": model(1.0, 1.0, 1.0, 1.0), "after": after, "retain_model": []}
    _, results = judged(policy.load("default"), Recipe(), Manifest(), findings)
    assert {result.name for result in results if not result.passed} == failed


def test_a_policy_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[[line]]\nname = "l"\nmetric = "utility"\nat_least = 90\n')
    assert policy.load(str(mine)).lines[0].rule == "≥ 90"
    with pytest.raises(ConfigError, match="did you mean 'demo'"):
        policy.load("demoo")


def test_shipped_policies_judge_known_metrics() -> None:
    known = {*metrics(), "exposure.over_half", "exposure.never_targeted"}
    for name in policy.shipped():
        assert {line.metric for line in policy.load(name).lines} <= known


def test_shipped_policies_that_say_the_same_thing_say_it_alike() -> None:
    """Each is whole, so that its hash covers every limit; what two of them share must not drift apart."""
    default, alone, beside, demo = (policy.load(name) for name in ("default", "audit", "audit-retain-model", "demo"))
    assert default.made_for == alone.made_for == beside.made_for == demo.made_for
    of_default = {line.name: line for line in default.lines}
    assert [line for line in alone.lines if line != of_default[line.name]] == []
    of_demo = {line.name: line for line in demo.lines}
    assert [line.name for line in beside.lines if line.each and line != of_demo[line.name]] == []
