"""What training reads: the forget questions, in an order of each round's own, and the retain rows that each of them brings.

Retain rows are of five kinds: rows of the retain set, drawn from all of them or from those that say a word of the recorded answer
(sharing.py); what the untouched model said when left to itself, unasked, about other names and to near misses of the question; beginnings
of longer texts of its own; and what the model at hand says to the questions of earlier requests. They are drawn anew at each visit, with
replacement as the paper does, and every draw is named (seed, round, pass, example).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from unsay.config import ConfigError, Recipe
from unsay.lm.encode import Encoder
from unsay.lm.rows import Row
from unsay.lm.sample import uniform
from unsay.methods import Method, Visit
from unsay.record import earlier
from unsay.record.earlier import EarlierQuestion, EarlierRow
from unsay.record.recorded import Recorded, read_recorded, read_truth
from unsay.record.replay import Said
from unsay.store.folder import RunFolder
from unsay.train import guards
from unsay.train.guards import Aside
from unsay.train.sharing import SharedRows, shared_rows
from unsay.types import Answer, Told, Truth

T = TypeVar("T")
_READ, _HELD = 12, 12
"""First tokens of a text that are read only, and tokens after them that training holds to what they were."""


@dataclass(frozen=True)
class TrainingData:
    """All of it, in memory."""

    visits: Mapping[str, Visit]
    """By example id, in the order of the corpus."""
    rows: Aside
    """The retain set: rows to train on, and rows that the guards watch."""
    said: Mapping[str, Sequence[Said]]
    """What the untouched model said, by the id of the question that it is a near miss of; under the empty text all else."""
    earlier: Sequence[EarlierRow]
    """What the model at hand says to the questions of earlier requests."""
    prose: Sequence[Answer] = ()
    """Texts that the untouched model wrote unasked."""
    shared: SharedRows = field(default_factory=SharedRows)
    """Rows of the retain set to train on that say a word of a recorded answer."""

    def shuffled(self, seed: int, number: int) -> list[Visit]:
        """The forget questions in the order of round `number`."""
        return sorted(self.visits.values(), key=lambda visit: uniform(seed, number, visit.example.id, "order"))

    def retain_rows(self, recipe: Recipe, encoder: Encoder, number: int, repeat: int, example: str) -> list[Row]:
        """What the visit to `example` in round `number` brings, after `repeat` passes over the same targets.

        Where the questions do not fill one step, the KL retain loss gets the rows of a full one: of a few rows it would be mostly noise.
        """
        config = recipe.train
        fill = -(-config.batch * config.accumulation // max(1, len(self.visits))) if config.retain_loss == "kl" else 1
        time = (number, repeat) if repeat else (number,)

        def drawn(kind: str, items: Sequence[T], n: int) -> list[T]:
            # `kind` names the random numbers: another name is another order, and another checkpoint.
            draws = (uniform(recipe.seed, *time, example, kind, i) for i in range(fill * n if items else 0))
            return [items[int(draw * len(items))] for draw in draws]

        rows = [encoder.pair(pair.question, pair.answer) for pair in drawn("retain", self.rows.trained, config.retain_rows)]
        rows += [said.row(encoder) for said in drawn("rehearsal", self.said.get("", ()), config.replay_rows)]
        rows += [_beginning(text, encoder) for text in drawn("prose", self.prose, 1)]
        rows += [said.row(encoder) for said in drawn("near", self.said.get(example, ()), config.near)]
        rows += self.shared.drawn(example, encoder, fill * config.shared, partial(uniform, recipe.seed, *time, example, "shared"))
        return rows + [row.row(encoder) for row in drawn("earlier", self.earlier, config.earlier_rows)]

    def drawn_often(self, recipe: Recipe, encoder: Encoder) -> list[Row]:
        """All rows that `retain_rows` may bring, where training draws each of them twice or more; else nothing."""
        config = recipe.train
        pairs = self.rows.trained if config.retain_rows else self.shared.pairs
        groups = (said for beside, said in self.said.items() if (config.near if beside else config.replay_rows))
        # An answer may be a near miss of several questions.
        said = {(one.question, one.answer): one for group in groups for one in group}.values()
        others: list[Said | EarlierRow] = [*said, *(self.earlier if config.earlier_rows else ())]
        a_visit = len(self.retain_rows(recipe, encoder, 0, 0, next(iter(self.visits))))
        # Counted first: of a large retain set that is drawn from once, no row need be made.
        if 2 * (len(pairs) + len(others) + len(self.prose)) > config.rounds * config.passes * len(self.visits) * a_visit:
            return []
        rows = [encoder.pair(pair.question, pair.answer) for pair in pairs] + [one.row(encoder) for one in others]
        return rows + [_beginning(text, encoder) for text in self.prose]


def _beginning(text: Answer, encoder: Encoder) -> Row:
    """What a step holds of a text. A longer piece would, where a step is not cut (step.py), pad all rows to its length, and every
    place that is held costs a whole vocabulary."""
    return Row((*encoder.prompt(None), *text.ids[:_READ]), text.ids[_READ : _READ + _HELD], "retain")


def read_training_data(recipe: Recipe, folder: RunFolder, method: Method) -> TrainingData:
    """What `record` left for training; from here on the operator's corrections count as they are. Raises `ConfigError`."""
    recorded, said = read_recorded(folder, settle=True), defaultdict[str, list[Said]](list)
    for one in recorded.said:
        said[one.beside].append(one)
    truth = (read_truth(folder) or {}) if method.needs_answers else {}
    before = [asked for request in earlier.read(folder) for asked in request.asked]
    rows = guards.set_aside(recorded.corpus, recipe.watch.rows, recipe.seed)
    kept = earlier.read_retain_rows(folder, recorded.corpus.forget)
    shared = shared_rows(recorded, rows.trained) if recipe.train.shared else SharedRows()
    visits = _visits(recorded, truth, before, recipe.record.withheld)
    return TrainingData(visits, rows, said, kept, recorded.prose, shared)


def _visits(recorded: Recorded, truth: Truth, before: Sequence[EarlierQuestion], withheld: Sequence[str]) -> dict[str, Visit]:
    """`before`: the questions of earlier requests, none of which may become an answer here. `withheld`: beginnings of no prefix."""
    corpus = recorded.corpus
    said = [(example, recorded.baseline[example.id]) for example in corpus.forget]
    now = ((example.id, example.question, one.answer) for example, one in said)
    told = Told((*now, *(("", asked.example.question, asked.baseline) for asked in before)))
    visits, withheld = {}, tuple(withheld)
    for example, one in said:
        visits[example.id] = Visit(
            earlier.barred(example, before),
            one.answer,
            one.answers,
            told,
            desired=corpus.desired,
            truth=truth[example.id].answer if example.id in truth else None,
            withheld=withheld + one.withheld,  # itself, where nothing is added
        )
    if not visits:
        raise ConfigError("there is no forget question; nothing to unlearn")
    return visits
