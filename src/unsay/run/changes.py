"""Changes of a finished run: other knobs of its audit, another share of weight averaging, the retain model put beside it."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unsay import audit
from unsay.config import ConfigError, Recipe, dump
from unsay.config.toml import setting
from unsay.run.watchers import Watchers
from unsay.run.whole import check_audit, run_train
from unsay.store import ranks
from unsay.store.files import new_folder, remove
from unsay.store.folder import RunFolder, read_findings
from unsay.tables import entries
from unsay.train import resume, train
from unsay.train.finetune import retain_model_folder
from unsay.types import MODELS


def rescored(folder: RunFolder, settings: Sequence[str]) -> tuple[Recipe, tuple[str, ...]]:
    """The run's recipe with other knobs of its audit, written down, and the probes to run again: those that `audit.probes` names and
    those whose own settings have changed. What all others found stays. Where findings are replaced, they, the recipe and the report are
    first copied into RUN/replaced-N, which is read as a run. Raises `ConfigError`, and changes nothing, where a setting is not of the
    audit, or findings would stay that are not redone."""
    folder.texts.rows("corpus")  # a vault that is gone, or locked: nothing is taken away that could not be found again
    old, new = folder.recipe(), folder.recipe(settings)
    of_audit = entries("probe")
    rest = {name: table for name, table in new.tables.items() if name not in of_audit}
    same = replace(new, audit=old.audit, deployment=old.deployment, report=old.report, tables=rest)
    if dump(same) != dump(replace(old, tables={name: table for name, table in old.tables.items() if name not in of_audit})):
        raise ConfigError(
            "an audit may set [audit], [deployment], [report] and the tables of probes; anything else makes another run: --out DIR"
        )
    check_audit(new)
    named = new.audit.probes if new.audit.probes != old.audit.probes else ()
    new = replace(new, audit=replace(new.audit, probes=tuple(dict.fromkeys((*old.audit.probes, *named)))))
    if dump(new) == dump(old):
        return old, named
    before, now = audit.probes_of(old), audit.probes_of(new)
    everywhere = old.deployment != new.deployment or old.audit.limit != new.audit.limit
    changed = {name for name in before if everywhere or before[name] != now[name]}
    if changed:
        _refuse_served(folder)
    findings = {which: read_findings(folder.audit_file(which)) for which in MODELS}
    for which in MODELS:
        folder.undo(f"audit {which}")  # first: no stage is ever done without its file
    if any(finding.probe in changed for of_model in findings.values() for finding in of_model):
        _copy_findings(folder)
    for which, of_model in findings.items():
        if left := [finding for finding in of_model if finding.probe not in changed]:
            audit.write(folder.audit_file(which), left)
        else:
            _remove_findings(folder, which)
    _remove_report(folder)
    folder.write_recipe(new)
    return new, (*named, *(name for name in before if name in changed and name not in named))


@ranks.main_only
def _copy_findings(folder: RunFolder) -> None:
    """Copy the findings, the report and the recipe into RUN/replaced-N before others take their place."""
    number = 1 + sum(1 for _ in folder.path.glob("replaced-*"))
    with new_folder(folder.path / f"replaced-{number}") as partial:
        (partial / "audit").mkdir()
        for path in (folder.recipe_file, folder.manifest_file, folder.report_html, folder.report_json):
            if path.exists():
                shutil.copy(path, partial)
        for path in folder.audit_file("after").parent.glob("*.jsonl"):
            shutil.copy(path, partial / "audit")


@ranks.main_only
def _remove_findings(folder: RunFolder, which: str) -> None:
    for path in (folder.audit_file(which), folder.kept_answers_file(which)):
        path.unlink(missing_ok=True)


@ranks.main_only
def _remove_report(folder: RunFolder) -> None:
    """Remove the report: it shows findings that are gone."""
    folder.undo("report")
    for path in (folder.report_html, folder.report_json):
        path.unlink(missing_ok=True)


def _refuse_served(folder: RunFolder) -> None:
    """Raises `ConfigError` where an endpoint was audited: its findings would stay beside new ones that they cannot be compared with."""
    if (served := folder.audit_file("endpoint")).exists():
        raise ConfigError(f"{served} was found with settings and weights as they are; move it away first, then audit the endpoint again")


def run_averaging(folder: RunFolder, share: float, watchers: Watchers) -> None:
    """Set `train.averaging` of a run to `share` and write its checkpoint anew, from the trained weights that it keeps; its audit and
    report are removed. A run that has not been trained to its end is. Raises `ConfigError`, and changes nothing, where that cannot be
    done."""
    folder.texts.rows("corpus")  # a vault that is gone, or locked: see `rescored`
    trained, new = folder.done("train"), folder.recipe([setting("train.averaging", share)])
    if trained and not any(folder.state.glob("round-*")):
        raise ConfigError(f"{folder.state} is gone, so {folder.path} would have to be trained again; begin another run: --out DIR")
    if trained:
        resume.refuse_more(folder, new.train.rounds)  # here too: further down the checkpoint and its audit are gone
    _refuse_served(folder)
    with folder.claimed():
        folder.undo("audit after")
        _remove_findings(folder, "after")
        _remove_report(folder)
        for made in (folder.checkpoint, folder.adapter):
            remove(made)
        folder.write_recipe(new)
        if trained:
            watchers.stage("averaging")
            train(new, folder)
        else:
            run_train(new, folder, watchers)


def run_retain_model(recipe: Recipe, folder: RunFolder, watchers: Watchers) -> None:
    """Put the model that never knew, trained now or before, into the run's folder, where recipes may name it (`model.retain_model`)."""
    watchers.stage("retain model")
    made = retain_model_folder(recipe, lambda step, steps, loss: watchers.steps(step, steps, f"loss {loss:.3f}"))
    with folder.claimed():
        _copy(made, folder.retain_model)


@ranks.main_only
def _copy(made: Path, place: Path) -> None:
    with new_folder(place) as partial:
        shutil.copytree(made, partial, dirs_exist_ok=True)
