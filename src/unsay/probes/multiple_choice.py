"""Multiple choice: the true answer among wrong ones, by likelihood."""

import math
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import ClassVar

from unsay.config import ConfigError
from unsay.lm.subject import Subject
from unsay.metric import CHANCE, EITHER, LIKELIHOODS, Metric
from unsay.probes.options import LEAST, MADE, choices
from unsay.probes.scoring import CLOSED, NO_LIKELIHOODS, choice_of, known, missing, unscored
from unsay.types import Case, Finding

YIELDS = ("most", "least", "chance", "min_probability")
BALANCED = "closed_balanced"
NO_CLOSED = "every answer has a word of its own"
NO_OPTIONS = "no wrong options, and too few other answers of the kind to make them from"


_option = partial(Metric, better=CHANCE, group=LIKELIHOODS, share=True, case="wrong options", untold=NO_OPTIONS, forgotten=True)


@dataclass(frozen=True)
class MultipleChoice:
    """Can it be read from likelihoods? Whether the true option is the most, or the least, likely of several.

    The score of an option is exp(mean log-probability per token) given the question; a tie counts as a share. Where the corpus has no
    wrong options, they are made of other forget answers, and the setting says so. Answers without a word of their own (yes or no, one
    side of an "or") are scored against their opposite alone, P(true) / (P(true) + P(other)) without the end of the answer; their mean
    gives both kinds the same weight, so that a habit of saying either gives .5.

    Does not cover: wrong options that differ in form or frequency from the true one (compare with the retain model, which then is off
    chance too); hidden states; differences too small to change the order.
    """

    title: ClassVar[str] = "Multiple choice"
    tested: ClassVar[str] = "a multiple choice read from likelihoods ({questions} questions)"
    metrics: ClassVar[tuple[Metric, ...]] = (
        _option(
            "multiple_choice_most",
            "True option likeliest",
            "How often the true one of several options is the likeliest.",
            claim="the true one of several options is the likeliest for {} of the questions",
        ),
        _option(
            "multiple_choice_least",
            "True option unlikeliest",
            "How often it is the unlikeliest: avoiding it tells as much.",
            claim="the true one is the unlikeliest for {}",
        ),
        Metric(
            "closed_probability",
            "Yes or no",
            "Questions whose answer has no word of its own: the chance that the model gives the true answer against its opposite.",
            CHANCE,
            LIKELIHOODS,
            BALANCED,
            case="closed questions",
            untold=NO_CLOSED,
            unit="answers",
            claim="where an answer has no word of its own, the true one has a chance of {} against its opposite",
        ),
        Metric("chance", "Chance", "What guessing would give in both rows above.", EITHER, LIKELIHOODS),
    )

    options: int = 5
    """Most wrong options made where the corpus has none; 0 makes none."""

    def __post_init__(self) -> None:
        if self.options < 0 or 0 < self.options < LEAST:
            raise ConfigError(f"multiple_choice.options = {self.options} must be 0 or at least {LEAST}")

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        options = choices(case, self.options)
        asked = [(example, fact, options[example.id]) for example, fact in known(case) if example.id in options]
        found = missing("multiple_choice", YIELDS, case) + _closed(subject, case)
        found += unscored("multiple_choice", YIELDS, (e.id for e, _ in known(case) if e.id not in options), NO_OPTIONS)
        questions = [example.question for example, _, texts in asked for _ in texts]
        logprobs = subject.logprobs(questions, [text for *_, texts in asked for text in texts]) if asked else []
        if logprobs is None:
            return found + unscored("multiple_choice", YIELDS, (example.id for example, *_ in asked), NO_LIKELIHOODS)
        scores = iter([float(values.double().mean()) for values in logprobs])
        for example, fact, texts in asked:
            score = [next(scores) for _ in texts]
            chances = [math.exp(one - max(score)) for one in score]  # the highest taken out, so that nothing underflows
            # Of the inverse perplexities the smallest, as a share of the sum over all, comes last.
            values = (_share(score, max(score)), _share(score, min(score)), 1 / len(texts), min(chances) / sum(chances))
            for metric, value in zip(YIELDS, values, strict=True):
                found.append(Finding("multiple_choice", metric, value, example.id, "" if fact.wrong else MADE, note=case.source))
        return found


def _closed(subject: Subject, case: Case) -> list[Finding]:
    """The questions whose answers have no keyword, one by one and balanced."""
    choices = {example.id: (example.question, one) for example, fact in known(case) if (one := choice_of(example, fact.answer))}
    if not choices:
        return unscored("multiple_choice", (BALANCED,), ("",), NO_CLOSED)
    texts = [(question, text) for question, one in choices.values() for text in (one.true, one.other)]
    logprobs = subject.logprobs([question for question, _ in texts], [text for _, text in texts])
    if logprobs is None:
        unread = unscored("multiple_choice", (CLOSED,), choices, NO_LIKELIHOODS)
        return unread + unscored("multiple_choice", (BALANCED,), ("",), NO_LIKELIHOODS)
    sums = iter([float(values[:-1].double().sum()) for values in logprobs])  # without the end of the sequence
    found: list[Finding] = []
    kinds: dict[str, list[float]] = {}
    for key, (_, one) in choices.items():
        true, other = next(sums), next(sums)
        value = 1 / (1 + math.exp(min(other - true, 700.0)))
        kinds.setdefault(one.kind, []).append(value)
        found.append(Finding("multiple_choice", CLOSED, value, key, note=case.source))
    balanced = fmean(fmean(some) for some in kinds.values())
    return [*found, Finding("multiple_choice", BALANCED, balanced, n=len(choices), note=case.source)]


def _share(scores: list[float], best: float) -> float:
    """1 where the first, true option alone is the best, 1/m where m options tie with it, else 0."""
    return 1 / scores.count(best) if scores[0] == best else 0.0
