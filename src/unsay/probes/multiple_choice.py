"""Multiple choice: the true answer among wrong ones, by likelihood."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from unsay.config import ConfigError
from unsay.lm.subject import Subject
from unsay.metric import CHANCE, EITHER, LIKELIHOODS, Metric
from unsay.probes.options import LEAST, made
from unsay.probes.scoring import CLOSED, choice_of, known, missing, unscored
from unsay.types import Case, Finding

YIELDS = ("most", "least", "chance", "min_probability")
BALANCED = "closed_balanced"
MADE = "made options"
NO_CLOSED = "every answer has a word of its own"
NO_LIKELIHOODS = "this model shows no likelihoods"
NO_OPTIONS = "no wrong options, and too few other answers of the kind to make them from"


@dataclass(frozen=True)
class MultipleChoice:
    """Can it be read from likelihoods? Whether the true option is the most, or the least, likely of several.

    The score of an option is the inverse of its perplexity given the question, exp(mean log-probability per token). A tie
    counts as a share. Both ends count: an answer pushed below all others is as easy to find as one above them. The smallest
    score, as a share of all, tells how far down the unlikeliest option lies. Where the corpus has no wrong options, they are
    the true answer with the secrets of other forget questions in the place of its own, and the setting says so.

    Answers without a word of their own (yes or no, one side of an "or") are scored against their opposite alone: P(true) / (P(true) +
    P(other)), the end of the answer left out. Their mean gives those that are answered with yes as much weight as those with no, so
    that a habit of saying either gives .5.

    Does not cover: wrong options that differ in form or frequency from the true one (compare with the retain model, which then is off
    chance too); hidden states; differences too small to change the order.
    """

    title: ClassVar[str] = "Multiple choice"
    tested: ClassVar[str] = "a multiple choice read from likelihoods ({questions} questions)"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "multiple_choice_most",
            "True option likeliest",
            "How often the true one of several options is the likeliest.",
            CHANCE,
            LIKELIHOODS,
            "most",
            share=True,
            case="wrong options",
            untold=NO_OPTIONS,
            forgotten=True,
            claim="the true one of several options is the likeliest for {} of the questions",
        ),
        Metric(
            "multiple_choice_least",
            "True option unlikeliest",
            "How often it is the unlikeliest: avoiding it tells as much.",
            CHANCE,
            LIKELIHOODS,
            "least",
            share=True,
            case="wrong options",
            untold=NO_OPTIONS,
            forgotten=True,
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
        Metric("chance", "Chance", "What guessing would give in both rows above.", EITHER, LIKELIHOODS, "chance"),
    )

    options: int = 5
    """Most wrong options made where the corpus has none; 0 makes none."""

    def __post_init__(self) -> None:
        if self.options < 0 or 0 < self.options < LEAST:
            raise ConfigError(f"multiple_choice.options = {self.options} must be 0 or at least {LEAST}")

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        own = {example.id: fact.wrong for example, fact in known(case) if fact.wrong}
        wrong = made(case, self.options) | own
        asked = [(example, ((*fact.wordings, fact.answer)[0], *wrong[example.id])) for example, fact in known(case) if example.id in wrong]
        found = missing("multiple_choice", YIELDS, case) + _closed(subject, case)
        without = (example.id for example, _ in known(case) if example.id not in wrong)
        found += unscored("multiple_choice", YIELDS, without, NO_OPTIONS)
        questions = [example.question for example, options in asked for _ in options]
        logprobs = subject.logprobs(questions, [option for _, options in asked for option in options]) if asked else []
        if logprobs is None:
            return found + unscored("multiple_choice", YIELDS, (example.id for example, _ in asked), NO_LIKELIHOODS)
        scores = iter([float(values.double().mean()) for values in logprobs])
        for example, options in asked:
            score = [next(scores) for _ in options]
            values = (_share(score, max(score)), _share(score, min(score)), 1 / len(options), _smallest(score))
            setting = "" if example.id in own else MADE
            found += [
                Finding("multiple_choice", m, value, example.id, setting, note=case.source) for m, value in zip(YIELDS, values, strict=True)
            ]
        return found


def _closed(subject: Subject, case: Case) -> list[Finding]:
    """The questions whose answers have no keyword, one by one and balanced."""
    choices = {example.id: (example.question, one) for example, fact in known(case) if (one := choice_of(example, fact.answer))}
    if not choices:
        return unscored("multiple_choice", (BALANCED,), ("",), NO_CLOSED)
    texts = [(question, text) for question, one in choices.values() for text in (one.true, one.other)]
    logprobs = subject.logprobs([question for question, _ in texts], [text for _, text in texts])
    if logprobs is None:
        return unscored("multiple_choice", (CLOSED,), choices, NO_LIKELIHOODS) + unscored(
            "multiple_choice", (BALANCED,), ("",), NO_LIKELIHOODS
        )
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


def _smallest(scores: Sequence[float]) -> float:
    """Inverse perplexity of the unlikeliest option, as a share of the sum over all; `scores` are logarithms (nats)."""
    highest = max(scores)  # taken out, so that nothing underflows
    chances = [math.exp(score - highest) for score in scores]
    return min(chances) / sum(chances)
