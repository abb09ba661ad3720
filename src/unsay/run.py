"""A whole run: (finetune →) record → train → audit before and after → report. Each stage is restartable: what is done is
not done again, what was interrupted goes on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from unsay import audit, deployment, earlier, report
from unsay.config import ConfigError, Recipe, dump
from unsay.endpoint import EndpointConfig, EndpointSubject
from unsay.finetune import finetune, gold_folder
from unsay.folder import RunFolder
from unsay.methods import GROUP as METHODS
from unsay.methods import TABLE as METHOD_TABLE
from unsay.model import load
from unsay.plan import planned
from unsay.record import record, source, start
from unsay.recorded import leaking_name, read_baseline, read_corpus, read_truth, read_withheld, settle
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
    from unsay import corpora, probes, rewards

    method_of(recipe)
    source(recipe)
    audit.probes_of(recipe)
    deployment.model(recipe)
    alcoves = ((METHOD_TABLE, METHODS), (corpora.TABLE, corpora.GROUP), (probes.TABLE, probes.GROUP), (rewards.TABLE, rewards.GROUP))
    known = {name for table, group in alcoves for name in entries(table, group)}
    for name in recipe.tables:
        if name not in known:
            raise ConfigError(f"unknown table [{name}]: {near(name, known)}")


def open_folder(recipe: Recipe, folder: RunFolder) -> None:
    """Begin a run in `folder`, or go on with the same recipe; another recipe is refused."""
    if not folder.recipe_file.exists():
        start(recipe, folder)
    elif dump(folder.recipe()) != dump(recipe):
        raise ConfigError(f"{folder.path} holds a run of another recipe; choose another --out, or remove that folder")


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
    with folder.stage("train"):
        train(
            recipe,
            folder,
            lambda number, rounds, line: watchers.steps(number + 1, rounds, f"loss {line['loss']:.3f}, {line['targets']} targets"),
        )


def run_audit(recipe: Recipe, folder: RunFolder, which: str, watchers: Watchers) -> None:
    """Probe the model before, after or gold, as it is deployed, and write its findings."""
    if which not in WHICH:
        raise ConfigError(f"there is no model {which!r} to audit: {near(which, WHICH)}")
    watchers.stage(f"audit {which}")
    gold = gold_name(recipe, watchers) if which == "gold" else None
    names = {"before": leaking_name(recipe, folder), "after": str(folder.checkpoint), "gold": gold}
    name = names[which]
    if name is None:
        raise ConfigError("the recipe names no gold model; set model.gold to a model, or to 'finetune'")
    if which == "after" and not folder.checkpoint.exists():
        raise ConfigError(f"{folder.checkpoint} is missing; run `unsay train {folder.path}` first")
    with folder.stage(f"audit {which}"):
        model, encoder = load(deployment.model(recipe), name)
        known = case(recipe, folder)
        asking = planned(folder, f"audit {which}", model, encoder, deployment.sample(recipe), _questions(known.corpus))
        subject = LocalSubject(model, encoder, asking, recipe.seed)
        deployment.heard(recipe, subject.encoder.chat)
        findings = audit.run(subject, known, recipe, _yardstick(recipe, folder), knew=True, progress=watchers.steps)
        audit.write(folder.audit_file(which), findings)
        folder.note(deployment={which: deployment.describe(recipe)})


def _questions(corpus: Corpus) -> list[str]:
    """All that an audit asks."""
    pairs = (corpus.neighbours, corpus.strangers, *corpus.utility.values(), *corpus.utility_heldout.values())
    forget = [question for example in corpus.forget for question in (example.question, *example.paraphrases)]
    return forget + [pair.question for some in pairs for pair in some]


def run_endpoint(recipe: Recipe, folder: RunFolder, endpoint: EndpointConfig, watchers: Watchers) -> None:
    """Probe what answers at a URL, and write its findings beside those on the run's own models. Raises `EndpointError`."""
    watchers.stage("audit endpoint")
    known = case(recipe, folder)
    harmless = [pair.question for pair in (*known.corpus.general, *known.corpus.retain)[:3]]
    with folder.stage("audit endpoint"):
        system_prompt = deployment.model(recipe).system_prompt
        subject = EndpointSubject(endpoint, deployment.sample(recipe), recipe.seed, system_prompt, harmless)
        subject.hello()
        try:
            yardstick: LocalSubject | None = _yardstick(recipe, folder)
        except ConfigError:  # the local model is gone since: what is well-formed is then unscored
            yardstick = None
        findings = audit.run(subject, known, recipe, yardstick, knew=True, progress=watchers.steps)
        audit.write(folder.audit_file("endpoint"), findings)
        folder.note(
            endpoint=subject.about() | {"audited": datetime.now(UTC).isoformat(timespec="seconds")},
            deployment={"endpoint": deployment.describe(recipe)},
        )


def _yardstick(recipe: Recipe, folder: RunFolder) -> LocalSubject:
    """The model before unlearning, as it was trained (in few bits, where it was so): it knows what a whole answer looks like
    in every case, where gold may refuse all of these."""
    return LocalSubject(*load(recipe.model, leaking_name(recipe, folder), quantized=True), recipe.sample, recipe.seed)


def gold_name(recipe: Recipe, watchers: Watchers) -> str | None:
    """The model that never knew; trained now where the recipe says so and the cache has none."""
    if recipe.model.gold != "finetune":
        return recipe.model.gold
    return str(gold_folder(recipe, lambda step, steps, loss: watchers.steps(step, steps, f"gold model, loss {loss:.3f}")))


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
        report.build(folder)
