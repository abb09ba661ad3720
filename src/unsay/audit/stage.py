"""Audit: a model × probes → findings. It changes nothing and loads nothing; `unsay.run` hands it models and the vault's texts."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unsay.config import ConfigError, Recipe, deployment
from unsay.lm.subject import LocalSubject, Subject, Unaskable
from unsay.packed import Packed, PackedMap, Places
from unsay.probes import Probe, declared_by
from unsay.probes.classes import ReferenceJudge
from unsay.probes.scoring import spread
from unsay.store.files import write_jsonl
from unsay.store.memory import trim
from unsay.tables import lookup
from unsay.types import Case, Corpus, Example, Fact, Finding, Pair, Truth

GROUND_TRUTH, BASELINE = "ground truth", "baseline answers"

Progress = Callable[[int, int, str], None]
"""(probes done, probes in all, the one that runs now)."""


def run(
    subject: Subject,
    case: Case,
    recipe: Recipe,
    reference_judge: LocalSubject | None = None,
    knew: bool = False,
    progress: Progress = lambda *_: None,
) -> Packed:
    """Every probe of the recipe on one model. `reference_judge`: the model that never knew, or, with `knew`, the one before unlearning."""
    judges = [ReferenceJudge(reference_judge, knew)] if reference_judge is not None else []
    reference_judge = None
    return Packed(_findings(subject, case, recipe, judges, progress))


def _findings(subject: Subject, case: Case, recipe: Recipe, judges: list[ReferenceJudge], progress: Progress) -> Iterator[Finding]:
    """`judges`: one or none; it is taken out as soon as nothing needs it."""
    probes, groups = probes_of(recipe), _groups(case)
    case = _limited(case, recipe.audit.limit)
    last = max((i for i, probe in enumerate(probes.values()) if declared_by(probe).judged), default=-1)
    for done, (name, probe) in enumerate(probes.items()):
        progress(done, len(probes), name)
        asked = dataclasses.replace(case, judge=judges[0] if judges else None) if declared_by(probe).judged else case
        try:
            found: Iterable[Finding] = Packed.of(probe(subject, asked))  # here: a probe of another package may ask while it yields
        except Unaskable as why:
            found = [Finding(name, "answers", None, n=0, note=str(why))]
        for f in found:
            group = groups.get((f.setting, f.example)) or groups.get(("", f.example))
            yield dataclasses.replace(f, group=group) if group else f
        del found, asked
        if done >= last:
            judges.clear()  # a second model, wanted by nothing below
        trim()  # the next probe needs blocks of other sizes
    progress(len(probes), len(probes), "")


def _groups(case: Case) -> dict[tuple[str, str], str]:
    """(earlier request or "", question) → number of its group. A group may be called after a person, so its name stays in the vault."""
    corpus = case.corpus
    sets: list[Sequence[Example | Pair]] = [corpus.forget, corpus.knowledge, corpus.retain, corpus.neighbours]
    sets += [corpus.unknown_entities, corpus.general]
    sets += [*corpus.utility.values(), *corpus.utility_heldout.values(), *corpus.model_utility.values()]
    every = [*(("", some) for some in sets), *((name, met.corpus.forget) for name, met in case.earlier.items())]
    seen, numbers, groups = Places(), dict[tuple[str, str], str](), dict[tuple[str, str], str]()
    for name, some in every:
        for one in some:
            key = name, one.id
            if seen.get(key) is None:  # an id used twice has the group of its first row: a forget question never gets another's
                seen.put(key, 1)
                if one.group:
                    groups[key] = numbers.setdefault((name, one.group), str(len(numbers) + 1))
    return groups


def probes_of(recipe: Recipe) -> dict[str, Probe]:
    """The recipe's probes with their knobs, by name, sampling as it is deployed. Raises `ConfigError`."""
    if not recipe.audit.probes:
        raise ConfigError("audit.probes is empty; an audit that asks nothing would pass anything")
    kinds: dict[str, Any] = {name: lookup("probe", name) for name in recipe.audit.probes}
    return {name: deployment.decoding(recipe, name, recipe.knobs(name, kind)) for name, kind in kinds.items()}


def case(
    corpus: Corpus,
    truth: Truth | None,
    baseline: Mapping[str, str],
    seed: int = 0,
    trained: Mapping[str, tuple[str, ...]] | None = None,
    withheld: Mapping[str, tuple[str, ...]] | None = None,
) -> Case:
    """What the audit knows; without ground truth the model's recorded answers and, as other wordings, those withheld from training."""
    told = truth or {}
    facts = PackedMap[Fact]()
    for key in (e.id for e in corpus.forget if e.id not in told and e.id in baseline):
        facts.put(key, Fact(key, baseline[key], (withheld or {}).get(key, ())))
    source = GROUND_TRUTH if not facts else f"{GROUND_TRUTH} and {BASELINE}" if told else BASELINE
    for key, fact in told.items():
        facts.put(key, fact)
    return Case(corpus, facts, source, seed, trained or {})


def write(path: Path, findings: Iterable[Finding]) -> None:
    write_jsonl(path, map(dataclasses.asdict, findings))


def _limited(case: Case, limit: int) -> Case:
    corpus = dataclasses.replace(case.corpus, forget=spread(case.corpus.forget, limit))
    return dataclasses.replace(case, corpus=corpus, earlier={name: _limited(before, limit) for name, before in case.earlier.items()})
