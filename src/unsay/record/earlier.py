"""Earlier forget requests (`record.earlier`), which the model at hand has met already: what a later one must neither bring back nor leave
unasked.

`gather` reads the vaults of the named runs (and what those copied from runs before them) and `keep` copies it into this run's vault, so
that later stages and requests need this run folder alone. `retain_rows` asks the model at hand the earlier questions, plainly and from
prefixes, and keeps its present answers as retain rows: a model that has forgotten says by itself what should go on. An answer that still
leaks, by the thresholds of methods/target_filter.py whatever the method of this run, is none. Truth is copied into a file of its own.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unsay import config
from unsay.config import ConfigError, Recipe
from unsay.lm.encode import Encoder
from unsay.lm.rows import Row
from unsay.lm.sample import Draw
from unsay.lm.sampler import Sampler
from unsay.lm.subject import LocalSubject
from unsay.methods import Visit
from unsay.methods.prefixes import AnswerPrefix, choose_prefix
from unsay.methods.target_filter import TargetFilter
from unsay.record.recorded import read_recorded, read_truth, rows_of
from unsay.record.replay import ReplayFilter
from unsay.store.folder import RunFolder
from unsay.store.manifest import Counts, Manifest, SequentialRequests
from unsay.text import contains
from unsay.types import Answer, Candidate, Example, Fact, Told


@dataclass(frozen=True)
class EarlierQuestion:
    """A question of an earlier request, with what its run recorded about it."""

    example: Example
    """Its id begins with the run's name, so that it differs from that of every other request."""
    baseline: str = field(repr=False)
    """What the model used to say, before it first forgot."""
    answers: tuple[Answer, ...] = ()
    """What prefixes were cut from."""
    withheld: tuple[str, ...] = field(default=(), repr=False)
    """Other wordings, which no training has seen."""


@dataclass(frozen=True)
class Request:
    """An earlier forget request."""

    run: str
    """The run folder it was met in, as it was first named."""
    asked: tuple[EarlierQuestion, ...]
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """Its ground truth by example id, where it had one; empty unless asked for. For the audit's eyes only."""


@dataclass(frozen=True)
class EarlierRow:
    """What the model at hand says to an earlier question."""

    question: str = field(repr=False)
    prefix: tuple[int, ...] = field(repr=False)
    """Ids of the beginning it continued from; empty where it was asked plainly."""
    answer: Answer
    default: bool = False
    """The greedy answer to the plain question."""

    def row(self, encoder: Encoder) -> Row:
        """As a retain row, the sampled ids as they are."""
        return Row((*encoder.prompt(self.question), *self.prefix), self.answer.ids, "retain")


# -- from run folder to run folder -------------------------------------------------------------------------------------


def gather(recipe: Recipe, folder: RunFolder) -> list[Request]:
    """Every earlier request, the oldest first; of a question asked twice the older one. Raises `ConfigError`."""
    found: list[Request] = []
    known: set[str] = set()
    for name in recipe.record.earlier:
        _refuse_circles(name, folder, ())
        for request in (*read(RunFolder(name), truth=True), _request_of(name)):
            news = tuple(asked for asked in request.asked if asked.example.question not in known)
            known |= {asked.example.question for asked in news}
            if news:
                found.append(replace(request, asked=news))
    ids = [asked.example.id for request in found for asked in request.asked]
    if len(set(ids)) < len(ids):
        raise ConfigError("record.earlier leads to two different runs of the same name; move one of them to a folder of another name")
    return found


def _refuse_circles(name: str, folder: RunFolder, path: tuple[str, ...]) -> None:
    """Follow a named run to those before it. Raises `ConfigError` where there is none, or where the way leads back."""
    path = (*path, name)
    if Path(name).resolve() == folder.path.resolve() or name in path[:-1]:
        raise ConfigError(f"record.earlier goes round in a circle: {' → '.join(path)}; an earlier request has a run folder of its own")
    run = RunFolder(name)
    if not run.recipe_file.exists():
        if len(path) > 1:  # removed since; what is needed of it was copied
            return
        raise ConfigError(f"record.earlier: {name} is not a run folder (no recipe.toml); name the folder that `unsay run` wrote")
    for before in run.recipe().record.earlier:
        _refuse_circles(before, folder, path)


def _request_of(name: str) -> Request:
    """The request that a run folder is itself about."""
    run = RunFolder(name)
    if not run.done("train"):
        raise ConfigError(
            f"record.earlier: {name} has not forgotten anything yet; finish it with `unsay run {run.recipe_file} --out {name}`"
        )
    recorded = read_recorded(run)
    said = [(example, recorded.baseline[example.id]) for example in recorded.corpus.forget]
    asked = [EarlierQuestion(replace(e, id=f"{name}:{e.id}"), one.answer, tuple(one.answers), one.withheld) for e, one in said]
    facts = {f"{name}:{key}": replace(fact, id=f"{name}:{key}") for key, fact in (read_truth(run) or {}).items()}
    return Request(name, tuple(asked), facts)


def keep(folder: RunFolder, requests: Sequence[Request]) -> None:
    """Put the copy into the vault, where there is anything to copy."""
    if not requests:
        return
    folder.texts.write("earlier", ({"run": request.run, **dataclasses.asdict(asked)} for request in requests for asked in request.asked))
    folder.texts.write("earlier-truth", (dataclasses.asdict(fact) for request in requests for fact in request.facts.values()))
    runs = SequentialRequests(tuple(request.run for request in requests))
    folder.note(Manifest(earlier=runs, counts=Counts(earlier=sum(len(request.asked) for request in requests))))


def read(folder: RunFolder, truth: bool = False) -> list[Request]:
    """The earlier requests as `keep` wrote them down, the oldest first; their facts only where `truth` is asked for."""
    asked: dict[str, list[EarlierQuestion]] = {}
    for row in rows_of(folder, "earlier"):
        asked.setdefault(row.pop("run"), []).append(config.build(EarlierQuestion, row, "earlier.jsonl"))
    # Where there are questions, `keep` wrote the truth too, if only an empty file: one that is missing is an error.
    told = folder.texts.rows("earlier-truth") if truth and asked else []
    facts = {row["id"]: config.build(Fact, row, "earlier-truth.jsonl") for row in told}
    return [
        Request(run, tuple(found), {a.example.id: facts[a.example.id] for a in found if a.example.id in facts})
        for run, found in asked.items()
    ]


# -- what the model at hand says now -----------------------------------------------------------------------------------


def record(subject: LocalSubject, recipe: Recipe, folder: RunFolder, now: Sequence[tuple[Example, str]]) -> list[tuple[Example, str]]:
    """Keep the retain rows in the vault and count them. `now`: the forget questions of this request and what the model answers. A
    question that this request asks again has none: it is about to be moved. Returns the earlier questions with what was once answered,
    for whoever else must not touch them. Raises `ConfigError` where the model at hand has forgotten nothing."""
    asked = [one for request in read(folder) for one in request.asked]
    if not asked:
        return []
    met, again = {one.example.question for one in asked}, {example.question for example, _ in now}
    wanted = [one for one in asked if one.example.question not in again]
    secrets = [(one.example, one.baseline) for one in asked] + [(example, said) for example, said in now if example.question not in met]
    found, left_out = retain_rows(subject, recipe.record.earlier_answers, wanted, secrets)
    silent = {row.question for row in found if row.default}
    if wanted and recipe.record.earlier_answers and not silent:
        raise ConfigError(
            f"{recipe.model.name} answers every earlier question as it did before it was to forget; "
            f"set model.name to the last checkpoint, for example {Path(recipe.record.earlier[-1]) / 'checkpoint'}"
        )
    folder.texts.write("earlier-retain-rows", map(dataclasses.asdict, found))
    still_said = len(wanted) - len(silent) if recipe.record.earlier_answers else 0  # nobody asked
    again_asked = len(asked) - len(wanted)
    counts = SequentialRequests(retain_rows=len(found), left_out=left_out, asked_again=again_asked, still_said=still_said)
    folder.note(Manifest(earlier=counts))
    return [(one.example, one.baseline) for one in asked]


def retain_rows(
    subject: LocalSubject, n: int, asked: Sequence[EarlierQuestion], secrets: Sequence[tuple[Example, str]]
) -> tuple[list[EarlierRow], int]:
    """n answers to each question, those that could be a target, and how many were left out. The first is greedy, the others are sampled
    at temperature 1, most of them from prefixes. None states any of `secrets`."""
    tried = [(one, prefix, draw) for one in asked for prefix, draw in _draws(subject, n, one)]
    said = subject.sample([draw for _, _, draw in tried], "earlier")
    told = Told(tuple((example.id, example.question, baseline) for example, baseline in secrets))
    strings = tuple(string for example, _ in secrets for string in example.strings)
    patterns = tuple(pattern for example, _ in secrets for pattern in example.patterns)
    found = []
    for (one, prefix, draw), (answer,) in zip(tried, said, strict=True):
        candidate = prefix.complete(Candidate(answer, 0), subject.encoder)
        # What holds for a target holds for a retain row: neither its own secret, nor one of any other request.
        reference = prefix.continued(Visit(one.example, one.baseline, told=told).reference())
        reference = replace(reference, strings=strings, patterns=patterns)
        if TargetFilter(reference, one.baseline, min_words=1).passed([candidate]):
            found.append(EarlierRow(one.example.question, prefix.ids, answer, draw.temperature == 0))
    return found, len(tried) - len(found)


def _draws(subject: LocalSubject, n: int, one: EarlierQuestion) -> Iterator[tuple[AnswerPrefix, Draw]]:
    encoder = subject.encoder
    # Another tokenizer than the first run's would read other words in the recorded ids.
    recorded = tuple(a if encoder.decode(a.ids) == a.text else replace(a, ids=encoder.answer(a.text)) for a in one.answers)
    visit = Visit(one.example, one.baseline, recorded)
    for number in range(n):
        sampler = Sampler(subject.model, encoder, subject.config, subject.seed, number)
        prefix = choose_prefix(visit, sampler) if number else AnswerPrefix()
        context = encoder.prompt(one.example.question) + prefix.ids
        yield prefix, Draw(f"{one.example.id}|{number}", context, temperature=float(number > 0))


def barred(example: Example, before: Sequence[EarlierQuestion]) -> Example:
    """A new question under what was named for earlier ones, too: no target may say it, unless the question itself does."""
    if not before:
        return example
    strings = [s for asked in before for s in asked.example.strings if not contains(example.question, [s])]
    patterns = [p for asked in before for p in asked.example.patterns if not contains(example.question, (), [p])]
    return replace(
        example, strings=tuple(dict.fromkeys((*example.strings, *strings))), patterns=tuple(dict.fromkeys((*example.patterns, *patterns)))
    )


def read_retain_rows(folder: RunFolder, named: Sequence[Example]) -> list[EarlierRow]:
    """The retain rows that `record` wrote, less those with a text that `named` has named since; nothing without an earlier request."""
    guard = ReplayFilter((), named=named)
    rows = [config.build(EarlierRow, row, "earlier-retain-rows.jsonl") for row in rows_of(folder, "earlier-retain-rows")]
    return [row for row in rows if guard.harmless(row.answer.text)]
