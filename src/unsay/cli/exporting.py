"""`export`: a run's numbers in the files of another benchmark suite."""

from pathlib import Path
from typing import Annotated

import typer

from unsay.cli.app import RESULT, RunArgument, app, messages
from unsay.cli.progress import landed
from unsay.config import ConfigError
from unsay.store.folder import RunFolder

OpenUnlearning = Annotated[bool, typer.Option("--open-unlearning", help="TOFU_EVAL.json and TOFU_SUMMARY.json (or MUSE_…).")]
Which = Annotated[str, typer.Option("--which", help="before, after or retain_model.")]
Out = Annotated[Path | None, typer.Option("--out", help="The folder for the files; default RUN/open-unlearning/WHICH.")]


@app.command(rich_help_panel=RESULT)
def export(run: RunArgument, open_unlearning: OpenUnlearning = False, which: Which = "after", out: Out = None) -> None:
    """Write a run's numbers under the names and definitions of open-unlearning, without any text."""
    from unsay.report.open_unlearning import export as write

    with messages():
        if not open_unlearning:
            raise ConfigError("say which format: --open-unlearning")
        for path in write(RunFolder(run), which, out or run / "open-unlearning" / which):
            landed(path)
