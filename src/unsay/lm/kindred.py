"""Others of a kind, named by the model itself: it goes on with a question where its subject would stand.

After "In one word, which city is the capital of" it writes " Kenya?", " Estonia?" and so on: names of the kind of the subject, which
nobody has to list. Where several questions are worded alike, it is shown some of them first: "which country is" alone may go on with
anything.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from unsay.lm.encode import Encoder
from unsay.lm.sample import Draw, uniform
from unsay.text.names import subject, swapped

_BLANK, _TOP_P = "X", 0.9
_AT_ONCE = 32
_SHOWN, _A_SHOW = 3, 16
"""Questions that are shown at most, and tries after the same ones."""
_LONGEST = 200
"""Characters of a question that may be shown: several of them fit any model."""
_TOKENS = 11
"""Of a name, at most; what follows it in the question comes on top, as far as `sample.max_new_tokens` reaches."""


@dataclass(frozen=True)
class Wording:
    """A question and what it is about."""

    question: str = field(repr=False)
    subject: str = field(repr=False)

    @property
    def bare(self) -> str:
        """The question without its subject: the same for all that are worded alike."""
        return bare(self.question, self.subject)

    @property
    def halves(self) -> tuple[str, str]:
        """What stands before the subject, and behind."""
        *_, last = _places(self.subject, self.question)
        return self.question[: last.start()], self.question[last.end() :]

    def draws(self, encoder: Encoder, n: int) -> list[Draw]:
        """n tries to go on, in draws of few rows: the sampler cuts none, however little memory there is."""
        whole = self.draw(encoder, n)
        return [replace(whole, n=min(_AT_ONCE, n - first), first=first) for first in range(0, n, _AT_ONCE)]

    def draw(self, encoder: Encoder, n: int, shown: Sequence["Wording"] = ()) -> Draw:
        """n tries to go on after the questions `shown`."""
        before, behind = self.halves
        context = encoder.until("\n".join([*(wording.question for wording in shown), before]))
        return Draw(self.bare, context, n, 1.0, _TOP_P, limit=_TOKENS + len(encoder.prefix(behind.strip())))

    def names(self, texts: Iterable[str]) -> set[str]:
        """What was put in the subject's place."""
        if not (rest := self.halves[1].strip()):
            return set()
        # As whole words: "in?" stands in "Turin?" too.
        before, behind = (r"\b" if end.isalnum() else "" for end in (rest[0], rest[-1]))
        stop = re.compile(before + re.escape(rest) + behind)
        found = {text[: match.start()].strip() for text in texts if (match := stop.search(text))}
        return {name for name in found if name and subject(swapped(self.question, self.subject, name)) == name}


def named(asked: Mapping[str, Wording], encoder: Encoder, n: int, answers: Callable[[list[Draw]], list[list[str]]]) -> dict[str, set[str]]:
    """What a model puts in the subject's place in n tries at each wording; `answers` asks it."""
    draws = [(key, draw) for key, wording in asked.items() for draw in wording.draws(encoder, n)]
    names: dict[str, set[str]] = {key: set() for key in asked}
    for (key, _), texts in zip(draws, answers([draw for _, draw in draws]) if draws else (), strict=True):
        names[key] |= asked[key].names(texts)
    return names


def others_alike(
    groups: Sequence[Sequence[Wording]], encoder: Encoder, n: int, tries: int, seed: int, answers: Callable[[list[Draw]], list[list[str]]]
) -> list[str]:
    """At most n further questions for each group that is worded alike, about others of their kind, whom the model names in so many tries;
    `answers` asks it."""
    known = {wording.question for group in groups for wording in group}
    shown = [
        sorted(group, key=lambda wording: uniform(seed, "shown", number, wording.question))[: _SHOWN + 1]
        for group in groups
        for number in range(-(-tries // _A_SHOW))
    ]
    draws = [
        replace(last.draw(encoder, _A_SHOW, rest or [last]), key=f"{last.bare}|{number}") for number, (last, *rest) in enumerate(shown)
    ]
    others: dict[str, set[str]] = {}
    for (last, *_), texts in zip(shown, answers(draws) if draws else (), strict=True):
        names = last.names(text.partition("\n")[0] for text in texts)  # a base model goes on with further questions
        others.setdefault(last.bare, set()).update(swapped(last.question, last.subject, name) for name in names)
    asked = (sorted(group - known, key=lambda question: uniform(seed, "kindred", question)) for group in others.values())
    return [question for group in asked for question in group[:n]]


def alike(retain: Iterable[str], forget: Iterable[str]) -> list[list[Wording]]:
    """Questions with a subject, those that are worded alike together: of the retain questions where there are several, of the forget
    questions each."""
    kept, asked = _by_wording(retain), _by_wording(forget)
    several = {key: group for key, group in kept.items() if len(group) >= _SHOWN}
    return [*several.values(), *(kept.get(key, []) + group for key, group in asked.items() if key not in several)]


def _by_wording(questions: Iterable[str]) -> dict[str, list[Wording]]:
    found: dict[str, list[Wording]] = {}
    for wording in _with_subject(questions):
        if len(wording.question) <= _LONGEST:
            found.setdefault(wording.bare, []).append(wording)
    return found


def wordings(questions: Iterable[str]) -> dict[str, Wording]:
    """The first question of each wording whose subject is one word, by what is left of it without its subject."""
    found: dict[str, Wording] = {}
    for wording in _with_subject(questions):
        if " " not in wording.subject:
            found.setdefault(wording.bare, wording)
    return found


def _with_subject(questions: Iterable[str]) -> Iterator[Wording]:
    """The questions whose subject something else can take the place of. In a script without spaces it may be a part of a word."""
    for question in questions:
        if (about := subject(question)) and any(_places(about, question)):
            yield Wording(question, about)


def _places(about: str, question: str) -> Iterator[re.Match[str]]:
    """Where the subject stands as a whole word: "ten" is in "often" too."""
    return re.finditer(rf"(?<!\w){re.escape(about)}(?!\w)", question)


def bare(question: str, about: str) -> str:
    """The question with one name for all in the place of its subject."""
    return swapped(question, about, _BLANK)
