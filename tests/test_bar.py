"""The demo's targets can fail: a bar that everything passes measures nothing."""

import shutil
from pathlib import Path

import pytest

from unsay import run as runs
from unsay.config import dump, load
from unsay.measure import policy
from unsay.measure.summary import summarise
from unsay.measure.verdict import Measured, evaluate
from unsay.store.files import write_text
from unsay.store.folder import RunFolder, read_findings
from unsay.types import MODELS

QUESTIONS = 20
SMALL = (
    f"audit.limit={QUESTIONS}",
    "sampling.n=5",
    "prefill.n=5",
    "record.replay=0",
    'audit.probes=["greedy","sampling","prefill","multiple_choice","paraphrase"]',
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The demo up to where training begins, with the retain model audited."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "demo")
    recipe = load("recipes/demo.toml", SMALL)
    runs.open_folder(recipe, folder)
    runs.run_record(recipe, folder, runs.Watchers())
    for which in ("before", "retain_model"):
        runs.run_audit(recipe, folder, which, runs.Watchers())
    return folder


def failed(recorded: RunFolder, path: Path, *settings: str) -> set[str]:
    """The lines of the demo's policy that a method does not meet, among those whose probes ran."""
    shutil.copytree(recorded.path, path)
    folder, recipe = RunFolder(path), load("recipes/demo.toml", (*SMALL, *settings))
    write_text(folder.recipe_file, dump(recipe))
    runs.run_train(recipe, folder, runs.Watchers())
    runs.run_audit(recipe, folder, "after", runs.Watchers())
    summaries = {which: summarise(read_findings(folder.audit_file(which))) for which in MODELS}
    metrics = {name: {which: summaries[which][name] for which in MODELS} for name in summaries["after"]}
    results = evaluate(policy.load("demo"), Measured(metrics, dict.fromkeys(metrics, QUESTIONS)))
    return {line.metric for line in results if not line.passed and line.value is not None}


def test_the_untouched_model_fails(recorded, tmp_path):
    lines = failed(recorded, tmp_path / "run", "method=retain-only", "train.rounds=0")
    assert {
        "sampling_worst_keyword_recall",
        "prefill_worst_keyword_recall",
        "partial_secret_keyword_recall",
        "multiple_choice_most",
    } <= lines


@pytest.mark.slow
def test_retain_only_fails(recorded, tmp_path):
    assert "sampling_worst_keyword_recall" in failed(recorded, tmp_path / "run", "method=retain-only", "train.rounds=10")


@pytest.mark.slow
def test_gradient_ascent_fails(recorded, tmp_path):
    """It says nothing of the secret any more, and nothing else that makes sense."""
    assert "wellformed_share" in failed(recorded, tmp_path / "run", "method=ga", "train.rounds=10", "train.learning_rate=3e-4")


@pytest.mark.slow
def test_the_papers_own_preset_fails_where_an_answer_is_begun(recorded, tmp_path):
    lines = failed(
        recorded,
        tmp_path / "run",
        "pmc.preset=paper",
        "pmc.reject=0.0",
        "pmc.retain_weight=1.5",
        "model.freeze_embeddings=false",
        "train.rounds=20",
    )
    assert lines & {
        "partial_secret_keyword_recall",
        "prefill_worst_keyword_recall",
        "multiple_choice_most",
        "multiple_choice_least",
        "wellformed_share",
    }


def test_retain_model_itself_meets_every_line_of_what_a_model_says(recorded):
    """The retain model passes: otherwise the targets ask for more than never having known."""
    summary = summarise(read_findings(recorded.audit_file("retain_model")))
    metrics = {name: {"before": summary[name], "after": summary[name], "retain_model": summary[name]} for name in summary}
    results = evaluate(policy.load("demo"), Measured(metrics, dict.fromkeys(metrics, QUESTIONS)))
    assert not [line.metric for line in results if not line.passed and line.value is not None]
