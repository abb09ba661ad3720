"""`spans`: what of the recorded answers counts as sensitive, for the operator to look at and correct."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from unsay.cli.app import SECRETS, JsonOption, RunArgument, app, console, output, print_error, print_json
from unsay.config import ConfigError
from unsay.store.folder import RunFolder

Reveal = Annotated[bool, typer.Option("--reveal", help="Show the questions, the recorded answers and the spans in them.")]
Edit = Annotated[bool, typer.Option("--edit", help="Correct the spans in your editor ($VISUAL, $EDITOR), before training.")]
Export = Annotated[Path | None, typer.Option("--export", help="Write the spans to this file, readable to you alone, to be corrected.")]
Import = Annotated[Path | None, typer.Option("--import", help="Take the corrected file into the vault.")]


@app.command(rich_help_panel=SECRETS)
def spans(
    run: RunArgument, reveal: Reveal = False, edit: Edit = False, export: Export = None, taken: Import = None, as_json: JsonOption = False
) -> None:
    """What counts as sensitive in the recorded answers, how to correct it, and whether the corrected file is sound."""
    from unsay.corpora import rows
    from unsay.record import annotation, editing
    from unsay.record.recorded import read_answers, read_handed

    folder = RunFolder(run)
    if (export is not None) + (taken is not None) + edit > 1:
        raise ConfigError("--edit opens the spans here, --export writes the file that --import takes back; give one of them")
    folder.recipe(texts=False)  # says where this is no run folder
    with folder.claimed() if export or taken or reveal or edit else nullcontext():  # each is noted in the manifest
        if export:
            annotation.export(folder, export)
            print(export)
            return
        if taken:
            annotation.take(folder, taken, rows.read(taken), read_handed(folder).forget, read_answers(folder))
        if edit and not editing.edit(folder, read_handed(folder).forget, read_answers(folder), _open_in_editor, _try_again):
            console.print("nothing was changed")
        found = _questions(folder, reveal)
        if reveal:
            folder.looked("spans")
    if as_json:
        print_json({"file": str(annotation.spans_file(folder)), "questions": found})
        return
    for one in found:
        if reveal:
            words = {"rare": one["rare_words"], "named": one["named"]}
            lines = [f"    {name}: {', '.join(some)}" for name, some in words.items() if some]
            output.print(f"{one['id']}  {one['question']}", marked(one["answer"], one["spans"]), *lines, f"    {_counts(one)}\n", sep="\n")
        else:
            output.print(f"{one['id']}  {_counts(one)}")
    _advice(found, folder)


def _open_in_editor(path: Path) -> None:
    """Raises `ConfigError` where there is no such editor, or it ends with an error."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    # Ctrl-C is for the editor. The handler is not inherited by it, as SIG_IGN would be.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        failed = subprocess.run([*shlex.split(editor), str(path)]).returncode
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a command"
        raise ConfigError(f"the editor {editor} cannot be started ({why}); name another: EDITOR=nano unsay spans RUN --edit") from None
    finally:
        signal.signal(signal.SIGINT, before)
    if failed:
        raise ConfigError(f"the editor {editor} ended with an error ({failed}); the spans stay as they were")


def _try_again(error: ConfigError) -> bool:
    print_error(str(error))
    return sys.stdin.isatty() and typer.confirm("Open it again?", default=True, err=True)


def _questions(folder: RunFolder, reveal: bool) -> list[dict[str, Any]]:
    """Question by question what the file says; texts only where they are to be revealed. Raises `ConfigError`."""
    from unsay.record import annotation
    from unsay.record.recorded import read_recorded

    folder.recipe()
    folder.texts.alive()
    if not folder.texts.has("spans"):
        raise ConfigError(f"{annotation.spans_file(folder)} is missing; run `unsay record` on this folder first")
    recorded = read_recorded(folder)
    lines = annotation.marked(folder, recorded.handed.forget, recorded.answers)
    found = []
    for example in recorded.corpus.forget:
        line = lines[example.id]
        one = {
            "id": example.id,
            "kinds": dict(Counter(map(annotation.kind, line.spans))),
            "added": len(example.spans),
            "taken_out": len(set(line.proposed) - set(line.spans)),
            "rare": len(line.rare),
            "strings": len(example.strings),
            "patterns": len(example.patterns),
            "long": annotation.is_long(example, line.answer),
        }
        texts = {"question": line.question, "answer": line.answer, "spans": line.spans, "rare_words": line.rare, "named": line.strings}
        found.append(one | texts if reveal else one)
    return found


def _counts(one: dict[str, Any]) -> str:
    total = sum(one["kinds"].values())
    plural = {"address": "addresses"}
    each = [f"{count} {kind if count == 1 else plural.get(kind, f'{kind}s')}" for kind, count in one["kinds"].items()]
    parts = [f"{total} span{'s' * (total != 1)}: {', '.join(each)}" if total else "no span"]
    parts += [f"{one[key]} {words}" for key, words in (("added", "added"), ("taken_out", "taken out")) if one[key]]
    parts += [f"{one[key]} named {key}" for key in ("strings", "patterns") if one[key]]
    parts += ["LONG, nothing named"] if one["long"] else []
    return "; ".join(parts)


def marked(answer: str, spans: Sequence[str]) -> Text:
    """The answer with every span in ‹ ›, bold where the terminal can."""
    places = sorted(found.span() for span in spans for found in re.finditer(re.escape(span), answer))
    text, done = Text("    "), 0
    for start, end in places:
        if start < done:  # a span inside another is shown once
            continue
        text.append(answer[done:start])
        text.append(f"‹{answer[start:end]}›", style="bold")
        done = end
    return text.append(answer[done:])


def _advice(found: Sequence[dict[str, Any]], folder: RunFolder) -> None:
    none = [one["id"] for one in found if not (one["kinds"] or one["strings"] or one["patterns"])]
    long = [one["id"] for one in found if one["long"]]
    output.print(f"\n{sum(sum(one['kinds'].values()) for one in found)} spans in {len(found)} questions.")
    if none:
        output.print(f"Nothing sensitive in: {', '.join(none)}.")
    if long:
        output.print(f"Warning: more than 40 content words and nothing named in: {', '.join(long)}.")
    output.print(
        f"To correct them before training: unsay spans {folder.path} --edit (or --export FILE, and --import FILE once it is corrected)."
    )
