"""Who runs what: a worker takes one configuration after another until none is left.

Any number of workers, on any number of machines, share one folder. Configurations are kept by Optuna in a journal (`optuna.log`) and handed
out under a lock, the contenders in turn, so that what else happens on a machine falls on all of them alike. A worker holds a lock on its
trial as long as it lives; what a dead one has left half done, the next one goes on with.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from filelock import FileLock, Timeout
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState, create_trial

from unsay.config import ConfigError, dump, first_of, load, obsolete_knobs
from unsay.config.toml import flat
from unsay.research.sweep.spec import Settings, Sweep, ends, load_sweep
from unsay.research.sweep.trial import TRIAL, Outcome, Recorded, clear, note, run_configuration, summary
from unsay.run import Watchers, check
from unsay.store.files import write_text
from unsay.store.folder import RunFolder
from unsay.store.memory import give_back
from unsay.store.redact import hide

SWEEP, RECIPE, CHOSEN, REFERENCE = "sweep.toml", "recipe.toml", "chosen.json", "reference.json"
Chosen = Mapping[str, Sequence[Settings]]
"""Contender → the configurations it is to run, where they are not drawn."""


@dataclass(frozen=True)
class _Claim:
    """A configuration in hand."""

    name: str
    number: int
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

    def studies(self) -> dict[str, optuna.Study]:
        """The trials of each contender, as the journal has them."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(self.folder / "optuna.log")))
        sampler = RandomSampler()  # unused: `_drawn` draws
        return {
            name: optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True, sampler=sampler)
            for name in self.sweep.methods
        }

    def wanted(self, name: str) -> int:
        """How many configurations a contender is to have."""
        return self.sweep.configurations if self.chosen is None else len(self.chosen.get(name, ()))

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
        texts = {SWEEP: flat(asdict(sweep)), RECIPE: dump(hide(load(shared.recipe))[0])}
        if shared.chosen is not None:
            texts[CHOSEN] = json.dumps(shared.chosen, indent=1, ensure_ascii=False) + "\n"
        for name, text in reversed(texts.items()):  # the sweep's own last: its folder counts as begun from then on
            write_text(folder / name, text, mode=0o600)


def _same_recipe(shared: Shared) -> None:
    """Raises `ConfigError` where the recipe file, or what is secret in it, is no longer what the sweep began with."""
    recipe, secrets = hide(load(shared.recipe))
    begun = shared.folder / RECIPE
    if fixed := obsolete_knobs(begun):
        _refuse(shared.folder, f"{first_of(fixed)} in {RECIPE}, fixed now,")
    if begun.exists() and dump(load(begun, begun=True)) != dump(recipe):
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
    kept = run.texts.rows("recipe") if run.texts.has("recipe") else []
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
    studies, done = shared.studies(), 0
    while (claim := _claim(shared, studies)) is not None:
        study = studies[claim.name]
        try:
            watchers.note(f"{claim.name} {claim.folder.name}: {json.dumps(claim.settings)}")
            if why := _unusable(shared, claim):
                _fail(study, claim, why)
            else:
                _settle(study, claim, run_configuration(sweep, shared.recipe, claim.name, claim.settings, claim.folder, recorded))
        except (FloatingPointError, torch.OutOfMemoryError) as error:
            # Of this configuration. Anything else (a model or data that this machine lacks, a full disk) ends the worker, and the
            # configuration waits for another.
            _fail(study, claim, f"{type(error).__name__}: {error}")
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
        drawn = next(iter((shared.chosen or {}).get(name, ())), None) or shared.sweep.first_configuration(name)
        folder = recorded.of(shared.sweep.recipe_of(shared.recipe, name, drawn, {"seed": seed}))
        for which in found:
            if numbers := summary(folder, which):
                found[which][str(seed)] = numbers
    with shared.alone():
        write_text(shared.folder / REFERENCE, json.dumps(found, indent=1) + "\n")


# -- handing out -----------------------------------------------------------------------------------------------------------


def _claim(shared: Shared, studies: Mapping[str, optuna.Study]) -> _Claim | None:
    """The next configuration: one that a dead worker has left, else a new one of the contender that has had the fewest."""
    _same_recipe(shared)  # every run reads the file anew, and hours may lie between two of them
    with shared.alone():
        trials = {name: study.get_trials(deepcopy=False) for name, study in studies.items()}
        for name, some in trials.items():
            for trial in some:
                if trial.state == TrialState.RUNNING and (lock := _locked(shared, name, trial.number)):
                    # Its worker may have finished it since the journal was read, and let go of it only then.
                    if studies[name].trials[trial.number].state == TrialState.RUNNING:
                        return _claimed(shared, studies[name], name, trial.number, lock)
                    lock.release()
        had = {name: len(some) for name, some in trials.items()}
        open_ones = [name for name in shared.sweep.methods if had[name] < shared.wanted(name)]
        if not open_ones:
            return None
        name = min(open_ones, key=had.__getitem__)
        number = had[name]
        _draw(shared, studies[name], name, number)
        lock = _locked(shared, name, number)
        assert lock is not None, "a trial that was just made is locked by nobody"
        return _claimed(shared, studies[name], name, number, lock)


def _draw(shared: Shared, study: optuna.Study, name: str, number: int) -> None:
    """A new trial of a contender, with its values: one line of the journal, so that no worker ever finds half of it."""
    sweep = shared.sweep
    if shared.chosen is not None:
        trial = create_trial(state=TrialState.RUNNING, user_attrs={"settings": dict(shared.chosen[name][number])})
    else:
        searched, blank = sweep.distributions(name), create_trial(state=TrialState.RUNNING)
        seed = sweep.seed_of(name, number)
        # `constant_liar`: what other workers are trying now is not tried again.
        sampler = TPESampler(seed=seed, constant_liar=True) if sweep.sampler == "tpe" else RandomSampler(seed=seed)
        values = (sweep.first_configuration(name) if number == 0 else {}) or {
            knob: ends(distribution)[0] if distribution.single() else sampler.sample_independent(study, blank, knob, distribution)
            for knob, distribution in searched.items()
        }
        trial = create_trial(state=TrialState.RUNNING, params=dict(values), distributions=searched)
    study.add_trial(trial)


def _place(shared: Shared, name: str, number: int) -> Path:
    return shared.folder / name / f"{number:03d}"


def _locked(shared: Shared, name: str, number: int) -> FileLock | None:
    """The lock of a trial, or `None` where a living worker holds it."""
    folder = _place(shared, name, number)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _claimed(shared: Shared, study: optuna.Study, name: str, number: int, lock: FileLock) -> _Claim:
    trial = study.trials[number]
    settings = trial.user_attrs.get("settings", trial.params)
    folder = _place(shared, name, number)
    if not (folder / TRIAL).exists():
        note(folder, method=name, number=number, settings=dict(settings), state="running", why="", seeds=list(shared.sweep.seeds))
    return _Claim(name, number, settings, folder, lock)


def _settle(study: optuna.Study, claim: _Claim, outcome: Outcome) -> None:
    # `trial.json` first: a worker that dies between the two leaves a trial that is run again and finds everything done.
    note(claim.folder, state="pruned" if outcome.pruned else "complete", why=outcome.pruned)
    if outcome.pruned:
        study.tell(claim.number, state=TrialState.PRUNED)
    else:
        study.tell(claim.number, outcome.value)


def _fail(study: optuna.Study, claim: _Claim, why: str) -> None:
    note(claim.folder, state="failed", why=why)
    clear(claim.folder)
    study.tell(claim.number, state=TrialState.FAIL)
