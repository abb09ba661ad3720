"""`new`: a recipe for the operator's own files, with its comments, to be read and changed."""

import re
from pathlib import Path
from typing import Annotated

import typer

from unsay.cli import completing
from unsay.cli.app import START, app
from unsay.config import ConfigError, load, recipe_names, recipe_path
from unsay.config.toml import as_toml
from unsay.store.files import write_text
from unsay.tables import near

Recipe = Annotated[Path, typer.Argument(metavar="RECIPE-FILE", help="The file to write, such as my-recipe.toml.")]
Files = Annotated[list[str], typer.Argument(help="Your files: questions or texts to forget, and, if you have them, such to keep.")]
For = Annotated[
    str | None,
    typer.Option(
        "--for", help="Which shipped recipe it begins with: own-NAME; default by the files.", autocompletion=completing.own_recipes
    ),
]
Model = Annotated[str | None, typer.Option("--model", help="Folder, hub id or built-in name.", autocompletion=completing.models)]


@app.command(rich_help_panel=START)
def new(recipe: Recipe, files: Files, kind: For = None, model: Model = None) -> None:
    """Write a commented recipe for your own files; which file is which is guessed, and `unsay check` says it."""
    from unsay.corpora.checked import guess

    if recipe.suffix != ".toml" or recipe.exists():
        raise ConfigError(f"{recipe} {'exists already' if recipe.exists() else 'is no .toml file'}; name the recipe to write first")
    corpus, parts, notices = guess(files, {}, {})
    cut = corpus.table == "passages"
    kind = kind or ("passages" if cut else "questions")
    if kind not in (kinds := recipe_names(prefix="own-")):
        raise ConfigError(f"--for {kind}: {near(kind, kinds)}")
    shipped = recipe_path(f"own-{kind}")
    if load(shipped).corpus != corpus.table:
        raise ConfigError(f"{shipped.name} takes other files; copy it, and put your names in")
    if notices:
        raise ConfigError(notices[0].text)
    text = _put(shipped.read_text(encoding="utf-8"), "title", f"{Path(parts['forget']).stem}: what the model must forget")
    text = _put(text, "name", model) if model else text
    for part in ("forget", "retain", "questions" if cut else "paraphrases"):
        text = _put(text, part, parts.get(part))
    write_text(recipe, text)
    print(recipe)


def _put(text: str, key: str, value: str | None) -> str:
    """The recipe with that text under that key; with `None`, without the key. A key that is not there comes behind `forget`."""
    line = re.compile(rf'^{key} = "[^"\n]*"(.*)\n', re.MULTILINE)
    if value is None:
        return line.sub("", text, count=1)
    if not line.search(text):
        return re.sub(r"^forget = .*\n", lambda found: f"{found.group()}{key} = {as_toml(value)}\n", text, count=1, flags=re.MULTILINE)
    return line.sub(lambda found: f"{key} = {as_toml(value)}{found.group(1) if key != 'title' else ''}\n", text, count=1)
