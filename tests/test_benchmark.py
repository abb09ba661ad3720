"""Benchmarks: what is read of the harness, by literal results; the command with a made-up harness; the real one where it is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.test_probes import Fake
from unsay.cli.app import app, commands
from unsay.config import ConfigError, ModelConfig, SampleConfig
from unsay.lm.model import load
from unsay.lm.subject import LocalSubject
from unsay.measure.policy import read as policy
from unsay.probes import benchmark
from unsay.probes.benchmark import Benchmark, read
from unsay.report.evidence import judged
from unsay.store.folder import RunFolder, read_findings
from unsay.types import MODELS, Case, Corpus

EMPTY = Case(Corpus("none", ()), {}, "")


def sample(number: int, scores: Mapping[str, Any], filtered: str = "none") -> dict[str, Any]:
    return {"doc_id": number, "filter": filtered, "metrics": list(scores), "doc": {"question": "not to be kept"}, **scores}


def rows(path: Path, some: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three questions of ARC-Easy and five of MMLU, of two subjects; one text holds a separator that is no end of line."""
    arc = [
        {"id": str(n), "question": f"Is it {n}\u2028?", "choices": {"text": ["no", "yes"], "label": ["A", "B"]}, "answerKey": "AB"[n % 2]}
        for n in range(3)
    ]
    mmlu = [
        {"question": f"{n}?", "subject": "anatomy" if n < 3 else "astronomy", "choices": list("wxyz"), "answer": n % 4} for n in range(5)
    ]
    rows(tmp_path / "arc" / "ARC-Easy_test.jsonl", arc)
    rows(tmp_path / "mmlu" / "test.jsonl", mmlu)
    rows(tmp_path / "mmlu" / "dev.jsonl", [mmlu[0], mmlu[4]])
    return tmp_path


def test_each_question_and_the_harness_own_error() -> None:
    found = {
        "samples": {"arc_easy": [sample(7, {"acc": 1.0, "acc_norm": 0.0}), sample(9, {"acc": 0.0, "acc_norm": 0.0})]},
        "results": {"arc_easy": {"acc,none": 0.5, "acc_stderr,none": 0.25, "acc_norm_stderr,none": 0.0}},
    }
    assert [(f.metric, f.value, f.example, f.setting, f.n, f.note) for f in read("arc_easy", found)] == [
        ("accuracy", 1.0, "arc_easy-7", "arc_easy", 1, "acc"),
        ("acc_norm", 0.0, "arc_easy-7", "arc_easy", 1, ""),
        ("accuracy", 0.0, "arc_easy-9", "arc_easy", 1, "acc"),
        ("acc_norm", 0.0, "arc_easy-9", "arc_easy", 1, ""),
        ("accuracy", 0.25, "", "arc_easy, standard error", 2, "acc"),
    ]


def test_parts_of_one_question_and_several_filters() -> None:
    """A part of a single question has no error of its own, so it is that of the mean over all four: stdev / 2."""
    parts = {"mmlu_astronomy": [sample(0, {"acc": 1.0})], "mmlu_anatomy": [sample(n, {"acc": 0.0}) for n in range(3)]}
    results = {"mmlu_astronomy": {"acc_stderr,none": "N/A"}, "mmlu_anatomy": {"acc_stderr,none": 0.0}}
    *each, error = read("mmlu", {"samples": parts, "results": results})
    assert [f.example for f in each] == ["mmlu_astronomy-0", "mmlu_anatomy-0", "mmlu_anatomy-1", "mmlu_anatomy-2"]
    assert (error.value, error.n) == (0.25, 4)
    strict = {"samples": {"sums": [sample(n, {"exact_match": float(n)}, "strict") for n in (0, 1)]}, "results": {"sums": {}}}
    assert [(f.setting, f.note) for f in read("sums", strict)] == [("sums, strict", "exact_match")] * 2 + [
        ("sums, strict, standard error", "exact_match")
    ]


def test_a_task_without_a_score_of_single_questions_is_unscored() -> None:
    found = read("prose", {"samples": {"prose": [sample(0, {"word_perplexity": (-40.0, 9)})]}, "results": {"prose": {}}})
    assert [(f.value, f.note) for f in found] == [(None, benchmark.NO_SCORE)]


def test_what_the_harness_is_called_with(data: Path) -> None:
    asked = Benchmark(("arc_easy", "mmlu"), limit=3, data=str(data))._specified()
    assert asked["arc_easy"]["samples"] == {"arc_easy": [0, 1, 2]}
    assert asked["mmlu"]["samples"] == {"mmlu_anatomy": [0, 1], "mmlu_astronomy": [0]}, "rows 0, 1 and 3, by their place"
    assert [task["task"] for task in asked["mmlu"]["tasks"][0]["task"]] == ["mmlu_anatomy", "mmlu_astronomy"]
    assert Benchmark(("hellaswag",), hub=True, limit=9)._specified() == {
        "hellaswag": {"tasks": ["hellaswag"], "limit": 9, "num_fewshot": None}
    }


def test_what_is_missing_is_said_first(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSAY_DATA", raising=False)
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"unsay\[lm-eval\]"):
        Benchmark(data=str(data)).check()
    assert {f.note for f in Benchmark()(Fake({}), EMPTY)} == {"this model shows no weights"}
    monkeypatch.setattr(benchmark, "find_spec", lambda name: True)
    Benchmark(("arc_easy", "mmlu"), data=str(data)).check()
    with pytest.raises(ConfigError, match=r"ARC-Challenge_test\.jsonl: --data DIR"):
        Benchmark(data=str(data)).check()
    with pytest.raises(ConfigError, match=r"hellaswag has no local files; --set benchmark\.hub=true"):
        Benchmark(("hellaswag",)).check()


@pytest.mark.parametrize("knobs", [{"tasks": ()}, {"limit": -1}, {"shots": -1}])
def test_the_knobs_are_checked(knobs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"benchmark\.{next(iter(knobs))}"):
        Benchmark(**knobs)


def test_the_command_adds_it_to_a_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up harness of which the retain model answers nothing right: both models in report.json, on the page and under a policy;
    what another probe found stays."""
    commands()
    rows(tmp_path / "questions.jsonl", [{"question": "Where was Isvek Eckinberg born?", "answer": "In Turin."}])
    out = tmp_path / "run"
    words = [
        "audit",
        "people-target",
        "--questions",
        str(tmp_path / "questions.jsonl"),
        "--retain-model",
        "people-retain",
        "--out",
        str(out),
    ]
    assert CliRunner().invoke(app, [*words, "--set", 'audit.probes=["greedy"]']).exit_code == 0
    greedy = [f for f in read_findings(out / "audit" / "after.jsonl") if f.probe == "greedy"]
    right = iter((1.0, 0.0))

    def made_up(weights: Any, specified: Mapping[str, Any]) -> dict[str, Any]:
        score = next(right)
        samples = [sample(n, {"acc": score, "acc_norm": score}) for n in range(3)]
        return {name: {"samples": {name: samples}, "results": {name: {"acc_stderr,none": 0.125}}} for name in specified}

    monkeypatch.setattr(benchmark, "find_spec", lambda name: True)
    monkeypatch.setattr(benchmark, "harness", made_up)
    done = CliRunner().invoke(app, ["benchmark", str(out), "--task", "arc_easy", "--data", str(data)])
    assert done.exit_code == 0, done.output
    told = json.loads((out / "report.json").read_text())
    assert [told["metrics"][key]["after"] for key in ("arc_easy", "arc_easy_norm", "benchmark_accuracy")] == [1.0, 1.0, 1.0]
    assert told["metrics"]["arc_easy_standard_error"] == {"before": None, "after": 0.125, "retain_model": 0.125}
    assert told["metrics"]["arc_easy"]["retain_model"] == 0.0
    assert {"probe": "benchmark", "setting": "arc_easy, standard error", "before": None, "after": 0.125, "retain_model": 0.125} in told[
        "settings"
    ]
    page = (out / "report.html").read_text()
    assert "ARC-Easy" in page
    assert "not to be kept" not in page + (out / "audit" / "after.jsonl").read_text()
    assert [f for f in read_findings(out / "audit" / "after.jsonl") if f.probe == "greedy"] == greedy
    folder, found = RunFolder(out), {which: read_findings(out / "audit" / f"{which}.jsonl") for which in MODELS}
    line = {"name": "ability", "metric": "arc_easy", "at_least": "retain_model - 0.05"}
    _, results = judged(policy("mine", {"line": [line]}), folder.recipe(), folder.manifest(), found)
    assert [(one.value, one.limit, one.passed) for one in results] == [(1.0, -0.05, True)]


@pytest.mark.slow
def test_the_real_harness_scores_as_by_hand(data: Path) -> None:
    """The likelier answer, behind the harness' own wording."""
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install 'unsay[lm-eval]'")
    subject = LocalSubject(*load(ModelConfig(name="people-target")), SampleConfig())
    found = Benchmark(("arc_easy", "mmlu"), data=str(data))(subject, EMPTY)
    right = []
    for n in range(3):
        totals = []
        for choice in (" no", " yes"):
            context = subject.encoder.tokenizer(f"Question: Is it {n}\u2028?\nAnswer:", add_special_tokens=False).input_ids
            whole = subject.encoder.tokenizer(f"Question: Is it {n}\u2028?\nAnswer:{choice}", add_special_tokens=False).input_ids
            with torch.no_grad():
                logprobs = subject.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
            totals.append(sum(float(logprobs[i - 1, whole[i]]) for i in range(len(context), len(whole))))
        right.append(float((totals[1] > totals[0]) == (n % 2 == 1)))
    assert [f.value for f in found if f.setting == "arc_easy" and f.metric == "accuracy"] == right
    assert sum(f.setting == "mmlu" for f in found) == 5
