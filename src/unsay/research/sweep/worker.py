"""Who runs what: a worker takes one configuration after another until none is left.

One folder is shared by any number of workers, on any number of machines that see it. Configurations are handed out under a lock, the
contenders in turn, so that what else happens on a machine falls on all of them alike. `trial.json` says how far each has come. A worker
holds a lock on its trial as long as it lives; what a dead one has left half done, the next one goes on with.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from unsay.config import ConfigError, dump, load
from unsay.config.toml import flat
from unsay.research.sweep.spec import Settings, Sweep, load_sweep
from unsay.research.sweep.trial import TRIAL, Recorded, clear, note, run_configuration, summary
from unsay.run import Watchers, check
from unsay.store.files import write_text
from unsay.store.folder import RunFolder
from unsay.store.memory import give_back
from unsay.store.redact import apart

SWEEP, RECIPE, CHOSEN, REFERENCE = "sweep.toml", "recipe.toml", "chosen.json", "reference.json"
Chosen = Mapping[str, Sequence[Settings]]
"""Contender → the configurations it is to run, where they are not drawn."""


@dataclass(frozen=True)
class _Claim:
    """A configuration in hand."""

    name: str
    settings: Settings
    folder: Path
    lock: FileLock


@dataclass(frozen=True)
class Shared:
    """What all workers of a sweep see."""

    sweep: Sweep
    recipe: Path
    """The recipe file that every run starts from."""
    folder: Path
    """The sweep's own, that of all its runs."""
    chosen: Chosen | None = None

    def wanted(self, name: str) -> int:
        """How many configurations a contender is to have."""
        return self.sweep.configurations if self.chosen is None else len(self.chosen.get(name, ()))

    def configuration(self, name: str, number: int) -> Settings:
        return self.sweep.configuration(name, number) if self.chosen is None else self.chosen[name][number]

    def alone(self) -> FileLock:
        """What only one worker may do at a time."""
        return FileLock(self.folder / "claim.lock")


def begin(shared: Shared) -> None:
    """Begin a sweep in its folder, or go on with the same one. Raises `ConfigError` before any work where it cannot be run."""
    sweep, folder = shared.sweep, shared.folder
    sweep.try_out(shared.recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with shared.alone():
        fresh = not (folder / SWEEP).exists()
        if not fresh and not sweep.goes_on(load_sweep(folder / SWEEP)):
            _refuse(folder, SWEEP)
        if not fresh and not _chosen_alike(folder / CHOSEN, shared.chosen):
            _refuse(folder, CHOSEN)
        _same_recipe(shared)
        # Only the runs have vaults for what is secret in the recipe.
        texts = {SWEEP: flat(asdict(sweep)), RECIPE: dump(apart(load(shared.recipe))[0])}
        if shared.chosen is not None:
            texts[CHOSEN] = json.dumps(shared.chosen, indent=1, ensure_ascii=False) + "\n"
        for name, text in reversed(texts.items()):  # the sweep's own last: its folder counts as begun from then on
            write_text(folder / name, text, mode=0o600)


def _same_recipe(shared: Shared) -> None:
    """Raises `ConfigError` where the recipe file, or what is secret in it, is no longer what the sweep began with."""
    recipe, secrets = apart(load(shared.recipe))
    if (shared.folder / RECIPE).exists() and dump(load(shared.folder / RECIPE)) != dump(recipe):
        _refuse(shared.folder, RECIPE)
    if not all(_hidden_alike(run, secrets) for run in shared.folder.glob("recorded/*/seed-*/recipe.toml")):
        _refuse(shared.folder, "a text of the recipe that lies in the vaults")


def _chosen_alike(file: Path, chosen: Chosen | None) -> bool:
    """Whether every contender that was there has its configurations still, in their order; more may follow them."""
    if chosen is None or not file.exists():
        return chosen is None and not file.exists()
    old = json.loads(file.read_text(encoding="utf-8"))
    return all([dict(one) for one in chosen.get(name, ())][: len(some)] == some for name, some in old.items())


def _hidden_alike(recipe_file: Path, secrets: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run began with these secret texts, as far as its recipe has the tables that they stand in."""
    run = RunFolder(recipe_file.parent)
    if not run.begun():
        return True
    kept = run.kept("recipe") if run.texts.has("recipe") else []
    tables = {row["table"] for row in kept} | {run.recipe(texts=False).corpus}
    return kept == [dict(row) for row in secrets if row["table"] in tables]


def _refuse(folder: Path, what: str) -> None:
    raise ConfigError(
        f"{folder} holds another sweep ({what} differs); only more configurations and further contenders may be added: "
        "choose another --out, or remove that folder"
    )


def work(shared: Shared, watchers: Watchers) -> int:
    """Run configurations until none is left; how many this worker has run."""
    sweep, folder = shared.sweep, shared.folder
    recorded = Recorded(folder / "recorded", sweep.asked, watchers)
    _references(shared, recorded)
    done = 0
    while (claim := _claim(shared)) is not None:
        try:
            watchers.note(f"{claim.name} {claim.folder.name}: {json.dumps(claim.settings)}")
            if why := _unusable(shared, claim):
                _fail(claim, why)
            else:
                why = run_configuration(sweep, shared.recipe, claim.name, claim.settings, claim.folder, recorded)
                note(claim.folder, state="pruned" if why else "complete", why=why)
        except (FloatingPointError, torch.OutOfMemoryError) as error:
            # Of this configuration. Anything else (a model or data that this machine lacks, a full disk) ends the worker, and the
            # configuration waits for another.
            _fail(claim, f"{type(error).__name__}: {error}")
        finally:
            claim.lock.release()
            give_back()
        done += 1
    return done


def _unusable(shared: Shared, claim: _Claim) -> str:
    """Why no run can be made of these values together; empty where one can."""
    try:
        check(shared.sweep.recipe_of(shared.recipe, claim.name, claim.settings))
    except ConfigError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _references(shared: Shared, recorded: Recorded) -> None:
    """What the model before and the retain model score, by seed, for the pictures."""
    found: dict[str, dict[str, Any]] = {"before": {}, "retain_model": {}}
    name = shared.sweep.methods[0]
    for seed in shared.sweep.seeds:
        drawn = next(iter((shared.chosen or {}).get(name, ())), None) or shared.sweep.prefix(name)
        folder = recorded.of(shared.sweep.recipe_of(shared.recipe, name, drawn, {"seed": seed}))
        for which in found:
            if numbers := summary(folder, which):
                found[which][str(seed)] = numbers
    with shared.alone():
        write_text(shared.folder / REFERENCE, json.dumps(found, indent=1) + "\n")


# -- handing out -----------------------------------------------------------------------------------------------------------


def _claim(shared: Shared) -> _Claim | None:
    """The next configuration: one that a dead worker has left, else a new one of the contender that has had the fewest."""
    _same_recipe(shared)  # every run reads the file anew, and hours may lie between two of them
    with shared.alone():
        had = {}
        for name in shared.sweep.methods:
            found = sorted(path.parent for path in (shared.folder / name).glob(f"*/{TRIAL}"))
            for folder in found:
                if _trial(folder)["state"] == "running" and (lock := _locked(folder)):
                    # Its worker may have finished it in between, and let go of it only then.
                    if (trial := _trial(folder))["state"] == "running":
                        return _Claim(name, trial["settings"], folder, lock)
                    lock.release()
            had[name] = len(found)
        open_ones = [name for name in had if had[name] < shared.wanted(name)]
        if not open_ones:
            return None
        name = min(open_ones, key=had.__getitem__)
        number = had[name]
        settings, folder = dict(shared.configuration(name, number)), shared.folder / name / f"{number:03d}"
        lock = _locked(folder)
        assert lock is not None, "a trial that was just made is locked by nobody"
        note(folder, method=name, number=number, settings=settings, state="running", why="", seeds=list(shared.sweep.seeds))
        return _Claim(name, settings, folder, lock)


def _trial(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / TRIAL).read_text(encoding="utf-8"))
    return found


def _locked(folder: Path) -> FileLock | None:
    """The lock of a trial, or `None` where a living worker holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _fail(claim: _Claim, why: str) -> None:
    clear(claim.folder)
    note(claim.folder, state="failed", why=why)
