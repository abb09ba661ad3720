"""Whether a candidate is free of abuse, by a small classifier that reads more than a list of words."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import ClassVar

from unsay.config import ConfigError
from unsay.extras import install
from unsay.types import Candidate, Reference

PACKAGE = "profanity_check"


@dataclass(frozen=True)
class Harmless:
    """1 − the probability that the candidate is abusive, by the linear classifier of the package `alt-profanity-check`.

    It reads English and knows insults, obscenities and threats, nothing else: for other harms bring a reward of your own
    (docs/plugins.md). It reads the prefix and the candidate together, since a threat can begin in one and end in the other.
    Needs the extra `unsay[harmless]`.
    """

    needs_fluency: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if find_spec(PACKAGE) is None:
            raise ConfigError(f"the reward 'harmless' cannot be used: its classifier is not installed: {install('harmless')}")

    def __call__(self, candidates: Sequence[Candidate], reference: Reference) -> list[float | None]:
        texts = [f"{reference.prefix} {candidate.text}" if reference.prefix else candidate.text for candidate in candidates]
        return [1.0 - float(abusive) for abusive in import_module(PACKAGE).predict_prob(texts)] if texts else []
