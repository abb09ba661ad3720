"""`view`: a local page over many runs."""

from pathlib import Path
from typing import Annotated

import typer

from unsay.cli.app import RESULT, app, messages
from unsay.config import ConfigError

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds run folders, at any depth.")]
Port = Annotated[int, typer.Option(help="Port of the page; 0 takes one that is free.")]


@app.command(rich_help_panel=RESULT)
def view(folder: Folder = Path("runs"), port: Port = 0) -> None:
    """Show all runs below a folder on a local page: progress, verdicts, reports, comparison. Open the address that it prints."""
    with messages():
        try:
            from unsay.view.app import serve
        except ModuleNotFoundError as error:
            if error.name not in ("starlette", "uvicorn"):  # nothing that an installation could mend
                raise
            raise ConfigError(f"the page needs an extra that is not installed ({error.name}): pip install 'unsay[view]'") from None
        serve(folder, port, lambda address: print(address, flush=True))
