"""Recipes, settings, policies and output folders that cannot be used."""

import os
from pathlib import Path

import pytest

from tests.bad_input.conftest import SECRET, Q
from tests.test_cli import call
from unsay.config import ConfigError, load
from unsay.corpora.files import Files
from unsay.measure import policy
from unsay.record import start
from unsay.store.folder import RunFolder

RECIPES: dict[str, tuple[str | bytes, str]] = {
    "malformed": (f"title = '{SECRET}", "r.toml is not valid TOML: Expected"),
    "a key twice": (f"seed = 1\nseed = 2 # {SECRET}\n", "r.toml is not valid TOML: A key stands twice (at line 2"),
    "a table twice": ("[model]\n[model]\n", "r.toml is not valid TOML: Cannot declare ('model',) twice (at line 2"),
    "Latin-1": ("seed = 1\ntitle = 'Zürich'".encode("latin-1"), "r.toml is not valid TOML: not UTF-8 (line 2)"),
    "UTF-16": ("seed = 1".encode("utf-16"), "r.toml is UTF-16, not UTF-8; save it as UTF-8"),
    "binary": (bytes(range(256)), "r.toml is not valid TOML: not UTF-8"),
    "NUL": ("title = 'a\0b'", "r.toml is not valid TOML: Found invalid character '\\x00' (at line 1"),
    "nested too deep": ("title = " + "[" * 5000, "a number is too long, or lists are nested too deep"),
    "nested deep in another's table": ("[npo]\nx = " + "[" * 40 + "]" * 40, "[npo] is nested too deep"),
    "a number too long": ("seed = " + "1" * 5000, "a number is too long"),
    "a number of more than 64 bits": ("seed = 0x" + "f" * 40, "seed is a whole number of more than 64 bits"),
    "a date": ("[npo]\nbeta = 2020-01-01", "[npo] holds a date; write it as a text, in quotes"),
    "not a number": ("[train]\nlearning_rate = nan", "train.learning_rate = nan must be a finite number"),
    "a negative count": ("[train]\nrounds = -3", "train.rounds = -3 must not be negative"),
    "an unknown key": ("[train]\nrouns = 3", "unknown key 'train.rouns': did you mean 'rounds'"),
    "an unknown key of a page": (f"'{SECRET * 1000}' = 3", "unknown key (a text of 10,000 characters)"),
    "a value where a table belongs": (f"model = '{SECRET} lives'", "model is a table of settings, not a text"),
    "a text where a list belongs": (f"[audit]\nprobes = '{SECRET}'", "audit.probes is a list, not a text"),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_with(kind: str) -> None:
    content, said = RECIPES[kind]
    Path("r.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load("r.toml")
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "run r.toml" not in call("run", "r.toml", "--out", "out", code=2)
    assert not Path("out").exists()


def test_a_recipe_with_a_byte_order_mark_and_crlf_is_read() -> None:
    Path("r.toml").write_bytes(b"\xef\xbb\xbfseed = 3\r\ntitle = 'x'\r\n")
    assert (load("r.toml").seed, load("r.toml").title) == (3, "x")


@pytest.mark.parametrize(
    ("name", "said"),
    [("folder.toml", "folder.toml is a folder; name a file"), ("gone.toml", "no recipe at gone.toml"), ("a\0.toml", "cannot be read")],
    ids=["folder", "missing", "NUL"],
)  # fmt: skip
def test_a_recipe_or_policy_that_is(name: str, said: str) -> None:
    Path("folder.toml").mkdir()
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        load(name)
    with pytest.raises(ConfigError):
        policy.load(name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read() -> None:
    for name, content in (("r.toml", "seed = 1"), ("f.jsonl", Q)):
        Path(name).write_text(content)
        Path(name).chmod(0)
    with pytest.raises(ConfigError, match=r"r\.toml cannot be read: Permission denied"):
        load("r.toml")
    with pytest.raises(ConfigError, match=r"f\.jsonl cannot be read: Permission denied"):
        Files("f.jsonl").corpus()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.rounds", "--set takes key=value, not 'train.rounds'"),
        (f"{SECRET} lives here", "--set takes key=value, not (a text of 21 characters)"),
        ("=1", "--set takes key=value"),
        (".=1", "a key is names with dots between them"),
        ("train..rounds=1", "a key is names with dots between them"),
        ("train.rounds.x=1", "train.rounds takes int, not a table"),
        (f"seed={SECRET}", "seed takes int, not a text"),
        (f"seed=1\n{SECRET}=2", "seed takes int, not a text"),
        ("lora.alpha=" + "1" * 400, "lora.alpha is a whole number of more than 64 bits"),
        ("title=\udcff", "--set 'title': the value is not UTF-8"),
        (f"model.dtype={SECRET} lives", "model.dtype = (a text of 16 characters): known: bfloat16"),
        ("train=3", "train is a table of settings, not 3"),
    ],
    ids=lambda text: text[:24].encode("unicode_escape").decode(),
)  # fmt: skip
def test_a_setting(setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [setting])
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no [[line]]"),
        ("line = 3", "has no [[line]]"),
        ("line = [1]", "line is a list of values"),
        ("[[line]]\nname = 'a'", "line 1 has no metric"),
        ("[[line]]\nname = 'a'\nmetric = 'b'\nat_most = 0x" + "f" * 5000, "at_most is a whole number of more than 64 bits"),
        ("[[line]]\nname = 'a'\nmetric = 'b'\nat_most = inf", "'inf' is not a limit"),
        ("[[line]]\nname = 'a'\nmetric = 'b'\nat_most = '" + "x" * 1000 + "'", "is not a limit"),
        ("a = " + "[" * 5000, "nested too deep"),
    ],
    ids=["empty", "a number", "a list", "no metric", "a long number", "infinity", "a page", "nested"],
)
def test_a_policy_that_is(content: str, said: str) -> None:
    Path("p.toml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        policy.load("p.toml")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("out", ["file/run", "file", "/proc/nowhere/run"], ids=["below a file", "is a file", "below what takes no folder"])
def test_an_output_folder(out: str) -> None:
    Path("file").write_text("here before")
    Path("f.jsonl").write_text(Q)
    output = call("record", "own-questions", "--set", "files.forget=f.jsonl", "--set", "files.retain=", "--out", out, code=2)
    assert f"cannot write {out}" in " ".join(output.split())
    assert Path("file").read_text() == "here before"
    assert sorted(path.name for path in Path().iterdir()) == ["f.jsonl", "file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_folder() -> None:
    Path("f.jsonl").write_text(Q)
    Path("locked").mkdir(mode=0o500)
    output = call("record", "own-questions", "--set", "files.forget=f.jsonl", "--set", "files.retain=", "--out", "locked/run", code=2)
    assert "make that folder writable" in " ".join(output.split())
    assert not list(Path("locked").iterdir())


def test_a_missing_output_folder_is_made() -> None:
    Path("f.jsonl").write_text(Q)
    start(load(None, ["corpus=files", 'files.forget="f.jsonl"']), RunFolder("not/yet/there"))
    assert Path("not/yet/there/recipe.toml").exists()
