"""From files to a sweep, and its workers: in this process, in several, or as Slurm jobs (submitit)."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch

from unsay.config import ConfigError, recipe_path
from unsay.config.build import one_of
from unsay.extras import needed
from unsay.research.sweep.spec import load_sweep
from unsay.research.sweep.worker import Chosen, Shared, begin, work
from unsay.run import Watchers
from unsay.store.memory import keep_freed_pages

__all__ = ["shared", "submit", "work"]

_WEEK = 7 * 24 * 60


def shared(file: Path, folder: Path, settings: Iterable[str], chosen: Path | None) -> Shared:
    """The sweep of a file, begun in its folder. `chosen`: a front.json whose choice is run. Raises `ConfigError`."""
    sweep = load_sweep(file, settings)
    beside = file.parent / sweep.recipe
    recipe = beside if beside.is_file() else recipe_path(sweep.recipe)
    found = Shared(sweep, recipe.resolve(), folder.resolve(), read_chosen(chosen, sweep.methods) if chosen else None)
    begin(found)
    return found


def read_chosen(path: Path, methods: Sequence[str]) -> Chosen:
    """The configurations that a front chose for each contender. Raises `ConfigError`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["chosen"].items()
        chosen = {name: [dict(choice["settings"]) for choice in some] for name, some in found}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is not a front.json; `unsay front` writes one") from None
    for name in methods:
        if not chosen.get(name):
            raise ConfigError(f"{path} chose nothing for {name!r}; leave it out: --set 'methods=[…]'")
    return {name: chosen[name] for name in methods}


def submit(one: Shared, workers: int, cluster: str, slurm: Sequence[str]) -> tuple[str, ...]:
    """Workers in processes of their own; waits for local ones, and leaves Slurm's to Slurm. Their ids. Raises `ConfigError`."""
    one_of("--cluster", cluster, ("local", "slurm"))
    with needed("more than one worker", "sweep", "submitit"):
        import submitit
    options = {"timeout_min": _WEEK, "name": "unsay-sweep"} | dict(_option(text) for text in slurm)
    if cluster == "local":  # which otherwise hides every GPU from its jobs
        options["gpus_per_node"] = torch.cuda.device_count()
    # No other calls in here: a cluster that is not there, a parameter or a value that it refuses come as any of these.
    try:
        executor = submitit.AutoExecutor(folder=one.folder / "jobs", cluster=cluster)
        executor.update_parameters(**options)
        jobs = [executor.submit(_worker, one, place if cluster == "local" else 0) for place in range(workers)]
    except (AssertionError, NameError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"no worker could be started on {cluster}: {error}") from None
    if cluster == "local":
        try:
            failed = [job.job_id for job in jobs if job.exception() is not None]
        finally:
            for job in jobs:
                if not job.done():
                    job.cancel()
        if failed:
            logs = ", ".join(f"{name}_0_log.err" for name in failed)
            raise ConfigError(f"{len(failed)} of {workers} workers ended early; {executor.folder} says why: {logs}. The sweep can go on")
    return tuple(job.job_id for job in jobs)


def _worker(one: Shared, place: int) -> int:
    """In a process of its own; `place`: which of the workers on this machine, for which of its GPUs."""
    keep_freed_pages()
    if torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())
    say = partial(print, flush=True)
    return work(one, Watchers(stage=say, note=say))


def _option(text: str) -> tuple[str, str | int]:
    key, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"--slurm takes key=value, not {text!r}; for example --slurm slurm_partition=gpu")
    return key, int(value) if value.isdigit() else value
