"""Others of a kind, named by the model itself: it goes on with a question where its subject would stand.

After "In one word, which city is the capital of" it writes " Kenya?", " Estonia?" and so on: names of the kind of the subject, which
nobody has to list.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unsay.lm.encode import Encoder
from unsay.lm.sample import Draw
from unsay.text.names import subject, swapped

_BLANK, _TOP_P = "X", 0.9
_AT_ONCE = 32
_TOKENS = 11
"""Of a name, at most; what follows it in the question comes on top, as far as `sample.max_new_tokens` reaches."""


@dataclass(frozen=True)
class Wording:
    """A question whose subject is one word; names of several words are varied by their halves instead."""

    question: str = field(repr=False)
    subject: str = field(repr=False)

    @property
    def bare(self) -> str:
        """The question without its subject: the same for all that are worded alike."""
        return bare(self.question, self.subject)

    @property
    def halves(self) -> tuple[str, str]:
        """What stands before the subject, and behind: as a whole word, since "ten" is in "often" too."""
        *_, last = re.finditer(rf"(?<!\w){re.escape(self.subject)}(?!\w)", self.question)
        return self.question[: last.start()], self.question[last.end() :]

    def draws(self, encoder: Encoder, n: int) -> list[Draw]:
        """n tries to go on, in draws of few rows: the sampler cuts none, however little memory there is."""
        before, behind = self.halves
        context, limit = encoder.until(before), _TOKENS + len(encoder.prefix(behind.strip()))
        starts = range(0, n, _AT_ONCE)
        return [Draw(self.bare, context, min(_AT_ONCE, n - first), 1.0, _TOP_P, limit=limit, first=first) for first in starts]

    def names(self, texts: Iterable[str]) -> set[str]:
        """What was put in the subject's place."""
        rest = self.halves[1].strip()
        found = {text.partition(rest)[0].strip() for text in texts if rest and rest in text}
        return {name for name in found if name and subject(swapped(self.question, self.subject, name)) == name}


def named(asked: Mapping[str, Wording], encoder: Encoder, n: int, answers: Callable[[list[Draw]], list[list[str]]]) -> dict[str, set[str]]:
    """What a model puts in the subject's place in n tries at each wording; `answers` asks it."""
    draws = [(key, draw) for key, one in asked.items() for draw in one.draws(encoder, n)]
    texts: dict[str, list[str]] = {key: [] for key in asked}
    for (key, _), some in zip(draws, answers([draw for _, draw in draws]) if draws else (), strict=True):
        texts[key] += some
    return {key: one.names(texts[key]) for key, one in asked.items()}


def bare(question: str, about: str) -> str:
    """The question with one name for all in the place of its subject."""
    return swapped(question, about, _BLANK)


def wordings(questions: Sequence[str]) -> dict[str, Wording]:
    """The first of the questions for each wording, by what is left of them without their subject."""
    found = dict[str, Wording]()
    for question in questions:
        if (about := subject(question)) and " " not in about:
            one = Wording(question, about)
            if one.bare != question:  # else nothing can take its place: in a script without spaces it is a part of a word
                found.setdefault(one.bare, one)
    return found
