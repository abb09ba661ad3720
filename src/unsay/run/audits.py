"""The audits of a run: of the model before, the one after and the retain model, of a server, and of a folder that stands alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from unsay import audit
from unsay.audit.cache import KeptSubject, kept
from unsay.audit.endpoint import EndpointConfig, EndpointSubject
from unsay.config import ConfigError, Recipe, deployment, obsolete_knobs
from unsay.lm import builtin, vllm
from unsay.lm.model import load
from unsay.lm.plan import for_many, planned
from unsay.lm.subject import LocalSubject
from unsay.measure.retain_model import examined
from unsay.packed import Packed, PackedMap
from unsay.record import earlier, standalone
from unsay.record.recorded import Baseline, read_recorded, read_truth, target_model_name
from unsay.report.gate import said
from unsay.run import kept as kept_answers
from unsay.run.watchers import Watchers
from unsay.store import identity
from unsay.store.clock import now
from unsay.store.files import write_jsonl
from unsay.store.folder import RunFolder, each_finding
from unsay.store.manifest import Endpoint, Manifest, ModelHashes
from unsay.tables import near
from unsay.train.finetune import retain_model_folder
from unsay.types import MODELS, Case, Corpus, Truth

T = TypeVar("T")


def auditable(recipe: Recipe, folder: RunFolder) -> dict[str, str]:
    """Name of each model that can be audited now, by which it is; where nothing was trained, *after* is the audited one."""
    alone = folder.manifest().alone
    retain_model = {"retain_model": recipe.model.retain_model} if recipe.model.retain_model else {}
    if alone is not None:
        return ({"before": alone.before} if alone.before else {}) | {"after": recipe.model.name} | retain_model
    trained = {"after": str(folder.checkpoint)} if folder.checkpoint.exists() else {}
    return {"before": target_model_name(recipe, folder)} | trained | retain_model


def run_audit(
    recipe: Recipe, folder: RunFolder, which: str, watchers: Watchers, cache: bool = True, again: Sequence[str] | None = None
) -> None:
    """Probe the model before or after, or the retain model, as it is deployed, and write its findings. With `cache`, what it has
    said before is taken from the vault, and what it says now is kept there. `again`: of the recipe's probes run only these, and those
    that have found nothing yet; what the others found on the same model stays."""
    vllm.check(recipe)
    watchers.stage(f"audit {which}")
    for knob in obsolete_knobs(folder.recipe_file):
        if knob.partition(".")[0] in recipe.audit.probes:
            watchers.note(
                f"this run was begun with {knob}, which is fixed now; what was found before is no comparison: audit every model again"
            )
    name = _model_name(recipe, folder, which, watchers)
    with folder.stage(f"audit {which}"):
        known = case(recipe, folder)
        subject = _subject(recipe, folder, name, f"audit {which}", _questions(known.corpus), cache)
        deployment.check_system_prompt(recipe, subject.encoder.chat)
        where = Path(builtin.resolve(name))
        identity_now = ModelHashes(**identity.of(where)) if where.is_dir() else None
        same = again is not None and identity_now is not None and folder.manifest().audited.get(which) == identity_now
        before = each_finding(folder.audit_file(which))
        findings = left = Packed(one for one in before if one.probe not in (again or ())) if same else Packed()
        lacking = tuple(probe for probe in recipe.audit.probes if probe not in left.probes)
        if lacking:
            few = replace(recipe, audit=replace(recipe.audit, probes=lacking))
            found = audit.run(subject, known, few, *reference_judge(recipe, folder, cache, subject), progress=watchers.steps)
            order = {probe: number for number, probe in enumerate(recipe.audit.probes)}
            names = sorted(dict.fromkeys((*left.probes, *found.probes)), key=lambda name: order.get(name, len(order)))
            whole = not left and names == [*found.probes]  # as it stands: a second one would take as much room again
            findings = found if whole else Packed(one for name in names for some in (left, found) for one in some.probe(name))
        write_jsonl(folder.kept_answers_file(which), kept_answers.answers(subject, known, recipe, findings))
        audit.write(folder.audit_file(which), findings)
        folder.note(Manifest(deployment={which: deployment.describe(recipe)}, audited={which: identity_now}))
        about = subject.about() if isinstance(subject, KeptSubject) else None
        if left and (kept_then := folder.manifest().answers.get(which)):  # what they rest on stays told
            about = replace(about or kept_then, kept=kept_then.kept + (about.kept if about else 0))
        folder.note(Manifest(answers={which: about}))
    if which == "retain_model":
        for line in examined(Packed(each_finding(folder.audit_file("before"))), findings, findings.groups):
            watchers.note(f"the retain model is refused, and nothing passes beside it: {said(line)}")


def _model_name(recipe: Recipe, folder: RunFolder, which: str, watchers: Watchers) -> str:
    """Name of the model to audit. Raises `ConfigError` where there is none."""
    name = auditable(recipe, folder).get(which)
    if name is None:
        missing = {
            "before": "the recipe names no model before; begin with --before MODEL",
            "after": f"{folder.checkpoint} is missing; run `unsay train {folder.path}` first",
            "retain_model": "the recipe names no retain model; set model.retain_model to a model, or to 'finetune'",
        }
        raise ConfigError(missing.get(which) or f"there is no model {which!r} to audit: {near(which, MODELS)}")
    return (retain_model_name(recipe, watchers) if which == "retain_model" else None) or name


def run_alone(recipe: Recipe, folder: RunFolder, watchers: Watchers, cache: bool = True, again: Sequence[str] | None = None) -> None:
    """Every audit (`run_audit`) of a folder that `unsay.record.standalone` has begun. Questions without an answer are held against
    what the model before says by default, or, where there is none, the audited one itself."""
    vllm.check(recipe)
    names = auditable(recipe, folder)
    lacking = standalone.unanswered(folder, read_truth(folder))
    if lacking:
        watchers.stage("record")
        name = names.get("before", names["after"])
        with folder.stage("record"):
            standalone.answer(folder, lacking, _subject(recipe, folder, name, "record", [p.question or "" for p in lacking], cache))
        whose = "the model before" if "before" in names else "the audited model itself, which repeats itself by default,"
        watchers.note(f"{len(lacking)} questions have no answer in the file: they are held against what {whose} says now")
    for which in names:
        run_audit(recipe, folder, which, watchers, cache, again)


def _subject(recipe: Recipe, folder: RunFolder, name: str, stage: str, questions: Iterable[str], cache: bool) -> LocalSubject:
    """The model as it is deployed, with as many rows at once as fit while any of the questions is asked."""
    config, sampling = deployment.model(recipe), deployment.sample(recipe)

    def loaded() -> LocalSubject:
        model, encoder = load(config, name)
        wanted = for_many(sampling, model.device.type)
        return LocalSubject(model, encoder, planned(folder, stage, model, encoder, wanted, questions), recipe.seed)

    return kept(folder, config, name, sampling, recipe.seed, loaded) if cache else loaded()


def _questions(corpus: Corpus) -> Iterator[str]:
    """All that an audit asks."""
    for example in corpus.forget:
        yield from (example.question, *example.paraphrases)
    sets = (corpus.utility, corpus.utility_heldout, corpus.model_utility)
    pairs = (corpus.neighbours, corpus.unknown_entities, *(some for one in sets for some in one.values()))
    yield from (pair.question for some in pairs for pair in some)


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
            judging, knew = reference_judge(recipe, folder, cache)
        except ConfigError:  # the local model is gone since: what is well-formed is then unscored
            judging, knew = None, False
        findings = audit.run(subject, known, recipe, judging, knew, progress=watchers.steps)
        audit.write(folder.audit_file("endpoint"), findings)
        served = Endpoint(**subject.about(), audited=now())
        folder.note(Manifest(endpoint=served, deployment={"endpoint": deployment.describe(recipe)}))


def reference_judge(recipe: Recipe, folder: RunFolder, cache: bool, beside: LocalSubject | None = None) -> tuple[LocalSubject | None, bool]:
    """The model before unlearning, as it was trained (in few bits, where it was so), and that it knew: it knows what a whole answer
    looks like in every case, where the retain model may refuse. Where an audit stands alone and has none, it is the retain model."""
    names = auditable(recipe, folder)
    name = names.get("before") or names.get("retain_model")
    if name is None:
        return None, False

    def loaded() -> LocalSubject:
        return LocalSubject(*load(recipe.model, name, quantized=True), recipe.sample, recipe.seed)

    if not cache:
        return loaded(), "before" in names
    return kept(folder, recipe.model, name, recipe.sample, recipe.seed, loaded, quantized=True, beside=beside), "before" in names


def retain_model_name(recipe: Recipe, watchers: Watchers) -> str | None:
    """The model that never knew; trained now where the recipe says so and the cache has none."""
    if recipe.model.retain_model != "finetune":
        return recipe.model.retain_model
    return str(retain_model_folder(recipe, lambda step, steps, loss: watchers.steps(step, steps, f"retain model, loss {loss:.3f}")))


def case(recipe: Recipe, folder: RunFolder) -> Case:
    """What an audit knows; from here on the operator's corrections count as they are."""
    recorded = read_recorded(folder, settle=True)
    now = _case(recorded.corpus, read_truth(folder), recorded.baseline, recipe.seed)
    before = enumerate(earlier.read(folder, truth=True), 1)
    return replace(now, earlier={f"request {number}": _earlier_case(request, recipe.seed) for number, request in before})


def _earlier_case(request: earlier.Request, seed: int) -> Case:
    """An earlier request as its own audit knew it."""
    baseline = {one.example.id: Baseline(one.baseline, one.answers, one.withheld) for one in request.asked}
    return _case(Corpus("earlier", tuple(one.example for one in request.asked)), request.facts, baseline, seed)


def _case(corpus: Corpus, truth: Truth | None, baseline: Mapping[str, Baseline], seed: int) -> Case:
    def each(of: Callable[[Baseline], T]) -> Mapping[str, T]:
        return PackedMap((key, of(one)) for key, one in baseline.items())

    trained = each(lambda one: tuple(answer.text for answer in one.answers))
    return audit.case(corpus, truth, each(lambda one: one.answer), seed, trained, each(lambda one: one.withheld))
