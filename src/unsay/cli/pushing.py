"""`push`: the model of a run on the hub."""

from typing import Annotated

import typer

from unsay.cli.app import RESULT, RunArgument, app, messages
from unsay.store.folder import RunFolder


@app.command(rich_help_panel=RESULT)
def push(
    run: RunArgument,
    repository: Annotated[str, typer.Argument(help="Where to, as owner/name; it is made if it is not there.")],
    public: Annotated[bool, typer.Option("--public", help="Make a repository that everybody may read; otherwise it is private.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Upload it although it misses its policy.")] = False,
) -> None:
    """Upload the checkpoint and its card to the Hugging Face hub; nothing else of the run leaves this machine."""
    from unsay.report.push import push as upload

    with messages():
        print(upload(RunFolder(run), repository, public, failed))
