"""Several rewards as one: their weighted mean. Not in the table, because it is what a recipe's weights build."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unsay.config import ConfigError, build
from unsay.rewards import Reward
from unsay.tables import lookup
from unsay.types import Candidate, Reference


@dataclass(frozen=True)
class Weighted:
    """Weighted mean of the rewards that apply to a candidate.

        r(x) = Σ w_i · r_i(x) / Σ w_i,   both sums over the i with r_i(x) not `None`

    `None` where none applies. A reward that applies to some candidates only changes the scale between them, so a reward
    that matters should apply to all. Raises `ConfigError` on an unknown name, a negative weight, or when no weight is left.
    """

    weights: Mapping[str, float]
    """Name of the reward → its weight; 0 leaves it out."""
    knobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of the reward → its knobs, where they differ from the defaults."""
    rewards: Mapping[str, Reward] = field(init=False, repr=False, compare=False)
    """The rewards with a positive weight, built."""

    def __post_init__(self) -> None:
        built = {}
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"the weight of reward {name!r} is {weight}; weights are finite and not negative, 0 leaves a reward out")
            kind = lookup("reward", name)
            if weight > 0:
                built[name] = build(kind, self.knobs.get(name, {}), name)
        if not built:
            raise ConfigError("no reward has a positive weight; for example {overlap = 1.0}")
        object.__setattr__(self, "rewards", built)

    @property
    def needs_fluency(self) -> bool:
        return any(reward.needs_fluency for reward in self.rewards.values())

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        weights = [self.weights[name] for name in self.rewards]
        columns = [reward(candidates, reference) for reward in self.rewards.values()]
        return [_mean(weights, [column[i] for column in columns]) for i in range(len(candidates))]


def _mean(weights: Sequence[float], values: Sequence[float | None]) -> float | None:
    applicable = [(weight, value) for weight, value in zip(weights, values, strict=True) if value is not None]
    total = sum(weight for weight, _ in applicable)
    return sum(weight * value for weight, value in applicable) / total if applicable else None
