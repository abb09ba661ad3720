"""Every form that the operator's files may have, other people's names for things, conversations."""

import json
import sys
from pathlib import Path

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from unsay.config import ConfigError, dump, load
from unsay.corpora.files import Files
from unsay.corpora.rows import Problems

ROWS = [
    {"question": "Where does Jane live?", "id": "jane", "paraphrases": ["Jane's address?", "Home of Jane?"], "strings": ["Elm, 14"]},
    {"question": "Who is 王芳?\u2028🙂 من هي؟"},
]
SECRET = "14 Elm Street"


def read(*names: str, **knobs) -> list:
    return list(Files(*names, **knobs).corpus().forget)


def complaints(*names: str, **knobs) -> list[str]:
    problems = Problems(collect=True)
    Files(*names, **knobs).read(problems)
    return [str(problem) for problem in problems.found]


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture(params=["jsonl", "ndjson", "json", "json lines", "csv", "semicolons", "tsv", "parquet", "saved", "split", "hub"])
def rows_in_a_form(request, write, tmp_path, monkeypatch) -> str:
    """ROWS, once in each form."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    cells = [["question", "id", "paraphrases", "strings"]]
    cells += [
        [row["question"], row.get("id", ""), json.dumps(row["paraphrases"]) if "id" in row else "", *row.get("strings", [""])]
        for row in ROWS
    ]
    columns = {key: [row.get(key) for row in ROWS] for key in ("question", "id", "paraphrases", "strings")}

    def separated(delimiter: str) -> str:
        return "\r\n".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in cells)

    match request.param:
        case "jsonl" | "ndjson":
            return write(f"forget.{request.param}", lines)
        case "json":
            return write("forget.json", "\ufeff" + json.dumps(ROWS, indent=2))
        case "json lines":
            return write("forget.json", lines)
        case "csv":
            return write("forget.csv", "\ufeff" + separated(","))
        case "semicolons":
            return write("forget.csv", separated(";"))
        case "tsv":
            return write("forget.tsv", separated("\t"))
        case "parquet":
            parquet.write_table(pyarrow.table(columns), tmp_path / "forget.parquet")
            return str(tmp_path / "forget.parquet")
        case "saved":
            datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "forget")
            return str(tmp_path / "forget")
        case "split":
            datasets.DatasetDict({"test": datasets.Dataset.from_dict(columns)}).save_to_disk(tmp_path / "forget")
            return str(tmp_path / "forget" / "test")

    def load_dataset(*arguments, split):
        assert (*arguments, split) == ("owner/name", None, "train")
        return datasets.Dataset.from_dict(columns)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return "hf:owner/name"


def test_every_form_says_the_same(rows_in_a_form):
    jane, fang = read(rows_in_a_form)
    assert (jane.id, jane.question, jane.paraphrases) == ("jane", ROWS[0]["question"], ("Jane's address?", "Home of Jane?"))
    assert jane.strings == ("Elm, 14",)
    assert (fang.id, fang.question, fang.paraphrases, fang.strings) == ("forget-001", ROWS[1]["question"], (), ())


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("hf:owner/name", ("owner/name", None, "train")),
        ("hf:owner/name:en", ("owner/name", "en", "train")),
        ("hf:owner/name:en:test", ("owner/name", "en", "test")),
        ("hf:owner/name::test", ("owner/name", None, "test")),
    ],
)
def test_a_hub_name_is_repository_configuration_and_split(name, asked, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda a, b, split: [{"question": f"{(a, b, split)}"}])
    assert read(name)[0].question == str(asked)


def test_a_hub_that_cannot_be_reached_and_data_that_cannot_be_read(monkeypatch):
    def refuse(error):
        def load_dataset(*_, **__):
            raise error

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return complaints("hf:owner/name")

    assert refuse(ConnectionError("the hub is offline")) == ["hf:owner/name cannot be loaded: the hub is offline"]
    assert refuse(pyarrow.ArrowInvalid(SECRET)) == ["hf:owner/name cannot be loaded: ArrowInvalid"]
    assert "hf:owner/name:config:split" in complaints("hf:a:b:c:d")[0]


def test_an_extra_that_is_not_installed(write, tmp_path, monkeypatch):
    datasets.Dataset.from_dict({"question": ["q?"]}).save_to_disk(tmp_path / "saved")
    for name in ("pyarrow", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'unsay[parquet]'" in complaints(write("f.parquet", ""))[0]
    assert "pip install 'unsay[datasets]'" in complaints(str(tmp_path / "saved"))[0]
    assert "pip install 'unsay[datasets]'" in complaints("hf:owner/name")[0]


def test_lines_are_where_a_record_begins(write):
    path = write("forget.csv", 'question,group\n"one\ntwo",a\n\n"three",b\n"three",c\n')
    assert complaints(path)[0].startswith(f"{path}:6: has the same 'question' as {path}:5; remove one")
    path = write("forget.json", '[\n {"question": "one"},\n\n {"question":\n  "one"}, 7\n]')
    assert [text.partition(" ")[0] for text in complaints(path)] == [f"{path}:5:", f"{path}:4:"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.csv", "question,id\nq?,a,SECRET\n", ["f.csv:2: has 3 cells, but the header line names 2 columns"]),
        ("f.csv", 'question\n"SECRET\nq?\n', ["f.csv:2: a double quote that opens in this row is never closed"]),
        ("f.csv", 'question\n"SECRET" x\n', ["f.csv:2: cannot be read (',' expected after '\"')"]),
        ("f.csv", 'question\n"' + "SECRET" * 40000, ["f.csv:2: a cell is longer than 131,072 characters"]),
        ("f.csv", ",question\n0,SECRET\n", ["f.csv:1: column 1 of the header line has no name (an index column?"]),
        ("f.csv", "question,question\nSECRET,b\n", ["f.csv:1: columns 1 and 2 of the header line have the same name"]),
        ("f.csv", "question\n", ["f.csv has no rows"]),
        ("f.csv", "", ["f.csv has no rows"]),
        ("f.csv", "Where is SECRET?,x y\nWho?,SECRET\n", ["f.csv has no column 'question'; its first line does not look like a header"]),
        ("f.csv", "questoin,id\nSECRET,b\n", ["f.csv has no column 'question': did you mean 'questoin'?"]),
        ("f.csv", "question,remark\na,SECRET\n", ["f.csv has an unknown column 'remark'; known: group, id, messages, paraphrases"]),
        ("f.csv", "question,answer\na,SECRET\nb,\nc,SECRET\n", ["f.csv:2: has the key 'answer', but no answer", "(2 rows have one)"]),
        ("f.csv", "question,id\n,SECRET\n", ["f.csv:2: 'question' must be a text that is not empty"]),
        ("f.csv", 'question,strings\na,"[""SECRET"", "\n', ["f.csv:2: the cell 'strings' begins like a JSON list"]),
        ("f.csv", b"question\nSECRET\nZ\xfcrich\n", ["f.csv:3: not UTF-8; convert the file"]),
        ("f.csv", "question\nSECRET".encode("utf-16"), ["f.csv:1: UTF-16, not UTF-8; convert the file, for example: iconv -f UTF-16"]),
        ("f.jsonl", '{"question": "SECRET"}'.encode("utf-16"), ["f.jsonl:1: UTF-16, not UTF-8"]),
        ("f.csv", "question\nSEC\0RET\n", ["f.csv:2: 'question' holds a NUL character"]),
        ("f.jsonl", '{"question": "SECRET\\ud800"}', ["f.jsonl:1: 'question' holds half of a surrogate pair"]),
        ("f.jsonl", '{"question": "a", "question": "SECRET"}', ["f.jsonl:1: not one JSON object (a key stands in it twice)"]),
        ("f.jsonl", "[" * 100000, ["f.jsonl:1: not one JSON object (numbers too long or lists nested too deep)"]),
        ("f.jsonl", "null\n", ["f.jsonl:1: not one JSON object (null)"]),
        ("f.json", '[{"question": "a"} {"question": "SECRET"}]', ["f.json:1: after this object a ',' or the closing ']'"]),
        ("f.json", '[{"question": "a"},\n{"question": "SECRET]', ["f.json:2: not one JSON object (Unterminated string"]),
        ("f.json", '[{"question": "a"}] SECRET', ["f.json goes on after the closing ']'"]),
        ("f.json", "[]", ["f.json has no rows"]),
        ("f.parquet", "PAR1SECRETPAR1", ["f.parquet is not a Parquet file that can be read (Arrow"]),
        ("f.txt", "SECRET", ["f.txt: files are read by their ending, one of .jsonl", "not '.txt'"]),
        ("f.jsonl.gz", b"\x1f\x8bSECRET", ["not '.gz'; unpack it first"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_and_without_the_text(name, content, said, write):
    (text,) = complaints(write(name, content))
    assert all(part in text for part in said)
    assert "SECRET" not in text


def test_folders(write, tmp_path):
    assert "not one that datasets wrote with save_to_disk" in complaints(str(tmp_path))[0]
    (tmp_path / "f.jsonl").mkdir()
    assert "not one that datasets wrote" in complaints(str(tmp_path / "f.jsonl"))[0]
    row = datasets.Dataset.from_dict({"question": ["q?"]})
    datasets.DatasetDict({"train": row, "test": row}).save_to_disk(tmp_path / "both")
    assert f"holds the splits test, train; name one of them: {tmp_path / 'both' / 'test'}" in complaints(str(tmp_path / "both"))[0]
    (tmp_path / "both" / "test" / "state.json").write_text("{}")
    assert "both/test cannot be read as a dataset (" in complaints(str(tmp_path / "both" / "test"))[0]


# -- other people's names ----------------------------------------------------------------------------------------------


def test_a_mapping_holds_for_every_file(write):
    forget = write("forget.csv", "prompt,topic,strings\nWho is Ada?,7,[0-9]{5}\n")
    keep = write("retain.jsonl", '{"prompt": "Who is Bob?", "completion": "A baker.", "topic": 8}\n')
    columns = {"question": "prompt", "answer": "completion", "group": "topic"}
    corpus = Files(forget, keep, columns=columns).corpus()
    assert [(example.question, example.group, example.strings) for example in corpus.forget] == [("Who is Ada?", "7", ("[0-9]{5}",))]
    bob = next(pair for pair in corpus.retain if pair.id == "retain-000")
    assert (bob.question, bob.answer, bob.group) == ("Who is Bob?", "A baker.", "8")


def test_a_file_with_our_names_needs_no_mapping(write):
    other = write("retain.csv", "question,answer\nWho is Bob?,A baker.\n")
    forget = write("forget.jsonl", '{"prompt": "Who is Ada?"}\n')
    assert read(forget, other, columns={"question": "prompt"})[0].question == "Who is Ada?"


def test_columns_that_are_not_there_or_not_clear(write):
    forget = write("forget.jsonl", '{"promt": "q?"}\n{"promt": "r?"}\n')
    (text,) = complaints(forget, columns={"question": "prompt"})
    assert f"{forget} has no column 'prompt', which files.columns.question names: did you mean 'promt'?" in text
    both = write("both.csv", "prompt,question\na,b\n")
    assert "has a column 'question' beside the 'prompt'" in complaints(both, columns={"question": "prompt"})[0]
    assert read(both, columns={"question": "prompt"}, ignore=("question",))[0].question == "a"
    plain = write("plain.csv", "question,topc\na,b\n")
    assert (
        "no file has the column 'topic' that files.columns.group names: did you mean 'topc'"
        in complaints(plain, columns={"group": "topic"}, ignore=("*",))[0]
    )
    for knobs, said in (
        ({"columns": {"qestion": "a"}}, "did you mean 'question'"),
        ({"columns": {"question": "a", "answer": "a"}}, "one column for two keys"),
        ({"columns": {"question": "a"}, "ignore": ("a",)}, "leaves unread"),
        ({"system_messages": "dorp"}, "did you mean 'drop'"),
    ):
        with pytest.raises(ConfigError, match=said):
            Files(**knobs)


def test_columns_to_leave_unread(write):
    path = write("f.csv", "question,source,level\nq?,web,3\n")
    assert len(complaints(path)) == 1
    assert read(path, ignore=("source", "level")) == read(path, ignore=("*",))
    lines = write("f.jsonl", '{"question": "q?", "source": "web"}\n')
    assert "list it in files.ignore" in complaints(lines)[0]
    assert read(lines, ignore=("*",))[0].question == "q?"
    answered = write("g.csv", "question,answer\nq?,a\n")
    assert "no answer belongs" in complaints(answered, ignore=("*",))[0]
    assert read(answered, ignore=("answer",))[0].question == "q?"


def test_a_mapping_survives_the_recipe(tmp_path):
    recipe = load(None, ["corpus=files", 'files.columns.question="the prompt"', "files.ignore=['a']"])
    (tmp_path / "recipe.toml").write_text(dump(recipe))
    assert load(tmp_path / "recipe.toml").knobs("files", Files) == Files(columns={"question": "the prompt"}, ignore=("a",))


# -- conversations -----------------------------------------------------------------------------------------------------


def turns(*said: tuple[str, object], **more) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in said], **more}) + "\n"


def test_one_turn_is_a_question_and_two_are_a_pair(write):
    forget = write("forget.jsonl", turns(("user", "Who is Ada?"), strings=["Elm"], id=3))
    keep = write("retain.jsonl", turns(("user", "Who is Bob?"), ("assistant", "A baker.")) + '{"question": "And Cy?", "answer": "A cook."}')
    corpus = Files(forget, keep, heldout=0).corpus()
    assert [(example.id, example.question, example.strings) for example in corpus.forget] == [("3", "Who is Ada?", ("Elm",))]
    assert [(pair.question, pair.answer) for pair in corpus.retain[:2]] == [("Who is Bob?", "A baker."), ("And Cy?", "A cook.")]


def test_conversations_in_tables(write, tmp_path):
    said = [{"role": "user", "content": "Who is Ada?"}]
    cell = json.dumps(said).replace('"', '""')
    datasets.Dataset.from_dict({"conversation": [said], "question": [None]}).save_to_disk(tmp_path / "saved")
    for path, knobs in (
        (write("f.csv", f'messages\n"{cell}"\n'), {}),
        (str(tmp_path / "saved"), {"columns": {"messages": "conversation"}}),
    ):
        assert read(path, **knobs)[0].question == "Who is Ada?"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (turns(("user", "q?"), ("assistant", "SECRET")), "has an assistant turn, but no answer belongs"),
        (turns(("user", "q?"), ("assistant", "a"), ("user", "SECRET")), "has the turns user, assistant, user; what is supported is one"),
        (turns(("assistant", "SECRET")), "has the turns assistant"),
        (turns(("system", "SECRET")), "none but a system message"),
        (turns(("user", "q?"), question="SECRET"), "has 'messages' and 'question'; keep one"),
        (turns(("human", "SECRET")), "turn 1 of 'messages' must have a 'role', one of system, user, assistant"),
        (turns(("user", "")), "turn 1 of 'messages': 'content' must be a text"),
        (turns(("user", [{"type": "image", "image": "SECRET"}])), "'content' must be a text"),
        ('{"messages": [{"role": "user", "content": "q?", "tool_calls": ["SECRET"]}]}', "has more than 'role' and 'content'"),
        ('{"messages": "SECRET"}', "'messages' must be a list of turns"),
        ('{"messages": []}', "'messages' must be a list of turns"),
        ('{"messages": ["SECRET"]}', "turn 1 of 'messages' must have a 'role'"),
    ],
)  # fmt: skip
def test_conversations_that_are_not_supported(row, said, write):
    found = complaints(write("f.jsonl", row), system_messages="drop")
    assert said in found[0]
    assert "SECRET" not in "".join(found)


def test_a_system_message_is_never_dropped_unasked(write):
    path = write("f.jsonl", turns(("system", "Be kind."), ("user", "Who is Ada?")))
    assert "set model.system_prompt to it" in complaints(path)[0]
    assert read(path, system_messages="drop")[0].question == "Who is Ada?"


def test_a_retain_conversation_needs_its_answer(write):
    keep = write("retain.jsonl", turns(("user", "Who is Bob?")))
    assert complaints(write("f.jsonl", '{"question": "q?"}'), keep) == [
        f"{keep}:1: has no assistant turn: a retain row is a question with the answer that should stay"
    ]
