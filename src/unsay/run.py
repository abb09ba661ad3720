"""A whole run: (finetune →) record → train → audit before and after → report. Each stage is restartable: what is done is
not done again, what was interrupted goes on (train from its last saved round, an audit with the answers that it has, the
others from their beginning), and ends as it would have ended."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from unsay import audit, builtin, corpora, deployment, earlier, identity, interrupt, policy, probes, redact, report, rewards, standalone
from unsay.config import ConfigError, Recipe, dump
from unsay.config.toml import setting
from unsay.corpora import Handed
from unsay.endpoint import EndpointConfig, EndpointSubject
from unsay.files import new_folder
from unsay.finetune import finetune, gold_folder
from unsay.folder import RunFolder, now
from unsay.generations import KeptSubject, kept
from unsay.methods import GROUP as METHODS
from unsay.methods import TABLE as METHOD_TABLE
from unsay.model import load
from unsay.plan import planned
from unsay.record import record, source, start
from unsay.recorded import leaking_name, read_baseline, read_corpus, read_handed, read_truth, read_withheld, settle
from unsay.report.notes import after_record
from unsay.subject import LocalSubject
from unsay.tables import entries, near
from unsay.train import method_of, train
from unsay.types import Case, Corpus

WHICH = ("before", "after", "gold")


@dataclass(frozen=True)
class Watchers:
    """Where progress goes; the command line draws bars, a script may leave them out."""

    stage: Callable[[str], None] = lambda name: None
    steps: Callable[[int, int, str], None] = lambda done, total, text: None
    note: Callable[[str], None] = lambda text: None


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
        for which in WHICH:
            if not folder.done(f"audit {which}") and (which != "gold" or recipe.model.gold):
                run_audit(recipe, folder, which, watchers)
        run_report(folder, watchers)


def check(recipe: Recipe) -> None:
    """Build everything that the recipe names once, so that a mistake shows before the first stage."""
    method_of(recipe)
    source(recipe)
    check_audit(recipe)


def check_audit(recipe: Recipe) -> None:
    """The same for what an audit uses."""
    redact.refuse_hidden(recipe)
    if recipe.report.policy:
        policy.load(recipe.report.policy)
    audit.probes_of(recipe)
    deployment.model(recipe)
    alcoves = ((METHOD_TABLE, METHODS), (corpora.TABLE, corpora.GROUP), (probes.TABLE, probes.GROUP), (rewards.TABLE, rewards.GROUP))
    known = {name for table, group in alcoves for name in entries(table, group)}
    for name in recipe.tables:
        if name not in known:
            raise ConfigError(f"unknown table [{name}]: {near(name, known)}")


def open_folder(recipe: Recipe, folder: RunFolder) -> None:
    """Begin a run in `folder`, or go on with the same recipe; another recipe is refused.

    A run in which nothing was done yet reads its files anew: a question that could not be asked may have been mended since.
    """
    if not folder.begun():
        if recipe.model.gold and recipe.model.gold != "finetune":
            builtin.at_hand("model.gold", recipe.model.gold)  # it is used last, and would be missed last
        start(recipe, folder)
    elif dump(folder.recipe()) != dump(recipe):
        raise ConfigError(f"{folder.path} holds a run of another recipe; choose another --out, or remove that folder")
    elif not folder.manifest().get("seconds") and "alone" not in folder.manifest():
        start(recipe, folder)
    else:
        _same_questions(recipe, folder)


def _same_questions(recipe: Recipe, folder: RunFolder) -> None:
    """Raises `ConfigError` where the operator's files say something else than what the run began with. It has its own copy, so files
    that are gone are no matter."""
    handed = source(recipe)
    if not isinstance(handed, Handed) or not all(Path(name).is_file() for name in handed.paths()):
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
    with folder.stage("record"):
        record(recipe, folder)
    for line in after_record(folder.manifest(), folder.path):
        watchers.note(line)


def run_train(recipe: Recipe, folder: RunFolder, watchers: Watchers) -> None:
    watchers.stage("train")
    with interrupt.deferred(), folder.stage("train"):
        train(
            recipe,
            folder,
            lambda number, rounds, line: watchers.steps(number + 1, rounds, f"loss {line['loss']:.3f}, {line['targets']} targets"),
        )


def auditable(recipe: Recipe, folder: RunFolder) -> dict[str, str]:
    """Name of each model that can be audited now, by `before`, `after`, `gold`; where nothing was trained, *after* is the audited one."""
    alone = folder.manifest().get("alone")
    gold = {"gold": recipe.model.gold} if recipe.model.gold else {}
    if alone is not None:
        return ({"before": alone["before"]} if alone["before"] else {}) | {"after": recipe.model.name} | gold
    trained = {"after": str(folder.checkpoint)} if folder.checkpoint.exists() else {}
    return {"before": leaking_name(recipe, folder)} | trained | gold


def run_audit(recipe: Recipe, folder: RunFolder, which: str, watchers: Watchers, cache: bool = True) -> None:
    """Probe the model before, after or gold, as it is deployed, and write its findings. With `cache`, what it has said before
    is taken from the vault, and what it says now is kept there."""
    if which not in WHICH:
        raise ConfigError(f"there is no model {which!r} to audit: {near(which, WHICH)}")
    watchers.stage(f"audit {which}")
    name = auditable(recipe, folder).get(which)
    if name is None and which == "after":
        raise ConfigError(f"{folder.checkpoint} is missing; run `unsay train {folder.path}` first")
    if name is None:
        what = "gold model; set model.gold to a model, or to 'finetune'" if which == "gold" else "model before; begin with --before MODEL"
        raise ConfigError(f"the recipe names no {what}")
    if which == "gold":
        name = gold_name(recipe, watchers) or name
    with folder.stage(f"audit {which}"):
        known = case(recipe, folder)
        subject = _subject(recipe, folder, name, f"audit {which}", _questions(known.corpus), cache)
        deployment.heard(recipe, subject.encoder.chat)
        findings = audit.run(subject, known, recipe, *yardstick(recipe, folder, cache), progress=watchers.steps)
        audit.write(folder.audit_file(which), findings)
        folder.note(deployment={which: deployment.describe(recipe)}, audited={which: _identity(name)})
        folder.note(answers={which: subject.about() if isinstance(subject, KeptSubject) else {}})


def _identity(name: str) -> dict[str, object] | None:
    """Hashes of the model that is audited, where it lies in a folder."""
    where = Path(builtin.resolve(name))
    return identity.of(where) if where.is_dir() else None


def run_alone(recipe: Recipe, folder: RunFolder, watchers: Watchers, cache: bool = True) -> None:
    """Every audit of a folder that `unsay.standalone` has begun. Questions without an answer are held against what the model
    before says by default, or, where there is none, the audited one itself."""
    names = auditable(recipe, folder)
    lacking = standalone.unanswered(folder, read_truth(folder))
    if lacking:
        watchers.stage("record")
        name = names.get("before", names["after"])
        with folder.stage("record"):
            standalone.answer(folder, lacking, _subject(recipe, folder, name, "record", [p.question for p in lacking], cache))
        whose = "the model before" if "before" in names else "the audited model itself, which repeats itself by default,"
        watchers.note(f"{len(lacking)} questions have no answer in the file: they are held against what {whose} says now")
    for which in names:
        run_audit(recipe, folder, which, watchers, cache)


def _subject(recipe: Recipe, folder: RunFolder, name: str, stage: str, questions: Sequence[str], cache: bool) -> LocalSubject:
    """The model as it is deployed, with as many rows at once as fit while any of the questions is asked."""
    config, sampling = deployment.model(recipe), deployment.sample(recipe)

    def loaded() -> LocalSubject:
        model, encoder = load(config, name)
        return LocalSubject(model, encoder, planned(folder, stage, model, encoder, sampling, questions), recipe.seed)

    return kept(folder, config, name, sampling, recipe.seed, loaded) if cache else loaded()


def _questions(corpus: Corpus) -> list[str]:
    """All that an audit asks."""
    sets = (corpus.utility, corpus.utility_heldout, corpus.model_utility)
    pairs = (corpus.neighbours, corpus.strangers, *(some for one in sets for some in one.values()))
    forget = [question for example in corpus.forget for question in (example.question, *example.paraphrases)]
    return forget + [pair.question for some in pairs for pair in some]


def run_endpoint(recipe: Recipe, folder: RunFolder, endpoint: EndpointConfig, watchers: Watchers, cache: bool = True) -> None:
    """Probe what answers at a URL, and write its findings beside those on the run's own models. Raises `EndpointError`."""
    watchers.stage("audit endpoint")
    with folder.stage("audit endpoint"):
        known = case(recipe, folder)
        harmless = [pair.question for pair in (*known.corpus.general, *known.corpus.retain)[:3]]
        system_prompt = deployment.model(recipe).system_prompt
        subject = EndpointSubject(endpoint, deployment.sample(recipe), recipe.seed, system_prompt, harmless)
        subject.hello()
        try:
            judging, knew = yardstick(recipe, folder, cache)
        except ConfigError:  # the local model is gone since: what is well-formed is then unscored
            judging, knew = None, False
        findings = audit.run(subject, known, recipe, judging, knew, progress=watchers.steps)
        audit.write(folder.audit_file("endpoint"), findings)
        folder.note(
            endpoint=subject.about() | {"audited": datetime.now(UTC).isoformat(timespec="seconds")},
            deployment={"endpoint": deployment.describe(recipe)},
        )


def yardstick(recipe: Recipe, folder: RunFolder, cache: bool) -> tuple[LocalSubject | None, bool]:
    """The model before unlearning, as it was trained (in few bits, where it was so), and that it knew: it knows what a whole
    answer looks like in every case, where gold may refuse all of these. Where an audit stands alone and has none, gold."""
    names = auditable(recipe, folder)
    name = names.get("before") or names.get("gold")
    if name is None:
        return None, False

    def loaded() -> LocalSubject:
        return LocalSubject(*load(recipe.model, name, quantized=True), recipe.sample, recipe.seed)

    return kept(folder, recipe.model, name, recipe.sample, recipe.seed, loaded, quantized=True) if cache else loaded(), "before" in names


def rescored(folder: RunFolder, settings: Sequence[str]) -> Recipe:
    """The run's recipe with other knobs of its audit, written down; what was found under the old ones is removed.

    Raises `ConfigError`, and changes nothing, where a setting is not of the audit, or findings would stay that are not redone.
    """
    folder.kept("corpus")  # a vault that is gone, or locked: nothing is taken away that could not be found again
    old, new = folder.recipe(), folder.recipe(settings)
    of_audit = entries(probes.TABLE, probes.GROUP)
    rest = {name: table for name, table in new.tables.items() if name not in of_audit}
    same = replace(new, audit=old.audit, deployment=old.deployment, report=old.report, tables=rest)
    if dump(same) != dump(replace(old, tables={name: table for name, table in old.tables.items() if name not in of_audit})):
        raise ConfigError(
            "an audit may set [audit], [deployment], [report] and the tables of probes; anything else makes another run: --out DIR"
        )
    check_audit(new)
    if dump(new) == dump(old):
        return old
    _nothing_served(folder)
    for which in WHICH:
        folder.undo(f"audit {which}")  # first: no stage is ever done without its file
        folder.audit_file(which).unlink(missing_ok=True)
    _no_report(folder)
    folder.write_recipe(new)
    return new


def _no_report(folder: RunFolder) -> None:
    """Take the report away that tells of findings which are gone."""
    folder.undo("report")
    for path in (folder.report_html, folder.report_json):
        path.unlink(missing_ok=True)


def _nothing_served(folder: RunFolder) -> None:
    """Raises `ConfigError` where findings on a server would stay beside others that are made anew."""
    if (served := folder.audit_file("endpoint")).exists():
        raise ConfigError(f"{served} was found with settings and weights as they are; move it away first, then audit the endpoint again")


def run_turn(folder: RunFolder, share: float, watchers: Watchers) -> None:
    """Set `train.interpolate` of a run to `share` and write its checkpoint anew, from the trained weights that it keeps; audit and
    report of the one before are removed. A run that has not been trained to its end is. What training took stays noted.

    Raises `ConfigError`, and changes nothing, where the share is none, the trained weights are gone, or findings on a server would stay.
    """
    folder.kept("corpus")  # a vault that is gone, or locked: see `rescored`
    trained, new = folder.done("train"), folder.recipe([setting("train.interpolate", share)])
    if trained and not any(folder.state.glob("round-*")):
        raise ConfigError(f"{folder.state} is gone, so {folder.path} would have to be trained again; begin another run: --out DIR")
    _nothing_served(folder)
    with folder.claimed():
        folder.undo("audit after")
        folder.audit_file("after").unlink(missing_ok=True)
        _no_report(folder)
        for made in (folder.checkpoint, folder.adapter):
            shutil.rmtree(made, ignore_errors=True)
        folder.write_recipe(new)
        if trained:
            watchers.stage("interpolate")
            train(new, folder)
        else:
            run_train(new, folder, watchers)


def gold_name(recipe: Recipe, watchers: Watchers) -> str | None:
    """The model that never knew; trained now where the recipe says so and the cache has none."""
    if recipe.model.gold != "finetune":
        return recipe.model.gold
    return str(gold_folder(recipe, lambda step, steps, loss: watchers.steps(step, steps, f"gold model, loss {loss:.3f}")))


def run_gold(recipe: Recipe, folder: RunFolder, watchers: Watchers) -> None:
    """Put the model that never knew, trained now or before, into the run's folder, where other recipes may name it (`model.gold`)."""
    watchers.stage("gold model")
    made = gold_folder(recipe, lambda step, steps, loss: watchers.steps(step, steps, f"loss {loss:.3f}"))
    with folder.claimed(), new_folder(folder.gold) as partial:
        shutil.copytree(made, partial, dirs_exist_ok=True)


def case(recipe: Recipe, folder: RunFolder) -> Case:
    settle(folder)
    recorded = read_baseline(folder)
    baseline = {key: answer for key, (answer, _) in recorded.items()}
    trained = {key: tuple(answer.text for answer in answers) for key, (_, answers) in recorded.items()}
    now = audit.case(read_corpus(folder), read_truth(folder), baseline, recipe.seed, trained, read_withheld(folder))
    before = enumerate(earlier.read(folder, truth=True), 1)
    return replace(now, earlier={f"request {number}": _met(request, recipe.seed) for number, request in before})


def _met(request: earlier.Request, seed: int) -> Case:
    """An earlier request as its own audit knew it."""
    asked = {one.example.id: one for one in request.asked}
    baseline = {key: one.baseline for key, one in asked.items()}
    trained = {key: tuple(answer.text for answer in one.answers) for key, one in asked.items()}
    withheld = {key: one.withheld for key, one in asked.items()}
    corpus = Corpus("earlier", tuple(one.example for one in request.asked))
    return audit.case(corpus, request.facts, baseline, seed, trained, withheld)


def run_report(folder: RunFolder, watchers: Watchers) -> None:
    watchers.stage("report")
    with folder.stage("report"):
        folder.note(reported=now())  # here: the same folder gives the same report, to the byte
        report.build(folder)
