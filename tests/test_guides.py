"""The three guides can be walked: every command on them runs, in the order of the page, at reduced size."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts.walk_guides import DOCS, GUIDES, commands, files
from tests.test_cli import SMALL
from unsay.cli.app import app
from unsay.cli.app import commands as load_commands

load_commands()
JUDGES = ("gate",)
"""Exit code 1 is an answer."""
FEW = ["--set", "record.own_retain=16", "--set", 'audit.probes=["greedy", "sampling", "prefill", "utility"]']


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engineer's run lies that the officer then reads."""
    return tmp_path_factory.mktemp("walk")


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_can_be_walked(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for file, rows in files(page).items():
        Path(file).write_text(rows)
    walked = []
    for line in commands(page):
        command = shlex.split(line)
        small = [*SMALL, *FEW] if command[1] == "run" else []
        done = CliRunner().invoke(app, [*command[1:], *small])
        assert done.exit_code in ((0, 1) if command[1] in JUDGES else (0,)), f"{line}\n{done.output}{done.exception or ''}"
        walked.append(command[1])
    assert len(walked) >= 3


def test_every_guide_is_one_page() -> None:
    for name in GUIDES:
        assert len((DOCS / f"{name}.md").read_text(encoding="utf-8").split()) <= 800
