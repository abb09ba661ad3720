"""A retain set where nobody hands one over: what the untouched model itself answers, to general questions and about others.

Two kinds of questions are asked, greedily: the package's general ones, and *neighbours*, the forget questions about names that the model
wrote unasked (replay.py). Left out are answers that do not end or repeat themselves, refusals to a general question, and whatever touches a
forget question or its answer. A quarter stays out of training, to be measured on. Such rows hold what the model says, true or not: utility
measured on them is faithfulness to the untouched model.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from unsay.config import ConfigError
from unsay.lm.sample import uniform
from unsay.lm.subject import LocalSubject
from unsay.record.replay import TRIED, ReplayFilter, Said, greedy_answers, neighbours, surest, unasked
from unsay.text import is_refusal, repetitive, words
from unsay.types import Pair

GENERAL, NEAR = "general", "near"
FEW = 50
"""Rows below which a retain set holds little, unless so few were asked for."""
_HELDOUT = 0.25
_REFUSALS = 0.25
"""Most of the neighbours whose answer is a refusal: true to the model, but a set full of them would teach refusing."""


@dataclass(frozen=True)
class Own:
    """A retain row that nobody handed over."""

    kind: str
    """`general` or `near`."""
    question: str = field(repr=False)
    answer: str = field(repr=False)
    group: str = field(default="", repr=False)
    """Topic of a general question, name in a neighbour."""
    heldout: bool = False
    """Kept out of training, to measure on."""


def shipped(pairs: Sequence[Pair], seed: int) -> list[Own]:
    """The package's general questions with the answers that came with them."""
    return _split([Own(GENERAL, pair.question, pair.answer, pair.group) for pair in pairs], seed)


def own_answers(
    subject: LocalSubject, general: Sequence[Pair], questions: Sequence[str], guard: ReplayFilter, n: int
) -> tuple[list[Own], Counter[str]]:
    """About n rows, at most half of them neighbours, and how many answers were asked for and left out, by reason. Raises `ConfigError`
    where no answer is of use."""
    topics = {pair.question: pair.group for pair in general}
    said, tally = _useful(greedy_answers(subject, list(topics)), guard, refusals=False)
    texts = unasked(subject, guard, n // 2)
    names = neighbours(questions, [one.answer.text for one in texts], TRIED * len(texts), subject.seed)
    about, more = _useful(greedy_answers(subject, list(names)), guard, refusals=True)
    refused, answered = ([one for one in about if is_refusal(one.answer.text) == refusal] for refusal in (True, False))
    near = surest(subject, answered, n // 2)
    near += surest(subject, refused, min(n // 2 - len(near), round(_REFUSALS / (1 - _REFUSALS) * len(near))))
    known = surest(subject, said, n - len(near))
    rows = [Own(GENERAL, str(one.question), one.answer.text, topics[str(one.question)]) for one in known]
    rows += [Own(NEAR, str(one.question), one.answer.text, names[str(one.question)]) for one in near]
    tally += more
    if not rows:
        raise ConfigError(
            f"none of the model's own answers can serve as a retain row ({in_words(tally)}); hand over a retain file "
            '(--set files.retain="retain.jsonl"), raise sample.max_new_tokens where answers did not end, or take the '
            "package's general answers (--set record.own_retain=0)"
        )
    return _split(rows, subject.seed), tally


def _useful(said: Sequence[Said], guard: ReplayFilter, refusals: bool) -> tuple[list[Said], Counter[str]]:
    """The answers that may be trained on, and a count by reason of what is left out."""
    kept, tally = [], Counter(asked=len(said))
    for one in said:
        spoken = words(one.answer.text)
        if not one.answer.finished:
            tally["unfinished"] += 1
        elif not spoken or repetitive(spoken) or repetitive(one.answer.ids):
            tally["empty or repetitive"] += 1
        elif not refusals and is_refusal(one.answer.text):
            tally["refusals"] += 1
        elif not guard.harmless(f"{one.question} {one.answer.text}"):
            tally["close to a forget question"] += 1
        else:
            kept.append(one)
    return kept, tally


def in_words(tally: Counter[str]) -> str:
    """The count in words.

    >>> in_words(Counter({"asked": 9, "unfinished": 7}))
    '9 asked, 7 unfinished'
    """
    rest = ", ".join(f"{count} {reason}" for reason, count in tally.items() if reason != "asked" and count)
    return f"{tally['asked']} asked" + (f", {rest}" if rest else "")


def _split(rows: Sequence[Own], seed: int) -> list[Own]:
    """The same rows, a quarter of either kind held out; all questions about one name stay on one side."""
    found = []
    for kind in (GENERAL, NEAR):
        some = [row for row in rows if row.kind == kind]
        unit = {row.question: row.group if kind == NEAR else row.question for row in some}
        ordered = sorted(some, key=lambda row: (uniform(seed, "held out", unit[row.question]), unit[row.question], row.question))
        quota, out = round(_HELDOUT * len(some)), set[str]()
        for name, together in groupby(ordered, key=lambda row: unit[row.question]):
            count = len(list(together))
            if count <= quota:
                out.add(name)
                quota -= count
        found += [replace(row, heldout=unit[row.question] in out) for row in some]
    return found
