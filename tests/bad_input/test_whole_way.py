"""What is small, long, in other scripts or hostile goes the whole way, or is refused in time."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests import architectures
from tests.bad_input.conftest import SECRET, Q
from tests.test_cli import call
from tests.test_report import fake_run
from unsay.config import ConfigError, load
from unsay.record import record, start
from unsay.report import build
from unsay.run import Watchers, run_audit
from unsay.store.files import jsonl
from unsay.store.folder import RunFolder
from unsay.text import contains, keyword_recall, rouge_l
from unsay.train import train
from unsay.types import Finding


def test_one_question_goes_the_whole_way(here: Path) -> None:
    architectures.write("llama", here / "model")
    Path("f.jsonl").write_text(Q)
    Path("r.jsonl").write_text("\n".join(json.dumps({"question": f"Fact {i}?", "answer": f"It is {i}."}) for i in range(3)))
    settings = ["corpus=files", "files.forget=f.jsonl", "files.retain=r.jsonl", "model.name=./model", "sample.max_new_tokens=6"]
    settings += [
        "record.answers=2",
        "record.branches=2",
        "train.rounds=1",
        "pmc.samples=2",
        'audit.probes=["greedy", "multiple_choice", "drift"]',
    ]
    recipe, folder = load(None, settings), RunFolder("run")
    start(recipe, folder)
    record(recipe, folder)
    train(recipe, folder)
    run_audit(recipe, folder, "after", Watchers())
    assert folder.checkpoint.exists()
    assert folder.audit_file("after").exists()


@pytest.mark.parametrize("times", [60, 10_000])
def test_a_question_longer_than_the_context(times: int, here: Path) -> None:
    architectures.write("llama", here / "model")
    Path("f.jsonl").write_text(Q + json.dumps({"question": f"{SECRET} " * times, "id": "long"}))
    recipe, folder = load(None, ["corpus=files", "files.forget=f.jsonl", "model.name=./model"]), RunFolder("run")
    start(recipe, folder)
    with pytest.raises(ConfigError, match=r"the prompt of 'long' is [\d,]+ tokens long, and this model reads at most 512") as caught:
        record(recipe, folder)
    assert SECRET not in str(caught.value)
    assert not (folder.vault / "baseline.jsonl").exists()


SCRIPTS = {"right to left": "اسمها ليلى حداد", "CJK": "彼女は王芳です。", "emoji": "👩‍👩‍👧 🙂", "Cyrillic": "Её зовут Анна"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_rouge_cannot_read_is_unscored(script: str) -> None:
    """Its tokens are [a-z0-9]+: a nought would say that everything was forgotten."""
    text = SCRIPTS[script]
    assert rouge_l(text, text) is None
    assert rouge_l(text, "something else") is None
    assert contains(f"so: {text}!", [text])
    assert keyword_recall(text, text) == (None if script == "emoji" else 1.0)
    assert keyword_recall(text, "something else") == (None if script == "emoji" else 0.0)


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("page", ["report.html", "checkpoint/README.md"])
def test_html_and_script_are_escaped_in(page: str, here: Path) -> None:
    """In the title, names of the model, its retain model and the policy, ids, settings and notes of findings."""
    folder = fake_run(here / "run")
    (here / "p<b>.toml").write_text(f"about = '{EVIL}'\n[[line]]\nname = '{EVIL}'\nmetric = 'utility'\nat_least = 100\nwhy = '{EVIL}'\n")
    recipe = folder.recipe()
    names = replace(recipe.model, name=f"./{EVIL}`", retain_model=EVIL)
    recipe = replace(recipe, title=f"]{EVIL}`\n# x", model=names, report=replace(recipe.report, policy="p<b>.toml"))
    folder.write_recipe(recipe)
    found = [Finding("greedy", "keyword_recall", 1.0, EVIL, EVIL, note=EVIL), Finding(EVIL, EVIL, 0.5, "q", EVIL)]
    with folder.audit_file("after").open("a") as file:
        file.write(jsonl(map(asdict, found)))
    build(folder)
    text = (folder.path / page).read_text()
    assert "alert(1)" in text  # it stands there, as text
    assert text.count("<script") == (page == "report.html"), "the page's own, named by its hash"
    assert "<img" not in text
    assert page == "report.html" or "\n# x" not in text  # no heading of its own


def test_a_mended_file_is_read_again(here: Path) -> None:
    """The folder that a first try has begun holds no answer yet, so the same command takes the file as it is now."""
    architectures.write("llama", here / "model")
    Path("r.toml").write_text('corpus = "files"\n[files]\nforget = "f.jsonl"\n[model]\nname = "./model"\n[record]\nown_retain = 0\n')
    Path("f.jsonl").write_text(json.dumps({"question": f"{SECRET} " * 60}))
    small = ("--set", "sample.max_new_tokens=4", "--set", "record.branches=0", "--set", "record.answers=1")
    assert "tokens long" in call("record", "r.toml", "--out", "run", *small, code=2)
    Path("f.jsonl").write_text(Q)
    call("record", "r.toml", "--out", "run", *small)
    assert [row["question"] for row in RunFolder("run").texts.rows("corpus") if row["kind"] == "forget"] == [f"{SECRET} one?"]
