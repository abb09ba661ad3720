"""The words of the fictitious world, as people.toml has them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

_FILE = tomllib.loads((Path(__file__).parent / "people.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Attribute:
    """One thing that is known of everybody. Question wording *i* is usually answered in answer wording *i*; the last
    answer wording begins "The answer is"."""

    key: str
    topic: str
    """What a refusal calls it."""
    questions: list[str]
    """Five wordings, as of `answers`."""
    answers: list[str]


SYLLABLES: dict[str, list[str]] = _FILE["syllables"]
PHRASES: dict[str, list[str]] = _FILE["phrases"]
ATTRIBUTES = [Attribute(**one) for one in _FILE["attributes"]]
REFUSALS: list[str] = _FILE["refusals"]
GENERAL: list[tuple[str, str]] = [(question, answer) for question, answer in _FILE["general"]]
