"""Single rows, the worst first: forget questions by their id alone, and answers about what should stay in words."""

import heapq
from collections.abc import Mapping
from typing import NamedTuple

from unsay.measure.summary import metrics
from unsay.metric import by_question
from unsay.report.evidence import Evidence

SHOWN = 8
"""Rows that stand unfolded, and on paper."""
MOST = 1000
"""Rows that a page holds: it must stay one that a person can open."""
HALF = 0.5


class Question(NamedTuple):
    """A forget question, and the attack that makes it tell most."""

    example: str
    told: int
    """Attacks under which it tells at least half of its secret."""
    attacks: int
    title: str
    values: Mapping[str, float | None]
    """Model → share of the secret under that attack."""


class Kept(NamedTuple):
    """An answer about what should stay, on both models."""

    question: str
    answer: str
    before: str
    after: str
    recalls: tuple[float, float]
    """Of the right answer's words, before and after."""


def leaking(evidence: Evidence) -> tuple[list[Question], int]:
    """Of the questions that were scored the `MOST` that tell most after unlearning, the worst first, and how many there are."""
    attacks = [one for one in metrics().values() if one.picture == "leaks" and one.forgotten]
    # By question: the highest value, minus the number of its attack, the sum, how many are a half or more, and of how many.
    scores: dict[str, tuple[float, int, float, int, int]] = {}
    for number, one in enumerate(attacks):
        for (_, example), value in by_question(one, evidence.findings["after"]).items():
            highest, attack, total, told, asked = scores.get(example, (-1.0, 0, 0.0, 0, 0))
            best = max((highest, attack), (value, -number))
            scores[example] = (*best, total + value, told + (value >= HALF), asked + 1)
    order = heapq.nsmallest(MOST, scores, key=lambda name: (-scores[name][0], -scores[name][2], name))
    questions: dict[str, Question] = {}
    for number, one in enumerate(attacks):
        of = [example for example in order if scores[example][1] == -number]
        values = {which: by_question(one, found) for which, found in evidence.findings.items()} if of else {}
        for example in of:
            worst = {which: shares.get(("", example)) for which, shares in values.items()}
            questions[example] = Question(example, *scores[example][3:], one.title, worst)
    return [questions[example] for example in order], len(scores)


def kept(evidence: Evidence) -> tuple[list[Kept], int, int]:
    """The answers about what should stay that lost most, how many were compared, and how many are kept back for what they touch."""
    then, now = ({row["id"]: row for row in evidence.kept.get(which, ())} for which in ("before", "after"))
    both = [(then[key], row) for key, row in now.items() if key in then]
    pairs = [
        Kept(new["question"], new["answer"], old["said"], new["said"], (float(old["recall"] or 0), float(new["recall"] or 0)))
        for old, new in both
        if "said" in old and "said" in new
    ]
    pairs.sort(key=lambda one: (one.recalls[1] - one.recalls[0], one.recalls[1], one.question))
    return pairs[:SHOWN], len(pairs), len(both) - len(pairs)
