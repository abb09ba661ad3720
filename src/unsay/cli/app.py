"""The typer application, its shared options, and the one place where errors become messages."""

import json
import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from typer.core import TyperGroup

from unsay import __version__
from unsay.cli import completing
from unsay.config import ConfigError, Recipe, load, recipe_path
from unsay.store import interrupt, ranks
from unsay.store.files import FULL, WriteError
from unsay.store.folder import RunFolder
from unsay.store.memory import keep_freed_pages
from unsay.store.redact import unexpected

START, STAGES, RESULT, SECRETS = "Start here", "Stage by stage", "Look at the result", "Sensitive texts"
RESEARCH, LISTS = "Compare methods", "What there is"
"""Groups of commands in the help, in the order in which a user needs them."""
SHARED = frozenset({"run", "demo", "record", "finetune", "train", "audit"})
"""Commands whose work several processes share; any other runs in the first process alone."""
LOST = 75
"""Exit code of a process that ends because another one has."""
_GROUPS = (
    "stages",
    "beginning",
    "checking",
    "costs",
    "prompt_search",
    "auditing",
    "looking",
    "reviewing",
    "vaulting",
    "comparing",
    "lists",
)


class PlainErrors(TyperGroup):
    """All commands: a user's mistake, or a full disk, ends with one clear message and exit code 2, not with a traceback."""

    def invoke(self, ctx: Any) -> Any:  # the type of `ctx` has another place in older versions of typer
        try:
            return super().invoke(ctx)
        except (ConfigError, FloatingPointError) as error:
            said = str(error)
        except OSError as error:
            if error.errno not in FULL:
                raise
            said = str(WriteError(Path(error.filename) if isinstance(error.filename, str) else Path(), error.errno))
        print_error(said)
        raise typer.Exit(2)


app = typer.Typer(
    cls=PlainErrors,
    help="Make a language model stop saying what it must not say, and show how far that holds.",
    epilog="""`unsay run own-questions --set files.forget=forget.jsonl --out runs/ada` makes a model forget the questions of a file.

`unsay gate runs/ada` says whether the result passes its policy.

Exit codes: 0 done, or passed; 1 not passed; 2 your input, with a message that says what to change; 70 a mistake in unsay;
130 and 143 stopped by a signal: the same command goes on.""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
console = Console(stderr=True, emoji=False)
output = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
"""Standard output, for texts that are shown as they are."""


@dataclass
class Loudness:
    """How much a command says on the error stream."""

    quiet: bool = False
    verbose: bool = False


loudness = Loudness()
# peft imports bitsandbytes, which then warns in every command that its faster kernel is not installed.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _set_data_folder(folder: str | None) -> str | None:
    if folder:
        os.environ["UNSAY_DATA"] = folder  # where corpora and probes look
    return folder


RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe file, or the name of a shipped one (`unsay recipes`).", autocompletion=completing.recipes)
]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The run folder; default runs/RECIPE.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a knob, for example --set train.rounds=20.", autocompletion=completing.settings)
]
DataOption = Annotated[str | None, typer.Option("--data", help="Folder with benchmark data (or UNSAY_DATA).", callback=_set_data_folder)]
ModelArgument = Annotated[str, typer.Argument(help="A built-in name, a folder, or a hub id.", autocompletion=completing.models)]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of every random number.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def before(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress: only results, warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show progress every second in a log, and libraries' own notices.")] = False,
    device: Annotated[str, typer.Option("--device", metavar="cpu or NUMBER", help="The CPU, or which GPU; default the first GPU.")] = "",
) -> None:
    """Options of every command; they stand before its name: unsay --quiet run RECIPE."""
    if version:
        print(__version__)
        raise typer.Exit
    loudness.quiet, loudness.verbose = quiet, verbose
    if verbose:
        os.environ["TRANSFORMERS_VERBOSITY"] = "info"
        logging.getLogger("bitsandbytes").setLevel(logging.NOTSET)
    if device and device != "cpu" and not device.isdecimal():
        raise ConfigError(f"--device {device}: say cpu, or the number of a GPU")
    if device:  # torch is not loaded yet
        os.environ["CUDA_VISIBLE_DEVICES"] = "" if device == "cpu" else device
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    if ranks.launched():
        _share(context.invoked_subcommand in SHARED)


def _share(shared: bool) -> None:
    """One of several processes: the first alone speaks, and where the command is not `shared`, the first alone runs it."""
    first = os.environ["RANK"] == "0"
    if not first and not os.environ.get("UNSAY_DEBUG"):
        loudness.quiet = True
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or every connection reports that a process has ended
    if shared:
        ranks.join()
    elif not first:
        raise typer.Exit
    else:
        os.environ.update(WORLD_SIZE="1")


def load_recipe(name: str, settings: list[str] | None, seed: int | None = None) -> Recipe:
    """The recipe with everything from the command line in it."""
    settings = [*(settings or []), *([f"seed={seed}"] if seed is not None else [])]
    path = recipe_path(name)
    if path.name == "recipe.toml" and (path.parent / "vault").is_dir():  # of a run: what is secret in it lies in the vault
        return RunFolder(path.parent).recipe(settings)
    return load(path, settings)


def print_error(text: str) -> None:
    """On the error stream, unless another process of this command tells its error already."""
    if _may_report():
        console.print(f"[bold red]unsay:[/] {escape(text)}", highlight=False, soft_wrap=True)


def _may_report() -> bool:
    """Whether this process says why the command ends: of several processes, the first that asks does."""
    first = ranks.first_to_say()
    if first and not ranks.is_main():
        sys.stderr = sys.__stderr__
    return first


def print_json(found: Any) -> None:
    """On standard output, for a program."""
    print(json.dumps(found, ensure_ascii=False, indent=1))


def print_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """On standard output, as it is. Wide cells are folded, not cut: two names that are cut short may look the same."""
    table = Table(*(Column(escape(name), overflow="fold") for name in head), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False, emoji=False).print(table)


def note(text: str) -> None:
    """On the error stream, as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Entry point of the `unsay` command."""
    # The progress bars and notices of libraries would hide what this command has to say.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    interrupt.listen()
    try:
        _main()
    except interrupt.Interrupted as stopped:
        where = f" {stopped.where}" if stopped.where else ""
        if _may_report():
            note(f"unsay: stopped by {stopped.name}{where}; the same command goes on from there")
        sys.exit(stopped.code)


def commands() -> None:
    """Add every command to the application, those first that a user needs first."""
    for name in _GROUPS:
        import_module(f"unsay.cli.{name}")


def _main() -> None:
    keep_freed_pages()
    commands()

    try:
        app()
    except SystemExit as ended:
        if not ended.code:
            ranks.leave()
        raise
    except ranks.Lost:
        sys.exit(LOST)
    except Exception as error:
        if os.environ.get("UNSAY_DEBUG"):
            raise
        print_error(
            f"this should not have happened: {unexpected(error)}. Its message is not shown, since it may quote a question or an answer; "
            "UNSAY_DEBUG=1 shows everything, to be read by you alone. The same command goes on from what was saved"
        )
        sys.exit(70)
