"""Who may read a vault, how it ends, and which model a report is about."""

import hashlib
import json
import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.canaries import CANARIES, SMALL, Place, options, place, say
from tests.conftest import tiny_model
from unsay import identity, redact, review
from unsay.config import ConfigError, Recipe, dump, load
from unsay.doctor.advice import _for_vault
from unsay.folder import RunFolder
from unsay.generations import Store
from unsay.look import questions
from unsay.recorded import read_answers, read_handed
from unsay.types import Answer, Case, Corpus, Example, Fact, Pair, Reference
from unsay.vault import ENVIRONMENT, Vault, new_key, retention

ROWS = [{"id": "a", "answer": CANARIES["answer"]}, {"id": "b", "answer": "line\u2028separator"}]


@pytest.fixture
def cryptography() -> None:
    pytest.importorskip("cryptography", reason="the extra unsay[vault] is not installed")


@pytest.fixture
def key(cryptography: None, tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "one.key"
    path.parent.mkdir()
    new_key(path)
    return path


# -- files -------------------------------------------------------------------------------------------------------------


def test_rows_come_back_and_only_the_owner_can_read_them(tmp_path: Path):
    vault = Vault(tmp_path / "vault")
    assert not vault.has("baseline")
    vault.write("baseline", ROWS)
    assert vault.rows("baseline") == ROWS
    assert [path.stat().st_mode & 0o777 for path in (vault.path, vault.file("baseline"))] == [0o700, 0o600]
    assert not vault.encrypted
    vault.write("method-state-1", ROWS)
    vault.write("method-state-2", ROWS)
    vault.remove("method-state-*", but="method-state-2")
    assert [one.name for one in vault.held()] == ["baseline.jsonl", "method-state-2.jsonl"]


def test_an_encrypted_vault_holds_no_text_and_needs_its_key(key: Path, tmp_path: Path):
    vault = Vault(tmp_path / "run" / "vault", lambda: str(key))
    vault.write("baseline", ROWS)
    again = Vault(vault.path, lambda: str(key))
    assert again.rows("baseline") == ROWS
    assert again.encrypted
    assert [(one.name, one.encrypted) for one in again.held()] == [("baseline.jsonl.sealed", True)]
    assert not [path for path in vault.path.rglob("*") if path.is_file() and CANARIES["answer"].encode() in path.read_bytes()]
    assert {path.stat().st_mode & 0o777 for path in vault.path.iterdir()} == {0o600}
    other = tmp_path / "other.key"
    new_key(other)
    for named, said in (("", "name its key file"), (str(other), "with another key"), (str(tmp_path / "none.key"), "there is no key file")):
        with pytest.raises(ConfigError, match=said):
            Vault(vault.path, lambda named=named: named).rows("baseline")
    sealed = vault.file("baseline")
    text = sealed.read_text()
    sealed.write_text(text[:60] + ("A" if text[60] != "A" else "B") + text[61:])
    with pytest.raises(ConfigError, match="changed or torn"):
        Vault(vault.path, lambda: str(key)).rows("baseline")


def test_the_environment_names_the_key_where_the_folder_was_moved(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "run" / "vault"
    Vault(path, lambda: str(key)).write("truth", ROWS)
    monkeypatch.setenv(ENVIRONMENT, str(key))
    assert Vault(path, lambda: "/nowhere.key").rows("truth") == ROWS
    other = tmp_path / "other.key"
    new_key(other)
    monkeypatch.setenv(ENVIRONMENT, str(other))
    assert Vault(path, lambda: str(key)).rows("truth") == ROWS, "an earlier run has a key of its own"


def test_nothing_is_written_in_plain_where_a_key_is_named(key: Path, tmp_path: Path):
    path = tmp_path / "run" / "vault"
    Vault(path).write("corpus", ROWS)
    with pytest.raises(ConfigError, match="begun without a key"):
        Vault(path, lambda: str(key)).write("truth", ROWS)
    assert Vault(path, lambda: str(key)).rows("corpus") == ROWS
    inside = tmp_path / "run" / "my.key"
    with pytest.raises(ConfigError, match="lies in the run folder"):
        Vault(path, lambda: str(inside)).write("truth", ROWS)


def test_a_key_file_is_for_its_owner_and_never_overwritten(key: Path, tmp_path: Path):
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="exists already"):
        new_key(key)
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Vault(tmp_path / "run" / "vault", lambda: str(key)).write("truth", ROWS)
    key.chmod(0o600)
    key.write_text(CANARIES["key"])
    with pytest.raises(ConfigError, match="holds no key") as error:
        Vault(tmp_path / "run" / "vault", lambda: str(key)).write("truth", ROWS)
    assert CANARIES["key"] not in str(error.value)
    assert not (tmp_path / "run").exists(), "nothing half-written stays"


def test_the_generation_cache_is_encrypted_line_by_line(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(ENVIRONMENT, str(key))
    store = Store(RunFolder(tmp_path / "run"), "f" * 64)
    store.add({"a" * 64: {"text": CANARIES["answer"]}})
    store.add({"b" * 64: 2})
    again = Store(RunFolder(tmp_path / "run"), "f" * 64)
    assert [row["said"] for name in "ab" if (row := again.read(name * 64))] == [{"text": CANARIES["answer"]}, 2]
    content = store.path.read_text()
    assert CANARIES["answer"] not in content
    assert "a" * 64 not in content, "a hash of a prompt can be guessed"
    lines = content.splitlines()
    store.path.write_text("\n".join([lines[0][:-9] + 'AAAAAA="}', lines[1]]) + "\n")
    torn = Store(RunFolder(tmp_path / "run"), "f" * 64)
    assert torn.read("a" * 64) is None
    assert torn.read("b" * 64) is not None


# -- recipes and names -------------------------------------------------------------------------------------------------


def test_the_texts_of_a_recipe_lie_in_the_vault(tmp_path: Path):
    given = load(None, ["corpus=files", f'files.strings=["{CANARIES["string"]}", "x"]', f'model.system_prompt="{CANARIES["system"]}"'])
    folder = RunFolder(tmp_path)
    folder.write_recipe(given)
    text = folder.recipe_file.read_text()
    assert 'strings = ["[in the vault]", "[in the vault]"]' in text
    assert not [one for one in CANARIES.values() if one in text]
    assert dump(folder.recipe()) == dump(given)
    assert folder.recipe(["model.system_prompt=other"]).model.system_prompt == "other"
    assert folder.recipe(texts=False).tables["files"]["strings"] == [redact.HIDDEN] * 2
    assert redact.together(Recipe(), redact.apart(given)[1]) == Recipe(), "nothing is put where nothing was hidden"


def test_no_repr_shows_a_text():
    secret = CANARIES["answer"]
    example = Example("forget-0", secret, (secret,), (secret,), (secret,), secret, (secret,), (secret,))
    answer = Answer((1, 2), secret, True)
    case = Case(Corpus("c", (example,), (Pair("p", secret, secret, secret),)), {"f": Fact("f", secret, (secret,), (secret,))}, "x")
    shown = [repr(one) for one in (example, answer, replace(case, trained={"a": (secret,)}), Reference(*[secret] * 2, (secret,)))]
    shown += [repr(load(None, [f"files.strings=['{secret}']", f"model.system_prompt={secret}", f"deployment.system_prompt={secret}"]))]
    assert not [one for one in shown if secret in one]
    assert "forget-0" in shown[0]


def test_what_nobody_foresaw_is_told_by_its_type_and_place():
    with pytest.raises(TypeError) as error:
        redact.together(None, [{}])  # type: ignore[arg-type]
    assert redact.unexpected(error.value).startswith("TypeError in redact.py:")
    assert str(error.value) not in redact.unexpected(error.value)


# -- retention ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ("", ""),
        ("2027-01-31", "is today"),
        ("2027-01-30", "passed 1 day ago"),
        ("2027-03-02", "is 30 days away"),
        ("2027-03-03", ""),
    ],
)
def test_retention(until: str, said: str):
    found = retention(until, date(2027, 1, 31))
    assert said in found
    assert bool(found) == bool(said)
    recipe = load(None, [f"vault.keep_until={until!r}"])
    assert len(list(_for_vault(recipe, date(2027, 1, 31)))) == bool(said)


@pytest.mark.parametrize("until", ["31.1.2027", "20270131", "soon"])
def test_a_retention_date_is_a_day(until: str):
    with pytest.raises(ConfigError, match="keep_until is no day"):
        load(None, [f'vault.keep_until="{until}"'])


# -- a report and a checkpoint -----------------------------------------------------------------------------------------


def test_weights_are_hashed_tensor_by_tensor_whatever_the_files(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([[3]], dtype=torch.int64)
    save_file({"a": a, "b": b}, one / "model.safetensors", {"format": "pt"})
    save_file({"b": b}, two / "model-1.safetensors")
    save_file({"a": a}, two / "model-2.safetensors")
    (two / "model.safetensors.index.json").write_text("{}")
    # By hand: name|type|shape| and the bytes, little-endian.
    wanted = hashlib.sha256(bytes.fromhex("617c4633327c5b325d7c0000803f00000040627c4936347c5b312c20315d7c0300000000000000")).hexdigest()
    assert identity.weights(one) == identity.weights(two) == wanted
    assert identity.differences(identity.of(one), two) == []
    save_file({"a": a, "b": b + 1}, one / "model.safetensors")
    (one / "tokenizer.json").write_text("{}")
    (one / "README.md").write_text("The card is written anew.")
    assert identity.differences(identity.of(two), one) == ["weights: changed", "tokenizer.json: added"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b'\x0f\0\0\0\0\0\0\0{"a": {"b": 1}}'])
def test_what_is_no_weights_file_is_said(content: bytes, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds no \.safetensors"):
        identity.weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="no safetensors file"):
        identity.weights(tmp_path)


# -- a whole run -------------------------------------------------------------------------------------------------------


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


def test_look_shows_everything_to_the_owner_and_is_counted(given: Place, capsys: pytest.CaptureFixture[str]):
    folder = RunFolder(given.run)
    before = len(folder.manifest().get("looks", []))
    capsys.readouterr()
    assert say("look", given.run) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == folder.vault / "look" / "all.html"
    assert (page.stat().st_mode & 0o777, page.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    text = page.read_text()
    assert CANARIES["question"] in text
    assert CANARIES["wording"] in text
    assert "default-src 'none'" in text.replace("&#39;", "'")
    assert not [mark for mark in ("<script", "http://", "https://", "<img", "<link") if mark in text]
    looks = folder.manifest()["looks"]
    assert [(one["by"], one["plain"]) for one in looks[before:]] == [("look", False)]
    one = questions(folder, ["after"])[0]
    assert {group.asked.salt for group in one.said["after"]} >= {"greedy", "sampling", "prefill"}
    said = [group for group in one.said["after"] if group.asked.salt == "sampling"]
    assert sum(n for _, n, _ in said[0].answers) == 2
    assert {"greedy", "sampling"} <= {probe for probe, *_ in one.scores}
    assert say("look", given.run, "--which", "gold") == 2
    assert say("look", given.run, "--which", "afer") == 2
    assert "did you mean 'after'" in capsys.readouterr().err


def test_markup_in_an_answer_stays_text(given: Place, tmp_path: Path):
    folder = RunFolder(given.run)
    rows = folder.kept("baseline")
    from unsay.look import html

    try:
        folder.keep("baseline", [{**row, "answer": "<script>alert(1)</script>"} for row in rows])
        folder.texts.file("spans").rename(tmp_path / "spans")
        folder.texts.file("spans-used").rename(tmp_path / "used")
        text = html(folder, ["after"])
    finally:
        folder.keep("baseline", rows)
        (tmp_path / "spans").rename(folder.texts.file("spans"))
        (tmp_path / "used").rename(folder.texts.file("spans-used"))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


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
    assert folder.manifest()["vault"]["erased"] is False
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
    taken = review.marked(folder, read_handed(folder).forget, read_answers(folder))
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
    assert say("vault", "destroy", found.run, "--yes", "--key") == 0
    assert "were written out of it in plain" in capsys.readouterr().out
    assert not moved.exists()
    assert folder.manifest()["vault"]["erased"] is False


def test_erasure_is_claimed_where_the_key_is_gone(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name, flags, erased in (("kept", ("--yes",), False), ("gone", ("--yes", "--key"), True)):
        folder = RunFolder(tmp_path / name)
        folder.write_recipe(load(None, [f'vault.key_file="{key}"']))
        folder.keep("corpus", ROWS)
        assert say("vault", "destroy", folder.path, *flags) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert ("cannot be read, provided that no copy of the key exists" in said) is erased
        assert folder.manifest()["vault"]["erased"] is erased
        assert key.exists() is not erased


def test_without_the_package_a_key_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "cryptography.fernet", None)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[vault\]'"):
        Vault(tmp_path / "run" / "vault", lambda: str(tmp_path / "one.key")).write("truth", ROWS)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[vault\]'"):
        new_key(tmp_path / "one.key")
    assert os.listdir(tmp_path) == []


# -- score -------------------------------------------------------------------------------------------------------------


def test_score_reads_files_and_standard_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    reference = tmp_path / "reference.txt"
    reference.write_text("Anna lives in Turin.\n")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=SimpleNamespace(read=lambda: b"Turin\r\n")))
    arguments = ("score", "--reference-file", reference, "--answer-file", "-", "--question", "Where does Anna live?", "--json")
    assert say(*arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"rouge_l_recall": 0.25, "rouge_l_f1": 0.4, "key_recall": 1.0}
    for wrong in (
        ("--reference-file", "-", "--answer-file", "-"),
        ("--reference", "a"),
        ("--reference", "a", "--reference-file", reference, "--answer", "b"),
        ("--reference", "a", "--answer-file", tmp_path / "none.txt"),
    ):
        assert say("score", *wrong) == 2
    (tmp_path / "latin.txt").write_bytes(CANARIES["answer"].encode() + b"\xe9")
    assert say("score", "--reference", "a", "--answer-file", tmp_path / "latin.txt") == 2
    assert CANARIES["answer"] not in capsys.readouterr().err


@pytest.mark.parametrize("stop", ["state", "mark", "files", "key", "note"])
def test_what_was_broken_off_is_ended_by_the_same_command(
    stop: str, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(load(None, [f'vault.key_file="{key}"']))
    folder.keep("corpus", ROWS)
    folder.state.mkdir(parents=True)
    (folder.state / "round-1").write_text("state")

    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if stop == "state":
            patch.setattr("unsay.cli.vaulting.shutil.rmtree", broken)
        if stop == "mark":
            patch.setattr("unsay.vault.write_text", broken)
        if stop in ("files", "key"):
            real, wanted = Path.unlink, (key if stop == "key" else folder.texts.file("corpus"))
            patch.setattr(Path, "unlink", lambda path, **options: broken() if path == wanted else real(path, **options))
        if stop == "note":
            patch.setattr(RunFolder, "note", broken)
        assert say("vault", "destroy", folder.path, "--yes", "--key") == 130
    assert say("vault", "destroy", folder.path, "--yes", "--key") == 0
    assert [path.name for path in folder.vault.iterdir()] == ["destroyed.json"]
    assert not key.exists()
    assert not folder.state.exists()
    assert folder.manifest()["vault"]["erased"]
    capsys.readouterr()
    assert say("vault", "destroy", folder.path, "--yes", "--key") == 2
    assert "was destroyed on" in " ".join(capsys.readouterr().err.split())


def test_the_key_may_follow_later_and_only_the_vaults_own(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(load(None, [f'vault.key_file="{key}"']))
    folder.keep("corpus", ROWS)
    other = tmp_path / "keys" / "other.key"
    new_key(other)
    monkeypatch.setenv(ENVIRONMENT, str(other))
    assert say("vault", "destroy", folder.path, "--yes") == 0
    assert folder.manifest()["vault"]["erased"] is False
    assert say("vault", "destroy", folder.path, "--yes", "--key") == 0
    assert folder.manifest()["vault"]["erased"] is True
    assert other.exists()
    assert not key.exists()


def test_a_key_that_was_to_go_is_named_when_it_goes(
    key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = RunFolder(tmp_path / "run")
    monkeypatch.chdir(key.parent)
    folder.write_recipe(load(None, [f'vault.key_file="{key.name}"']))
    folder.keep("corpus", ROWS)
    real = Path.unlink

    def broken(path: Path, **options: bool) -> None:
        if path == key:
            raise KeyboardInterrupt
        real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", broken)
        assert say("vault", "destroy", folder.path, "--yes", "--key") == 130
    assert key.exists()
    monkeypatch.chdir(tmp_path)  # the key was named from another folder
    capsys.readouterr()
    assert say("vault", "destroy", folder.path, "--yes") == 0
    assert str(key) in "".join(capsys.readouterr().out.split("\n"))
    assert not key.exists()
