"""One visit of PMC while it is being worked on, and how its target is chosen among what passed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unsay.methods import Visit
from unsay.methods.openings import Opening
from unsay.text import contains
from unsay.types import Answer, Candidate, Reference


@dataclass
class Ask:
    """A question that is being asked: where from, how hot, and what came of it."""

    visit: Visit
    opening: Opening
    reference: Reference
    heat: int
    frozen: bool
    temperature: float = 0.0
    source: str = "memory"
    sampled: int = 0
    stopped: list[float | None] = field(default_factory=list)
    """Of the candidates that were given up while being written: the bound of the score, `None` where the gate had shut."""
    candidates: list[Candidate] = field(default_factory=list)
    passed: list[Candidate] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.visit.example.id


def remember(entry: dict[str, Any], best: Candidate | None, overlap: float) -> Candidate | None:
    """The best answer so far: `best` where it overlaps the baseline no more than the kept one, else the kept one."""
    if best is not None and overlap <= entry.get("overlap", math.inf):
        entry |= {"overlap": overlap, "ids": list(best.answer.ids), "text": best.text, "finished": best.answer.finished}
        return best
    if "ids" not in entry:
        return None
    return Candidate(Answer(tuple(entry["ids"]), entry["text"], entry["finished"]), 0, "memory")


def unnamed(ask: Ask) -> list[Candidate]:
    """The candidates that hold nothing the operator named: with or without a gate such a one is never a target."""
    return [c for c in ask.candidates if not contains(c.text, ask.reference.strings, ask.reference.patterns)]


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
