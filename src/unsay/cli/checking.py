"""`check`: everything that is wrong with a recipe and the operator's files, said before anything runs."""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from unsay.cli.app import START, DataOption, JsonOption, SetOption, app, load_recipe, print_json
from unsay.config import ConfigError, Recipe, build, first_of, load, recipe_path
from unsay.corpora import formats
from unsay.corpora.checked import PARTS, Notice, Summary, counted, examine, guess, notices_of
from unsay.corpora.files import Files
from unsay.corpora.rows import Problems
from unsay.lm import builtin
from unsay.lm.files import look_at

Part = Annotated[str | None, typer.Option(help="Check this file as that part, whatever its rows look like.")]
SHOWN = 10
"""Ids that a message names; the others are counted."""
_SAID = {"forget": "to forget", "retain": "to keep", "paraphrases": "with other wordings"}


@app.command(rich_help_panel=START)
def check(
    files: Annotated[list[str] | None, typer.Argument(help="A recipe, or files: which is which is guessed and said.")] = None,
    forget: Part = None,
    retain: Part = None,
    paraphrases: Part = None,
    settings: SetOption = None,
    data: DataOption = None,
    most: Annotated[int, typer.Option(help="Most lines of each kind; the rest is counted.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Say everything that is wrong with a recipe or with your files: file, line, what to do. Loads no model."""
    named = {part: name for part, name in zip(PARTS, (forget, retain, paraphrases), strict=True) if name}
    given = files or []
    if not given and not named:
        raise ConfigError("name a recipe, or your files: unsay check forget.jsonl retain.jsonl")
    recipes = [name for name in given if _is_recipe(name)]
    if recipes and len(given) > 1:
        raise ConfigError("a recipe names its own files; check it alone, or replace one of them with --forget, --retain or --paraphrases")
    if recipes:
        summaries, notices = _recipe(load_recipe(recipes[0], settings), named)
        given = []
    else:
        tables = load(None, settings or []).tables
        kind, taken, notices = guess(given, named, tables)
        summaries, more = examine(build(kind, {**tables.get(kind.table, {}), **taken}, kind.table)) if "forget" in taken else ([], [])
        notices += more
    errors = sum(notice.level == "error" for notice in notices)
    if as_json:
        print_json({"ok": not errors, "files": [asdict(one) for one in summaries], "notices": [notice._asdict() for notice in notices]})
    else:
        for line in _lines(summaries, notices, most, set(given)):
            print(line)
    if errors:
        raise typer.Exit(2)


def _is_recipe(name: str) -> bool:
    """A .toml file, or the name of a shipped recipe where no file or folder here is called so."""
    path = Path(name)
    if path.suffix == ".toml" or path.exists() or name.startswith(formats.HUB) or path.suffix.lower() in formats.ENDINGS:
        return path.suffix == ".toml"
    try:
        return recipe_path(name).suffix == ".toml"
    except ConfigError:
        return False


def _recipe(recipe: Recipe, named: Mapping[str, str]) -> tuple[list[Summary], list[Notice]]:
    """The recipe piece by piece, then the files that it names."""
    from unsay import audit, record, run, train
    from unsay.measure import policy
    from unsay.probes.scoring import unscorable

    problems = Problems(collect=True)
    table = {**recipe.tables.get(recipe.corpus, {}), **named}
    recipe = replace(recipe, tables={**recipe.tables, recipe.corpus: table})
    source = problems.attempt(record.source, recipe)
    for piece in (train.method_of, audit.probes_of):
        problems.attempt(piece, recipe)
    if recipe.report.policy:
        problems.attempt(policy.load, recipe.report.policy)
    if not problems.found:  # what it adds; the rest it would only say again
        problems.attempt(run.check, recipe)
    retain_model = "" if recipe.model.retain_model == "finetune" else recipe.model.retain_model
    hints: list[Notice] = []
    for key, name in {"model.name": recipe.model.name, "model.retain_model": retain_model}.items():
        if not name:
            continue
        if problems.attempt(look_at, name, key) is False:
            text = f"{key}: no folder {name} here, so it is a name on the Hugging Face hub, and loading it uses the network"
            hints.append(Notice("hint", "", text))
    hints += _form(recipe, getattr(source, "raw", False) if source else None)
    if isinstance(source, Files):
        summaries, notices = examine(source, recipe.model.system_prompt)
        return summaries, [*notices_of(problems), *notices, *hints]
    corpus = problems.attempt(source.corpus) if source else None
    truth = problems.attempt(source.truth) if source and corpus else None
    if corpus and truth and (blank := unscorable(corpus, truth)):
        shown = first_of(blank, SHOWN)
        text = f"{counted(len(blank), 'answer')} without a word that is not in the question: no probe can score {shown}; name a string"
        hints.append(Notice("warning", "", text))
    rows = {"forget": corpus.forget, "retain": corpus.retain} if corpus else {}
    summaries = [Summary(recipe.corpus, part, rows=len(found)) for part, found in rows.items()]
    return summaries, [*notices_of(problems), *hints]


def _form(recipe: Recipe, goes_on: bool | None) -> Iterator[Notice]:
    """A hint where the model may be a base model, whose answers go on and on: its tokenizer has no chat template. A warning where it is
    to go on with texts and is asked questions, or the other way about. `goes_on`: what the corpus needs; `None` where it is not known."""
    if recipe.model.template == "raw":
        if goes_on is False:
            yield Notice("warning", "", 'model.template = "raw" sends bare questions; it is for the corpora passages and muse')
        return
    name, folder = recipe.model.name, Path(recipe.model.name)
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = None
    plain = isinstance(settings, dict) and "chat_template" not in settings and not any(folder.glob("chat_template*"))
    if (plain or name == builtin.GEMMA) and not (recipe.model.stop or recipe.finetune.epochs):
        text = (
            "model.stop is empty and the tokenizer has no chat template: a base model goes on with the next question after its answer; "
            f'look with `unsay ask {name} "…"`, and set stop = "\\n" under [model] where it does'
        )
        yield Notice("hint", "", text)
    if goes_on:
        text = 'openings of texts are asked as questions; set template = "raw" under [model] for the model to go on with them'
        yield Notice("warning", "", text)


def _lines(summaries: Sequence[Summary], notices: Sequence[Notice], most: int, guessed: Container[str]) -> Iterator[str]:
    for one in summaries:
        if not one.rows:
            continue
        noun = "text" if one.cut else "row"
        figures = [f"{counted(one.rows, 'opening')} of {counted(one.groups, 'text')}" if one.cut else counted(one.rows, "row")]
        figures += [counted(one.groups, "group")] if one.groups and not one.cut else []
        if one.part == "forget" and one.longest:
            figures += [f"{one.paraphrased:,} with paraphrases"] if not one.cut else []
            figures += [f"{one.named:,} with strings or patterns"]
        figures += [f"longest {'opening' if one.cut else 'question'} {one.longest:,} characters"] if one.longest else []
        yield f"{one.file}  {f'taken for {noun}s ' if one.file in guessed else ''}{_SAID[one.part]}: {', '.join(figures)}"
    counts = []
    for level in ("error", "warning", "hint"):
        found = [notice for notice in notices if notice.level == level]
        for notice in found[:most]:
            yield f"{level}: {notice.where}: {notice.text}" if notice.where else f"{level}: {notice.text}"
        if len(found) > most:
            yield f"{level}: … and {len(found) - most:,} more (--most {len(found)} shows them)"
        counts += [counted(len(found), level)] if found and level != "hint" else []
    yield f"{', '.join(counts)}." if counts else "Nothing is wrong."
