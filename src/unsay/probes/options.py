"""Wrong options for multiple choice, made of the answers to the most similar other forget questions where the corpus brings none.

Three traps. An answer that names somebody else does not belong, and any model could tell, so the name is exchanged. An answer to
another *kind* of question does not fit either, so likeness counts the form of question and answer. Values that a model was taught
and keeps are likelier to it than a truth that it never knew, so only forget answers are taken.
"""

import re
from collections.abc import Mapping, Sequence
from statistics import fmean

from unsay.lm.sample import uniform
from unsay.probes.scoring import known, marks, wording
from unsay.text import keyword_recall, likeness, sensitive_spans
from unsay.text.names import swapped
from unsay.types import Case, Example

MADE = "made options"
LEAST = 2
"""Fewest wrong options with which multiple choice is one."""
PAPER, RELEASED = "paper", "released"
"""TOFU's formulas (Maini et al. 2024, arXiv 2401.06121, §2.2) and those of its released code, where the two differ."""


def choices(case: Case, count: int) -> dict[str, tuple[str, ...]]:
    """By example id the true answer and wrong ones in its form, the corpus' own or at most `count` made ones; nothing where there are
    none and fewer than `LEAST` can be made."""
    pairs = known(case)
    answers = {example.id: wording(fact) for example, fact in pairs}
    forms = {example.id: _form(example.question, answers[example.id]) for example, _ in pairs}
    found: dict[str, tuple[str, ...]] = {}
    for example, fact in pairs:
        options = [answers[example.id], *fact.wrong]
        for other in [] if fact.wrong else _nearest(example, [other for other, _ in pairs], forms, case.seed):
            if len(options) > count:
                break
            option = renamed(answers[other.id], other.question, example.question)
            recall = keyword_recall(options[0], option, example.question, "", *marks(example))
            # An option that says all that the true answer says is no wrong one.
            if option not in options and recall is not None and recall < 1:
                options.append(option)
        if fact.wrong or len(options) > LEAST:
            found[example.id] = tuple(options)
    return found


def renamed(answer: str, asked: str, instead: str) -> str:
    """An answer to the question `asked` as if it had been about the subject of `instead`; as it is where either has no name.

    >>> renamed("Eckinberg lives in Oslo.", "Where does Isvek Eckinberg live?", "Where is Anna Kovač's home?")
    'Kovač lives in Oslo.'
    """
    old, new = _subject(asked), _subject(instead)
    return swapped(answer, old, new) if old and new else answer


def _nearest(example: Example, examples: Sequence[Example], forms: Mapping[str, tuple[str, str]], seed: int) -> list[Example]:
    """The other questions, the most similar first; those about the same subject last, for the model may know *them* of it."""

    def rank(other: Example) -> tuple[bool, float, float]:
        alike = sum(map(likeness, forms[example.id], forms[other.id]))
        return bool(example.group) and example.group == other.group, -alike, uniform(seed, "options", example.id, other.id)

    return sorted((other for other in examples if other.id != example.id), key=rank)


def _subject(question: str) -> str:
    """Whom a question is about: its longest name without a digit."""
    spans = [re.sub(r"['’]s$", "", span) for span in sensitive_spans(question)]
    return max((span for span in spans if not re.search(r"\d", span)), key=len, default="")


def _form(question: str, answer: str) -> tuple[str, str]:
    """What kind of thing is asked for (the question without its names and numbers) and said (one word for every number of the answer and
    one for every capitalised word)."""
    for span in sensitive_spans(question):
        question = question.replace(span, " ")
    return question, re.sub(r"\b[A-Z]\w*", "aname", re.sub(r"\w*\d[\w/.,-]*", "anumber", answer))


def averaged(wrong: Sequence[float], formula: str) -> tuple[float, ...]:
    """Mean log-probabilities per token of wrong answers, as they enter TOFU's truth ratio: the `paper` averages probabilities,
    the `released` code their logarithms, so that one answer, the geometric mean of all, stands for them."""
    return (fmean(wrong),) if formula == RELEASED else tuple(wrong)
