"""A whole run: (finetune →) record → train → audit before and after → report. What is done is not done again, what was interrupted goes
on (train from its last saved round, an audit with the answers that it has, the others from their beginning), and ends as it would have."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

from unsay import audit, report
from unsay.config import ConfigError, Recipe, deployment, dump, obsolete_knobs
from unsay.corpora.files import Files
from unsay.lm import vllm
from unsay.lm.files import look_at
from unsay.lm.progress import counting
from unsay.measure import policy
from unsay.record import expected_answers, record, source, standalone, start
from unsay.record.recorded import read_handed
from unsay.report.notes import after_record
from unsay.run.audits import run_alone, run_audit
from unsay.run.watchers import Watchers
from unsay.store import interrupt, redact
from unsay.store.clock import now
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest
from unsay.tables import PARTS, entries, near
from unsay.train import method_of, tracking, train
from unsay.train.finetune import finetune
from unsay.train.ledger import warning
from unsay.types import MODELS


def run(recipe: Recipe, folder: RunFolder, watchers: Watchers | None = None) -> None:
    """Everything, in order. Raises `ConfigError` before any work where the recipe cannot be used."""
    watchers = watchers or Watchers()
    check(recipe)
    with folder.claimed():
        open_folder(recipe, folder)
        if recipe.finetune.epochs and not folder.done("finetune"):
            run_finetune(recipe, folder, watchers)
        if not folder.done("record"):
            run_record(recipe, folder, watchers)
        if not folder.done("train"):
            run_train(recipe, folder, watchers)
        for which in MODELS:
            if not folder.done(f"audit {which}") and (which != "retain_model" or recipe.model.retain_model):
                run_audit(recipe, folder, which, watchers)
        run_report(folder, watchers)


def check(recipe: Recipe) -> None:
    """Build everything that the recipe names once, so that a mistake shows before the first stage."""
    method_of(recipe)
    tracking.check(recipe)
    source(recipe)
    check_audit(recipe)


def check_audit(recipe: Recipe) -> None:
    """The same for what an audit uses."""
    redact.refuse_hidden(recipe)
    if recipe.report.policy:
        policy.load(recipe.report.policy)
    audit.probes_of(recipe)
    deployment.model(recipe)
    vllm.check(recipe)
    _check_length(recipe)
    known = {name for kind in PARTS for name in entries(kind)}
    ours = {one.name for one in fields(Recipe) if is_dataclass(one.default_factory)}
    for name in recipe.tables:
        if name not in known:
            raise ConfigError(f"unknown table [{name}]: {near(name, known | ours)}")


def _check_length(recipe: Recipe) -> None:
    """Raises `ConfigError` where the length limit cuts a continuation short: a text cut off would pass for a forgotten one."""
    corpus = source(recipe)
    words = getattr(corpus, "continuation", 0) if getattr(corpus, "raw", False) else 0
    tokens = min(recipe.sample.max_new_tokens, deployment.sample(recipe).max_new_tokens)
    if tokens < words:
        raise ConfigError(f"{tokens} new tokens cannot hold a continuation of {words} words; raise sample.max_new_tokens to {2 * words}")


def run_standalone(
    folder: RunFolder,
    model: str,
    questions: str | None,
    watchers: Watchers,
    cache: bool = True,
    settings: Sequence[str] = (),
    before: str | None = None,
    retain_model: str | None = None,
    corpus: str = "files",
) -> Recipe:
    """An audit of a model without a run, and its report; the recipe that it makes of what is named. Raises `ConfigError`."""
    recipe = standalone.prepare(model, questions, retain_model, settings, corpus)
    check_audit(recipe)
    for option, name in (("MODEL", model), ("--retain-model", recipe.model.retain_model), ("--before", before)):
        if name:
            look_at(name, option)
    with folder.claimed():
        standalone.begin(recipe, folder, before)
        run_alone(recipe, folder, watchers, cache)
        run_report(folder, watchers)
    return recipe


def open_folder(recipe: Recipe, folder: RunFolder) -> None:
    """Begin a run in `folder`, or go on with the same recipe; another recipe is refused. A run in which nothing was done yet reads its
    files anew: a question that could not be asked may have been mended since."""
    if not folder.begun():
        look_at(recipe.model.name, "model.name")  # before the folder holds a recipe that it would refuse to change
        if recipe.model.retain_model and recipe.model.retain_model != "finetune":
            look_at(recipe.model.retain_model, "model.retain_model")  # it is used last, and would be missed last
        start(recipe, folder)
    elif dump(folder.recipe()) != dump(recipe):
        raise ConfigError(f"{folder.path} holds a run of another recipe; choose another --out, or remove that folder")
    elif not folder.manifest().seconds and folder.manifest().alone is None:
        start(recipe, folder)
    else:
        _same_questions(recipe, folder)


def _same_questions(recipe: Recipe, folder: RunFolder) -> None:
    """Raises `ConfigError` where the operator's files differ from the run's own copy; missing files are not compared."""
    handed = source(recipe)
    if not isinstance(handed, Files) or not all(Path(name).is_file() for name in handed.paths()):
        return
    now, then = handed.corpus(), read_handed(folder)
    if (now.forget, now.retain) != (then.forget, then.retain):
        raise ConfigError(f"the questions have changed since {folder.path} was begun; choose another --out, or remove that folder")


def run_finetune(recipe: Recipe, folder: RunFolder, watchers: Watchers) -> None:
    watchers.stage("finetune")
    with folder.stage("finetune"):
        finetune(recipe, folder, lambda step, steps, loss: watchers.steps(step, steps, f"loss {loss:.3f}"))


def run_record(recipe: Recipe, folder: RunFolder, watchers: Watchers) -> None:
    watchers.stage("record")
    with folder.stage("record"), counting("answers", expected_answers(recipe, folder), watchers.steps):
        record(recipe, folder)
    for line in after_record(folder.manifest(), folder.path):
        watchers.note(line)


def run_train(recipe: Recipe, folder: RunFolder, watchers: Watchers) -> None:
    vllm.check(recipe)  # the run may have begun elsewhere, or in one process
    watchers.stage("train")
    for knob in () if folder.done("train") else obsolete_knobs(folder.recipe_file):
        if knob.partition(".")[0] not in entries("probe"):
            watchers.note(f"this run was begun with {knob}, which is fixed now: it trains with the value that every run has")
    with interrupt.deferred(), folder.stage("train"):
        train(
            recipe, folder, lambda done, rounds, line: watchers.steps(done, rounds, f"loss {line['loss']:.3f}, {line['targets']} targets")
        )
    if said := warning(folder.manifest().exposure, getattr(method_of(recipe), "preset", None)):
        watchers.note(said)


def run_report(folder: RunFolder, watchers: Watchers) -> None:
    watchers.stage("report")
    with folder.stage("report"):
        folder.note(Manifest(reported=now()))  # here: the same folder gives the same report, to the byte
        report.build(folder)
