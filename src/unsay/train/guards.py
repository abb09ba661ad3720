"""Guards of training: numbers that are not finite move nothing, held-out rows are watched, and a collapse is not what is shipped.

A retain loss can rise steeply for a few rounds and come back (on the paper's own curve it does, at the step where every question
settles), so what is measured after a round says little about the next one. Watched are retain rows that training never draws: a
seeded choice, from rows that the audit does not ask about where there are enough of those, so that what chooses a round is not
what it is judged by. Rows about the same person may still be trained on: this sees a collapse, and is no measure of utility.

Everything that a decision needs stands in `Seen`, which is part of the saved state: a resumed run decides as a straight one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel

from unsay.config import Recipe
from unsay.lm.encode import Encoder
from unsay.lm.rows import Row
from unsay.lm.sample import uniform
from unsay.lm.sharded import whole
from unsay.lm.subject import row_logprobs
from unsay.store.manifest import Skipped, WatchedRows
from unsay.train.enough import MOST_TOLD, MOST_TOLD_BEGUN
from unsay.types import Corpus, Pair

FEWEST = 16
"""Watched rows below which a mean says too little."""
_SHARE = 0.1
"""Most of the retain rows that are set aside."""


@dataclass
class Seen:
    """What the guards remember from round to round."""

    before: float = 0.0
    """Mean NLL per token (nats) of the watched rows before the first step."""
    rises: list[list[float]] = field(default_factory=list)
    """Pairs: rounds done, and the rise of that loss over before."""
    above: int = 0
    """Looks in a row above the limit."""
    silent: int = 0
    """Looks in a row at which nothing was told of what is to go, by a model that would be shipped."""
    saved: int = 0
    """Rounds done at the last saved state."""
    best: int = 0
    """Rounds done at the saved state that is shipped unless a better one comes; 0 where none is saved."""
    made: int = 0
    """Optimizer steps that were made."""
    in_a_row: int = 0
    """Steps skipped since the last one that was made."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Skipped steps by what was not finite: `loss`, `gradient`."""


@dataclass(frozen=True)
class Aside:
    """The retain rows of a corpus: watched ones, and the others, from which training draws."""

    watched: tuple[Pair, ...]
    trained: tuple[Pair, ...]
    scored: int = 0
    """Watched rows that the audit asks about too."""


def set_aside(corpus: Corpus, most: int, seed: int) -> Aside:
    """At most `most` retain rows to watch, and at most a tenth of all; none where that would be fewer than 16."""
    asked = {pair.question for sets in (corpus.utility, corpus.model_utility) for pairs in sets.values() for pair in pairs}
    asked |= {pair.question for pair in (*corpus.neighbours, *corpus.unknown_entities)}
    questions = sorted({pair.question for pair in corpus.retain}, key=lambda question: (uniform(seed, "watched", question), question))
    n = min(most, int(_SHARE * len(questions)))
    unasked = [question for question in questions if question not in asked]
    # A question that stands in two rows leaves with both.
    chosen = set((unasked if len(unasked) >= n else questions)[:n]) if n >= FEWEST else set()
    first = {pair.question: pair for pair in reversed(corpus.retain) if pair.question in chosen}
    trained = tuple(pair for pair in corpus.retain if pair.question not in chosen)
    return Aside(tuple(first[question] for question in questions if question in first), trained, len(chosen & asked))


class Guard:
    """Watches one run of training. `fallback` are rows to try the model on where there are none to watch."""

    def __init__(self, recipe: Recipe, encoder: Encoder, aside: Aside, fallback: Sequence[Row], seen: Seen):
        self.config, self.recipe, self.encoder, self.seen = recipe.watch, recipe, encoder, seen
        self.watched = [encoder.pair(pair.question, pair.answer) for pair in aside.watched]
        self.scored = aside.scored
        self._rows = self.watched or list(fallback[:FEWEST])

    def begin(self, model: PreTrainedModel) -> None:
        """Measure the model before its first step. Raises `FloatingPointError` where it is no use as it is."""
        self.seen.before = self._loss(model, "before the first step the model's loss is not finite")

    def stepped(self, terms: Mapping[str, float], what: str | None) -> None:
        """Hear of a step, and what of it was not finite. Raises `FloatingPointError` where too many in a row were skipped."""
        seen = self.seen
        if what is None:
            if terms:  # a step without a row says nothing
                seen.made, seen.in_a_row = seen.made + 1, 0
            return
        seen.in_a_row += 1
        seen.skipped[what] = seen.skipped.get(what, 0) + 1
        if seen.in_a_row >= self.recipe.train.max_skipped:
            raise FloatingPointError(f"the {what} was not finite, and {seen.in_a_row} steps in a row were skipped")

    def look(self, model: PreTrainedModel, rounds: int, saving: bool) -> dict[str, Any]:
        """Look at the model after so many rounds; what there is to log.

        Raises `FloatingPointError` where its loss is not finite, so that such a model is never saved.
        """
        if not saving and (not self.watched or rounds % self.config.every):
            return {}
        loss = self._loss(model, f"after round {rounds} the model's loss is not finite")
        if not self.watched:
            return {}
        seen, rise = self.seen, round(loss - self.seen.before, 5)
        seen.rises.append([rounds, rise])
        seen.above = seen.above + 1 if rise > self.config.limit else 0
        return {"heldout": round(loss, 5), "rise": rise}

    def asked(self, plain: float, begun: float) -> dict[str, float]:
        """Hear which shares of answers told what is to go (enough.py), after the look at the same round; what there is to log."""
        shipped = self.config.keep == "last" or not self.seen.above  # else an earlier round might be, which may tell more
        silent = shipped and plain <= MOST_TOLD and begun <= MOST_TOLD_BEGUN
        self.seen.silent = self.seen.silent + 1 if silent else 0
        return {"told": round(plain, 4), "told_begun": round(begun, 4)}

    @property
    def risen(self) -> bool:
        """Whether the loss has stayed above the limit for too long."""
        return bool(self.config.patience) and self.seen.above >= self.config.patience

    @property
    def forgotten(self) -> bool:
        """Whether nothing has been told for long enough."""
        return bool(self.config.enough) and self.seen.silent >= self.config.enough

    @property
    def ended(self) -> bool:
        return self.risen or self.forgotten

    def close(self, rounds: int) -> bool:
        """Whether a look after so many rounds was within the limit, but past half of it: worth saving, for the next may not be."""
        last = self.seen.rises[-1] if self.seen.rises else [0, 0.0]
        return last[0] == rounds and self.config.limit / 2 < last[1] <= self.config.limit

    def saving(self, rounds: int) -> bool:
        """Hear that the state after so many rounds is saved; whether its weights are now the ones to ship."""
        self.seen.saved = rounds
        if self.shipped(rounds) == rounds:
            self.seen.best = rounds
        return self.seen.best == rounds

    @property
    def _rises(self) -> dict[int, float]:
        """By rounds done, the rise of the loss."""
        return {int(rounds): rise for rounds, rise in self.seen.rises}

    def shipped(self, last: int) -> int:
        """Of the last round and the best saved one, which is shipped: the later one within the limit; where neither is, the
        one that rose less."""
        rises = self._rises
        if self.config.keep == "last" or not self.seen.best or last not in rises:
            return last

        def standing(rounds: int) -> tuple[bool, float]:
            within = rises[rounds] <= self.config.limit
            return within, rounds if within else -rises[rounds]

        return max((last, self.seen.best), key=standing)

    def finish(self, last: int) -> tuple[WatchedRows, Skipped]:
        """What the manifest keeps. Raises `FloatingPointError` where not one step was made."""
        seen, shipped = self.seen, self.shipped(last)
        if seen.skipped and not seen.made:
            raise FloatingPointError(f"the {' or '.join(seen.skipped)} was not finite in any step")
        skipped = Skipped(loss=seen.skipped.get("loss", 0), gradient=seen.skipped.get("gradient", 0))
        if not self.watched:
            return WatchedRows(0), skipped
        rises = self._rises
        watched = WatchedRows(
            rows=len(self.watched),
            scored=self.scored,
            before=round(seen.before, 5),
            rises=tuple(rises.items()),
            limit=self.config.limit,
            ended=last if self.risen else None,
            shipped=shipped,
            within=rises[shipped] <= self.config.limit if shipped in rises else None,
        )
        return watched, skipped

    def explained(self, error: FloatingPointError, step: int) -> FloatingPointError:
        """The same error with where it happened, what is left and what to try."""
        train, dtype, saved = self.recipe.train, self.recipe.model.dtype, self.seen.saved
        left = f"The state of round {saved} is kept as the last good one" if saved else "No round was saved before"
        now = "by the model's size" if train.learning_rate is None else f"{train.learning_rate:g}"
        tries = [f"a lower train.learning_rate (now {now})"]
        tries += ["--set model.dtype=float32"] if dtype != "float32" else []
        return FloatingPointError(
            f"training ended at step {step}: {str(error).partition(';')[0]}. {left}. In a run of its own "
            f"(--out DIR), try {' or '.join(tries)}"
        )

    def _loss(self, model: PreTrainedModel, complaint: str) -> float:
        """Mean NLL per token (nats) of the rows; raises `FloatingPointError` with `complaint` where that is not a number."""
        with whole(model):
            values = row_logprobs(model, self.encoder, self._rows)
        loss = -float(sum(row.double().sum() for row in values)) / sum(len(row) for row in values)
        if not math.isfinite(loss):
            raise FloatingPointError(complaint)
        return loss
