"""How many graphics cards of a kind each stage takes: projected from the memory arithmetic, for no card was at hand. Pure.

A stage that one card cannot hold is spread in the ways that unsay has: a model that is only asked layer by layer (`model.device_map=auto`,
without the attacks that change a copy of it), a full training as exact weights and moments (FSDP2), adapters not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from unsay.config import Recipe
from unsay.doctor.memory import Memory, Sizes, memory
from unsay.doctor.pilot import Stage

KINDS = (24, 40, 80, 141)
"""Gigabytes of memory of the cards in use: RTX 4090 and L4, A100, H100, H200."""
_USABLE = 0.9
"""Share of a card that a run may plan with, as in `advice`."""


@dataclass(frozen=True)
class Cards:
    """What a run takes of one kind of card."""

    gigabytes: int
    number: int | None
    """`None`: not even many of them will do."""
    stage: str
    """The stage that takes so many."""


def cards(recipe: Recipe, sizes: Sizes, stages: Sequence[Stage], reference: bool) -> tuple[Cards, ...]:
    """For each kind, the most that a stage takes."""
    needs = [memory(stage, recipe, replace(sizes, gpu=True), reference) for stage in stages]
    return tuple(_most(kind, needs) for kind in KINDS)


def _most(kind: int, needs: Sequence[Memory]) -> Cards:
    found = [Cards(kind, number(need, _USABLE * kind * 1e9), need.stage) for need in needs]
    return max(found, key=lambda one: float("inf") if one.number is None else one.number)


def number(need: Memory, usable: float) -> int | None:
    """Cards for one stage where each has `usable` bytes; `None` where what every card must hold is more than that."""
    if need.total <= usable:
        return 1
    left = usable - need.each
    return max(2, ceil(need.shared / left)) if need.shared and left > 0 else None
