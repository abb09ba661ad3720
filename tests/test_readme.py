"""What the README shows can be typed: its commands and its Python run, at reduced size."""

import re
import shlex
from pathlib import Path

import pytest

from tests.test_cli import SMALL, call
from unsay.config import load

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def test_it_stays_a_door():
    assert len(README.splitlines()) <= 130, "the map and the large tables belong in docs/"


@pytest.mark.slow
def test_shell_lines_run(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("forget.jsonl").write_text('{"question": "Where does Ada Example live?"}\n')
    lines = [line.partition("#")[0] for _, block in BLOCKS for line in block.splitlines() if line.startswith("unsay ")]
    assert len(lines) >= 2
    assert call(*shlex.split(lines.pop(0))[1:]), "it writes the recipe"
    assert load("my-recipe.toml").model.name == "path/to/model"
    for line in lines:
        for named, ours in (("path/to/model", "people-target"), ("my-recipe.toml", "demo"), ("runs/ada", str(tmp_path / "run"))):
            line = line.replace(named, ours)
        arguments = shlex.split(line)[1:]
        assert call(*arguments, *(SMALL if "--out" in arguments else ()))
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path, monkeypatch):
    (code,) = [block for language, block in BLOCKS if language == "python"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    settings = ["record.own_retain=16", *(SMALL[i + 1] for i in range(0, len(SMALL), 2))]
    monkeypatch.chdir(tmp_path)
    exec(code.replace("path/to/model", "people-target").replace('out="runs/ben")', f'out="runs/ben", settings={settings!r})'), {})
    assert (tmp_path / "runs" / "ben" / "report.json").exists()


def test_make_targets_and_linked_files_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (REPOSITORY / link.partition("#")[0]).exists(), link
