"""Looking at results: `ask` a model, `score` a pair of texts, `view` many runs; and `push` one to the hub."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from unsay.cli.app import RESULT, JsonOption, ModelArgument, RunArgument, app, note, output
from unsay.cli.progress import watching
from unsay.config import ConfigError
from unsay.extras import needed
from unsay.store.folder import RunFolder


@app.command(rich_help_panel=RESULT)
def ask(
    model: ModelArgument,
    question: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    n: Annotated[int, typer.Option("-n", help="How many answers to sample; 0 shows the greedy one only.")] = 0,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus.")] = 1.0,
    prefix: Annotated[str, typer.Option(help="Begin the answer for the model.")] = "",
    stop: Annotated[str, typer.Option(help="Text that ends an answer too: model.stop; \\n is a line end.")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Let it go on with the text: no template around it.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length limit of an answer in tokens.")] = 80,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show what a model says: its greedy answer, and n sampled ones with how often each came."""
    from unsay.config import ModelConfig, SampleConfig
    from unsay.lm.model import load
    from unsay.lm.subject import LocalSubject, Prompt
    from unsay.lm.templates import runs_on

    question = _read("-") if question == "-" else question
    with watching():
        config = ModelConfig(name=model, stop=stop.replace("\\n", "\n"), template="raw" if raw else "auto")
        subject = LocalSubject(*load(config), SampleConfig(max_new_tokens), seed)
        prompt = Prompt("ask", question, prefix)
        greedy = subject.ask([prompt])[0][0].text
        sampled = [answer.text for answer in subject.ask([prompt], n, temperature, top_p)[0]] if n else []
    if not raw and any(map(runs_on, (greedy, *sampled))):
        note(
            "It goes on with a question of its own after the answer, as base models do: --stop '\\n' ends an answer with its line "
            '(in a recipe, stop = "\\n" under [model]).'
        )
    if as_json:
        print(json.dumps({"greedy": greedy, "sampled": sampled}, ensure_ascii=False))
        return
    output.print(f"greedy  {greedy}")
    for text in sorted(set(sampled), key=lambda text: (-sampled.count(text), text)):
        output.print(f"{sampled.count(text):4} ×  {text}")


@app.command(rich_help_panel=RESULT)
def score(
    reference: Annotated[str | None, typer.Option(help="The text that must not be repeated.")] = None,
    answer: Annotated[str | None, typer.Option(help="What was said.")] = None,
    question: Annotated[str, typer.Option(help="The question; its words are not secret.")] = "",
    reference_file: Annotated[str | None, typer.Option(help="The same from a file; - reads standard input.")] = None,
    answer_file: Annotated[str | None, typer.Option(help="The same from a file; - reads standard input.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score one pair of texts: ROUGE-L recall and F1, keyword recall. From files or standard input, no secret stands in a list of
    processes."""
    from unsay.text import keyword_recall, rouge_l

    if reference_file == answer_file == "-":
        raise ConfigError("standard input holds one text; give the other one in a file")
    reference = _given("reference", reference, reference_file)
    answer = _given("answer", answer, answer_file)
    rouge = rouge_l(reference, answer)
    scores = {
        "rouge_l_recall": rouge.recall if rouge else None,
        "rouge_l_f1": rouge.f1 if rouge else None,
        "keyword_recall": keyword_recall(reference, answer, question),
    }
    if as_json:
        print(json.dumps(scores))
        return
    for name, value in scores.items():
        print(f"{name:16} {'unscored' if value is None else f'{value:.4f}'}")


def _given(name: str, text: str | None, file: str | None) -> str:
    """A text that stands in the command or in a file. Raises `ConfigError`."""
    if (text is None) == (file is None):
        raise ConfigError(f"give either --{name} TEXT or --{name}-file FILE (- reads standard input)")
    return text if text is not None else _read(str(file))


def _read(file: str) -> str:
    """The text of a file or of standard input, without the line end that closes it. Raises `ConfigError`."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).expanduser().read_bytes()
        text = content.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        text = None
    if text is None:  # outside of the except: a UnicodeDecodeError carries the text
        raise ConfigError(f"{'standard input' if file == '-' else file} is not UTF-8")
    return text.removesuffix("\n").removesuffix("\r")


@app.command(rich_help_panel=RESULT)
def view(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds run folders, at any depth.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes one that is free.")] = 0,
) -> None:
    """Show all runs below a folder on a local page: progress, verdicts, reports, comparison. Open the address that it prints."""
    with needed("the page", "view", "starlette", "uvicorn"):
        from unsay.view.app import serve
    serve(folder, port, lambda address: print(address, flush=True))


@app.command(rich_help_panel=RESULT)
def push(
    run: RunArgument,
    repository: Annotated[str, typer.Argument(help="Where to, as owner/name; it is made if it is not there.")],
    public: Annotated[bool, typer.Option("--public", help="Make a repository that everybody may read; otherwise it is private.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Upload it although it misses its policy.")] = False,
) -> None:
    """Upload the checkpoint and its card to the Hugging Face hub; nothing else of the run leaves this machine."""
    from unsay.report.push import push as upload

    print(upload(RunFolder(run), repository, public, failed))
