"""What the README shows can be typed: its commands and its Python run, at reduced size."""

import re
import shlex
from pathlib import Path

from tests.test_cli import SMALL, call

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def test_shell_lines_run(tmp_path: Path):
    lines = [line.partition("#")[0] for _, block in BLOCKS for line in block.splitlines() if line.startswith("unsay ")]
    assert len(lines) >= 2
    for line in lines:
        arguments = shlex.split(line.replace("path/to/model", "people-leaking").replace("my-recipe.toml", "demo"))[1:]
        if "--out" in arguments:
            arguments[arguments.index("--out") + 1] = str(tmp_path / "run")
            arguments += SMALL
        assert call(*arguments)
    assert (tmp_path / "run" / "report.html").exists()


def test_the_python_example_runs(tmp_path: Path, monkeypatch):
    (code,) = [block for language, block in BLOCKS if language == "python"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    settings = ", ".join(repr(SMALL[i + 1]) for i in range(0, len(SMALL), 2))
    monkeypatch.chdir(REPOSITORY)
    exec(code.replace('"train.rounds=20"', settings).replace('"runs/demo"', repr(str(tmp_path / "run"))), {})
    assert (tmp_path / "run" / "report.json").exists()


def test_make_targets_and_linked_files_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (REPOSITORY / link).exists(), link
