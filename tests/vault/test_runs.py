"""A whole run, in plain and under a key: which model its report is about, who looked, and how its vault ends."""

import json
import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Chromium, needs_chromium
from tests.canaries import CANARIES, SMALL, Place, options, place, say
from tests.conftest import tiny_model
from unsay.config import ConfigError, load
from unsay.lm.plan import ON_PROCESSOR
from unsay.record import annotation
from unsay.record.recorded import read_answers, read_handed
from unsay.report import look
from unsay.report.look import Answered
from unsay.store.folder import RunFolder
from unsay.store.keys import new_key
from unsay.store.manifest import DestroyedVault, Manifest
from unsay.store.vault import ENVIRONMENT, Vault

ROWS = [{"id": "a", "answer": CANARIES["answer"]}, {"id": "b", "answer": "line\u2028separator"}]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run in plain, through every stage."""
    found = place(tmp_path_factory.mktemp("vaults"))
    assert say("run", found.recipe, "--out", found.run, *options((*SMALL, 'vault.keep_until="2020-01-31"'))) == 0
    return found


def test_verify_says_whether_they_belong_together(given: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkpoint = given.run / "checkpoint"
    told = json.loads((given.run / "report.json").read_text())["identity"]
    assert set(told["dates"]) == {"begun", "recorded", "trained", "audited", "reported"}
    assert all(told["dates"].values())
    assert len(told["request"]) == 36
    assert told["policy"]["name"] == "default"
    assert len(told["policy"]["sha256"]) == 64
    card = (checkpoint / "README.md").read_text()
    assert told["checkpoint"]["weights"] in card
    for report in (given.run, given.run / "report.json", given.run / "report.html"):
        assert say("verify", report, checkpoint) == 0
    capsys.readouterr()
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert say("verify", given.run, copy) == 0
    tiny_model(seed=1).save_pretrained(copy)
    (copy / "tokenizer.json").unlink()
    capsys.readouterr()
    assert say("verify", given.run, copy, "--json") == 1
    assert {"weights: changed", "tokenizer.json: missing"} <= set(json.loads(capsys.readouterr().out)["differs"])
    assert say("verify", given.recipe, copy) == 2
    assert say("verify", given.run, tmp_path / "nowhere") == 2


def test_a_report_is_refused_where_the_checkpoint_is_another_than_the_audited(given: Place, capsys: pytest.CaptureFixture[str]):
    weights = given.run / "checkpoint" / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert say("report", given.run) == 2
        assert "has changed since it was audited" in " ".join(capsys.readouterr().err.split())
    finally:
        weights.write_bytes(content)


def test_an_audit_on_a_processor_decodes_fewer_rows_at_once(given: Place):
    plan = RunFolder(given.run).manifest().plan
    assert plan["record"].rows > ON_PROCESSOR
    assert plan["audit before"].rows == plan["audit after"].rows == ON_PROCESSOR


def test_look_shows_everything_to_the_owner_and_is_counted(given: Place, capsys: pytest.CaptureFixture[str]):
    folder = RunFolder(given.run)
    before = len(folder.manifest().looks)
    capsys.readouterr()
    assert say("look", given.run) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == folder.vault / "look" / "all.html"
    assert (page.stat().st_mode & 0o777, page.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    text = page.read_text()
    assert CANARIES["question"] in text
    assert CANARIES["wording"] in text
    assert "default-src 'none'" in text.replace("&#39;", "'")
    assert text.count("<script") == 1
    assert not [mark for mark in ("<script ", "http://", "https://", "<img", "<link") if mark in text]
    looks = folder.manifest().looks
    assert [(one.by, one.plain) for one in looks[before:]] == [("look", False)]
    answered = Answered(folder, ["before", "after"])
    found = answered.questions(answered.order)
    assert [one.worst["after"] or 0 for one in found] == sorted((one.worst["after"] or 0 for one in found), reverse=True)
    one = found[0]
    ways = [*one.telling, *one.silent]
    assert {way.asked.salt for way in ways} >= {"greedy", "sampling", "prefill"}
    assert ways[0].title == "Asked plainly"
    assert {*ways[0].said} == {"before", "after"}, "side by side"
    said = next(way for way in ways if way.asked.salt == "sampling")
    assert sum(n for _, n, _ in said.said["after"]) == 2
    assert {"greedy", "sampling"} <= {probe for probe, *_ in one.scores}
    assert say("look", given.run, "--which", "retain_model") == 2
    assert say("look", given.run, "--which", "afer") == 2
    assert "did you mean 'after'" in capsys.readouterr().err


def test_a_page_from_before_the_last_audit_goes(given: Place):
    folder = RunFolder(given.run)
    old = folder.texts.page("look/all-2.html", "what an earlier audit found")
    os.utime(old, (0, 0))
    assert say("look", given.run, "--which", "after") == 0
    written = {path.name for path in old.parent.iterdir()}
    assert "after.html" in written
    assert old.name not in written
    assert say("look", given.run) == 0
    assert {path.name for path in old.parent.iterdir()} >= {"after.html", "all.html"}, "pages of the same audit stay"


def test_only_pages_of_unsay_go_and_nothing_through_a_link(tmp_path: Path):
    folder, elsewhere = RunFolder(tmp_path / "run"), tmp_path / "elsewhere"
    folder.audit_file("after").parent.mkdir(parents=True)
    folder.audit_file("after").write_text("")
    own = folder.texts.page("look/after.html", "of an earlier audit")
    others = [folder.texts.page("look/notes.html", "the operator's own"), folder.texts.page("look/call.html", "too")]
    for page in (own, *others):
        os.utime(page, (0, 0))
    (own.parent / "all.html").symlink_to(tmp_path / "gone")
    look._remove_outdated(folder)
    assert not own.exists()
    assert all(page.exists() for page in others)
    own.parent.rename(elsewhere)
    own.parent.symlink_to(elsewhere)
    os.utime(folder.texts.page("look/before.html", "kept elsewhere"), (0, 0))
    look._remove_outdated(folder)
    assert (elsewhere / "before.html").exists()


@pytest.mark.slow
@needs_chromium
def test_a_long_page_is_short_until_it_is_unfolded(given: Place, capsys: pytest.CaptureFixture[str], chromium: Chromium):
    capsys.readouterr()
    assert say("look", given.run) == 0
    page = Path(capsys.readouterr().out.strip())
    questions = RunFolder(given.run).manifest().counts.forget or 0
    for width in (1280, 390):
        chromium.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        chromium.open(page)
        assert chromium.says("document.documentElement.scrollWidth") <= width
        assert chromium.says("document.documentElement.scrollHeight") <= 1200 + 120 * questions
        chromium.says("location.hash = '#at-2'")
        assert chromium.says("[...document.querySelectorAll('.question')].map(one => one.open)") == [i == 1 for i in range(questions)]
        assert chromium.says("[...document.querySelectorAll('details')].map(one => one.open = true).length") > questions
        assert chromium.says("document.documentElement.scrollWidth") <= width
        chromium.says("document.querySelector('.filter').value = 'no such words'")
        chromium.says("document.querySelector('.filter').dispatchEvent(new Event('input'))")
        assert chromium.says("[...document.querySelectorAll('.question, nav li')].every(one => !one.checkVisibility())")
        assert [line for line in chromium.complaints() if "Skippable" not in line] == []
    chromium.ask("Emulation.clearDeviceMetricsOverride")


def test_markup_in_an_answer_stays_text(given: Place, tmp_path: Path):
    folder = RunFolder(given.run)
    rows = folder.texts.rows("baseline")
    from unsay.report.look import html

    try:
        folder.texts.write("baseline", [{**row, "answer": "<script>alert(1)</script>"} for row in rows])
        folder.texts.file("spans").rename(tmp_path / "spans")
        folder.texts.file("spans-used").rename(tmp_path / "used")
        text = html(folder, ["after"])
    finally:
        folder.texts.write("baseline", rows)
        (tmp_path / "spans").rename(folder.texts.file("spans"))
        (tmp_path / "used").rename(folder.texts.file("spans-used"))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_status_tells_what_is_there(given: Place, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert say("vault", "status", given.run, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["encrypted"]
    assert {"corpus.jsonl", "recipe.jsonl"} <= {one["name"] for one in found["files"]}
    assert found["keep_until"] == "2020-01-31"
    assert "passed" in found["warning"]


def test_a_run_is_gone_on_with_under_its_written_recipe(given: Place, capsys: pytest.CaptureFixture[str]):
    assert say("run", given.run / "recipe.toml", "--out", given.run) == 0
    assert say("run", given.recipe, "--out", given.run, *options(SMALL)) == 2
    assert "another recipe" in capsys.readouterr().err


def test_a_destroyed_vault_is_gone_and_every_command_says_so(given: Place, capsys: pytest.CaptureFixture[str], monkeypatch: Any):
    folder = RunFolder(given.run)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: (_ for _ in ()).throw(SystemExit(1)))
    assert say("vault", "destroy", given.run) == 1, "it asks first"
    assert folder.texts.has("corpus")
    capsys.readouterr()
    assert say("vault", "destroy", given.run, "--yes") == 0
    said = capsys.readouterr().out
    assert "may be recoverable" in said
    assert "no erasure is claimed" in said
    assert "report.html" in said
    assert [path.name for path in folder.vault.iterdir()] == ["destroyed.json"]
    assert not folder.state.exists()
    assert folder.checkpoint.exists()
    assert folder.manifest().vault.erased is False
    again = ("look", "train", "spans", "audit")
    for command in again:
        assert say(command, given.run) == 2
        assert f"was destroyed on {date.today().year}" in " ".join(capsys.readouterr().err.split()), command
    assert say("vault", "destroy", given.run, "--yes") == 2
    assert say("audit", given.run, "--set", "sampling.n=3") == 2
    assert folder.audit_file("after").exists(), "what cannot be found again is not taken away"
    assert say("vault", "status", given.run) == 0
    assert say("report", given.run) == 0
    assert say("gate", given.run) == 1
    assert say("verify", given.run, given.run / "checkpoint") == 0


# -- a whole run under a key -------------------------------------------------------------------------------------------


def test_a_run_under_a_key(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """The same run with an encrypted vault: nothing of it stands on the disk in plain, and it ends with its key."""
    found = place(tmp_path / "own")
    locked = (*SMALL, f'vault.key_file="{key}"', 'audit.probes=["greedy"]')
    assert say("record", found.recipe, "--out", found.run, *options(locked)) == 0
    folder = RunFolder(found.run)
    assert say("spans", found.run) == 0
    assert "--export" in capsys.readouterr().out
    out = tmp_path / "spans.jsonl"
    assert say("spans", found.run, "--export", out) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    lines[0]["strings"] = [*lines[0]["strings"], "Turin"]
    out.write_text("\n".join(map(json.dumps, lines)))
    assert say("spans", found.run, "--import", out) == 0
    taken = annotation.marked(folder, read_handed(folder).forget, read_answers(folder))
    assert taken["forget-000"].strings[-1] == "Turin"
    out.unlink()
    assert say("run", found.recipe, "--out", found.run, *options(locked)) == 0
    secrets = [value for name, value in CANARIES.items() if name != "answer"]
    secrets += [answer for answer in read_answers(folder).values() if len(answer) > 12]
    for path in found.run.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [one for one in secrets if one.encode() in content], path
    assert {one.encrypted for one in folder.texts.held()} == {True}
    assert say("look", found.run) == 2
    assert "--plain" in capsys.readouterr().err
    moved = key.with_name("moved.key")
    key.rename(moved)
    assert say("audit", found.run) == 2
    assert "there is no key file" in " ".join(capsys.readouterr().err.split())
    assert say("report", found.run) == 0, "a report needs no secret"
    assert say("compare", found.run, found.run) == 0, "nor does a comparison"
    monkeypatch.setenv(ENVIRONMENT, str(moved))
    assert say("audit", found.run) == 0
    capsys.readouterr()
    # The export was plain: what destroying the key claims must not hold.
    assert say("vault", "destroy", found.run, "--yes", "--key", moved) == 0
    assert "were written out of it in plain" in capsys.readouterr().out
    assert not moved.exists()
    assert folder.manifest().vault.erased is False


def test_erasure_is_claimed_where_the_key_is_gone(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    asked = tmp_path / "asked.jsonl"
    asked.write_text("{}")
    for name, flags, erased in (("kept", ("--yes",), False), ("gone", ("--yes", "--key", key), True)):
        folder = RunFolder(tmp_path / name)
        folder.write_recipe(load(None, [f'vault.key_file="{key}"', "corpus=files", f'files.forget="{asked}"']))
        folder.texts.write("corpus", ROWS)
        assert say("vault", "destroy", folder.path, *flags) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert ("cannot be read, provided that no copy of the key exists" in said) is erased
        assert f"the files that the questions came from remain, and are yours to remove: {asked}" in said
        assert folder.manifest().vault.erased is erased
        assert key.exists() is not erased


def test_without_the_package_a_key_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "cryptography.fernet", None)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[vault\]'"):
        Vault(tmp_path / "run" / "vault", lambda: str(tmp_path / "one.key")).write("truth", ROWS)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[vault\]'"):
        new_key(tmp_path / "one.key")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("stop", ["state", "mark", "files", "key", "note"])
def test_what_was_broken_off_is_ended_by_the_same_command(
    stop: str, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(load(None, [f'vault.key_file="{key}"']))
    folder.texts.write("corpus", ROWS)
    folder.state.mkdir(parents=True)
    (folder.state / "round-1").write_text("state")

    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if stop == "state":
            patch.setattr("shutil.rmtree", broken)
        if stop == "mark":
            patch.setattr("unsay.store.vault.write_text", broken)
        if stop in ("files", "key"):
            real, wanted = Path.unlink, (key if stop == "key" else folder.texts.file("corpus"))
            patch.setattr(Path, "unlink", lambda path, **options: broken() if path == wanted else real(path, **options))
        if stop == "note":
            patch.setattr(RunFolder, "note", broken)
        assert say("vault", "destroy", folder.path, "--yes", "--key", key) == 130
    assert say("vault", "destroy", folder.path, "--yes", "--key", key) == 0
    assert [path.name for path in folder.vault.iterdir()] == ["destroyed.json"]
    assert not key.exists()
    assert not folder.state.exists()
    assert folder.manifest().vault.erased
    capsys.readouterr()
    assert say("vault", "destroy", folder.path, "--yes", "--key", key) == 2
    assert "was destroyed on" in " ".join(capsys.readouterr().err.split())


def test_the_key_may_follow_later_and_only_the_vaults_own(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(load(None, [f'vault.key_file="{key}"']))
    folder.texts.write("corpus", ROWS)
    other, link, second = (tmp_path / "keys" / name for name in ("other.key", "link.key", "second.key"))
    new_key(other)
    link.symlink_to(key)
    assert say("vault", "destroy", folder.path, "--yes", "--key", tmp_path / "no.key") == 2
    assert say("vault", "destroy", folder.path, "--yes", "--key", other) == 2
    assert "is not the key of" in " ".join(capsys.readouterr().err.split())
    assert say("vault", "destroy", folder.path, "--yes", "--key", link) == 2, "the key itself would stay"
    os.link(key, second)
    assert say("vault", "destroy", folder.path, "--yes", "--key", key) == 2, "under its other name"
    second.unlink()
    assert folder.texts.has("corpus"), "a wrong key ends nothing"
    assert say("vault", "destroy", folder.path, "--yes") == 0
    assert folder.manifest().vault.erased is False
    assert say("vault", "destroy", folder.path, "--yes", "--key", key) == 0
    assert folder.manifest().vault.erased is True
    assert other.exists()
    assert not key.exists()


def test_no_file_goes_because_a_received_run_names_it(key: Path, tmp_path: Path):
    """Whoever made the folder wrote into it what they liked: the path of a private key, the identity of a key that is in use."""
    folder, mine = RunFolder(tmp_path / "run"), tmp_path / "id_rsa"
    mine.write_text("a private key")
    folder.write_recipe(load(None, [f'vault.key_file="{key}"']))
    folder.texts.write("corpus", ROWS)
    identity = json.loads((folder.vault / "key.json").read_text())["key"]
    told = {"at": "2026-01-01T00:00:00", "encrypted": True, "key": identity, "key_file": str(mine), "key_files": [str(mine), str(key)]}
    (folder.vault / "destroyed.json").write_text(json.dumps(told))
    folder.note(Manifest(vault=DestroyedVault(told["at"], encrypted=True, key_removed=False, erased=False)))
    assert say("vault", "destroy", folder.path, "--yes") == 0
    assert mine.exists()
    assert key.exists()
    assert folder.manifest().vault.erased is False
    assert say("vault", "destroy", folder.path, "--yes", "--key", mine) == 2
    assert mine.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"key": 7}', '{"key": "zebrafinch"}', "[" * 9999, "\udcff"])
def test_a_damaged_note_of_the_key_is_said(key: Path, tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str]):
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(load(None, [f'vault.key_file="{key}"']))
    folder.texts.write("corpus", ROWS)
    mark = folder.vault / "key.json"
    mark.write_bytes(text.encode(errors="surrogateescape"))
    for command in (("vault", "destroy", folder.path, "--yes"), ("audit", folder.path)):
        assert say(*command) == 2
        said = capfd.readouterr().err
        assert f"{mark} does not say which key" in " ".join(said.split())
        assert "zebrafinch" not in said
    mark.unlink()
    assert say("vault", "destroy", folder.path, "--yes") == 0
    assert folder.manifest().vault.erased is False


@pytest.mark.parametrize("text", ["[]", "{", "{}"])
def test_a_mark_that_says_nothing_is_told(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(load(None, []))
    folder.texts.write("corpus", ROWS)
    (folder.vault / "destroyed.json").write_text(text)
    assert say("vault", "status", folder.path) == 2
    assert "cannot be read" in " ".join(capsys.readouterr().err.split())


def test_what_links_name_stays_and_is_told(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A link goes, what it names does not: it is not listed as removed, and nothing is claimed for it."""
    folder, elsewhere = RunFolder(tmp_path / "run"), tmp_path / "elsewhere"
    folder.write_recipe(load(None, [f'vault.key_file="{key}"']))
    folder.texts.write("corpus", ROWS)
    folder.steps_file.parent.mkdir()
    for link in (folder.state, folder.planted, folder.vault / "generations"):
        (elsewhere / link.name).mkdir(parents=True)
        (elsewhere / link.name / "secret.bin").write_text(CANARIES["answer"])
        link.symlink_to(elsewhere / link.name)
    capsys.readouterr()
    assert say("vault", "destroy", folder.path, "--yes", "--key", key, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["linked"] == [str(elsewhere / name) for name in ("generations", "state", "planted")]
    assert len(list(elsewhere.rglob("secret.bin"))) == 3
    assert not [link for link in (folder.state, folder.planted) if link.is_symlink()]
    assert told["erased"] is False


@pytest.mark.parametrize("name", ["vault", "train"])
def test_nothing_is_removed_through_a_link(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(load(None, []))
    folder.texts.write("corpus", ROWS)
    folder.state.mkdir(parents=True)
    (folder.state / "round-1").write_text("state")
    (folder.path / name).rename(tmp_path / "elsewhere")
    (folder.path / name).symlink_to(tmp_path / "elsewhere")
    files = sorted(tmp_path.rglob("*"))
    assert say("vault", "destroy", folder.path, "--yes") == 2
    assert "is a link to" in " ".join(capsys.readouterr().err.split())
    assert sorted(path for path in tmp_path.rglob("*") if path.name != ".lock") == files


def test_what_cannot_be_removed_is_not_called_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(load(None, []))
    folder.planted.mkdir()
    (folder.path / ".planted.copy").mkdir()
    real = shutil.rmtree
    monkeypatch.setattr("shutil.rmtree", lambda path, **how: None if path == folder.planted else real(path, **how))
    assert say("vault", "destroy", folder.path, "--yes", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["not_removed"] == [str(folder.planted)]
    assert str(folder.planted) not in told["removed"]
    assert str(folder.path / ".planted.copy") in told["remains"], "hidden things remain, too"


def test_erased_is_only_what_was_encrypted(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A name does not make a file encrypted; and the weights of a planted model never are."""
    for name, text, erased in (("plain", "a plain text\n", False), ("planted", None, True)):
        copy = tmp_path / f"{name}.key"
        copy.write_bytes(key.read_bytes())
        copy.chmod(0o600)
        folder = RunFolder(tmp_path / name)
        folder.write_recipe(load(None, [f'vault.key_file="{copy}"']))
        folder.texts.write("corpus", ROWS)
        folder.planted.mkdir()
        if text:
            (folder.vault / "notes.jsonl.sealed").write_text(text)
        capsys.readouterr()
        assert say("vault", "destroy", folder.path, "--yes", "--key", copy) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert folder.manifest().vault.erased is erased
        assert ("planted model were never encrypted" in said) is erased
