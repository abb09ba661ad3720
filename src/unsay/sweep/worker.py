"""Who runs what: a worker takes one configuration after another until none is left.

One folder is shared by any number of workers, on any number of machines that see it. Configurations are kept by Optuna in a
journal (`optuna.log`), handed out under a lock, the contenders in turn, so that what else happens on a machine falls on all
of them alike. A worker holds a lock on its trial as long as it lives; what a dead one has left half done, the next one goes
on with.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import Trial, TrialState

from unsay.config import ConfigError
from unsay.config.toml import flat
from unsay.folder import write_text
from unsay.run import Watchers
from unsay.sweep.spec import Settings, Sweep
from unsay.sweep.trial import TRIAL, Outcome, Recorded, note, run_configuration, summary

SWEEP, REFERENCE = "sweep.toml", "reference.json"
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
    folder: Path
    chosen: Chosen | None = None

    def studies(self) -> dict[str, optuna.Study]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(self.folder / "optuna.log")))
        return {
            name: optuna.create_study(
                study_name=name, storage=storage, direction="maximize", load_if_exists=True, sampler=_sampler(self.sweep, name, 0)
            )
            for name in self.sweep.methods
        }


def begin(shared: Shared) -> None:
    """Begin a sweep in its folder, or go on with the same one. Raises `ConfigError` before any work where it cannot be run."""
    shared.sweep.try_out(shared.recipe)
    text = flat(asdict(shared.sweep))
    file = shared.folder / SWEEP
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{shared.folder} holds another sweep ({SWEEP} differs); choose another --out, or remove that folder")
    if not file.exists():
        write_text(file, text)


def work(shared: Shared, watchers: Watchers) -> int:
    """Run configurations until none is left; how many this worker has run."""
    sweep, folder = shared.sweep, shared.folder
    recorded = Recorded(folder / "recorded", tuple(dict.fromkeys((*sweep.probes, *sweep.final))), watchers)
    _references(shared, recorded)
    studies, done = shared.studies(), 0
    while (claim := _claim(shared, studies)) is not None:
        study = studies[claim.name]
        try:
            watchers.note(f"{claim.name} {claim.folder.name}: {json.dumps(claim.settings)}")
            outcome = run_configuration(sweep, shared.recipe, claim.name, claim.settings, claim.folder, recorded)
            _settle(study, claim, outcome)
        except (FloatingPointError, ConfigError) as error:  # of this configuration; anything else is a fault of the program
            _fail(study, claim, f"{type(error).__name__}: {error}")
        finally:
            claim.lock.release()
        done += 1
    return done


def _references(shared: Shared, recorded: Recorded) -> None:
    """What the models before and gold score, by seed, for the pictures."""
    found: dict[str, dict[str, Any]] = {"before": {}, "gold": {}}
    name = shared.sweep.methods[0]
    for seed in shared.sweep.seeds:
        drawn = next(iter((shared.chosen or {}).get(name, ())), None) or shared.sweep.opening(name) or {}
        folder = recorded.of(shared.sweep.recipe_of(shared.recipe, name, drawn, {"seed": seed}))
        for which in found:
            if numbers := summary(folder, which):
                found[which][str(seed)] = numbers
    write_text(shared.folder / REFERENCE, json.dumps(found, indent=1) + "\n")


# -- handing out -----------------------------------------------------------------------------------------------------------


def _claim(shared: Shared, studies: Mapping[str, optuna.Study]) -> _Claim | None:
    """The next configuration: one that a dead worker has left, else a new one of the contender that has had the fewest."""
    with FileLock(shared.folder / "claim.lock"):
        trials = {name: study.get_trials(deepcopy=False) for name, study in studies.items()}
        for name, some in trials.items():
            for trial in some:
                if trial.state == TrialState.RUNNING and (lock := _locked(shared, name, trial.number)):
                    return _claimed(shared, studies[name], name, trial.number, lock)
        had = {name: sum(trial.state != TrialState.WAITING for trial in some) for name, some in trials.items()}
        open_ones = [name for name in shared.sweep.methods if had[name] < _wanted(shared, name)]
        if not open_ones:
            return None
        name = min(open_ones, key=had.__getitem__)
        number = _drawn(shared, studies[name], name)
        lock = _locked(shared, name, number)
        assert lock is not None, "a trial that was just made is locked by nobody"
        return _claimed(shared, studies[name], name, number, lock)


def _wanted(shared: Shared, name: str) -> int:
    return shared.sweep.configurations if shared.chosen is None else len(shared.chosen.get(name, ()))


def _drawn(shared: Shared, study: optuna.Study, name: str) -> int:
    """A new trial of a contender; its number."""
    opening, searched = shared.sweep.opening(name), shared.sweep.distributions(name)
    if shared.chosen is None and opening is not None and not study.get_trials(deepcopy=False):
        study.enqueue_trial(dict(opening))
    trial = study.ask()
    if shared.chosen is not None:
        trial.set_user_attr("settings", dict(shared.chosen[name][trial.number]))
        return trial.number
    if shared.sweep.sampler == "random":
        study.sampler = _sampler(shared.sweep, name, trial.number)
    for knob, distribution in searched.items():
        _suggest(trial, knob, distribution)
    return trial.number


def _suggest(trial: Trial, knob: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        trial.suggest_categorical(knob, distribution.choices)
    elif isinstance(distribution, optuna.distributions.IntDistribution):
        trial.suggest_int(knob, distribution.low, distribution.high, log=distribution.log)
    elif isinstance(distribution, optuna.distributions.FloatDistribution):
        trial.suggest_float(knob, distribution.low, distribution.high, log=distribution.log)


def _sampler(sweep: Sweep, name: str, number: int) -> optuna.samplers.BaseSampler:
    seed = sweep.seed_of(name, number)
    return optuna.samplers.TPESampler(seed=seed) if sweep.sampler == "tpe" else optuna.samplers.RandomSampler(seed=seed)


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
    with suppress(ValueError):
        study.tell(claim.number, state=TrialState.FAIL)
