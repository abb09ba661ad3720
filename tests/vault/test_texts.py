"""Who may read a vault, its encryption, how long it is kept, and what never leaves it."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.canaries import CANARIES, say
from unsay.audit.cache import Store
from unsay.config import ConfigError, Recipe, dump, load
from unsay.doctor.advice import _for_vault
from unsay.store import redact
from unsay.store.folder import RunFolder
from unsay.store.keys import new_key
from unsay.store.vault import ENVIRONMENT, Vault, retention
from unsay.types import Answer, Case, Corpus, Example, Fact, Pair, Reference, Told

ROWS = [{"id": "a", "answer": CANARIES["answer"]}, {"id": "b", "answer": "line\u2028separator"}]


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
    store.add({"a" * 64: {"text": CANARIES["answer"]}}, dict)
    store.add({"b" * 64: 2}, int)
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


def test_a_plain_line_among_encrypted_ones_is_no_answer(key: Path, tmp_path: Path):
    """Whoever has no key could else answer for the model."""
    vault = Vault(tmp_path / "run" / "vault", lambda: str(key))
    row = {"key": "k", "said": "kept"}
    assert vault.unseal(vault.seal(row, "k")) == row
    with pytest.raises(ValueError, match="plain"):
        vault.unseal({"key": vault.named("k"), "said": "forged"})


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
    assert redact.restore(Recipe(), redact.hide(given)[1]) == Recipe(), "nothing is put where nothing was hidden"


def test_no_repr_shows_a_text():
    secret = CANARIES["answer"]
    example = Example("forget-0", secret, (secret,), (secret,), (secret,), secret, (secret,), (secret,))
    answer = Answer((1, 2), secret, True)
    case = Case(Corpus("c", (example,), (Pair("p", secret, secret, secret),)), {"f": Fact("f", secret, (secret,), (secret,))}, "x")
    reference = Reference(secret, secret, Told((("a", secret, secret),)))
    shown = [repr(one) for one in (example, answer, replace(case, trained={"a": (secret,)}), reference)]
    shown += [repr(load(None, [f"files.strings=['{secret}']", f"model.system_prompt={secret}", f"deployment.system_prompt={secret}"]))]
    assert not [one for one in shown if secret in one]
    assert "forget-0" in shown[0]


def test_what_nobody_foresaw_is_told_by_its_type_and_place():
    with pytest.raises(TypeError) as error:
        redact.restore(None, [{}])  # type: ignore[arg-type]
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


def test_score_reads_files_and_standard_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    reference = tmp_path / "reference.txt"
    reference.write_text("Anna lives in Turin.\n")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=SimpleNamespace(read=lambda: b"Turin\r\n")))
    arguments = ("score", "--reference-file", reference, "--answer-file", "-", "--question", "Where does Anna live?", "--json")
    assert say(*arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"rouge_l_recall": 0.25, "rouge_l_f1": 0.4, "keyword_recall": 1.0}
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
