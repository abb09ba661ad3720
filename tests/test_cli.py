"""The command line as a person meets it: a run through every stage, lists, messages that end with what to do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from unsay import corpora, methods, probes, rewards
from unsay.cli.app import LISTS, RESEARCH, RESULT, SECRETS, STAGES, START, app, commands
from unsay.config import dump, load, recipes_folder
from unsay.run import check
from unsay.store.folder import RunFolder
from unsay.tables import describe

commands()
REPOSITORY = Path(__file__).resolve().parents[1]
SMALL = [
    *("--set", "audit.limit=4", "--set", "train.rounds=1", "--set", "record.answers=2", "--set", "sample.max_new_tokens=24"),
    *("--set", "record.branches=2", "--set", "record.replay=16", "--set", "relearn.learning_rates=[3e-4]"),
    *("--set", "sampling.n=2", "--set", "prefill.n=2", "--set", "relearn.n=2", "--set", "relearn.steps=[2]", "--set", "utility.limit=4"),
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
    secrets = {row["answer"] for row in folder.kept("baseline")} | {row["answer"] for row in folder.kept("truth")}
    secrets |= {row["question"] for row in folder.kept("corpus") if row["kind"] == "forget"}
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


def test_stages_one_by_one_equal_run(finished: Path, tmp_path: Path):
    out = tmp_path / "demo"
    call("record", "demo", "--out", str(out), *SMALL)
    for stage in ("train", "audit", "report"):
        call(stage, str(out))
    assert RunFolder(out).manifest().checkpoint == RunFolder(finished).manifest().checkpoint
    assert (out / "audit" / "after.jsonl").read_text() == (finished / "audit" / "after.jsonl").read_text()


@pytest.mark.parametrize("alcove", [methods, rewards, probes, corpora])
def test_lists_print_the_first_line_of_each_docstring(alcove):
    name = alcove.GROUP.split(".")[-1]
    listed = json.loads(call(name, "--json"))
    assert listed == describe(alcove.TABLE, alcove.GROUP)
    assert set(listed) == set(alcove.TABLE)
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
        (["run", "own-questions"], "forget.jsonl"),
    ],
)
def test_mistakes_end_with_what_to_do(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = " ".join(call(*arguments, code=2).split())
    assert expected in output
    assert not (tmp_path / "runs").exists()


def test_every_command_and_recipe_stands_in_the_docs():
    words = "".join(path.read_text() for path in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])
    group = typer.main.get_command(app)
    commands = [name for name in group.commands if name != "vault"] + [f"vault {name}" for name in group.commands["vault"].commands]
    assert not [name for name in commands if f"unsay {name}" not in words]
    assert not [path.stem for path in recipes_folder().rglob("*.toml") if path.stem not in words]


def test_help_loads_no_library_that_takes_seconds():
    heavy = ("torch", "transformers", "peft", "matplotlib", "scipy", "nltk", "optuna")
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
