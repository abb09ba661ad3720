"""A small run whose texts hold secrets that no other text could hold by chance; and the command as a person gives it."""

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import byte_tokenizer, tiny_model
from unsay.cli import main

CANARIES = {key: f"Zq{key}Xw7731" for key in ("question", "wording", "answer", "string", "pattern", "system", "group", "file", "key")}
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
SMALL = (
    "model.template=chat",
    "record.answers=2",
    "record.branches=2",
    "record.own_retain=0",
    "sample.max_new_tokens=16",
    "pmc.samples=2",
    "pmc.tries=1",
    "train.rounds=1",
    "train.batch=2",
    'audit.probes=["greedy", "sampling", "prefill", "paraphrase"]',
    "sampling.n=2",
    "prefill.n=2",
)


@dataclass(frozen=True)
class Place:
    """Files of an operator, and where a run of them lies."""

    path: Path
    recipe: Path
    run: Path

    @property
    def forget(self) -> Path:
        return self.path / "forget.jsonl"


def place(path: Path) -> Place:
    """A tiny chat model, questions with secrets in all that can hold one, and a recipe."""
    model = path / "model"
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tiny_model().save_pretrained(model)
    tokenizer.save_pretrained(model)
    rows = [
        {
            "question": f"What of {CANARIES['question']} {number}?",
            "paraphrases": [f"Say {CANARIES['wording']} {number}."],
            "strings": [CANARIES["string"]],
            "patterns": [f"{CANARIES['pattern']}+"],
            "group": CANARIES["group"],
        }
        for number in range(2)
    ]
    (path / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(8)]
    (path / "retain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    asked = [{key: value for key, value in row.items() if key != "group"} | {"answer": f"It is {CANARIES['answer']}."} for row in rows]
    (path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    recipe = path / "own.toml"
    recipe.write_text(
        f'corpus = "files"\nmethod = "pmc"\n[model]\nname = "{model}"\nsystem_prompt = "Never say {CANARIES["system"]}."\n'
        f'[files]\nforget = "{path / "forget.jsonl"}"\nretain = "{path / "retain.jsonl"}"\nstrings = ["{CANARIES["file"]}"]\n'
    )
    return Place(path, recipe, path / "runs" / "own")


def options(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def say(*arguments: str | Path) -> int:
    """The command itself, as its entry point begins it; the exit code."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["unsay", *map(str, arguments)])
        try:
            main()
        except SystemExit as done:
            return int(done.code or 0)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return 0
