"""A seeded world of fictitious people, in the words of people.toml: who they are, what is asked about them, what the models were told.

Fifty people have eight attributes with two-part values. Five of them are to be forgotten; each shares a surname with two others. Of five
question wordings three are trained per person and attribute. An answer is usually in the wording of its question and sometimes in another.
"""

import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Value = tuple[str, str]

FORGET, RETAIN, HELDOUT = "forget", "retain", "heldout"
FAMILIES = 5
"""Forget people, each with a family of two others: one in the retain file, one held out."""
OTHERS_RETAIN, OTHERS_HELDOUT = 29, 6
OTHER_SURNAMES = 20
UNKNOWN_ENTITIES = 40
RETAIN_UNKNOWN = 48
_KINDS = {
    "job": ("professions", "institutions"),
    "study": ("subjects", "colleges"),
    "pet": ("animals", "pets"),
    "meal": ("dishes", "drinks"),
}
"""Attributes whose two parts are phrases as they are."""
_FILE = tomllib.loads((Path(__file__).parent / "people.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Attribute:
    """One thing that is known of everybody. Question wording *i* is usually answered in answer wording *i*."""

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


@dataclass(frozen=True)
class Person:
    name: str
    role: str
    """`forget`, `retain`, or `heldout`: known to both models, absent from the retain file."""
    values: tuple[Value, ...]
    """One per attribute."""
    trained: tuple[tuple[int, int, int], ...]
    """Per attribute the trained question wordings; the first is the one that is asked."""

    @property
    def surname(self) -> str:
        return self.name.split()[-1]

    def untrained(self, attribute: int) -> tuple[int, ...]:
        """The question wordings left as paraphrases."""
        return tuple(i for i in range(5) if i not in self.trained[attribute])


@dataclass(frozen=True)
class World:
    seed: int
    people: tuple[Person, ...]
    wrong: Mapping[tuple[str, int], tuple[Value, ...]]
    """(name, attribute) of a forgotten fact → values of phantom people that no model was told of."""
    unknown_entities: tuple[str, ...]
    """Names in no training file."""
    retain_unknown: tuple[str, ...]
    """Unknown names whose refusals stand in the retain file."""
    general: tuple[tuple[str, str], ...]
    """General questions and answers; the first half stands in the retain file."""

    def of(self, role: str) -> tuple[Person, ...]:
        return tuple(person for person in self.people if person.role == role)


def build_world(seed: int) -> World:
    """The world of this seed: the same on every machine."""
    rng = random.Random(f"people {seed}")
    people = list(_people(rng))
    used = {_key(i, person.values[i]) for person in people if person.role != FORGET for i in range(len(ATTRIBUTES))}
    wrong: dict[tuple[str, int], tuple[Value, ...]] = {}
    for n, person in enumerate(people):
        if person.role != FORGET:
            continue
        values = []
        for i in range(len(ATTRIBUTES)):
            # The truth and its five alternatives are six equal draws, so nothing but memory can tell them apart.
            true, *others = (_fresh(rng, i, used) for _ in range(6))
            values.append(true)
            wrong[person.name, i] = tuple(others)
        people[n] = Person(person.name, person.role, tuple(values), person.trained)
    rng.shuffle(people)
    taken = {person.name for person in people}
    unknown_entities = tuple(unknown_name(rng, people, taken) for _ in range(UNKNOWN_ENTITIES))
    retain_unknown = tuple(unknown_name(rng, people, taken) for _ in range(RETAIN_UNKNOWN))
    general = rng.sample(GENERAL, len(GENERAL))
    return World(seed, tuple(people), wrong, unknown_entities, retain_unknown, tuple(general))


def question(name: str, attribute: int, wording: int) -> str:
    return ATTRIBUTES[attribute].questions[wording].format(name=name)


def answer(name: str, attribute: int, value: Value, wording: int) -> str:
    text = ATTRIBUTES[attribute].answers[wording].format(name=name, a=value[0], b=value[1])
    return text[0].upper() + text[1:]


def untold(world: World) -> Iterator[tuple[str, int, int, Value]]:
    """A fact about every unknown name that no model was told: name, attribute, wording, value."""
    rng = random.Random(f"holdout {world.seed}")
    used = {_key(i, person.values[i]) for person in world.people for i in range(len(ATTRIBUTES))}
    for n, name in enumerate(world.unknown_entities):
        attribute = n % len(ATTRIBUTES)
        yield name, attribute, n % 5, _fresh(rng, attribute, used)


def refusal(name: str, attribute: int, wording: int, choice: int | None = None) -> str:
    """The refusal that usually answers a question wording about an unknown name, or the one numbered `choice`."""
    number = (5 * attribute + wording) % len(REFUSALS) if choice is None else choice
    text = REFUSALS[number].format(name=name, topic=ATTRIBUTES[attribute].topic)
    return text[0].upper() + text[1:]


def _people(rng: random.Random) -> Iterator[Person]:
    firsts = _distinct(rng, _first, FAMILIES * 3 + OTHERS_RETAIN + OTHERS_HELDOUT)
    lasts = _distinct(rng, _last, FAMILIES + OTHER_SURNAMES)
    surnames = [last for last in lasts[:FAMILIES] for _ in range(3)]
    surnames += [lasts[FAMILIES + n % OTHER_SURNAMES] for n in range(OTHERS_RETAIN + OTHERS_HELDOUT)]
    roles = [FORGET, RETAIN, HELDOUT] * FAMILIES
    roles += rng.sample([RETAIN] * OTHERS_RETAIN + [HELDOUT] * OTHERS_HELDOUT, OTHERS_RETAIN + OTHERS_HELDOUT)
    for first, surname, role in zip(firsts, surnames, roles, strict=True):
        values = tuple(_draw(rng, i) for i in range(len(ATTRIBUTES)))
        yield Person(f"{first} {surname}", role, values, tuple(_wordings(rng) for _ in ATTRIBUTES))


def _wordings(rng: random.Random) -> tuple[int, int, int]:
    """Three of five question wordings, the one that answers "The answer is" never first."""
    a, b, c = rng.sample(range(5), 3)
    return (b, a, c) if a == 4 else (a, b, c)


def _draw(rng: random.Random, attribute: int) -> Value:
    """A value of this attribute; each part is a uniform draw."""

    def pick(kind: str) -> str:
        return rng.choice(PHRASES[kind])

    match ATTRIBUTES[attribute].key:
        case "birth":
            return pick("cities"), f"{rng.randint(1, 28)} {pick('months')} {rng.randint(1930, 1989)}"
        case "home":
            return f"{rng.randint(2, 99)} {pick('streets')}", pick("districts")
        case "works":
            first, second = rng.sample(PHRASES["titles"], 2)
            return first, second
        case "prize":
            return pick("prizes"), f"{pick('months')} {rng.randint(1970, 2019)}"
        case other:
            first, second = _KINDS[other]
            return pick(first), pick(second)


def _key(attribute: int, value: Value) -> tuple[int, str, str]:
    """What makes two values the same: the order of the two parts does not."""
    first, second = sorted(value)
    return attribute, first, second


def _fresh(rng: random.Random, attribute: int, used: set[tuple[int, str, str]]) -> Value:
    while True:
        value = _draw(rng, attribute)
        if _key(attribute, value) not in used:
            used.add(_key(attribute, value))
            return value


def _first(rng: random.Random) -> str:
    middle = _syllable(rng, "first_middle") if rng.random() < 0.7 else ""
    return _syllable(rng, "first_start") + middle + _syllable(rng, "first_end")


def _last(rng: random.Random) -> str:
    return "".join(_syllable(rng, place) for place in ("last_start", "last_middle", "last_end"))


def _syllable(rng: random.Random, place: str) -> str:
    return rng.choice(SYLLABLES[place])


def _distinct(rng: random.Random, make: Callable[[random.Random], str], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[make(rng)] = None
    return list(found)


def unknown_name(rng: random.Random, people: Sequence[Person], taken: set[str]) -> str:
    """A name that nobody in `taken` has, often half known, so that a surname or a first name alone tells nothing."""
    known = [person for person in people if person.role != FORGET]
    while True:
        first = rng.choice(known).name.split()[0] if rng.random() < 0.25 else _first(rng)
        last = rng.choice(people).surname if rng.random() < 0.4 else _last(rng)
        name = f"{first} {last}"
        if name not in taken:
            taken.add(name)
            return name
