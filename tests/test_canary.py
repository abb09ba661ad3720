"""Nothing leaked (promise 3): secrets in everything that can hold one, every command in every way that it can fail, and then
a search through all that was printed, logged or written. Only the vault and the operator's own files may hold a secret.

What may show one is left out of the search by name: `ask`, `look`, `spans --reveal` and `--export`, `prompt_search --reveal` and its file.
"""

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from tests.canaries import CANARIES, SMALL, Place, options, place, say
from unsay.cli.app import app
from unsay.lm.sample import sample
from unsay.store.folder import RunFolder

SECRET = CANARIES["answer"]
COMMANDS: list[str] = []
"""Every command that was given, for the last test."""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A finished run, in a home and a cache of its own."""
    path = tmp_path_factory.mktemp("canary")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "UNSAY_CACHE", "MPLCONFIGDIR", "TMPDIR"):
            (path / "home" / name.lower()).mkdir(parents=True)
            patch.setenv(name, str(path / "home" / name.lower()))
        patch.chdir(path / "home")
        found = place(path)
        assert say("run", found.recipe, "--out", found.run, *options(SMALL)) == 0
        COMMANDS.append("run")
        shutil.copytree(found.run, path / "runs" / "copy")
        yield found


class Said:
    """Gives commands, and keeps all that they print and log."""

    def __init__(self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture):
        self._capfd, self._caplog = capfd, caplog

    def __call__(self, *arguments: str | Path, code: int) -> str:
        self._capfd.readouterr()
        self._caplog.clear()
        found = say(*arguments)
        printed = self._capfd.readouterr()
        text = printed.out + printed.err + self._caplog.text
        assert found == code, text
        COMMANDS.append(" ".join(str(one) for one in arguments[: 2 if arguments[0] == "vault" else 1]))
        return text

    def silent(self, *arguments: str | Path, code: int) -> str:
        """The same for a command that may show no secret."""
        text = self(*arguments, code=code)
        assert not leaks(text.encode()), arguments[0]
        return text


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Said:
    caplog.set_level(logging.DEBUG)
    return Said(capfd, caplog)


def leaks(content: bytes) -> list[str]:
    return [name for name, value in CANARIES.items() if value.encode() in content]


def outside(given: Place) -> dict[str, list[str]]:
    """Files in which a secret stands although it may not: all but vaults and what the operator wrote himself."""
    mine = {path for path in given.path.glob("*") if path.is_file()}
    files = [path for path in given.path.rglob("*") if path.is_file() and path not in mine and "vault" not in path.parts]
    assert len(files) > 40, "the search must have something to search"
    found = {str(path): leaks(path.read_bytes()) for path in files if path.parent.name != "mine"}
    return {path: names for path, names in found.items() if names}


# -- what a run leaves -------------------------------------------------------------------------------------------------


def test_the_vault_holds_the_secrets_and_nothing_else_does(given: Place):
    folder = RunFolder(given.run)
    content = b"".join(path.read_bytes() for path in folder.vault.rglob("*") if path.is_file())
    assert set(leaks(content)) >= {"question", "wording", "string", "pattern", "system", "group", "file"}
    assert outside(given) == {}


def test_what_the_model_said_stays_in_the_vault_too(given: Place):
    folder = RunFolder(given.run)
    said = {row["answer"] for row in folder.texts.rows("baseline")}
    said |= {text for row in folder.texts.rows("baseline") for text in row["withheld"]}
    said = {text for text in said if len(text) > 12}
    assert said
    for path in given.run.rglob("*"):
        if path.is_file() and folder.vault not in path.parents:
            assert not [text for text in said if text.encode() in path.read_bytes()], path


# -- commands that go well ---------------------------------------------------------------------------------------------


def well(given: Place) -> list[tuple[str | Path, ...]]:
    run, model = given.run, given.path / "model"
    return [
        ("check", given.recipe),
        ("check", given.forget, given.path / "retain.jsonl"),
        ("new", given.path / "new.toml", given.forget, given.path / "retain.jsonl"),
        ("report", run),
        ("gate", run, "--json"),
        ("compare", run, given.path / "runs" / "copy"),
        ("spans", run),
        ("spans", run, "--json"),
        ("vault", "status", run),
        ("verify", run, run / "checkpoint"),
        ("export", run, "--open-unlearning", "--out", given.path / "runs" / "exported"),
        ("doctor", given.recipe, *options(SMALL), "--shallow"),
        ("audit", run, "--which", "after"),
        ("score", "--reference-file", given.path / "asked.jsonl", "--answer-file", given.forget),
        (
            "prompt-search",
            model,
            "--questions",
            given.path / "asked.jsonl",
            "-n",
            "1",
            "--rewordings",
            "0",
            "--out",
            given.path / "variants.jsonl",
        ),
        ("look", run),
        ("check-plugin", "greedy"),
        *((name,) for name in ("methods", "rewards", "probes", "corpora", "models", "recipes")),
    ]


@pytest.mark.parametrize("number", range(23))
def test_a_command_that_goes_well_shows_nothing(number: int, given: Place, command: Said):
    arguments = well(given)[number]
    command.silent(*arguments, code=1 if arguments[0] == "gate" else 0)


def test_every_command_above_was_given(given: Place):
    assert len(well(given)) == 23


def test_an_audit_that_stands_alone_shows_nothing(given: Place, command: Said):
    probes = ('audit.probes=["greedy", "prefill"]', "prefill.n=1", "sample.max_new_tokens=8", f"model.system_prompt={CANARIES['system']}")
    out = given.path / "runs" / "alone"
    command.silent("audit", given.path / "model", "--questions", given.path / "asked.jsonl", "--out", out, *options(probes), code=0)
    assert outside(given) == {}


# -- and that fail -----------------------------------------------------------------------------------------------------


def test_a_sweep_shows_nothing(given: Place, command: Said):
    settings = "\n".join(
        '"{}" = {}'.format(*one.split("=", 1)) for one in SMALL if not one.startswith(("audit", "train.rounds", "model", "pmc"))
    )
    tries = given.path / "tries.toml"
    tries.write_text(
        f'recipe = "{given.recipe}"\nmethods = ["gd"]\nconfigurations = 1\nseeds = [0]\nbudget = 0.5\ncheckpoints = 1\nfloor = 0.0\n'
        f'probes = ["greedy", "paraphrase", "utility"]\nfinal = ["sampling"]\n[settings]\n{settings}\n"model.template" = "chat"\n'
    )
    out = given.path / "runs" / "swept"
    command.silent("sweep", tries, "--out", out, code=0)
    # Whatever it cost: on a busy machine more than its budget.
    command.silent("front", out, "--budget", "0", "--out", given.path / "runs" / "front", code=0)
    assert RunFolder(out / "gd" / "000" / "seed-0").done("audit after")
    ablated = given.path / "runs" / "ablated"
    own = [one for one in SMALL if not one.startswith(("audit", "train.rounds", "model"))]
    command.silent("ablate", given.recipe, "--over", "train.rounds=1,2", "--seeds", "1", "--out", ablated, *options(own), code=0)
    assert (ablated / "ablation.md").exists()
    assert outside(given) == {}


def wrong(given: Place, mine: Path) -> list[tuple[int, tuple[str | Path, ...]]]:
    """(exit code, command). `mine`: a folder for files of the operator that are not as they should be."""
    run, model, recipe = given.run, given.path / "model", given.recipe
    bad = {
        "torn.jsonl": f'{{"question": "{SECRET}',
        "list.jsonl": f'["{SECRET}"]\n',
        "number.jsonl": f'{{"question": 7, "strings": "{SECRET}"}}\n',
        "twice.jsonl": f'{{"question": "{SECRET}"}}\n' * 2,
        "answered.jsonl": f'{{"question": "Who?", "answer": "{SECRET}"}}\n',
        "pattern.jsonl": f'{{"question": "Who?", "patterns": ["{SECRET}("]}}\n',
        "empty.jsonl": "",
        "cells.csv": f"question,answer\n{SECRET},b,c\n",
        "headless.csv": f"Who is {SECRET}?,It is {SECRET}.\n1,2\n",
        "quote.csv": f'question\n"{SECRET}\n',
        "kept.jsonl": f'{{"question": "Who?", "answer": "{CANARIES["file"]}"}}\n',
        "broken.toml": f'title = "{SECRET}\n',
        "typo.toml": f'corpus = "files"\n[files]\nstring = ["{SECRET}"]\n',
        "knob.toml": f'[model]\nsystem_promt = "{SECRET}"\n',
        "policy.toml": f'[[line]]\nname = "{SECRET}\n',
        "report.json": f'{{"identity": "{SECRET}"}}',
        "report.html": f"<meta name='unsay-identity' content='{SECRET}'>",
        "spans.jsonl": json.dumps({"id": "forget-000", "question": SECRET, "answer": SECRET, "spans": [SECRET], "strings": []}),
    }
    for name, text in bad.items():
        (mine / name).write_text(text)
    (mine / "latin.jsonl").write_bytes(SECRET.encode() + b"\xe9\n")
    files = sorted(path for path in mine.iterdir() if path.suffix in (".jsonl", ".csv") and path.name != "spans.jsonl")
    begin = ("record", recipe, "--out", given.path / "runs" / "never")
    found: list[tuple[int, tuple[str | Path, ...]]] = []
    found += [(2, (*begin, *options((f"files.forget={path}",)))) for path in files if path.name != "kept.jsonl"]
    found += [(2, (*begin, *options((f"files.retain={mine / 'kept.jsonl'}",))))]
    found += [(2, ("check", path, given.path / "retain.jsonl")) for path in files if path.name != "kept.jsonl"]
    never = ("--out", given.path / "runs" / "never")
    found += [(2, ("audit", model, "--questions", mine / name, *never)) for name in ("torn.jsonl", "cells.csv")]
    found += [(2, ("run", mine / name, *never)) for name in ("broken.toml", "typo.toml", "knob.toml")]
    found += [(2, ("doctor", mine / "broken.toml")), (2, ("check", mine / "typo.toml")), (2, ("sweep", mine / "broken.toml"))]
    found += [
        (2, (*begin, *options((f'model.dtype=["{SECRET}"]',)))),
        (2, (*begin, *options((f'model="{SECRET}"',)))),
        (2, (*begin, *options((f'files.strings="{SECRET}"',)))),
        (2, (*begin, *options((f'files.patterns=["{SECRET}("]',)))),
        (2, (*begin, *options((f'train.rounds="{SECRET}"',)))),
        (2, (*begin, *options((f'files.desired=["{CANARIES["file"]}"]',)))),
        (2, ("record", recipe, "--out", given.path / "runs" / "begun", *options(("model.name=no/such/model",)))),
        (2, ("run", recipe, "--out", given.path / "runs" / "begun-too", *options((f"model.name={given.path / 'runs'}",)))),
        (2, ("run", recipe, "--out", run, *options((*SMALL, "seed=7")))),
        (2, ("gate", run, "--policy", mine / "policy.toml")),
        (2, ("gate", given.path / "nowhere")),
        (2, ("compare", run)),
        (2, ("par", run, "--policy", "demo")),
        (2, ("view", given.path / "nowhere")),
        (2, ("compare", run, given.path / "nowhere")),
        (2, ("audit", run, "--endpoint", f"http://user:{SECRET}@127.0.0.1:9/v1")),
        (2, ("audit", run, "--endpoint", f"{SECRET}")),
        (2, ("audit", run, "--set", "train.rounds=7")),
        (2, ("audit", run, "--which", "retain_model")),
        (2, ("audit", given.path / "nowhere")),
        (2, ("train", given.path / "nowhere")),
        (2, ("finetune", recipe, "--out", given.path / "runs" / "begun", *options(("model.name=no/such/model",)))),
        (2, ("look", run, "--which", "retain_model")),
        (2, ("look", given.path / "nowhere")),
        (2, ("spans", run, "--import", mine / "spans.jsonl")),
        (2, ("spans", run, "--edit")),
        (2, ("new", mine / "new.toml", mine / "kept.jsonl")),
        (2, ("spans", given.path / "nowhere")),
        (2, ("verify", mine / "report.json", run / "checkpoint")),
        (2, ("verify", mine / "report.html", run / "checkpoint")),
        (2, ("verify", run, given.path / "nowhere")),
        (1, ("verify", run, model)),
        (2, ("push", run, "owner/name")),
        (2, ("export", given.path / "nowhere", "--open-unlearning")),
        (2, ("benchmark", given.path / "nowhere")),
        (2, ("ablate", mine / "broken.toml", "--over", "train.rounds=1,2", *never)),
        (2, ("score", "--reference-file", mine / "latin.jsonl", "--answer", "x")),
        (2, ("ask", given.path / "nowhere", "Who?")),
        (2, ("prompt-search", model, "--questions", mine / "torn.jsonl")),
        (2, ("front", given.path / "runs")),
        (2, ("vault", "key", recipe)),
        (2, ("vault", "status", given.path / "nowhere")),
    ]
    return found


def test_a_command_that_fails_shows_nothing(given: Place, command: Said, tmp_path_factory: pytest.TempPathFactory):
    mine = given.path / "mine"
    mine.mkdir()
    commands = wrong(given, mine)
    assert len(commands) > 60
    for code, arguments in commands:
        text = command.silent(*arguments, code=code)
        assert text.strip(), arguments
    assert not (given.path / "runs" / "never").exists(), "nothing half-written stays"
    assert outside(given) == {}


# -- and that nobody foresaw -------------------------------------------------------------------------------------------


def quoting(kind: Callable[[str], BaseException]) -> Callable[..., Any]:
    """Something that ends with an error that quotes a secret, as libraries do."""

    def fails(*arguments: Any, **options: Any) -> Any:
        raise kind(f"cannot encode the text {SECRET!r}")

    return fails


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyError, OSError, TypeError, MemoryError, RecursionError])
@pytest.mark.parametrize("place_", ["unsay.lm.subject.sample", "unsay.train.loop.optimizer_step", "unsay.audit.run", "unsay.report.build"])
def test_an_error_that_quotes_a_text_is_not_quoted(kind: Any, place_: str, given: Place, command: Said, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(place_, quoting(kind))
    run = given.path / "runs" / "copy"
    arguments: dict[str, tuple[str | Path, ...]] = {
        "unsay.lm.subject.sample": ("record", given.recipe, "--out", run, *options(SMALL)),
        "unsay.train.loop.optimizer_step": ("train", run),
        "unsay.audit.run": ("audit", run, "--which", "after"),
        "unsay.report.build": ("report", run),
    }
    if place_ == "unsay.train.loop.optimizer_step":  # from the beginning, else nothing is left to train
        shutil.rmtree(run / "train" / "state")
    try:
        text = command.silent(*arguments[place_], code=70)
        assert kind.__name__ in text
        assert "UNSAY_DEBUG" in text
    finally:
        if place_ == "unsay.train.loop.optimizer_step":
            shutil.copytree(given.run / "train" / "state", run / "train" / "state", dirs_exist_ok=True)
    assert outside(given) == {}


def test_with_debug_the_whole_error_is_shown(given: Place, command: Said, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("unsay.report.build", quoting(RuntimeError))
    monkeypatch.setenv("UNSAY_DEBUG", "1")
    with pytest.raises(RuntimeError, match=SECRET):
        say("report", given.run)


def test_an_interrupted_command_shows_nothing(given: Place, command: Said, monkeypatch: pytest.MonkeyPatch):
    def stopped(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt(SECRET)

    monkeypatch.setattr("unsay.lm.subject.sample", stopped)
    assert say("record", given.recipe, "--out", given.path / "runs" / "copy", *options(SMALL)) != 0
    assert outside(given) == {}


def test_a_server_that_quotes_the_question_is_not_quoted(given: Place, command: Said, monkeypatch: pytest.MonkeyPatch):
    openai = pytest.importorskip("openai", reason="the extra unsay[endpoint] is not installed")
    monkeypatch.setattr(openai.resources.chat.completions.Completions, "create", quoting(ValueError))
    command.silent("audit", given.run, "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", code=2)


# -- the doors ---------------------------------------------------------------------------------------------------------


def test_the_doors_show_what_they_are_for(given: Place, command: Said):
    page = next(line for line in command("look", given.run, code=0).splitlines() if line.endswith(".html"))
    assert CANARIES["question"] in Path(page).read_text()
    assert CANARIES["question"] in command("spans", given.run, "--reveal", code=0)
    assert "greedy" in command("ask", given.path / "model", f"Who is {CANARIES['question']}?", code=0)
    assert len(RunFolder(given.run).manifest().looks) >= 2
    assert outside(given) == {}


def test_a_page_over_many_runs_shows_nothing(given: Place):
    client = pytest.importorskip("starlette.testclient", reason="the extra unsay[view] is not installed").TestClient
    from unsay.view.app import application
    from unsay.view.below import Below

    pages = client(application(Below(given.path / "runs"), "token", 80), base_url="http://127.0.0.1:80")
    rows = [row.name for row in Below(given.path / "runs").rows()]
    assert given.run.name in rows
    for path in ("", "compare?run=copy&run=" + given.run.name, *(f"report/{name}" for name in rows)):
        assert not leaks(pages.get(f"/token/{path}", headers={"host": "127.0.0.1:80"}).content), path


def test_a_question_can_be_asked_without_standing_in_a_list_of_processes(given: Place, command: Said, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def heard(model: Any, encoder: Any, draws: Any, *rest: Any) -> Any:
        asked.extend(draw.key for draw in draws)
        return sample(model, encoder, draws, *rest)

    monkeypatch.setattr("unsay.lm.subject.sample", heard)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=lambda: f"Who is {SECRET}?\n".encode())))
    command("ask", given.path / "model", "-", code=0)
    assert asked


# -- the end -----------------------------------------------------------------------------------------------------------


def test_destroying_shows_nothing(given: Place, command: Said):
    copy = given.path / "runs" / "copy"
    command.silent("vault", "destroy", copy, "--yes", "--json", code=0)
    command.silent("look", copy, code=2)
    assert not [path for path in copy.rglob("*") if path.is_file() and leaks(path.read_bytes())]


def test_every_command_was_tried(given: Place):
    """Of all that the application knows; `demo` is `run` with the built-in recipe, `theory` reads nothing."""
    group = typer.main.get_command(app)
    names = {name for name in group.commands if name not in ("vault", "demo", "theory")} | {
        f"vault {n}" for n in group.commands["vault"].commands
    }
    assert names <= set(COMMANDS), names - set(COMMANDS)
    assert outside(given) == {}
