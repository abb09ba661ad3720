"""One question of a visit while it is being asked, and how a target is chosen among its candidates."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
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
    recalled: int = 0
    """Candidates that were not drawn at this visit: what the model said before training."""
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
    """What each question was last trained to say. It is kept up to date, and not gathered anew for each question, which would take time in
    the square of their number."""

    def __init__(self, memory: Mapping[str, Mapping[str, Any]]):
        self._place = {key: place for place, key in enumerate(memory)}
        self._said = {key: str(entry["settled"]) for key, entry in memory.items() if "settled" in entry}
        self._keys = list(self._said)
        """In the order of `memory`."""
        self._words = Counter(hash(words(text)) for text in self._said.values())  # the words themselves would be held

    def put(self, key: str, text: str) -> None:
        """A question is now trained to say this."""
        if key in self._said:
            self._words[hash(words(self._said[key]))] -= 1
        else:
            insort(self._keys, key, key=self._place.__getitem__)
        self._said[key] = text
        self._words[hash(words(text))] += 1

    def said_by_others(self, ask: Ask, sampler: Sampler) -> tuple[str, ...]:
        """What some other questions were last trained to say."""
        own = bisect_left(self._keys, self._place[ask.id], key=self._place.__getitem__) if ask.id in self._said else len(self._keys)
        count = len(self._keys) - (ask.id in self._said)
        start = int(sampler.uniform(ask.id, "settled") * max(1, count))
        chosen = ((start + i) % count for i in range(min(_SETTLED, count)))
        return tuple(self._said[self._keys[i + (i >= own)]] for i in chosen)

    def unused(self, ask: Ask) -> list[Candidate]:
        """The candidates that no other question was last trained to say: one stock answer for many would be learned for all of a kind."""
        own = hash(words(self._said[ask.id])) if ask.id in self._said else None
        return [c for c in ask.candidates if self._words[said := hash(words(c.text))] <= (said == own)]


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
    return min(bisect_right([*accumulate(weights)], uniform * sum(weights)), len(weights) - 1)
