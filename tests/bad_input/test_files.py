"""Questions and answers that cannot be read, or only look so."""

import json
import os
import shutil
import time
from pathlib import Path

import datasets
import pytest

from tests.bad_input.conftest import SECRET, Q, refused
from tests.conftest import byte_tokenizer
from tests.test_cli import call
from unsay.config import ConfigError, load
from unsay.corpora.checked import examine
from unsay.corpora.files import Files
from unsay.lm.encode import Encoder
from unsay.record import start
from unsay.store.folder import RunFolder

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
    "another ending": ("f.doc", SECRET, "f.doc: files are read by their ending, one of .jsonl"),
    "no Parquet": ("f.parquet", f"PAR1{SECRET}PAR1", "f.parquet is not a Parquet file that can be read"),
}  # fmt: skip


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
        ("", 'needs the file of what to forget: --set files.forget="forget.jsonl"'),
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
