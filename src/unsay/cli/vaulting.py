"""`look` into a vault, say what is in it, end it; `verify` that a report and a checkpoint belong together."""

import os
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from unsay.cli.app import RESULT, SECRETS, JsonOption, RunArgument, app, print_json
from unsay.config import ConfigError, Recipe, dump
from unsay.store import redact
from unsay.store.files import LOCK, links, remove, write_text
from unsay.store.folder import RunFolder
from unsay.store.manifest import DestroyedVault, Manifest

vault = typer.Typer(help="The sensitive texts of a run: what is there, and their end.", no_args_is_help=True)
app.add_typer(vault, name="vault", rich_help_panel=SECRETS)

Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]
Key = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Remove this key file, too: whatever else it encrypts is lost with it.")
]
_RECOVERABLE = (
    "Files that are removed from a disk may be recoverable (copies that the file system keeps, flash memory, backups), "
    "so no erasure is claimed for them."
)
_LISTS = {
    "removed": "removed",
    "remains": "remains",
    "linked": "remains elsewhere, where links led, and is yours to remove",
    "handed": "the files that the questions came from remain, and are yours to remove",
}


@app.command(rich_help_panel=SECRETS)
def look(
    run: RunArgument,
    which: Annotated[str | None, typer.Option(help="before, after or retain_model; default all that were audited.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Write the page readable although the vault is encrypted.")] = False,
    page: Annotated[
        int, typer.Option(min=1, help="Which page, where there are more than 500 questions; of kept answers, 1 has the worst.")
    ] = 1,
) -> None:
    """Write a page, for you alone, with every forget question, what was said and how it scored. Every look is counted."""
    from unsay.config.build import one_of
    from unsay.report import look as looking
    from unsay.types import MODELS

    if which is not None:
        one_of("--which", which, MODELS)
    folder = RunFolder(run)
    folder.recipe(texts=False)  # says where this is no run folder
    with folder.claimed():
        written = looking.write(folder, which, plain, page)
    print(written)


@vault.command()
def status(run: RunArgument, as_json: JsonOption = False) -> None:
    """What the vault holds, whether it is encrypted, until when it may be kept, how often it was looked into."""
    folder = RunFolder(run)
    found = _status(folder)
    if as_json:
        print_json(found)
        return
    if found["destroyed"]:
        print(f"{folder.vault}: destroyed on {found['destroyed']}")
        return
    print(f"{folder.vault}: {'encrypted, ' + found['key'] if found['encrypted'] else 'not encrypted; only its owner can read it'}")
    for one in found["files"]:
        print(f"  {one['bytes']:>12,}  {'encrypted' if one['encrypted'] else 'plain':9}  {one['name']}")
    print(found["warning"] or (f"to be kept until {found['keep_until']}" if found["keep_until"] else "no retention date"))
    print(f"times somebody looked into it: {found['looks']}")


def _status(folder: RunFolder) -> dict[str, Any]:
    from unsay.store.vault import retention

    recipe = folder.recipe(texts=False)
    gone, until = folder.texts.destroyed, recipe.vault.keep_until
    keys = [path for path in folder.texts.key_files() if path.exists()]
    return {
        "destroyed": gone["at"] if gone else None,
        "encrypted": folder.texts.encrypted,
        "key": f"key file {keys[0]}" if keys else "no key file is at hand",
        "files": [asdict(one) for one in folder.texts.held()],
        "keep_until": until or None,
        "warning": retention(until, date.today()),
        "looks": len(folder.manifest().looks),
    }


@vault.command()
def key(file: Annotated[Path, typer.Argument(help="Where the new key is written, outside of any run folder.")]) -> None:
    """Make a key file that only you can read. Keep a copy: without it an encrypted vault cannot be read by anybody."""
    from unsay.store.keys import new_key

    new_key(file)
    print(file)


@vault.command()
def destroy(run: RunArgument, yes: Yes = False, key: Key = None, as_json: JsonOption = False) -> None:
    """Remove the vault, the state of training and a planted model; say what remains, and what is claimed.

    Nothing outside of the run folder is removed but the key file that you name. Broken off, the same command goes on with it.
    """
    folder = RunFolder(run)
    folder.recipe(texts=False)  # says where this is no run folder
    with folder.claimed():
        recipe, vault = folder.recipe(texts=False), folder.texts
        for path in (folder.vault, folder.state.parent):
            if path.is_symlink():  # what lies in it may be anybody's
                raise ConfigError(f"{path} is a link to {path.resolve()}, and nothing is removed through a link; move that folder back")
        own_key = vault.own_key(key) if key else None
        parts = [path for path in (folder.vault, folder.state, folder.planted) if os.path.lexists(path)]
        keys = [own_key] if own_key and own_key.exists() else []
        if vault.emptied and parts == [folder.vault] and not keys and folder.manifest().vault is not None:
            vault.alive()  # says that it was destroyed, and when
        if not yes:
            typer.echo("To be removed: " + ", ".join(map(str, [*parts, *keys])), err=True)
            typer.confirm("Remove this? It cannot be taken back.", abort=True, err=True)
        linked = [path for part in parts for path in links(part)]
        told, plain = _end(folder, recipe, own_key)
    survived = [path for path in parts if path != folder.vault and os.path.lexists(path)]
    lists = {
        "removed": [str(path) for path in (*parts, *keys) if path not in survived],
        "not_removed": list(map(str, survived)),
        "linked": [str(path) for path in linked if path.exists()],
        "handed": [one for one in recipe.tables.get(recipe.corpus, {}).values() if isinstance(one, str) and os.path.exists(one)],
        "remains": [str(path) for path in sorted(folder.path.iterdir()) if path.name != LOCK and path != folder.vault],
    }
    if as_json:
        print_json(asdict(told) | lists)
    else:
        for name, words in _LISTS.items():
            if lists[name]:
                print(f"{words}: {', '.join(lists[name])}")
        print(_claim(told, plain, weights=len(parts) > 1))
    if survived:
        typer.echo(f"could not be removed: {', '.join(lists['not_removed'])}; look at their rights, then give this command again", err=True)
        raise typer.Exit(1)


def _end(folder: RunFolder, recipe: Recipe, own_key: Path | None) -> tuple[DestroyedVault, bool]:
    """Remove the texts and the weights; what may be claimed of them now, and whether any were written out in plain."""
    before, (shown, texts) = folder.manifest(), redact.hide(recipe)
    plain = bool(texts) or any(look.plain for look in before.looks)  # a folder of an earlier version has its texts in the recipe still
    write_text(folder.recipe_file, dump(shown), mode=0o600)
    for path in (folder.state, folder.planted):
        remove(path)
    gone = folder.texts.destroy(own_key)
    encrypted, key_removed = gone["encrypted"], bool(own_key) or (before.vault is not None and before.vault.key_removed)
    told = DestroyedVault(gone["at"], encrypted, key_removed, erased=encrypted and key_removed and not plain)
    folder.note(Manifest(vault=told))
    return told, plain


def _claim(told: DestroyedVault, plain: bool, weights: bool) -> str:
    """What may be said of the texts now; never more. `weights`: the state of training or a planted model was removed, too."""
    if told.erased:
        unclaimed = " The state of training and the planted model were never encrypted, and may be recoverable." if weights else ""
        return (
            "The vault was encrypted and its key file is removed: what is left of it anywhere cannot be read, provided that no copy of "
            "the key exists (backups, other machines), and that the removed key file itself is not recovered. The weights that remain "
            f"are not covered: what they still know is what the report says.{unclaimed}"
        )
    if told.encrypted and plain:
        return f"{_RECOVERABLE} The vault was encrypted, but pages, spans or the recipe were written out of it in plain."
    if told.encrypted:
        return f"{_RECOVERABLE} The vault was encrypted: it is erased once every copy of its key is gone (--key FILE removes the file)."
    return f"{_RECOVERABLE} The vault, or a part of it, was not encrypted."


@app.command(rich_help_panel=RESULT)
def verify(
    report: Annotated[Path, typer.Argument(help="report.json or report.html, or the run folder that holds them.")],
    checkpoint: Annotated[Path, typer.Argument(help="The folder of a model.")],
    as_json: JsonOption = False,
) -> None:
    """Say whether a checkpoint is the one that a report is about: exit code 0 if it is, 1 if not, naming what differs."""
    from unsay.store import identity

    if not checkpoint.is_dir():
        raise ConfigError(f"{checkpoint} is not a folder; name the folder of a checkpoint")
    claimed = identity.of_report(report)
    differing = identity.differences(claimed["checkpoint"], checkpoint)
    if as_json:
        print_json({"same": not differing, "differs": differing} | {key: claimed.get(key) for key in ("request", "dates", "policy")})
    else:
        for one in differing:
            print(f"differs  {one}")
        dates = ", ".join(f"{name} {str(day)[:10]}" for name, day in (claimed.get("dates") or {}).items() if day)
        print(f"{checkpoint}: {'not ' if differing else ''}the model of {report} (request {claimed.get('request')}; {dates})")
    if differing:
        raise typer.Exit(1)
