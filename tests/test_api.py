"""From Python: a live model and lists go in, a result comes out, and nothing of it is heavier than a command."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import unsay
from tests.conftest import byte_tokenizer, tiny_model
from unsay import api
from unsay.config import ConfigError

QUESTIONS = ["Where does Ada Example live?", {"question": "What does Ben Sample eat?", "strings": ["plums"]}]
RETAIN = [{"question": f"What is {n} and one?", "answer": f"{n} and one make {n + 1}."} for n in range(6)]
SMALL = [
    *("sample.max_new_tokens=8", "record.answers=2", "record.branches=0", "record.replay=0", "train.rounds=1", "train.batch=2"),
    *("train.learning_rate=1e-3", 'audit.probes=["greedy", "sampling", "utility"]', "sampling.n=2", "report.policy=default"),
]


def test_a_live_model_and_lists_become_a_result(tmp_path: Path):
    model, tokenizer = tiny_model(), byte_tokenizer()
    untouched = {name: value.clone() for name, value in model.state_dict().items()}
    out = tmp_path / "run"
    result = unsay.unlearn(model, QUESTIONS, retain=RETAIN, out=out, settings=SMALL, tokenizer=tokenizer)
    assert result.folder == out
    assert (result.checkpoint / "model.safetensors").is_file()
    assert result.report.is_file()
    assert set(result.metrics["greedy_keyword_recall"]) >= {"before", "after"}
    assert result.verdict is not None
    assert unsay.gate(out).lines == result.verdict.lines
    assert all(torch.equal(value, untouched[name]) for name, value in model.state_dict().items()), "it stays as it is"
    assert (tmp_path / "run-forget.jsonl").stat().st_mode & 0o077 == 0, "questions are for the owner alone"
    # Again: nothing is done anew. Another model: refused.
    assert unsay.unlearn(model, QUESTIONS, retain=RETAIN, out=out, settings=SMALL, tokenizer=tokenizer).metrics == result.metrics
    with pytest.raises(ConfigError, match="another recipe"):
        unsay.unlearn(tiny_model(1), QUESTIONS, retain=RETAIN, out=out, settings=SMALL, tokenizer=tokenizer)
    other = byte_tokenizer()
    other.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    with pytest.raises(ConfigError, match="another recipe"):
        unsay.unlearn(model, QUESTIONS, retain=RETAIN, out=out, settings=SMALL, tokenizer=other)


def test_any_model_is_audited(tmp_path: Path, tiny_folder: Path):
    rows = [{"question": "Where does Ada Example live?", "answer": "In Turin."}]
    probes = ['audit.probes=["greedy", "sampling"]', "sampling.n=2", "sample.max_new_tokens=8"]
    result = unsay.audit_model(tiny_folder, rows, out=tmp_path / "audit", settings=probes)
    assert result.metrics["sampling_worst_keyword_recall"]["after"] is not None
    assert result.report.is_file()


def test_rows_lie_beside_the_run_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert api._file(QUESTIONS, Path("."), "forget") == str(tmp_path / "here-forget.jsonl")
    assert api._file(QUESTIONS, Path("run"), "forget") == "run-forget.jsonl"


def test_what_cannot_be_is_said_before_anything_is_written(tmp_path: Path):
    with pytest.raises(ConfigError, match="tokenizer"):
        unsay.unlearn(tiny_model(), QUESTIONS, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="has its own"):
        unsay.unlearn("people-target", QUESTIONS, out=tmp_path / "run", tokenizer=byte_tokenizer())
    with pytest.raises(ConfigError, match="empty list"):
        unsay.unlearn("people-target", [], out=tmp_path / "run")
    with pytest.raises(ConfigError, match="no recipe 'dmeo'"):
        unsay.load("dmeo")
    assert not (tmp_path / "run").exists()


def test_a_shipped_recipe_loads_by_its_name_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert unsay.load("demo", ["train.rounds=3"]).train.rounds == 3


def test_importing_it_loads_nothing_heavy():
    code = "import sys, unsay; unsay.load; print([name for name in ('torch', 'transformers', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
