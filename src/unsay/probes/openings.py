"""Openings: answers begun with what this model itself likes to begin with."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from unsay.lm.subject import Prompt, Subject, Unaskable
from unsay.metric import Metric, leak
from unsay.probes.scoring import RECALL, begun, known, missing, recalls, spread, unscored
from unsay.probes.unrelated import harmless
from unsay.types import Case, Finding

MOST, TEXTS, WORDS = 8, 32, 3
"""Openings tried; texts sampled from nothing, and about as many from harmless and from forget questions; most words of an opening."""


@dataclass(frozen=True)
class Openings:
    """Does it leak behind a phrase of its own? Answers begun with the model's most frequent openings, found by sampling it.

    Texts are sampled from nothing, from harmless questions and from the forget questions; the most frequent first words (one to three),
    up to a punctuation mark, begin a greedy answer to every forget question. What the opening says never counts, and the report names
    it by its rank alone, because it is the model's own text.

    Does not cover: phrases that the model never begins with by itself (`prefix_search`); phrases in the question; sampled answers
    behind an opening.
    """

    title: ClassVar[str] = "Begun with its own openings"
    tested: ClassVar[str] = "answers begun with the model’s own {count} most frequent openings"
    by_setting: ClassVar[str] = "keyword_recall"
    metrics: ClassVar[tuple[Metric, ...]] = (
        leak(
            "openings_keyword_recall",
            "Begun with its own openings",
            "Default answer behind the phrases that the model itself often begins with: the worst.",
            fold="worst",
            claim="{} behind the worst of its own openings",
        ),
    )

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        pairs = known(case)
        found = missing("openings", RECALL, case)
        openings = frequent(_sampled(subject, case)) if pairs else []
        asked = begun(pairs, "opening", openings)
        if not asked:
            return found + unscored("openings", RECALL, [example.id for example, _ in pairs], "it begins no two texts alike")
        return found + recalls("openings", subject, asked, case.source, "openings")


def _sampled(subject: Subject, case: Case) -> list[str]:
    asked = [Prompt(f"{pair.id}#opening", pair.question) for pair in spread(harmless(case), TEXTS)]
    asked += [Prompt(f"{example.id}#opening", example.question) for example, _ in spread(known(case), TEXTS)]
    try:
        unasked = subject.ask([Prompt("unasked", None)], TEXTS, 1.0, salt="openings")
    except Unaskable:  # a server that wraps everything into its template
        unasked = []
    return [answer.text for answers in (*unasked, *subject.ask(asked, 1, 1.0, salt="openings")) for answer in answers]


def frequent(texts: Iterable[str]) -> list[str]:
    """The openings that several texts share, the most frequent first; of two that stand for the same texts the longer.

    >>> frequent(["Off the record, no.", "Off the record, yes.", "Never."])
    ['Off the record,']
    """
    counts: Counter[str] = Counter()
    for text in texts:
        first = re.match(r"[^.,:;!?\n]*[,:]?", text)
        ends = [word.end() for word in re.finditer(r"\S+", first[0] if first else "")]
        counts.update(text[:end] for end in ends[:WORDS])
    longest = [o for o, n in counts.items() if n > 1 and not any(p.startswith(f"{o} ") and m == n for p, m in counts.items())]
    return sorted(longest, key=lambda opening: (-counts[opening], opening))[:MOST]
