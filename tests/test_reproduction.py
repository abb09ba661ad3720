"""The pages of the paper's statements and of times are what the files in results/ say."""

from pathlib import Path

import pytest

from scripts import reproduction


def test_pages_are_what_the_files_say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["reproduction.py", "--check"])
    assert reproduction.main() == 0, capsys.readouterr().out


def test_a_page_that_says_otherwise_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reproduction, "ROWS", reproduction.ROWS[3:4])
    monkeypatch.setattr("sys.argv", ["reproduction.py", "--check"])
    assert reproduction.main() == 1
    assert "reproduction.md" in capsys.readouterr().out


def test_every_statement_has_a_verdict() -> None:
    verdicts = [row.found()[1] for row in reproduction.ROWS]
    assert all(one in (reproduction.YES, reproduction.NO, reproduction.NOT_RUN) or one.startswith(reproduction.PARTLY) for one in verdicts)
    assert verdicts.count(reproduction.NO) >= 1, "a page on which all agrees would be none"
