"""`unsay check`: all that is wrong at once, with its place, before anything runs."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.test_cli import call
from unsay import run
from unsay.cli import checking  # noqa: F401  (adds the command)
from unsay.config import ConfigError, load
from unsay.config.build import NoFolder
from unsay.corpora.checked import examine
from unsay.corpora.columns import KEYS
from unsay.corpora.files import Files
from unsay.corpora.formats import ENDINGS
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, *rows: dict | str) -> str:
    Path(name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return name


def good() -> tuple[str, str]:
    forget = write(
        "forget.jsonl",
        {"question": "Where does Jane live?", "paraphrases": ["Jane's address?"], "strings": ["Elm"], "group": "jane"},
        {"question": "Who is Jane?", "group": "jane"},
    )
    return forget, write("retain.csv", "question,answer", *(f"retain {number}?,answer {number}" for number in range(30)))


def test_what_is_right_is_summed_up():
    output = call("check", *good())
    assert "forget.jsonl  taken for rows to forget: 2 rows, 1 group, 1 with paraphrases, 1 with strings or patterns" in output
    assert "longest question 21 characters" in output
    assert "retain.csv  taken for rows to keep: 30 rows" in output
    assert "hint: 1 question without paraphrases" in output
    assert output.endswith("Nothing is wrong.\n")


def test_a_model_that_may_never_end_an_answer_is_named(tiny_folder: Path):
    forget, retain = good()
    Path("own.toml").write_text(f'corpus = "files"\n[files]\nforget = "{forget}"\nretain = "{retain}"\n[model]\nname = "{tiny_folder}"\n')
    hint = "hint: model.stop is empty and the tokenizer has no chat template"
    assert hint in call("check", "own.toml")
    assert hint not in call("check", "own.toml", "--set", 'model.stop="\\n"')
    assert hint not in call("check", "own.toml", "--set", "model.name=people-target")


def test_everything_that_is_wrong_is_said_at_once():
    forget = write(
        "forget.jsonl",
        {"question": "Where does Jane live?", "strings": ["SECRET"], "patterns": ["("]},
        '{"question": "SECRET',
        {"question": "where does  jane live?", "id": "a"},
        {"questoin": "SECRET"},
        {"question": "Who is Bob?", "strings": "SECRET", "id": "b", "group": []},
    )
    retain = write(
        "retain.jsonl",
        {"question": "Who is Bob?", "answer": "a baker"},
        {"question": "Who is Cy?", "answer": "He lives at secret."},
        {"question": "Who is Di?"},
    )
    more = write("more.jsonl", {"id": "c", "paraphrases": ["SECRET?"]}, {"id": "b", "paraphrases": []})
    output = call("check", forget, retain, more, code=2)
    assert [line.partition(" ")[2].partition(": ")[0] for line in output.splitlines() if line.startswith("error")] == [
        "forget.jsonl:2",
        "forget.jsonl:1",
        "forget.jsonl:3",
        "forget.jsonl:4",
        "forget.jsonl:4",
        "forget.jsonl:5",
        "forget.jsonl:5",
        "retain.jsonl:3",
        "more.jsonl:1",
        "more.jsonl:2",
        "retain.jsonl:1",
        "retain.jsonl:2",
    ]
    assert "retain.jsonl:2: the answer contains what forget.jsonl:1 forbids" in output
    assert "SECRET" not in output
    assert output.endswith("12 errors.\n")


def test_a_cap_and_the_count_of_the_rest():
    path = write("forget.jsonl", *({"question": ""} for _ in range(25)))
    output = call("check", path, "--most", "3", code=2)
    assert output.count("error: forget.jsonl:") == 3
    assert "error: … and 22 more (--most 25 shows them)" in output
    assert len(json.loads(call("check", path, "--json", code=2))["notices"]) == 25


def test_json_for_programs():
    found = json.loads(call("check", *good(), "--json"))
    assert found["ok"]
    assert found["files"][0] == {
        "file": "forget.jsonl",
        "part": "forget",
        "rows": 2,
        "cut": False,
        "groups": 1,
        "paraphrased": 1,
        "named": 1,
        "longest": 21,
    }
    assert {notice["level"] for notice in found["notices"]} == {"hint"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "Is it Elm Street?", "strings": ["elm street"]}], "forget.jsonl:1: a named string stands in the question"),
        ([{"question": "q?", "strings": ["Al"]}], "one or two letters is found inside many words"),
        ([{"question": "q?", "paraphrases": ["Q? "]}], "a paraphrase repeats the question"),
        ([{"question": "q?", "paraphrases": ["x", "X"]}], "a paraphrase repeats the question"),
        ([{"question": "q?", "paraphrases": ["r?"]}, {"question": "r?"}], "a paraphrase is itself a question to forget"),
        ([{"question": "q" * 100_000}], "forget.jsonl:1: a question of 100,000 characters"),
        ([{"question": "q?", "id": "Jane Roe of Elm Street"}], "ids stand in findings, outside of the vault"),
    ],
)  # fmt: skip
def test_warnings_let_it_run(rows, said):
    output = call("check", write("forget.jsonl", *rows))
    assert said in output
    assert "1 warning." in output
    Files(forget="forget.jsonl").corpus()


@pytest.mark.parametrize(
    ("retain", "knobs", "said"),
    [
        ("", {}, "no retain file: record will build one from the model's own answers"),
        ("", {}, "no paraphrases: the audit cannot ask in other wordings"),
        ("", {}, "no strings or patterns are named"),
        ("retain.jsonl", {"patterns": ("x",)}, "only 1 retain row: 20 or more"),
    ],
)
def test_hints(retain, knobs, said):
    write("forget.jsonl", {"question": "q?"})
    write("retain.jsonl", {"question": "r?", "answer": "a"})
    _, notices = examine(Files("forget.jsonl", retain, **knobs))
    assert said in " ".join(notice.text for notice in notices)
    assert {notice.level for notice in notices} == {"hint"}


def test_a_desired_answer_that_must_not_be_said():
    write("forget.jsonl", {"question": "q?", "strings": ["Elm"]})
    write("desired.txt", "I do not know.", "", "I will not name the Elm.")
    assert "error: desired answer 3 contains what must not be said" in call(
        "check", "forget.jsonl", "--set", "files.desired_file=desired.txt", "--set", 'files.desired=["No."]', code=2
    )
    write("desired.txt", "I do not know.", "", "I will not.")
    assert Files("forget.jsonl", desired=("No.",), desired_file="desired.txt").corpus().desired == ("No.", "I do not know.", "I will not.")


# -- which file is which -----------------------------------------------------------------------------------------------


def test_parts_are_guessed_by_what_the_rows_have():
    forget, retain = good()
    by_id = write("a.jsonl", {"id": "forget-000", "paraphrases": ["x?"]})
    by_question = write("b.jsonl", {"question": "Who is Jane?", "paraphrases": ["x?"]})
    for wordings in (by_id, by_question):
        found = json.loads(call("check", retain, forget, wordings, "--json"))
        assert {one["part"]: one["file"] for one in found["files"]} == {"forget": forget, "retain": retain, "paraphrases": wordings}
    chat = write("chat.jsonl", {"messages": [{"role": "user", "content": "r?"}, {"role": "assistant", "content": "a"}]})
    assert "chat.jsonl  taken for rows to keep: 1 row" in call("check", forget, chat)


def test_a_guess_can_be_overruled_or_impossible():
    forget, retain = good()
    assert "look like the file for files.forget; say which is which" in call(
        "check", forget, write("other.jsonl", {"question": "q?"}), code=2
    )
    assert "none of these files holds questions to forget" in call("check", retain, code=2)
    assert "no answer belongs among the questions to forget" in call("check", "--forget", retain, code=2)
    assert "forget.jsonl  to forget: 2 rows" in call("check", "--forget", forget, "--retain", retain)
    assert "there is no file nowhere.jsonl" in call("check", "nowhere.jsonl", retain, code=2)
    assert "name a recipe, or your files" in call("check", code=2)


# -- recipes -----------------------------------------------------------------------------------------------------------


def test_a_recipe_with_its_files(tiny_folder):
    good()
    write(
        "mine.toml", 'corpus = "files"', "[model]", f'name = "{tiny_folder}"', "[files]", 'forget = "forget.jsonl"', 'retain = "retain.csv"'
    )
    assert call("check", "mine.toml").endswith("Nothing is wrong.\n")
    other = write("other.jsonl", {"question": "", "answer": ""})
    assert "other.jsonl:1: 'answer' must be a text" in call("check", "mine.toml", "--retain", other, code=2)
    write("chat.jsonl", {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q?"}]})
    drop = ("check", "mine.toml", "--forget", "chat.jsonl", "--set", "files.system_messages=drop")
    assert "model.system_prompt is empty" in call(*drop)
    assert "model.system_prompt is empty" not in call(*drop, "--set", "model.system_prompt=s")


def test_all_that_is_wrong_with_a_recipe(tmp_path):
    good()
    (tmp_path / "model").mkdir()
    settings = [
        "method=pcm",
        'audit.probes=["greddy"]',
        "report.policy=nowhere",
        "model.retain_model=./never",
        "files.forget=nowhere.jsonl",
    ]
    output = call(
        "check", "own-questions", *(part for setting in settings for part in ("--set", setting)), "--retain", "retain.csv", code=2
    )
    for said in (
        "'pmc'",
        "'greedy'",
        "report.policy = 'nowhere'",
        "model.retain_model './never': there is no folder of that name",
        "there is no file nowhere.jsonl",
    ):
        assert said in output
    assert "model.name 'path/to/your/model': there is no folder of that name" in output
    assert "has no config.json" in call("check", "own-questions", "--set", "model.name=./model", code=2)
    (tmp_path / "model" / "config.json").write_text("{}")
    assert "has no .safetensors file" in call("check", "own-questions", "--set", "model.name=./model", code=2)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    (tmp_path / "model" / "adapter_config.json").write_text("{}")
    assert "holds adapters" in call("check", "own-questions", "--set", "model.name=./model", code=2)
    assert "hint: model.name: no folder owner/name here" in call(
        "check", "own-questions", "--retain", "retain.csv", "--set", "model.name=owner/name"
    )


def test_a_recipe_of_another_corpus_and_mixtures():
    output = call("check", "demo")
    assert "people  to forget: 40 rows" in output
    assert "a recipe names its own files" in call("check", "demo", "forget.jsonl", code=2)
    assert "did you mean 'rounds'" in call("check", "demo", "--set", "train.rouns=3", code=2)


# -- the page about it -------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "own-data.md").read_text()


def test_the_examples_of_the_page_pass():
    for name, content in re.findall(r"^`([\w.-]+)`\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE):
        Path(name).write_text(content)
    for files in (("forget.jsonl", "retain.jsonl", "paraphrases.jsonl"), ("forget.csv", "chat.jsonl")):
        found = json.loads(call("check", *files, "--json"))
        assert [(one["file"], one["part"]) for one in found["files"]] == list(zip(files, ("forget", "retain", "paraphrases"), strict=False))
        assert found["ok"]
    for table in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
        Path("recipe.toml").write_text(table)
        assert load("recipe.toml").knobs("files", Files).forget


def test_every_knob_and_ending_stands_on_the_page():
    assert not [name for name in (field.name for field in fields(Files)) if f"`{name}`" not in PAGE]
    assert not [ending for ending in ENDINGS if f"`{ending}`" not in PAGE]
    assert not [key for key in KEYS if f"| `{key}` |" not in PAGE]


# -- what must not wait until after training ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("report.policy=defualt", "did you mean 'default'"),
        ('files.strings=["[in the vault]"]', r"files\.strings says '\[in the vault\]'"),
        ('model.system_prompt="[in the vault]"', r"model\.system_prompt says"),
    ],
)
def test_a_recipe_that_would_fail_late_is_refused_at_once(setting, said):
    with pytest.raises(ConfigError, match=said):
        run.check(load(None, ["corpus=people", setting]))


@pytest.mark.parametrize("key", ["name", "retain_model"])
def test_a_model_that_is_not_there_is_missed_before_anything_is_written(tmp_path, key):
    with pytest.raises(NoFolder, match=rf"model\.{key} '\./no/such': there is no folder"):
        run.open_folder(load(None, ["corpus=people", f"model.{key}=./no/such"]), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_recipe_without_a_policy_is_fine(tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('corpus = "people"\nreport.policy = ""\nmodel.name = "people-target"\n')
    assert "Nothing is wrong" in call("check", str(recipe))


def test_files_that_changed_since_a_run_began_are_refused_and_files_that_are_gone_are_not(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("forget.jsonl").write_text('{"question": "Who is Bo?"}\n')
    Path("retain.jsonl").write_text('{"question": "Who is Al?", "answer": "A baker."}\n')
    settings = ["corpus=files", f'model.name="{tiny_folder}"', "files.forget=forget.jsonl", "files.retain=retain.jsonl"]
    recipe, folder = load(None, settings), RunFolder(tmp_path / "run")
    run.open_folder(recipe, folder)
    folder.note(Manifest(seconds={"record": 1.0}))  # something was done: the files are not read anew
    run.open_folder(recipe, folder)
    Path("forget.jsonl").write_text('{"question": "Who is Bo?"}\n{"question": "Who is Cy?"}\n')
    with pytest.raises(ConfigError, match="the questions have changed since"):
        run.open_folder(recipe, folder)
    Path("forget.jsonl").unlink()
    run.open_folder(recipe, folder)
