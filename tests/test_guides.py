"""The three guides can be walked: every command on them runs, in the order of the page, at reduced size."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts.walk_guides import DOCS, GUIDES, commands, files
from tests.test_cli import SMALL
from unsay import unlearn
from unsay.cli.app import app
from unsay.cli.app import commands as load_commands
from unsay.report.evidence import read
from unsay.store.folder import RunFolder

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


@pytest.mark.slow
def test_the_request_of_the_engineers_guide_is_forgotten_and_others_are_spared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At full size: a guide whose commands all run may still forget nothing."""
    monkeypatch.chdir(tmp_path)
    for file, rows in files((DOCS / "for-engineers.md").read_text(encoding="utf-8")).items():
        Path(file).write_text(rows)
    few = ['audit.probes=["greedy", "sampling"]']
    done = unlearn("people-target", "forget.jsonl", retain="retain.jsonl", out="run", settings=few).metrics
    assert (done["greedy_keyword_recall"]["before"] or 0) > 0.9
    assert (done["greedy_keyword_recall"]["after"] or 0) <= 0.2
    assert (done["sampling_worst_keyword_recall"]["after"] or 0) <= 0.4
    checkpoint = str(RunFolder(Path("run")).checkpoint)
    asked = CliRunner().invoke(app, ["audit", checkpoint, "--corpus", "people", "--out", "people", "--set", 'audit.probes=["utility"]'])
    assert asked.exit_code == 0, asked.output
    others = read(RunFolder(Path("people"))).metrics
    assert (others["utility_heldout"]["after"] or 0) >= 95
    assert (others["neighbour_keyword_recall"]["after"] or 0) >= 0.9


def test_every_guide_is_one_page() -> None:
    for name in GUIDES:
        assert len((DOCS / f"{name}.md").read_text(encoding="utf-8").split()) <= 800
