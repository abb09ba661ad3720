"""Contract: whether a probe, a reward, a method or a corpus, of this package or of another, keeps what its kind promises.

Each is put to work on a small real case, the built-in `people` and their model, and what comes back is looked at. The promises
are those of the packages' own docstrings; docs/plugins.md shows one of each kind.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from unsay import methods, probes
from unsay.config import ConfigError, Recipe, SampleConfig
from unsay.corpora.people import People
from unsay.lm.adapters import Untouched
from unsay.lm.model import load
from unsay.lm.sampler import Sampler
from unsay.lm.subject import LocalSubject, Prompt
from unsay.measure.summary import metrics
from unsay.metric import Metric
from unsay.packed import PackedMap, PackedRows
from unsay.tables import PARTS, entries, lookup, near
from unsay.types import Answer, Candidate, Case, Corpus, Finding, Reference

ASKED = 3
"""Forget questions of the small case."""


def kinds_of(name: str) -> list[str]:
    """What goes by this name. Raises `ConfigError` where nothing does."""
    found = [kind for kind in PARTS if name in entries(kind)]
    if not found:
        known = {other for kind in PARTS for other in entries(kind)}
        raise ConfigError(f"no probe, reward, method or corpus is called {name!r}: {near(name, known)}")
    return found


def broken(kind: str, name: str, knobs: Mapping[str, Any] | None = None) -> list[str]:
    """Every promise of its kind that `name` does not keep, in words; `knobs`: what it cannot do without."""
    made = lookup(kind, name)
    checks: dict[str, Callable[[str, Any], Iterator[str]]] = {"probe": _probe, "reward": _reward, "method": _method, "corpus": _corpus}
    found = list(_shape(made))
    if found:
        return found
    try:
        thing = Recipe(tables={name: dict(knobs or {})}).knobs(name, made)
        return list(checks[kind](name, thing))
    except Exception as error:  # whatever an unknown package raises is what its author wants to read
        return [f"it raises {type(error).__name__}: {error}"]


def _shape(made: Any) -> Iterator[str]:
    if not (inspect.isclass(made) and dataclasses.is_dataclass(made) and getattr(made, "__dataclass_params__").frozen):  # noqa: B009
        yield "it is no frozen dataclass, whose fields are its knobs"
    elif not (made.__doc__ or "").strip() or (made.__doc__ or "").startswith(f"{made.__name__}("):
        yield "it has no docstring, whose first line the lists show"


def _small() -> tuple[Corpus, Case]:
    """The built-in people, a few of their questions to be forgotten."""
    people = People()
    corpus, truth = people.corpus(), people.truth()
    corpus = dataclasses.replace(corpus, forget=PackedRows(corpus.forget[:ASKED]), retain=corpus.retain[:8])
    return corpus, Case(corpus, PackedMap((example.id, truth[example.id]) for example in corpus.forget), "ground truth")


def _subject() -> LocalSubject:
    return LocalSubject(*load(Recipe().model, "people-target"), SampleConfig(max_new_tokens=24))


def _probe(name: str, probe: Any) -> Iterator[str]:
    if "Does not cover:" not in (type(probe).__doc__ or ""):
        yield 'its docstring does not end with "Does not cover: …"'
    declared = probes.declared_by(probe)
    if not declared.metrics or not all(isinstance(one, Metric) for one in declared.metrics):
        yield "it declares no `metrics`, so nothing that it finds would be shown"
    metrics()  # complains of a key that two probes declare
    keys = {one.key for one in declared.metrics}
    for one in declared.metrics:
        if one.accident and one.accident not in keys:
            yield f"the metric {one.key!r} names the accident {one.accident!r}, which it does not declare"
        if one.claim and "{}" not in one.claim:
            yield f"the claim of {one.key!r} has no {{}} for the value"
    declared.tested.format(settings="", count=1, n=1, questions=1)
    _, case = _small()
    found = probe(_subject(), case)
    if not found or not all(isinstance(one, Finding) for one in found):
        yield "it returns no findings"
        return
    for one in found:
        if one.probe != name:
            yield f"a finding says that it is of the probe {one.probe!r}"
        if one.value is not None and not (math.isfinite(one.value) and 0 <= one.value <= 1):
            yield f"a finding of {one.metric!r} has the value {one.value}, which is not in [0, 1]"
        if one.value is None and not one.note:
            yield f"an unscored finding of {one.metric!r} does not say why"
    for metric in (one.of_probe(name) for one in declared.metrics):
        if metric.finding and metric.finding not in {one.metric for one in found}:
            yield f"the metric {metric.key!r} is made of findings {metric.finding!r}, and there is none"


def _reward(name: str, reward: Any) -> Iterator[str]:
    if not isinstance(getattr(reward, "needs_fluency", None), bool):
        yield "it does not declare `needs_fluency`"
    texts = ("Ada lives in Oslo.", "I do not know.", "", "Ada lives in Turin.")
    candidates = [Candidate(Answer((5, 2), text, True), i, fluency=-2.0) for i, text in enumerate(texts)]
    reference = Reference("Where does Ada live?", "Ada lives in Turin.", desired=("I cannot say.",), settled=("In Rome.",))
    first, again = (reward(candidates, reference) for _ in range(2))
    if len(first) != len(texts):
        yield f"it gives {len(first)} values for {len(texts)} candidates"
    if any(value is not None and not 0 <= value <= 1 for value in first):
        yield f"it gives values that are not in [0, 1]: {first}"
    if first != again:
        yield "it scores the same candidates differently the second time"


def _method(name: str, method: Any) -> Iterator[str]:
    for flag in ("needs_answers", "needs_reference"):
        if not isinstance(getattr(method, flag, None), bool):
            yield f"it does not declare `{flag}`"
    corpus, case = _small()
    subject = _subject()
    model, encoder = subject.weights
    prompts = [Prompt(example.id, example.question) for example in corpus.forget]
    said = [answers[0] for answers in subject.ask(prompts)]
    visits = [
        methods.Visit(example, answer.text, (answer,), truth=case.facts[example.id].answer if method.needs_answers else None)
        for example, answer in zip(corpus.forget, said, strict=True)
    ]
    reference = Untouched(model) if method.needs_reference else None
    sampler = Sampler(model, encoder, subject.config, reference=reference)
    state = method.prepare(visits, sampler) if isinstance(method, methods.Prepared) else {}
    targets, state = method.targets(visits, sampler, state)
    if [target.example for target in targets] != [visit.example.id for visit in visits]:
        yield "it does not give one target for each visit, in their order"
    rows = [row for target in targets for row in target.rows]
    rows += [encoder.pair(pair.question, pair.answer, "retain") for pair in corpus.retain[:2]] if methods.uses_retain_rows(method) else []
    if not rows:
        yield "it has nothing to train on"
        return
    terms = method.loss(model.train(), reference, encoder.batch(rows, model.device, of=rows))
    for term, value in terms.items():
        if value.dim() or not bool(value.isfinite()):
            yield f"the term {term!r} of its loss is not one finite number"
    if not any(value.requires_grad for value in terms.values()):
        yield "no term of its loss depends on the model"
    model.eval()
    # A step may be cut anywhere but within a pair.
    pairs = list(dict.fromkeys(row.pair for row in rows))
    parts = [[row for row in rows if row.pair == pair] for pair in pairs if pair] + [[row] for row in rows if not row.pair]
    whole, *cut = (method.loss(model, reference, encoder.batch(some, model.device, of=rows)) for some in (rows, *parts))
    for term, value in whole.items():
        if not math.isclose(float(value), sum(float(part[term]) for part in cut if term in part), rel_tol=1e-3, abs_tol=1e-3):
            yield f"the term {term!r} is another where the rows of a step are cut into batches; take means with `batch.mean`"


def _corpus(name: str, source: Any) -> Iterator[str]:
    corpus, truth = source.corpus(), source.truth()
    ids = [example.id for example in corpus.forget]
    if not ids:
        yield "it has no question to forget"
    if len(set(ids)) < len(ids):
        yield "two questions to forget have one id"
    if truth is not None and not truth.keys() <= {*ids, *(example.id for example in corpus.knowledge)}:
        yield "its truth names questions that are not to be forgotten"
    asked = {example.question for example in corpus.forget}
    if any(pair.question in asked for pair in corpus.retain):
        yield "a retain row asks what is to be forgotten"
    held = {pair.question for pairs in corpus.utility_heldout.values() for pair in pairs}
    if any(pair.question in held for pair in corpus.retain):
        yield "a retain row asks what is held out, so that nothing would measure the damage"
    if not isinstance(source.finetuning_rows(retain_model=True), tuple):
        yield "`finetuning_rows` gives no tuple of pairs"
