"""Memorisation: MUSE's measures of what a model kept of texts: their wording, and what they tell."""

import re
from dataclasses import dataclass
from typing import ClassVar

from unsay.lm.subject import Prompt, Subject
from unsay.metric import COST, GIVES_AWAY, HIGHER, LOWER, VERBATIM, Metric
from unsay.probes.scoring import NO_KEYWORDS, NO_REFERENCE, NO_TOKENS, known, missing, rouge_f1, scored, secret_recall, unscored
from unsay.types import Case, Example, Finding, Pair

FORGET, RETAIN = "forget", "retain"
KNOWLEDGE = "knowledge"
"""Name of the utility set whose questions are asked as those about what is forgotten."""
_NEXT = re.compile(r"\n\n|\n?Question:")


def first_answer(text: str) -> str:
    """What stands before the next question: a model that goes on with a text goes on with questions too.

    >>> first_answer("In 1472.\\n\\nQuestion: And then?")
    'In 1472.'
    """
    return _NEXT.split(text, maxsplit=1)[0].strip()


def verbatim(reference: str, text: str) -> float | None:
    """ROUGE-L F1 of a continuation, cut to as many words as the true one has; `None` where that has no token.

    >>> verbatim("left at nine", "left at nine with the mayor")
    1.0
    """
    return rouge_f1(reference, " ".join(text.split()[: len(reference.split())]))


@dataclass(frozen=True)
class Memorisation:
    """Does it go on with the text, and does it know what the text says? MUSE's measures (Shi et al. 2024, arXiv 2407.06460).

    Verbatim memorisation: ROUGE-L F1 of the greedy continuation of each opening against the true one. Knowledge memorisation: ROUGE-L F1
    of greedy answers to questions about the texts, which training never saw, and, as utility, to questions about texts that stay.

    Does not cover: sampled continuations; openings and questions that the corpus does not have; questions in other words.
    """

    title: ClassVar[str] = "Memorisation of texts"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "verbatim_memorisation",
            "Verbatim memorisation",
            "Likeness of the default continuation of a text to the true one, word for word.",
            LOWER,
            VERBATIM,
            "verbatim_f1",
        ),
        Metric(
            "knowledge_memorisation",
            "Knowledge memorisation",
            "Likeness of the default answer to the true one, to questions about the texts that training never saw.",
            LOWER,
            GIVES_AWAY,
            "knowledge_f1",
            where=FORGET.__eq__,
        ),
        Metric(
            "knowledge_keyword_recall",
            "Knowledge, own words",
            "Share of the true answer’s own words in the default answer to the same questions.",
            LOWER,
            GIVES_AWAY,
        ),
        Metric(
            "knowledge_kept",
            "Knowledge kept",
            "The same likeness, to questions about texts that should stay.",
            HIGHER,
            COST,
            "knowledge_f1",
            where=RETAIN.__eq__,
        ),
    )

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        pairs, asked = known(case), [example for example in case.corpus.knowledge if example.id in case.facts]
        found = missing("memorisation", ("verbatim_f1",), case)
        found += unscored(
            "memorisation", ("knowledge_f1",), [e.id for e in case.corpus.knowledge if e.id not in case.facts], NO_REFERENCE, FORGET
        )
        kept = [pair for sets in (case.corpus.utility, case.corpus.utility_heldout) for pair in sets.get(KNOWLEDGE, ())]
        questions: list[Example | Pair] = [*(example for example, _ in pairs), *asked, *kept]
        prompts = [Prompt(one.id, one.question) for one in questions]
        # As the probe `greedy` asks, so that its answers are at hand.
        answers = iter(subject.ask(prompts, salt="greedy") if prompts else ())
        for example, fact in pairs:
            value = verbatim(fact.answer, next(answers)[0].text)
            found.append(scored("memorisation", "verbatim_f1", value, example.id, "", NO_TOKENS, case.source))
        for example in asked:
            fact, text = case.facts[example.id], first_answer(next(answers)[0].text)
            likeness, keys = rouge_f1(fact.answer, text), secret_recall(example, fact.answer, text)
            found.append(scored("memorisation", "knowledge_f1", likeness, example.id, FORGET, NO_TOKENS, case.source))
            found.append(scored("memorisation", "knowledge_keyword_recall", keys, example.id, FORGET, NO_KEYWORDS, case.source))
        for pair in kept:
            likeness = rouge_f1(pair.answer, first_answer(next(answers)[0].text))
            found.append(scored("memorisation", "knowledge_f1", likeness, pair.id, RETAIN, NO_TOKENS, ""))
        return found
