"""What happened in a run folder: written and read back, merged, and refused where the file is damaged or of somebody else."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from unsay.config import ConfigError
from unsay.store import clock, interrupt
from unsay.store.clock import Cost
from unsay.store.folder import RunFolder
from unsay.store.manifest import (
    Checkpoint,
    Counts,
    Exposure,
    Look,
    Manifest,
    ModelHashes,
    PeakMemory,
    Plan,
    RetainSource,
    RoundExposure,
    Standalone,
    WatchedRows,
    read_manifest,
    to_json,
    write_manifest,
)

WHOLE = Manifest(
    seed=0,
    counts=Counts(forget=2, retain=0),
    retain=RetainSource("own answers", 3, 2, 1, 9, {"unfinished": 3}, True),
    alone=Standalone(None, "model", None),
    exposure=Exposure(1, 0, 1, {"loss": 2}, (RoundExposure(0, 1, 1, 0, None, 0.5, {"plain": 1}, {}),)),
    watch=WatchedRows(16, before=1.5, rises=((2, 0.25), (4, 0.5)), limit=0.3, shipped=2, within=True),
    audited={"before": None, "after": ModelHashes("ab", {"config.json": "cd"})},
    plan={"audit after": Plan(4, 10, 100)},
    peak_memory={"train": PeakMemory(process=7)},
    looks=(Look("2026-01-01T00:00:00+00:00", "look", False),),
)


def test_what_is_written_is_read_back(tmp_path: Path):
    path = tmp_path / "manifest.json"
    assert read_manifest(path) == Manifest()
    write_manifest(path, WHOLE)
    assert read_manifest(path) == WHOLE
    found = json.loads(path.read_text())
    assert list(found) == ["seed", "counts", "retain", "alone", "exposure", "watch", "audited", "plan", "peak_memory", "looks"]
    assert found["counts"] == {"forget": 2, "retain": 0}
    assert found["retain"]["from"] == "own answers"
    assert found["alone"] == {"before": None, "after": "model", "retain_model": None}
    assert found["watch"]["rises"] == [[2, 0.25], [4, 0.5]]
    assert "ended" not in found["watch"]
    assert found["exposure"]["rounds"][0]["mean_leak"] is None


def test_a_note_adds_to_what_was_there(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.note(Manifest(counts=Counts(forget=2, retain=0), seconds={"record": 1.0}, finished={"record": "now"}))
    folder.note(Manifest(counts=Counts(retain=5), seconds={"train": 2.0}, checkpoint=Checkpoint("ab", 3)))
    folder.note(Manifest())
    assert folder.manifest().counts == Counts(forget=2, retain=5)
    assert folder.manifest().seconds == {"record": 1.0, "train": 2.0}
    assert not folder.begun()
    folder.undo("record")
    expected = Manifest(counts=Counts(forget=2, retain=5), seconds={"train": 2.0}, checkpoint=Checkpoint("ab", 3))
    assert folder.manifest() == expected
    folder.note(Manifest(seed=0))
    assert folder.begun()
    assert folder.manifest() == replace(expected, seed=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"seed": 0', "damaged: it cannot be read as JSON (line 1)"),
        ("", "damaged: it cannot be read as JSON"),
        ("[1]", "is not a manifest of unsay: it holds no keys"),
        ('{"name": "Some app", "icons": []}', "unknown key 'name'"),
        ('{"counts": {"forgot": 2}}', "unknown key 'counts.forgot': did you mean 'forget'"),
        ('{"counts": {"forget": "The secret."}}', "counts.forget takes int, not a text"),
        ('{"watch": {"rows": 1, "rises": [[1, 2, 3]]}}', "watch.rises is a list of 2, not of 3"),
        ('{"checkpoint": {"rounds": 3}}', "checkpoint.fingerprint is missing"),
        ('{"plan": {"train": {"rows": 1}}}', "plan.train.row_bytes is missing"),
        ('{"retain": {"source": "x"}}', "unknown key 'retain.source'"),
    ],
)
def test_a_file_that_is_damaged_or_foreign_is_refused_and_stays(tmp_path: Path, text: str, said: str):
    folder = RunFolder(tmp_path)
    folder.manifest_file.write_text(text)
    for ask in (folder.manifest, folder.begun, lambda: folder.note(Manifest(seed=0)), lambda: folder.undo("train")):
        with pytest.raises(ConfigError) as error:
            ask()
        assert str(error.value).startswith(f"{folder.manifest_file} is ")
        assert said in str(error.value)
        assert "secret" not in str(error.value)
    assert folder.manifest_file.read_text() == text


def test_a_file_that_is_no_text_is_damaged(tmp_path: Path):
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="damaged"):
        RunFolder(tmp_path).manifest()


def test_a_record_alone_is_json_too():
    assert to_json(WHOLE.plan) == {"audit after": {"rows": 4, "row_bytes": 10, "free_bytes": 100}}
    assert to_json(None) is None


def test_the_time_of_a_stage_is_that_of_all_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    time = [Cost(100.0, 50.0)]
    monkeypatch.setattr(clock, "_now", lambda: time[0])
    folder = RunFolder(tmp_path / "run")
    folder.note(Manifest(seed=0))

    def call(seconds: float, ends: BaseException | None = None) -> None:
        with folder.stage("record"):
            time[0] += Cost(seconds, 2 * seconds)
            if ends is not None:
                raise ends

    for end in (interrupt.Interrupted(signal.SIGTERM), FloatingPointError()):
        with pytest.raises(type(end)):
            call(10.0, end)
    assert not folder.done("record")
    assert folder.manifest().interrupted == {"record": Cost(20.0, 40.0)}
    time[0] += Cost(1000.0, 1000.0)  # between two calls nothing is spent
    call(5.0)
    assert (folder.manifest().seconds, folder.manifest().cpu_seconds) == ({"record": 25.0}, {"record": 50.0})
    assert not folder.manifest().interrupted
    call(7.0)
    assert folder.manifest().seconds == {"record": 7.0}, "done once more, and not in part"


def test_a_folder_that_nothing_came_of_is_left_as_it_was(tmp_path: Path):
    with pytest.raises(ConfigError), RunFolder(tmp_path / "run").stage("train"):
        raise ConfigError
    assert not (tmp_path / "run").exists()
