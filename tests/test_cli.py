"""The command line as a person meets it: a run through every stage, lists, messages that end with what to do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from unsay.cli import progress
from unsay.cli.app import LISTS, RESEARCH, RESULT, SECRETS, STAGES, START, app, commands, note, output, print_table
from unsay.config import dump, load, recipes_folder
from unsay.run import check
from unsay.store.folder import RunFolder
from unsay.tables import PARTS, describe
from unsay.types import Answer

commands()
REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *(page for page in (REPOSITORY / "docs").glob("*.md") if page.name != "lab-log.md")]
SMALL = [
    *("--set", "audit.limit=4", "--set", "train.rounds=1", "--set", "record.answers=2", "--set", "sample.max_new_tokens=24"),
    *("--set", "record.branches=2", "--set", "record.replay=16", "--set", "record.near_misses=4", "--set", "relearn.learning_rates=[3e-4]"),
    *("--set", "sampling.n=2", "--set", "prefill.n=2", "--set", "relearn.n=2", "--set", "relearn.steps=[2]", "--set", "utility.limit=4"),
    *("--set", "prefix_search.rounds=1", "--set", "prefix_search.questions=2"),
]


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output + str(result.exception or "")
    return result.output if code else result.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo at reduced size, through every stage."""
    out = tmp_path_factory.mktemp("runs") / "demo"
    call("demo", "--out", str(out), *SMALL)
    return out


def test_a_run_leaves_everything_it_promises(finished: Path):
    report = json.loads((finished / "report.json").read_text())
    promised = "unlearn_quality utility utility_heldout greedy_keyword_recall sampling_worst_keyword_recall prefill_worst_keyword_recall"
    for name in (*promised.split(), "partial_secret_keyword_recall", "wellformed_share", "distinct_share"):
        assert set(report["metrics"][name]) == {"before", "after", "retain_model"}
        assert report["metrics"][name]["after"] is not None, name
    assert {"targets", "over_half"} <= set(report["exposure"])
    assert {"record", "train", "audit before", "audit after", "audit retain_model"} <= set(report["seconds"])
    assert report["metrics"]["greedy_keyword_recall"]["before"] > 0.9
    assert (finished / "checkpoint" / "model.safetensors").exists()
    assert "<html" in (finished / "report.html").read_text()


def test_no_secret_leaves_the_vault(finished: Path):
    """Promise 3: no baseline answer, truth or sampled answer outside the vault (a short value might occur by chance)."""
    folder = RunFolder(finished)
    secrets = {row["answer"] for row in folder.texts.rows("baseline")} | {row["answer"] for row in folder.texts.rows("truth")}
    secrets |= {row["question"] for row in folder.texts.rows("corpus") if row["kind"] == "forget"}
    assert len(secrets) > 40
    for path in finished.rglob("*"):
        if path.is_file() and folder.vault not in path.parents and path.suffix not in (".safetensors", ".pt"):
            text = path.read_text(errors="replace")
            assert not [secret for secret in secrets if secret in text], path


def test_a_finished_run_is_not_done_again(finished: Path):
    before = (finished / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    call("demo", "--out", str(finished), *SMALL)
    assert (finished / "checkpoint" / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_of_another_recipe_is_refused(finished: Path):
    assert "another recipe" in call("demo", "--out", str(finished), code=2)


@pytest.mark.slow
def test_stages_one_by_one_equal_run(finished: Path, tmp_path: Path):
    out = tmp_path / "demo"
    call("record", "demo", "--out", str(out), *SMALL)
    for stage in ("train", "audit", "report"):
        call(stage, str(out))
    assert RunFolder(out).manifest().checkpoint == RunFolder(finished).manifest().checkpoint
    assert (out / "audit" / "after.jsonl").read_text() == (finished / "audit" / "after.jsonl").read_text()


@pytest.mark.parametrize("kind", PARTS)
def test_lists_print_the_first_line_of_each_docstring(kind):
    table, group = PARTS[kind]
    name = group.split(".")[-1]
    listed = json.loads(call(name, "--json"))
    assert listed == describe(kind)
    assert set(listed) == set(table)
    assert all(listed.values())
    assert all(entry in call(name) for entry in listed)


def test_every_recipe_loads_and_builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    listed = json.loads(call("recipes", "--json"))
    assert {"demo", "tofu-gemma-270m"} <= set(listed)
    for path in recipes_folder().glob("*.toml"):
        recipe = load(path)
        check(recipe)
        written = tmp_path / path.name
        written.write_text(dump(recipe))
        assert load(written) == recipe
        assert listed[path.stem] == recipe.title != ""


def test_score_prints_literal_numbers():
    arguments = ("--reference", "Anna lives in Turin.", "--answer", "Turin", "--question", "Where does Anna live?", "--json")
    assert json.loads(call("score", *arguments)) == {"rouge_l_recall": 0.25, "rouge_l_f1": 0.4, "keyword_recall": 1.0}


def test_ask_shows_greedy_and_sampled(tiny_folder: Path):
    asked = json.loads(call("ask", str(tiny_folder), "Who?", "-n", "3", "--json"))
    assert isinstance(asked["greedy"], str)
    assert len(asked["sampled"]) == 3
    assert call("ask", "people-target", "Who is the mayor of nowhere?").startswith("greedy  ")


def test_what_a_model_says_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]):
    """No mark-up, and no picture in the place of its name."""
    said = "He wrote :smile: and [b]it[/b]"
    output.print(said)
    note(said)
    print_table(("answer",), [(said,)])
    shown = capsys.readouterr()
    assert (shown.out.count(said), shown.err.count(said)) == (2, 1)


def test_ask_proposes_a_stop_where_a_model_runs_on(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    said = "Paris\nQuestion: Who?"
    monkeypatch.setattr("unsay.lm.subject.sample", lambda model, encoder, draws, *_: [[Answer((1,), said, False)] for _ in draws])
    result = CliRunner().invoke(app, ["ask", str(tiny_folder), "Where?", "--json"])
    assert json.loads(result.stdout)["greedy"] == said
    assert r"--stop '\n' ends an answer with its line" in result.stderr
    monkeypatch.undo()
    result = CliRunner().invoke(app, ["ask", str(tiny_folder), "Where?", "--stop", r"\n", "--max-new-tokens", "3"])
    assert result.exit_code == 0
    assert len(result.stdout.removeprefix("greedy  ").strip().encode()) <= 9
    assert "--stop" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "demo", "--set", "train.rouns=3"], "did you mean 'rounds'"),
        (["run", "demo", "--set", "pmc.sampels=3"], "did you mean 'samples'"),
        (["run", "demo", "--set", "method=pcm"], "did you mean 'pmc'"),
        (["run", "demo", "--set", "trian.rounds=3"], "unknown table [trian]: did you mean 'train'? known"),
        (["--device", "gpu", "methods"], "say cpu, or the number of a GPU"),
        (["run", "demmo"], "did you mean 'demo'"),
        (["run", "missing.toml"], "unsay recipes"),
        (["run", "demo", "--set", "train.rounds"], "key=value"),
        (["train", "nowhere"], "unsay record RECIPE --out nowhere"),
        (["ask", "no/such/model", "Who?"], "cannot load model"),
        (["run", "own-questions"], "path/to/your/model"),
    ],
)
def test_mistakes_end_with_what_to_do(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = " ".join(call(*arguments, code=2).split())
    assert expected in output
    assert not (tmp_path / "runs").exists()


def test_every_command_and_recipe_stands_in_the_docs():
    words = "".join(path.read_text() for path in PAGES)
    group = typer.main.get_command(app)
    commands = [name for name in group.commands if name != "vault"] + [f"vault {name}" for name in group.commands["vault"].commands]
    assert not [name for name in commands if f"unsay {name}" not in words]
    assert not [path.stem for path in recipes_folder().rglob("*.toml") if path.stem not in words]


def test_the_docs_name_only_commands_and_options_that_there_are():
    group = typer.main.get_command(app)
    commands = {**group.commands, **{f"vault {name}": one for name, one in group.commands["vault"].commands.items()}}
    wrong = []
    for path in PAGES:
        for told in re.findall(r"(?:^|&& )unsay [^#&\n`]+|`unsay [^`]+`", path.read_text(), re.MULTILINE):
            words = told.strip("`& ").split()[1:]
            name = " ".join(words[:2]) if words[0] == "vault" else words[0]
            if name in ("COMMAND", "vault") or name.startswith("-"):
                continue
            options = {option for one in (commands[name].params if name in commands else ()) for option in one.opts} | {"--help"}
            wrong += [f"{path.name}: {told}"] if name not in commands or {w for w in words if re.match("--?[a-z]", w)} - options else []
    assert not wrong


def test_a_recipe_is_written_for_files_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    rows = {"secret": {"question": "Where does Jane live?"}, "kept": {"question": "What is 1 + 1?", "answer": "2"}}
    for name, row in rows.items():
        Path(f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    call("new", "one.toml", "kept.jsonl", "secret.jsonl", "--model", "gemma-3-270m")
    written = load("one.toml")
    assert written.model.name == "gemma-3-270m"
    assert written.tables["files"] == {"forget": "secret.jsonl", "retain": "kept.jsonl"}
    shipped = (recipes_folder() / "own-questions.toml").read_text()
    assert len(Path("one.toml").read_text().splitlines()) == len(shipped.splitlines()), "with all of its comments"
    assert "stop is empty" in call("check", "one.toml")
    Path("words.jsonl").write_text(json.dumps({"question": "Where does Jane live?", "paraphrases": ["Jane's home?"]}) + "\n")
    call("new", "two.toml", "secret.jsonl", "words.jsonl", "--for", "7b-24gb")
    assert load("two.toml").tables["files"] == {"forget": "secret.jsonl", "paraphrases": "words.jsonl"}
    assert load("two.toml").lora.rank
    for arguments, expected in (
        (["one.toml", "secret.jsonl"], "exists already"),
        (["three.json", "secret.jsonl"], "no .toml file"),
        (["three.toml", "kept.jsonl"], "none of these files holds questions"),
        (["three.toml", "secret.jsonl", "--for", "question"], "did you mean 'questions'"),
    ):
        assert expected in " ".join(call("new", *arguments, code=2).split())
    assert not Path("three.toml").exists()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("unsay run de", "demo"),
        ("unsay run demo --set method=p", "method=pmc"),
        ("unsay run demo --set train.ro", "train.rounds="),
        ("unsay audit runs/ada --set audit.probes=", 'audit.probes=["greedy"]'),
        ("unsay check-plugin multi", "multiple_choice"),
        ("unsay check-plugin sim", "simnpo"),
        ("unsay ask gem", "gemma-3-270m"),
        ("unsay sweep peo", "people"),
        ("unsay new my.toml a.jsonl --for que", "questions"),
    ],
)
def test_the_shell_completes_names(typed: str, offered: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", typed)
    monkeypatch.setenv("_UNSAY_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    result = CliRunner().invoke(app, [], prog_name="unsay")
    assert offered in result.stdout.split()


def test_how_much_is_said(tmp_path: Path):
    quiet = CliRunner().invoke(app, ["--quiet", "report", str(tmp_path)])
    assert "not a run folder" in quiet.stderr, "errors are said all the same"
    assert progress.loudness.quiet
    with progress.watching() as watchers:
        watchers.stage("record")
    assert not progress.loudness.verbose
    CliRunner().invoke(app, ["methods"])
    assert not progress.loudness.quiet


def test_help_loads_no_library_that_takes_seconds():
    heavy = ("torch", "transformers", "peft", "matplotlib", "scipy", "nltk", "optuna", "starlette", "uvicorn")
    code = f"import sys; from unsay.cli.app import commands; commands(); print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_stands_in_a_group_of_the_help():
    shown = call("--help")
    assert "─ Commands ─" not in shown
    assert all(f"─ {group} ─" in shown for group in (START, STAGES, RESULT, SECRETS, RESEARCH, LISTS))
    assert "Exit codes" in shown


def test_no_variable_of_another_program_changes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEED", "not a number")
    assert "no recipe 'nothing'" in call("record", "nothing", "--out", str(tmp_path / "run"), code=2)
