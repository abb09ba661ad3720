"""`sweep`: many configurations of many methods, each a curve."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer

from unsay.cli import completing
from unsay.cli.app import RESEARCH, DataOption, SetOption, app, messages, note
from unsay.cli.progress import landed, watching
from unsay.config import ConfigError
from unsay.config.build import NoFolder
from unsay.config.shipped import sweep_path
from unsay.extras import install

FileArgument = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a shipped one.", autocompletion=completing.sweeps)
]
Out = Annotated[Path | None, typer.Option("--out", help="The sweep's folder; default runs/sweep-SWEEP.")]
From = Annotated[Path | None, typer.Option("--from", help="Run what this front.json chose, instead of drawing configurations.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes that share the sweep; others may join in.")]
Cluster = Annotated[str, typer.Option("--cluster", help="Where workers run: local, or slurm (submitit).")]
Slurm = Annotated[list[str] | None, typer.Option("--slurm", help="Of a Slurm job, for example --slurm slurm_partition=gpu.")]

_EXTRA = ("optuna", "submitit")


@app.command(rich_help_panel=RESEARCH)
def sweep(
    file: FileArgument,
    out: Out = None,
    settings: SetOption = None,
    data: DataOption = None,
    chosen: From = None,
    workers: Workers = 1,
    cluster: Cluster = "local",
    slurm: Slurm = None,
) -> None:
    """Run configurations × seeds of every method, each a curve of checkpoints against its cost. Interrupted sweeps go on."""
    with messages():
        with needing_extra():
            from unsay.research.sweep import launch
        path = sweep_path(file)
        folder = out or Path("runs") / f"sweep-{path.stem}"
        try:
            shared = launch.shared(path, folder, settings or [], data, chosen)
            if workers == 1 and cluster == "local":
                with watching() as watchers:
                    launch.work(shared, watchers)
            else:
                jobs = launch.submit(shared, workers, cluster, slurm or [])
                if cluster == "slurm":
                    note(f"submitted {', '.join(jobs)}; they log in {folder / 'jobs'}")
        except NoFolder as error:
            if not (head := _head(path)):
                raise
            raise ConfigError(f"{error}. The sweep says of itself:\n{head}") from None
    landed(folder)


@contextmanager
def needing_extra() -> Iterator[None]:
    """Around the import of what the extra `sweep` brings. Raises `ConfigError` where it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:  # nothing that an installation could mend
            raise
        raise ConfigError(f"a sweep needs an extra that is not installed ({error.name}): {install('sweep')}") from None


def _head(path: Path) -> str:
    """What a sweep file says before its first key: where its models come from."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return "\n".join(line.removeprefix("# ") for line in lines)
