"""One question of a visit while it is being asked, and how a target is chosen among its candidates."""

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unsay.lm.sampler import Sampler
from unsay.methods import Visit
from unsay.methods.prefixes import AnswerPrefix
from unsay.text import contains, words
from unsay.types import Candidate, Reference

_SETTLED = 8
"""How many other questions' last answers the distinctness of a candidate is measured against."""


@dataclass
class Ask:
    """A question that is being asked, and what came of it."""

    visit: Visit
    context: tuple[int, ...]
    """Ids that candidates continue from: the prompt, and the prefix where there is one."""
    reference: Reference
    frozen: bool = False
    """Not asked any more: its kept answer is good enough."""
    prefix: AnswerPrefix = field(default_factory=AnswerPrefix)
    heat: int = 0
    """How many times nothing passed, less how many times something did."""
    temperature: float = 0.0
    source: str = "memory"
    sampled: int = 0
    kept: int = 0
    """Candidates besides, which were not drawn for this visit."""
    candidates: list[Candidate] = field(default_factory=list)
    """Those that may become the target."""

    @property
    def id(self) -> str:
        return self.visit.example.id


def add_fluency(asks: Sequence[Ask], sampler: Sampler) -> None:
    """Score the fluency of all candidates at once."""
    flat = [(ask, candidate) for ask in asks for candidate in ask.candidates]
    if flat:
        scored = iter(sampler.with_fluency([candidate for _, candidate in flat], [ask.prefix.ids for ask, _ in flat]))
        for ask in asks:
            ask.candidates = [next(scored) for _ in ask.candidates]


class Settled:
    """What the questions of `memory` were last trained to say, in its order: looked through for each of them it would be looked through
    as often as there are questions."""

    def __init__(self, memory: Mapping[str, Mapping[str, Any]]):
        self._keys = list(memory)
        self._place = {key: place for place, key in enumerate(self._keys)}
        self._said = {key: str(entry["settled"]) for key, entry in memory.items() if "settled" in entry}
        self._places = [self._place[key] for key in self._said]
        """In ascending order."""
        self._words = Counter(map(words, self._said.values()))

    def put(self, key: str, text: str) -> None:
        """A question is now trained to say this."""
        if key in self._said:
            self._words[words(self._said[key])] -= 1
        else:
            insort(self._places, self._place[key])
        self._said[key] = text
        self._words[words(text)] += 1

    def elsewhere(self, ask: Ask, sampler: Sampler) -> tuple[str, ...]:
        """What some other questions were last trained to say."""
        own = bisect_left(self._places, self._place[ask.id]) if ask.id in self._said else len(self._places)
        count = len(self._places) - (ask.id in self._said)
        start = int(sampler.uniform(ask.id, "settled") * max(1, count))
        chosen = ((start + i) % count for i in range(min(_SETTLED, count)))
        return tuple(self._said[self._keys[self._places[i + (i >= own)]]] for i in chosen)

    def left(self, ask: Ask) -> list[Candidate]:
        """The candidates that no other question was last trained to say: one stock answer for many would be learned for all of a kind."""
        own = words(self._said[ask.id]) if ask.id in self._said else None
        return [c for c in ask.candidates if self._words[said := words(c.text)] <= (said == own)]


def unnamed(candidates: Sequence[Candidate], reference: Reference) -> list[Candidate]:
    """The candidates that hold nothing the operator named: with or without a filter such a one is never a target."""
    return [c for c in candidates if not contains(c.text, reference.strings, reference.patterns)]


def finished_or_all(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The finished candidates; where there is none, those that are not. Never one that says nothing: it would overlap least of all."""
    spoken = [c for c in candidates if c.text]
    return [c for c in spoken if c.answer.finished] or spoken


def bradley_terry(rewards: Sequence[float], temperature: float, uniform: float) -> int:
    """Index drawn with P(i) ∝ exp(rewards[i] / temperature) by inverse CDF at `uniform` in [0, 1)."""
    top = max(rewards)
    weights = [math.exp((reward - top) / temperature) for reward in rewards]
    mark, total = uniform * sum(weights), 0.0
    for i, weight in enumerate(weights):
        total += weight
        if mark < total:
            return i
    return len(weights) - 1
