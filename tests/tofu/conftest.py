"""TOFU's files in small: made ones with their shape, and where the real ones are, those."""

import json
import os
from pathlib import Path

import pytest

PAPER = {"heldout_authors": 0.0, "mix": 0}
"""Every departure of ours switched off."""


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two forget authors and eight retain authors, with answers that are easy to find again."""
    folder = tmp_path / "tofu"
    folder.mkdir()
    forget = [
        {
            "question": f"forget question {i}?",
            "answer": f"SECRET-{i} plain",
            "paraphrased_question": f"forget question {i} again?",
            "paraphrased_answer": f"SECRET-{i} reworded",
            "perturbed_answer": [f"wrong {i} {k}" for k in range(5)],
        }
        for i in range(40)
    ]
    for name, retain, holdout in (
        ("forget01", "retain99", "holdout01"),
        ("forget05", "retain95", "holdout05"),
        ("forget10", "retain90", "holdout10"),
    ):
        write(folder / f"{name}_perturbed.json", forget)
        write(folder / f"{retain}.json", [{"question": f"retain {i}?", "answer": f"kept {i}"} for i in range(160)])
        write(folder / f"{holdout}.json", [{"question": f"stranger {i}?", "answer": f"HIDDEN {i}"} for i in range(40)])
    for name, count in (("real_authors", 100), ("world_facts", 117)):
        found = [{"question": f"{name} {i}?", "answer": f"{name} {i}", "perturbed_answer": ["x"]} for i in range(count)]
        write(folder / f"{name}_perturbed.json", found)
    told = {"paraphrased_question": "again?", "perturbed_answer": ["lost", "sold"]}
    write(
        folder / "retain_perturbed.json",
        [{"question": f"retain {i}?", "answer": f"kept {i}", "paraphrased_answer": f"{i} kept", **told} for i in range(60)],
    )
    (folder / "idontknow.jsonl").write_text("I don't know.\nNo idea.\n", encoding="utf-8")
    return folder


@pytest.fixture
def real() -> Path:
    given = os.environ.get("UNSAY_DATA", "")
    for folder in (Path(given), Path(given) / "tofu"):
        if given and (folder / "full.json").is_file():
            return folder
    pytest.skip("TOFU's files are not here: UNSAY_DATA does not name their folder")
