"""Compare: several runs side by side, each held against the first over the questions that both were asked.

Whatever an audit has left findings of. A difference is paired (the same question in both), so that hard questions weigh on both sides
alike. It loads no model. Of the vaults it reads the questions alone, to know which are the same.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unsay import audit
from unsay.config import ConfigError, deployment
from unsay.measure.distinguisher import Separation, separation
from unsay.measure.never_knew import NeverKnew
from unsay.measure.never_knew import by_question as held_against
from unsay.measure.summary import metrics
from unsay.measure.summary import questions as by_metric
from unsay.metric import Metric, Values, by_question, scored_by
from unsay.packed import Packed
from unsay.report.evidence import Evidence, areas, change, interval
from unsay.report.gate import evidence
from unsay.report.notes import TRAINED
from unsay.stats import Estimate, Interval
from unsay.store.folder import RunFolder
from unsay.types import own_id


@dataclass(frozen=True)
class Column:
    """One run."""

    run: str
    model: str
    method: str
    reference: str
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    """Metric → 95 % interval of its value; left out where there is none."""
    differences: Mapping[str, Estimate]
    """Metric → this run − the first over the questions of both; left out where they share none."""
    questions: Mapping[str, int]
    """Metric → how many questions that were."""
    never_knew: NeverKnew | None
    """How near it comes to the first run’s retain model (else its own), over the questions of both; of another retain model: what two
    models that never knew give each other."""
    notes: tuple[str, ...]
    """What makes it hard to compare with the first."""


def compare(folders: Sequence[RunFolder], which: str = "after") -> list[Column]:
    """A column for each run. Raises `ConfigError` where there is no such audit, or fewer than two runs."""
    if len(folders) < 2:
        raise ConfigError("compare sets runs side by side; name at least two of them")
    found = [_read(folder, which) for folder in folders]
    return [_column(folder, one, folders[0], found[0], which) for folder, one in zip(folders, found, strict=True)]


def table(columns: Sequence[Column]) -> list[tuple[str, list[str]]]:
    """Title of a metric → its cell in each column, in words; metrics that nobody was scored on are left out."""
    rows = [(metric.title, [_cell(column, key, 1 if metric.top > 1 else 2) for column in columns]) for key, metric in metrics().items()]
    rows = [(title, cells) for title, cells in rows if set(cells) != {"–"}]
    indices = [("Never-knew index", [_index(column.never_knew) for column in columns])]
    return rows + (indices if any(column.never_knew for column in columns) else [])


def _cell(column: Column, key: str, digits: int) -> str:
    value = column.metrics.get(key)
    if value is None:
        return "–"
    cell = f"{value:.{digits}f}"
    if key in column.intervals:
        interval = column.intervals[key]
        cell += f" ({interval.low:.{digits}f}–{interval.high:.{digits}f})"
    if key in column.differences:
        change = column.differences[key]
        cell += f"\nΔ {change.mean:+.{digits}f} ({change.low:+.{digits}f} to {change.high:+.{digits}f})"
    return cell


def _index(found: NeverKnew | None) -> str:
    if found is None or found.interval is None:
        return "–"
    low, high = found.interval
    return f"{found.index:.2f} ({low:.2f}–{high:.2f}), {found.questions} questions\nfarthest off: {metrics()[found.worst].title}"


def _read(folder: RunFolder, which: str) -> Evidence:
    if not folder.audit_file(which).exists():
        folder.recipe()  # says where it is no run folder at all
        raise ConfigError(f"{folder.path} has no audit {which!r}; run `unsay audit {folder.path}` first, or choose another --which")
    return evidence(folder, "")


def _column(folder: RunFolder, here: Evidence, first_folder: RunFolder, first: Evidence, which: str) -> Column:
    intervals, differences, questions = dict[str, Interval](), dict[str, Estimate](), dict[str, int]()
    same: Callable[[str], bool] = _same(first_folder, first, folder, here) if here is not first else bool
    there = first.findings[which] if here is not first else Packed()
    for key, one in metrics().items():
        found, paired, n = _held_against(one, here.findings[which], there, same)
        intervals |= {key: found} if found else {}
        if paired:
            differences[key], questions[key] = paired, n
    notes = tuple(_done_otherwise(here, first, which)) if here is not first else ()
    if here is not first and not differences:
        notes = ("no question of the first run was asked here too, so no difference is paired", *notes)
    return Column(
        run=str(folder.path),
        model=here.recipe.model.name,
        method=here.recipe.method,
        reference=here.reference(),
        metrics={key: values.get(which) for key, values in here.metrics.items()},
        intervals=intervals | areas(here.findings[which]),
        differences=differences,
        questions=questions,
        never_knew=_never_knew(here, first, same, which),
        notes=notes,
    )


def _held_against(metric: Metric, here: Packed, first: Packed, same: Callable[[str], bool]) -> tuple[Interval | None, Estimate | None, int]:
    """The interval of a mean over questions; its difference from the first run, and over how many questions. In a function of its own, so
    that the values of one metric are gone before the next takes 20 MB for 100,000."""
    now = {} if metric.compute else by_question(metric, here)
    there = by_question(metric, first) if now else {}
    for place in [place for place in there if place not in now or not same(place[1])]:
        del there[place]
    return interval(metric, now, here.groups), change(metric, now, there, here.groups), len(there)


def distinguished(folders: Sequence[RunFolder], which: str = "after") -> Separation:
    """How well the first run's model is told from retain models: its own, and what the other runs have audited."""
    first, *others = (_read(folder, which) for folder in folders)
    retain_models = [by_metric(first.findings["retain_model"])] if first.findings["retain_model"] else []
    for folder, one in zip(folders[1:], others, strict=True):
        same = _same(folders[0], first, folder, one)
        retain_models.append({key: _of_both(values, same) for key, values in by_metric(one.findings[which]).items()})
    return separation(by_metric(first.findings[which]), retain_models, first.findings[which].groups)


def _of_both(values: Values, same: Callable[[str], bool]) -> Values:
    """Those of questions that the first run was asked too."""
    return {place: value for place, value in values.items() if same(place[1])}


def _never_knew(here: Evidence, first: Evidence, same: Callable[[str], bool], which: str) -> NeverKnew | None:
    other = here if not (first.findings["before"] and first.findings["retain_model"]) else first
    if not other.findings["retain_model"]:
        return None

    def found(model: str, key: str) -> Values:
        if model != "after":
            return by_question(metrics()[key], other.findings[model])
        values = by_question(metrics()[key], here.findings[which])
        return values if other is here else _of_both(values, same)

    return held_against(found, here.findings[which].groups)


def _same(first_folder: RunFolder, first: Evidence, folder: RunFolder, here: Evidence) -> Callable[[str], bool]:
    """Whether an id names the same question in both: by its text where both vaults are there, else by the corpus as a whole."""
    try:
        known, asked = _hashes(first_folder), _hashes(folder)
    except ConfigError:  # somebody was handed a folder without its vault, or without the key of it
        corpora = [(one.recipe.corpus, one.recipe.tables.get(one.recipe.corpus, {})) for one in (here, first)]
        return lambda identifier: corpora[0] == corpora[1]
    rows, times = np.unique(np.concatenate([known, asked]), axis=0, return_counts=True)
    # What neither knows (a token of the drift text) is no question.
    same = np.setdiff1d(rows[:, 0], rows[times == 1, 0])
    return lambda identifier: bool(np.searchsorted(same, hash(identifier), "right") > np.searchsorted(same, hash(identifier)))


def _hashes(folder: RunFolder) -> np.ndarray:
    """[N, 2] hashes of each id and its question, each pair once: of an id in two sets both. Raises `ConfigError` as `_questions`."""
    found = array("q")
    for identifier, question in _questions(folder):
        found.extend((hash(identifier), hash(question)))
    return np.unique(np.asarray(found, np.int64).reshape(-1, 2), axis=0)


def _questions(folder: RunFolder) -> Iterator[tuple[str, str]]:
    """Id and question, from the vault. Raises `ConfigError` where it is not there, or locked."""
    yield from ((row["id"], row["question"]) for row in folder.texts.each("corpus") if "id" in row)
    for name in (name for name in ("retain", "earlier") if folder.texts.has(name)):
        for number, row in enumerate(folder.texts.each(name)):
            one = row.get("example", row)
            yield one.get("id", own_id(number)), one["question"]


def _done_otherwise(here: Evidence, first: Evidence, which: str) -> Iterator[str]:
    """What was done differently, in words."""
    mine, theirs = audit.probes_of(here.recipe), audit.probes_of(first.recipe)
    other = sorted(name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name])
    if other:
        yield f"other knobs than in the first run: {', '.join(other)}"
    if here.recipe.audit.limit != first.recipe.audit.limit:
        yield f"audit.limit is {here.recipe.audit.limit}, in the first run {first.recipe.audit.limit}"
    # As the audit noted it: a recipe without its vault does not tell one system message from another.
    said, before = (found.manifest.deployment.get(which, deployment.describe(found.recipe)) for found in (here, first))
    if said != before:
        yield f"asked with {said or TRAINED}, the first with {before or TRAINED}"
    texts = [[(f.setting, f.n) for f in scored_by(found.findings[which], "drift", "inverse_perplexity")] for found in (here, first)]
    if all(texts) and texts[0] != texts[1]:
        read, other_text = (", ".join(f"{name} ({n:,} word pieces)" for name, n in one) for one in texts)
        yield f"the plain text read was {read}, in the first run {other_text}"
    if here.reference() != first.reference():
        yield f"held against {here.reference()}, the first against {first.reference()}"
