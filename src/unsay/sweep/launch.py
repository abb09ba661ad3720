"""From files to a sweep, and its workers: in this process, in several, or as Slurm jobs (submitit)."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from unsay.config import ConfigError
from unsay.config.build import one_of
from unsay.run import Watchers
from unsay.sweep.spec import load_sweep
from unsay.sweep.worker import Chosen, Shared, begin, work

__all__ = ["shared", "submit", "work"]


def shared(
    file: Path,
    folder: Path,
    settings: Iterable[str],
    data: str | None,
    chosen: Path | None,
    recipe_path: Callable[[str], Path],
) -> Shared:
    """The sweep of a file, begun in its folder. `chosen`: a front.json whose choice is run. Raises `ConfigError`."""
    if data:
        os.environ["UNSAY_DATA"] = data
    sweep = load_sweep(file, settings)
    beside = file.parent / sweep.recipe
    recipe = beside if beside.is_file() else recipe_path(sweep.recipe)
    found = Shared(sweep, recipe.resolve(), folder.resolve(), read_chosen(chosen, sweep.methods) if chosen else None)
    begin(found)
    return found


def read_chosen(path: Path, methods: Sequence[str]) -> Chosen:
    """The configurations that a front chose for each contender. Raises `ConfigError`."""
    try:
        chosen = {
            name: [choice["settings"] for choice in some] for name, some in json.loads(path.read_text(encoding="utf-8"))["chosen"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is not a front.json; `unsay front` writes one") from None
    for name in methods:
        if not chosen.get(name):
            raise ConfigError(f"{path} chose nothing for {name!r}; leave it out: --set 'methods=[…]'")
    return {name: chosen[name] for name in methods}


def submit(one: Shared, workers: int, cluster: str, slurm: Sequence[str]) -> None:
    """Workers in processes of their own; waits for local ones, and leaves Slurm's to Slurm. Raises `ConfigError`."""
    one_of("--cluster", cluster, ("local", "slurm"))
    try:
        import submitit
    except ImportError:
        raise ConfigError("several workers need an extra that is not installed: pip install 'unsay[sweep]'") from None
    executor = submitit.AutoExecutor(folder=one.folder / "jobs", cluster=cluster)
    options = dict(_option(text) for text in slurm)
    try:
        executor.update_parameters(**({"timeout_min": 60 * 24 * 7, "name": "unsay-sweep"} | options))
        jobs = [executor.submit(work, one, Watchers()) for _ in range(workers)]
    except (NotImplementedError, TypeError, RuntimeError) as error:
        raise ConfigError(f"no worker could be started on {cluster}: {error}") from None
    if cluster == "local":
        for job in jobs:
            job.result()


def _option(text: str) -> tuple[str, str | int]:
    key, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"--slurm takes key=value, not {text!r}; for example --slurm slurm_partition=gpu")
    return key, int(value) if value.isdigit() else value
