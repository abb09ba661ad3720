"""Nothing let in: each kind of bad input by name, what is said about it, and that nothing stays behind.

Files and recipes are refused before a run folder begins, models before anything is asked of them. What more there is to say
of one kind stands in its own file: test_files, test_formats and test_check (data), test_architectures (models).
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import architectures
from tests.conftest import byte_tokenizer
from tests.test_cli import call
from tests.test_report import fake_run
from unsay import policy
from unsay.config import ConfigError, ModelConfig, load
from unsay.corpora.checked import examine
from unsay.corpora.files import Files
from unsay.encode import Encoder
from unsay.files import jsonl
from unsay.folder import RunFolder
from unsay.methods import TABLE as METHODS
from unsay.model import load as load_model
from unsay.probes import TABLE as PROBES
from unsay.record import record, start
from unsay.report import build
from unsay.run import Watchers, run_audit
from unsay.text import contains, key_recall, rouge_l
from unsay.train import train
from unsay.types import Finding

SECRET = "Zebrafinch"
Q = f'{{"question": "{SECRET} one?"}}\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- the operator's files ------------------------------------------------------------------------------------------------

FILES: dict[str, tuple[str, str | bytes, str]] = {
    "malformed JSONL": ("f.jsonl", Q + f'{{"question": "{SECRET}', "f.jsonl:2: not one JSON object (Unterminated string"),
    "malformed JSON list": ("f.json", f'[{{"question": "{SECRET}"}},\n {{"question"}}]', "f.json:2: not one JSON object"),
    "two objects on a line": ("f.jsonl", Q.strip() + Q, "f.jsonl:1: not one JSON object (Extra data at column"),
    "a key twice": ("f.jsonl", f'{{"question": "a", "question": "{SECRET}"}}', "f.jsonl:1: not one JSON object (a key stands in it twice)"),
    "CSV with an open quote": ("f.csv", f'question\n"{SECRET}\nb\n', "f.csv:2: a double quote that opens in this row is never closed"),
    "CSV with too many cells": ("f.csv", f"question,id\na,b,{SECRET}\n", "f.csv:2: has 3 cells, but the header line names 2 columns"),
    "CSV field beyond the limit": ("f.csv", f'question\n"{SECRET * 20000}"\n', "f.csv:2: a cell is longer than 131,072 characters"),
    "CSV without a header": ("f.csv", f"Who is {SECRET}?\nb c?\n", "its first line does not look like a header line"),
    "Latin-1": ("f.jsonl", Q.encode() + "{'Zürich'}".encode("latin-1"), "f.jsonl:2: not UTF-8; convert the file, for example: iconv"),
    "UTF-16": ("f.jsonl", Q.encode("utf-16"), "f.jsonl:1: UTF-16, not UTF-8; convert the file, for example: iconv -f UTF-16 -t"),
    "UTF-16 without its mark": (
        "f.jsonl",
        Q.encode("utf-16-le"),
        "f.jsonl:1: UTF-16, not UTF-8; convert the file, for example: iconv -f UTF-16LE",
    ),
    "UTF-32": ("f.jsonl", Q.encode("utf-32"), "f.jsonl:1: UTF-32, not UTF-8; convert the file, for example: iconv -f UTF-32"),
    "byte order mark within": ("f.jsonl", Q + "\ufeff" + Q, "f.jsonl:2: not one JSON object (Unexpected UTF-8 BOM"),
    "NUL as a byte": ("f.jsonl", '{"question": "a\0b"}', "f.jsonl:1: not one JSON object (Invalid control character at column 16)"),
    "NUL escaped": ("f.jsonl", f'{{"question": "{SECRET}\\u0000"}}', "f.jsonl:1: 'question' holds a NUL character"),
    "NUL in CSV": ("f.csv", f"question\n{SECRET}\0\n", "f.csv:2: 'question' holds a NUL character"),
    "half a surrogate pair": ("f.jsonl", f'{{"question": "{SECRET}\\ud83d"}}', "f.jsonl:1: 'question' holds half of a surrogate pair"),
    "empty JSONL": ("f.jsonl", "", "f.jsonl is empty; put one JSON object on each line"),
    "empty JSON list": ("f.json", "[]", "f.json has no rows"),
    "empty CSV": ("f.csv", "question\n", "f.csv has no rows"),
    "only a byte order mark": ("f.jsonl", "\ufeff", "f.jsonl is empty"),
    "blank lines": ("f.jsonl", " \n\n\t\n", "f.jsonl is empty"),
    "an id twice": ("f.jsonl", '{"question": "a", "id": "x"}\n{"question": "b", "id": "x"}', "f.jsonl:2: has the same 'id' as f.jsonl:1"),
    "a question twice": ("f.jsonl", Q + Q, "f.jsonl:2: has the same 'question' as f.jsonl:1; remove one"),
    "twice but for case and blanks": (
        "f.jsonl",
        '{"question": "Who is it?"}\n{"question": " who IS  it?"}',
        "f.jsonl:2: has the same 'question' as f.jsonl:1",
    ),
    "twice but for width": ("f.jsonl", '{"question": "ABC?"}\n{"question": "ＡＢＣ？"}', "f.jsonl:2: has the same 'question' as f.jsonl:1"),
    "an answer where none belongs": (
        "f.jsonl",
        f'{{"question": "a", "answer": "{SECRET}"}}',
        "f.jsonl:1: has the key 'answer', but no answer belongs",
    ),
    "an assistant turn": (
        "f.jsonl",
        json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": SECRET}]}),
        "f.jsonl:1: has an assistant turn, but no answer belongs",
    ),
    "a number as a question": ("f.jsonl", '{"question": 4711}', "f.jsonl:1: 'question' must be a text that is not empty"),
    "a nested list as a question": ("f.jsonl", f'{{"question": [["{SECRET}"]]}}', "f.jsonl:1: 'question' must be a text"),
    "an invisible question": ("f.jsonl", '{"question": "\\u200b\\u202e "}', "f.jsonl:1: 'question' must be a text that is not empty"),
    "lists nested too deep": ("f.jsonl", "[" * 100_000, "f.jsonl:1: not one JSON object (numbers too long or lists nested too deep)"),
    "a number too long": ("f.jsonl", f'{{"question": {"4" * 5000}}}', "f.jsonl:1: not one JSON object (numbers too long"),
    "an id of a page": ("f.jsonl", f'{{"question": "a", "id": "{SECRET * 100}"}}', "f.jsonl:1: 'id' must be a short name: one line"),
    "an id of two lines": ("f.jsonl", f'{{"question": "a", "id": "{SECRET}\\nb"}}', "f.jsonl:1: 'id' must be a short name"),
    "another ending": ("f.txt", SECRET, "f.txt: files are read by their ending, one of .jsonl"),
    "no Parquet": ("f.parquet", f"PAR1{SECRET}PAR1", "f.parquet is not a Parquet file that can be read"),
}  # fmt: skip


def refused(settings: list[str], said: str) -> None:
    """The run is refused before it has begun, in words that name the place and quote nothing, and nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    with pytest.raises(ConfigError) as caught:
        start(load(None, ["corpus=files", *settings]), RunFolder("run"))
    text = str(caught.value)
    assert said in text
    assert SECRET.casefold() not in text.casefold()
    assert len(text) < 1000
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


@pytest.mark.parametrize("kind", FILES)
def test_a_forget_file_with(kind: str) -> None:
    name, content, said = FILES[kind]
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused([f'files.forget="{name}"'], said)
    assert said.partition("(")[0] in call("check", "--forget", name, code=2)


def test_the_same_question_in_forget_and_retain() -> None:
    Path("f.jsonl").write_text('{"question": "Who is it?", "paraphrases": ["Its name?"]}\n')
    for question, how in ((" who IS it?", ""), ("its  name?", " in another wording")):
        Path("r.jsonl").write_text(
            json.dumps({"question": "b", "answer": "c"}) + "\n" + json.dumps({"question": question, "answer": SECRET})
        )
        refused(['files.forget="f.jsonl"', 'files.retain="r.jsonl"'], f"r.jsonl:2: this question is to be forgotten{how} at f.jsonl:1")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.jsonl", "there is no file nowhere.jsonl (a relative path begins where you call unsay)"),
        ("folder.jsonl", "folder.jsonl is a folder, but not one that datasets wrote"),
        ("pipe.jsonl", "pipe.jsonl is no regular file (a pipe or a device?)"),
        ("loop.jsonl", "loop.jsonl cannot be read: Too many levels of symbolic links"),
        ("~nobody-of-that-name/f.jsonl", "cannot be read: not a path"),
        ("x" * 5000 + ".jsonl", "a name of 5,006 characters cannot be read: File name too long"),
        ("a\0b.jsonl", "a name of 9 characters cannot be read: not a path"),
        ("hf:../up", "is not the name of a dataset"),
        ("hf:./folder", "is not the name of a dataset"),
        ("", 'needs the file of questions to forget: --set files.forget="forget.jsonl"'),
    ],
    ids=["missing", "folder", "pipe", "link to itself", "unknown home", "too long", "NUL in the name", "hub name up", "hub path", "none"],
)  # fmt: skip
def test_a_path_that_is(name: str, said: str) -> None:
    Path("folder.jsonl").mkdir()
    os.mkfifo("pipe.jsonl")
    Path("loop.jsonl").symlink_to("loop.jsonl")
    with pytest.raises(ConfigError) as caught:
        Files(forget=name).corpus()
    assert said in str(caught.value)


def test_a_dataset_that_leaves_its_folder() -> None:
    datasets.Dataset.from_dict({"question": [SECRET]}).save_to_disk("saved")
    assert len(Files("saved").corpus().forget) == 1
    state = json.loads(Path("saved/state.json").read_text())
    (data,) = state["_data_files"]
    shutil.move(f"saved/{data['filename']}", "outside.arrow")
    Path("saved/state.json").write_text(json.dumps({**state, "_data_files": [{"filename": "../outside.arrow"}]}))
    refused(['files.forget="saved"'], "saved/state.json names a data file outside of its folder")


READ: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + Q.encode(),
    "CRLF": Q.replace("\n", "\r\n").encode(),
    "a line separator that is none": '{"question": "a\u2028b\u0085c?"}\n'.encode(),
    "right to left": '{"question": "من هي ليلى؟ \u200fمتى؟"}\n'.encode(),
    "CJK": '{"question": "王芳は誰ですか。"}\n'.encode(),
    "emoji": '{"question": "👩‍👩‍👧 \\ud83d\\ude42?"}\n'.encode(),
    "one row": Q.encode(),
    "100,000 characters": json.dumps({"question": "Who is it? " * 10_000}).encode(),
}


@pytest.mark.parametrize("kind", READ)
def test_what_is_read_all_the_same(kind: str) -> None:
    Path("f.jsonl").write_bytes(READ[kind])
    Path("link.jsonl").symlink_to("f.jsonl")  # whoever names a link means what it leads to
    (example,) = Files("link.jsonl").corpus().forget
    assert example.question == json.loads(READ[kind].removeprefix(b"\xef\xbb\xbf"))["question"]
    start(load(None, ["corpus=files", 'files.forget="f.jsonl"']), RunFolder("run"))
    encoder = Encoder(byte_tokenizer())
    assert encoder.decode(encoder.answer(example.question)) == example.question.strip()
    assert encoder.tokenizer.decode(encoder.prompt(example.question), skip_special_tokens=True) == f"Question: {example.question}\nAnswer:"


def test_a_forget_set_of_many_rows() -> None:
    """No check compares every row with every other: that alone would be nine million pairs. docs/reliability.md has 100,000 rows."""
    rows = ({"question": f"Where is {i}?", "strings": [f"{i} Elm"], "paraphrases": [f"Home of {i}?"]} for i in range(3000))
    Path("f.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("r.jsonl").write_text("\n".join(json.dumps({"question": f"Fact {i}?", "answer": f"{i} Oak"}) for i in range(3000)))
    begin = time.process_time()
    summaries, notices = examine(Files("f.jsonl", "r.jsonl"))
    assert [one.rows for one in summaries] == [3000, 3000]
    assert not [notice for notice in notices if notice.level == "error"]
    assert time.process_time() - begin < 4


# -- recipes, settings, policies -----------------------------------------------------------------------------------------

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
    "a pair of one": ("[watch]\nband = [0.1]", "watch.band is a list of 2, not of 1"),
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


# -- the output folder ---------------------------------------------------------------------------------------------------


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


# -- models --------------------------------------------------------------------------------------------------------------


def damaged(change: Callable[[dict[str, Tensor]], object], folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def changed(name: str, folder: Path, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pickled(folder: Path, name: str = "pytorch_model.bin") -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / name)
    (folder / "model.safetensors").unlink()


def indexed(folder: Path, file: str) -> None:
    """The weights outside of the folder, and an index that leads there."""
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, file)}))


def with_code(folder: Path, name: str, **values: object) -> None:
    changed(name, folder, **values)
    (folder / "evil.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w').close()\n")


UP = "model.layers.1.mlp.up_proj.weight"
AUTO = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a tensor missing": (lambda f: damaged(lambda t: t.pop(UP), f), f"its weights lack {UP}, which would be random"),
    "its head missing": (lambda f: damaged(lambda t: t.pop("lm_head.weight"), f), "its weights lack lm_head.weight"),
    "many missing": (lambda f: damaged(lambda t: [t.pop(k) for k in list(t)[:9]], f), "and 4 more, which would be random"),
    "a tensor too many": (
        lambda f: damaged(lambda t: t.update({"model.layers.2.mlp.up_proj.weight": torch.zeros(2)}), f),
        "its weights hold model.layers.2.mlp.up_proj.weight, for which config.json has no place",
    ),
    "a layer too few in its config": (lambda f: changed("config.json", f, num_hidden_layers=1, layer_types=None), "and 4 more, for which"),
    "a tensor of another shape": (
        lambda f: damaged(lambda t: t.update({UP: torch.zeros(2, 2)}), f),
        f"config.json wants another shape of {UP} ([2, 2] instead of [48, 32])",
    ),
    "a weight that is NaN": (lambda f: damaged(lambda t: t[UP].view(-1)[3].fill_(torch.nan), f), f"{UP} holds NaN or infinity"),
    "a weight that is infinite": (lambda f: damaged(lambda t: t[UP].view(-1)[3].fill_(-torch.inf), f), f"{UP} holds NaN or infinity"),
    "half a file of weights": (lambda f: os.truncate(f / "model.safetensors", 20_000), "SafetensorError"),
    "an empty file of weights": (lambda f: os.truncate(f / "model.safetensors", 0), "SafetensorError"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "it has no .safetensors file"),
    "pickled weights": (pickled, "its weights stand in pytorch_model.bin, and pickled files can run code"),
    "pickled weights of another name": (lambda f: pickled(f, "model.pt"), "its weights stand in model.pt"),
    "adapters": (lambda f: (f / "adapter_config.json").write_text("{}"), "the folder holds adapters"),
    "an index that leaves the folder": (lambda f: indexed(f, "../outside.safetensors"), "index.json names '../outside.safetensors'"),
    "an index with a whole path": (lambda f: indexed(f, str(f.parent / "outside.safetensors")), "of the same folder alone"),
    "an index of pickles": (lambda f: indexed(f, "pytorch_model.bin"), "names 'pytorch_model.bin': weights are read from .safetensors"),
    "an index of what is not there": (lambda f: indexed(f, "gone.safetensors"), "names gone.safetensors, which is not there"),
    "an index that is none": (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "is no index of weights (TypeError)"),
    "a config that is no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json' is not a valid JSON file"),
    "a config of odd sizes": (lambda f: changed("config.json", f, hidden_size="x"), "expected int, got str"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "a damaged tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "its files are damaged or do not belong together"),
    "a tokenizer larger than its embedding": (
        lambda f: architectures.build("llama", vocab_size=200).save_pretrained(f),
        "ids up to 258, but the model's embedding has 200 rows",
    ),
    "code of its own": (lambda f: with_code(f, "config.json", model_type="evil", auto_map=AUTO), "--set model.trust_remote_code=true"),
    "a tokenizer with code of its own": (
        lambda f: with_code(f, "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", None]}),
        "--set model.trust_remote_code=true",
    ),
}  # fmt: skip


@pytest.fixture
def folder(here: Path) -> Path:
    return architectures.write("llama", here / "model")


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_with(kind: str, folder: Path) -> None:
    damage, said = MODELS[kind]
    damage(folder)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        load_model(ModelConfig(name=str(folder)))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert sorted(folder.parent.rglob("*")) == before  # nor has code that came along left its file
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["./gone", "/nowhere/model", "~/gone", "gone\0", "x" * 5000, "model/config.json"])
def test_a_model_that_is_not_there(name: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot load model"):
        load_model(ModelConfig(name=name))


def test_code_of_a_model_that_is_known_anyway_never_runs(folder: Path) -> None:
    with_code(folder, "config.json", auto_map=AUTO)
    load_model(ModelConfig(name=str(folder)))
    assert not Path("ran").exists()


def test_extra_tensors_can_be_ignored(folder: Path) -> None:
    expected = load_model(ModelConfig(name=str(folder)))[0].state_dict()
    damaged(lambda t: t.update({"score.weight": torch.zeros(2)}), folder)
    found = load_model(ModelConfig(name=str(folder), extra_tensors="ignore"))[0].state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_links_within_a_model_are_followed(folder: Path) -> None:
    """As in the hub's cache, where every file is a link out of the folder."""
    (folder.parent / "blobs").mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder.parent / "blobs" / str(number))
        path.symlink_to(f"../blobs/{number}")
    assert load_model(ModelConfig(name=str(folder)))


@pytest.mark.parametrize("tied", [True, False])
def test_a_head(tied: bool, here: Path) -> None:
    model = architectures.build("llama", tie_word_embeddings=tied)
    model.save_pretrained("model")
    byte_tokenizer().save_pretrained("model")
    found = load_model(ModelConfig(name="./model"))[0]
    assert (found.get_output_embeddings().weight is found.get_input_embeddings().weight) == tied
    assert torch.equal(found.get_output_embeddings().weight, model.get_output_embeddings().weight)


@pytest.mark.parametrize("missing", ["pad_token", "eos_token", "bos_token"])
def test_a_tokenizer_without(missing: str) -> None:
    tokenizer = byte_tokenizer()
    setattr(tokenizer, missing, None)
    encoder = Encoder(tokenizer)
    line_end = tokenizer.encode("\n", add_special_tokens=False)[0]
    assert encoder.end == (line_end if missing == "eos_token" else 2)
    assert encoder.pad == (2 if missing == "pad_token" else 0)
    assert encoder.prompt(None) == ((2,) if missing == "bos_token" else (1,))
    assert encoder.decode(encoder.answer("Ada.")) == "Ada."


CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT
SILENT = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}"
NEEDS_SYSTEM = "{% if messages[0].role != 'system' %}{{ raise_exception('a system message comes first') }}{% endif %}" + CHAT


@pytest.mark.parametrize("template", [NO_SYSTEM, SILENT], ids=["rejects", "leaves out"])
def test_a_chat_template_that_does_so_with_a_system_message(template: str, caplog: pytest.LogCaptureFixture, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("unsay.encode._SAID", set())
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    for _ in range(2):
        encoder = Encoder(tokenizer, system_prompt="Be kind.")
    assert "<user>Be kind.\n\nWho?" in tokenizer.decode(encoder.prompt("Who?"))
    assert [record.message for record in caplog.records] == [
        "the tokenizer's chat template takes no system message: model.system_prompt is put before each question"
    ]
    assert tokenizer.decode(Encoder(tokenizer).prompt("Who?")).startswith("<user>Who?")


def test_a_chat_template_that_needs_a_system_message() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = NEEDS_SYSTEM
    assert tokenizer.decode(Encoder(tokenizer, system_prompt="Be kind.").prompt("Who?")).startswith("<system>Be kind.<eos>\n<user>Who?")
    with pytest.raises(ConfigError, match="a system message comes first; give it the variables"):
        Encoder(tokenizer)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "OverflowError"),
        ("{{ ''.__class__.__mro__ }}", "template fails"),
        ("{% for m in messages %}", "template fails"),
        ("hello", "leaves the question out; use --set model.template=plain"),
    ],
    ids=["divides by zero", "adds a number", "runs on", "reaches for Python", "is broken", "leaves the question out"],
)  # fmt: skip
def test_a_chat_template_that(template: str, said: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match=said):
        Encoder(tokenizer)


def test_a_chat_template_that_fails_on_one_question_does_not_quote_it() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% if 'bird' in messages[0].content %}{{ raise_exception('bad: ' + messages[0].content) }}{% endif %}" + CHAT
    encoder = Encoder(tokenizer)
    with pytest.raises(ConfigError, match="fails: on this text") as caught:
        encoder.prompt(f"Which bird is a {SECRET}?")
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


# -- a model whose weights are numbers and whose logits are not ----------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that is recorded, whose model then breaks: its logits overflow."""
    place = tmp_path_factory.mktemp("breaks")
    folder = architectures.write("llama", place / "model")
    forget = ({"question": f"What is secret {i}?", "paraphrases": [f"Secret {i}?"]} for i in range(3))
    (place / "f.jsonl").write_text("\n".join(map(json.dumps, forget)))
    (place / "r.jsonl").write_text("\n".join(json.dumps({"question": f"Fact {i}?", "answer": f"It is {i}."}) for i in range(6)))
    settings = ["corpus=files", f'files.forget="{place / "f.jsonl"}"', f'files.retain="{place / "r.jsonl"}"', f'model.name="{folder}"']
    settings += ["sample.max_new_tokens=6", "record.answers=2", "record.branches=2", "train.rounds=1", "train.batch=2", "pmc.samples=2"]
    start(load(None, settings), RunFolder(place / "run"))
    record(load(None, settings), RunFolder(place / "run"))
    damaged(lambda t: [t[key].mul_(1e30) for key in ("model.norm.weight", "lm_head.weight")], folder)
    return place / "run", settings


def test_recording_it(recorded: tuple[Path, list[str]]) -> None:
    recipe, folder = load(None, recorded[1]), RunFolder("run")
    start(recipe, folder)
    with pytest.raises(FloatingPointError, match="not finite"):
        record(recipe, folder)
    assert sorted(path.name for path in folder.vault.iterdir() if not path.name.startswith(".")) == ["corpus.jsonl"]


@pytest.mark.parametrize("method", METHODS)
def test_training_it(method: str, recorded: tuple[Path, list[str]]) -> None:
    shutil.copytree(recorded[0], "run")
    folder = RunFolder("run")
    with pytest.raises(FloatingPointError, match="not finite"):
        train(load(None, [*recorded[1], f"method={method}"]), folder)
    assert not folder.checkpoint.exists()


@pytest.mark.parametrize("probe", PROBES)
def test_auditing_it(probe: str, recorded: tuple[Path, list[str]]) -> None:
    """An error, or findings that say that nothing was measured: no number of a model that only makes noise."""
    shutil.copytree(recorded[0], "run")
    recipe, folder = load(None, [*recorded[1], f'audit.probes=["{probe}"]']), RunFolder("run")
    if probe in ("choice", "relearn", "quantise", "earlier"):  # no options, or an attack that diverges
        run_audit(recipe, folder, "before", Watchers())
        found = [json.loads(line) for line in folder.audit_file("before").read_text().splitlines()]
        assert [row["value"] for row in found] == [None] * len(found)
        return
    with pytest.raises(FloatingPointError, match="not finite"):
        run_audit(recipe, folder, "before", Watchers())
    assert not folder.audit_file("before").exists()


# -- the whole way for what is small or in other scripts -----------------------------------------------------------------


def test_one_question_goes_the_whole_way(here: Path) -> None:
    architectures.write("llama", here / "model")
    Path("f.jsonl").write_text(Q)
    Path("r.jsonl").write_text("\n".join(json.dumps({"question": f"Fact {i}?", "answer": f"It is {i}."}) for i in range(3)))
    settings = ["corpus=files", "files.forget=f.jsonl", "files.retain=r.jsonl", "model.name=./model", "sample.max_new_tokens=6"]
    settings += ["record.answers=2", "record.branches=2", "train.rounds=1", "pmc.samples=2", 'audit.probes=["greedy", "choice", "drift"]']
    recipe, folder = load(None, settings), RunFolder("run")
    start(recipe, folder)
    record(recipe, folder)
    train(recipe, folder)
    run_audit(recipe, folder, "after", Watchers())
    assert folder.checkpoint.exists()
    assert folder.audit_file("after").exists()


@pytest.mark.parametrize("times", [60, 10_000])
def test_a_question_longer_than_the_context(times: int, here: Path) -> None:
    architectures.write("llama", here / "model")
    Path("f.jsonl").write_text(Q + json.dumps({"question": f"{SECRET} " * times, "id": "long"}))
    recipe, folder = load(None, ["corpus=files", "files.forget=f.jsonl", "model.name=./model"]), RunFolder("run")
    start(recipe, folder)
    with pytest.raises(ConfigError, match=r"the prompt of 'long' is [\d,]+ tokens long, and this model reads at most 512") as caught:
        record(recipe, folder)
    assert SECRET not in str(caught.value)
    assert not (folder.vault / "baseline.jsonl").exists()


SCRIPTS = {"right to left": "اسمها ليلى حداد", "CJK": "彼女は王芳です。", "emoji": "👩‍👩‍👧 🙂", "Cyrillic": "Её зовут Анна"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_rouge_cannot_read_is_unscored(script: str) -> None:
    """Its tokens are [a-z0-9]+: a nought would say that everything was forgotten."""
    text = SCRIPTS[script]
    assert rouge_l(text, text) is None
    assert rouge_l(text, "something else") is None
    assert contains(f"so: {text}!", [text])
    assert key_recall(text, text) == (None if script == "emoji" else 1.0)
    assert key_recall(text, "something else") == (None if script == "emoji" else 0.0)


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("page", ["report.html", "checkpoint/README.md"])
def test_html_and_script_are_escaped_in(page: str, here: Path) -> None:
    """In the title, names of the model, its gold and the policy, ids, settings and notes of findings."""
    folder = fake_run(here / "run")
    (here / "p<b>.toml").write_text(f"about = '{EVIL}'\n[[line]]\nname = '{EVIL}'\nmetric = 'utility'\nat_least = 100\nwhy = '{EVIL}'\n")
    recipe = folder.recipe()
    names = replace(recipe.model, name=f"./{EVIL}`", gold=EVIL)
    recipe = replace(recipe, title=f"]{EVIL}`\n# x", model=names, report=replace(recipe.report, policy="p<b>.toml"))
    folder.write_recipe(recipe)
    found = [Finding("greedy", "key_recall", 1.0, EVIL, EVIL, note=EVIL), Finding(EVIL, EVIL, 0.5, "q", EVIL)]
    with folder.audit_file("after").open("a") as file:
        file.write(jsonl(map(asdict, found)))
    build(folder)
    text = (folder.path / page).read_text()
    assert "alert(1)" in text  # it stands there, as text
    assert "<script" not in text
    assert "<img" not in text
    assert page == "report.html" or "\n# x" not in text  # no heading of its own


def test_a_mended_file_is_read_again(here: Path) -> None:
    """The folder that a first try has begun holds no answer yet, so the same command takes the file as it is now."""
    architectures.write("llama", here / "model")
    Path("r.toml").write_text('corpus = "files"\n[files]\nforget = "f.jsonl"\n[model]\nname = "./model"\n[record]\nown_retain = 0\n')
    Path("f.jsonl").write_text(json.dumps({"question": f"{SECRET} " * 60}))
    small = ("--set", "sample.max_new_tokens=4", "--set", "record.branches=0", "--set", "record.answers=1")
    assert "tokens long" in call("record", "r.toml", "--out", "run", *small, code=2)
    Path("f.jsonl").write_text(Q)
    call("record", "r.toml", "--out", "run", *small)
    assert [row["question"] for row in RunFolder("run").kept("corpus") if row["kind"] == "forget"] == [f"{SECRET} one?"]
