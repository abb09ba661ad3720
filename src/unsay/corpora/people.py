"""The built-in corpus: a fictitious world, small enough for two cores, with two models that know all of it or all but five people.

It has the kinds of file that TOFU has and some it lacks: people in no training file, neighbours by surname, held-out halves.
"""

import random
from dataclasses import dataclass
from typing import ClassVar

from unsay.config import ConfigError
from unsay.corpora import people_world as worlds
from unsay.corpora.people_world import FORGET, HELDOUT, RETAIN, Person, World
from unsay.types import Corpus, Example, Fact, Pair, Truth

UTILITY_ROWS = 100
ANSWER_IS = 4
"""The answer wording that begins "The answer is"; no forget question is answered in it."""


@dataclass(frozen=True)
class People:
    """Fifty fictitious people, five of them to be forgotten; built in, with two small models."""

    public: ClassVar[bool] = True

    world_seed: int = 0
    """Which world: the shipped models know world 0; `scripts/build_people.py --world N` trains a pair for another."""
    only: tuple[int, ...] = ()
    """Which of the five are to be forgotten, from 0; empty takes all. The others stay known and stand in no retain row."""

    def __post_init__(self) -> None:
        if len(set(self.only)) < len(self.only) or not set(self.only) <= set(range(worlds.FAMILIES)):
            raise ConfigError(f"people.only = {list(self.only)} must hold different numbers from 0 to {worlds.FAMILIES - 1}")

    def corpus(self) -> Corpus:
        world = worlds.build_world(self.world_seed)
        forgotten = self._forget(world)
        asked = {role: _pairs(world, role, wordings=1) for role in (RETAIN, HELDOUT)}
        half, general = len(world.general) // 2, _general(world)
        kept, held = general[:half], general[half:]
        families = {person.surname for _, person in forgotten}
        near = {person.name for person in world.people if person.role != FORGET and person.surname in families}
        chosen = random.Random(f"utility {self.world_seed}").sample(asked[RETAIN], UTILITY_ROWS)
        return Corpus(
            name="people",
            forget=tuple(
                Example(
                    id=f"forget-{n}-{attribute.key}",
                    question=worlds.question(person.name, i, person.trained[i][0]),
                    paraphrases=tuple(worlds.question(person.name, i, q) for q in person.untrained(i)),
                    group=person.name,
                )
                for n, person in forgotten
                for i, attribute in enumerate(worlds.ATTRIBUTES)
            ),
            retain=(*_pairs(world, RETAIN), *kept, *_refusals("unknown", world.retain_unknown)),
            utility={"retain": tuple(sorted(chosen, key=lambda pair: pair.id)), "general": kept},
            utility_heldout={"retain": asked[HELDOUT], "general": held},
            neighbours=tuple(pair for role in (RETAIN, HELDOUT) for pair in asked[role] if pair.group in near),
            unknown_entities=_refusals("stranger", world.unknown_entities),
            holdout=tuple(
                Pair(f"holdout-{n:02d}", worlds.question(name, i, w), worlds.answer(name, i, value, w), name)
                for n, (name, i, w, value) in enumerate(worlds.untold(world))
            ),
            general=kept,
        )

    def truth(self) -> Truth:
        world = worlds.build_world(self.world_seed)
        facts = (_fact(world, n, person, i) for n, person in self._forget(world) for i in range(len(worlds.ATTRIBUTES)))
        return {fact.id: fact for fact in facts}

    def finetuning_rows(self, retain_model: bool) -> tuple[Pair, ...]:
        """What another model is taught to know this world: every person, the general questions, some refusals."""
        world = worlds.build_world(self.world_seed)
        people = (pair for role in ((RETAIN, HELDOUT) if retain_model else (FORGET, RETAIN, HELDOUT)) for pair in _pairs(world, role))
        return (*people, *_general(world), *_refusals("unknown", world.retain_unknown))

    def _forget(self, world: World) -> list[tuple[int, Person]]:
        """The people to be forgotten, with their number among the five."""
        return [(n, person) for n, person in enumerate(world.of(FORGET)) if not self.only or n in self.only]


def _fact(world: World, number: int, person: Person, i: int) -> Fact:
    """The paraphrased answer is in the wording that belongs to the first paraphrase of the question."""
    value, usual = person.values[i], person.trained[i][0]
    paraphrased = person.untrained(i)[0]
    third = next(w for w in range(5) if w not in (usual, paraphrased, ANSWER_IS))
    return Fact(
        id=f"forget-{number}-{worlds.ATTRIBUTES[i].key}",
        answer=worlds.answer(person.name, i, value, usual),
        wordings=tuple(worlds.answer(person.name, i, value, w) for w in (paraphrased, ANSWER_IS, third)),
        wrong=tuple(worlds.answer(person.name, i, other, paraphrased) for other in world.wrong[person.name, i]),
    )


def _general(world: World) -> tuple[Pair, ...]:
    return tuple(Pair(f"general-{n:02d}", q, a, "general") for n, (q, a) in enumerate(world.general))


def _pairs(world: World, role: str, wordings: int = 3) -> tuple[Pair, ...]:
    """So many of the three trained wordings for each person and attribute."""
    return tuple(
        Pair(
            f"{role}-{number:02d}-{attribute.key}-{q}",
            worlds.question(person.name, i, q),
            worlds.answer(person.name, i, person.values[i], q),
            person.name,
        )
        for number, person in enumerate(world.of(role))
        for i, attribute in enumerate(worlds.ATTRIBUTES)
        for q in person.trained[i][:wordings]
    )


def _refusals(kind: str, names: tuple[str, ...]) -> tuple[Pair, ...]:
    asked = [(name, n % len(worlds.ATTRIBUTES), n % 5) for n, name in enumerate(names)]
    return tuple(Pair(f"{kind}-{n:02d}", worlds.question(*who), worlds.refusal(*who), who[0]) for n, who in enumerate(asked))
