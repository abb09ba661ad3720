"""Files and folders appear whole or not at all, and what a death left half-written is put right."""

import errno
import os
from pathlib import Path

import pytest

from unsay.store import files
from unsay.store.files import WriteError, new_folder, replace_folder, tidy, write_text


@pytest.mark.parametrize(
    ("number", "out_of_it"), [(errno.ENOSPC, "make room"), (errno.EACCES, "writable"), (errno.EIO, "see to that disk")]
)
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, number, out_of_it):
    write_text(tmp_path / "file", "before")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("before")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(WriteError, match=out_of_it) as refused:
        write_text(tmp_path / "file", "after")
    assert str(tmp_path / "file") in str(refused.value)
    assert refused.value.number == number
    with pytest.raises(WriteError, match=out_of_it), new_folder(tmp_path / "folder") as partial:
        (partial / "file").write_text("after")
    assert [path.read_text() for path in (tmp_path / "file", tmp_path / "folder" / "file")] == ["before", "before"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_file_is_flushed_then_renamed_then_its_folder_is_flushed(tmp_path, monkeypatch):
    happened: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (happened.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name), sync(fd))[1])
    monkeypatch.setattr(files.os, "replace", lambda a, b: (happened.append("rename"), replace(a, b))[1])
    write_text(tmp_path / "file", "text")
    assert happened == [".file.partial", "rename", tmp_path.name]


def test_a_folder_that_was_set_aside_comes_back(tmp_path, monkeypatch):
    """The one moment in which neither stands in its place."""
    new, old = tmp_path / ".folder.partial", tmp_path / "folder"
    for path, text in ((new, "new"), (old, "old")):
        path.mkdir()
        (path / "file").write_text(text)
    rename, calls = os.rename, []

    def dies(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(new, old)
    assert not old.exists()
    monkeypatch.setattr(files.os, "rename", rename)
    tidy(tmp_path)
    assert (old / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_tidying_leaves_a_run_below_alone(tmp_path):
    """`--out runs` must not sweep up what a run in `runs/other` is writing at this moment."""
    other = tmp_path / "other"
    (other / "train").mkdir(parents=True)
    (other / ".lock").write_text("1 on here")
    for half in (other / "train" / ".state.partial", tmp_path / ".report.html.partial"):
        half.write_text("half")
    tidy(tmp_path)
    assert (other / "train" / ".state.partial").exists()
    assert not (tmp_path / ".report.html.partial").exists()
