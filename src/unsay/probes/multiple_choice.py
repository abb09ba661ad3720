"""Multiple choice: the true answer among wrong ones, by likelihood."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unsay.config import ConfigError
from unsay.lm.subject import Subject
from unsay.metric import CHANCE, EITHER, LIKELIHOODS, Metric
from unsay.probes.options import LEAST, made
from unsay.probes.scoring import known, missing, unscored
from unsay.types import Case, Finding

YIELDS = ("most", "least", "chance", "min_probability")
MADE = "made options"


@dataclass(frozen=True)
class MultipleChoice:
    """Can it be read from likelihoods? Whether the true option is the most, or the least, likely of several.

    The score of an option is the inverse of its perplexity given the question, exp(mean log-probability per token). A tie
    counts as a share. Both ends count: an answer pushed below all others is as easy to find as one above them. The smallest
    score, as a share of all, tells how far down the unlikeliest option lies. Where the corpus has no wrong options, they are
    the true answer with the secrets of other forget questions in the place of its own, and the setting says so.

    Does not cover: wrong options that differ in form or frequency from the true one (compare with the retain model, which then is off
    chance too); hidden states; differences too small to change the order.
    """

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
            forgotten=True,
            claim="the unlikeliest for {}",
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
        found = missing("multiple_choice", YIELDS, case)
        without = (example.id for example, _ in known(case) if example.id not in wrong)
        found += unscored("multiple_choice", YIELDS, without, "no wrong options, and too few other answers of the kind to make them from")
        questions = [example.question for example, options in asked for _ in options]
        logprobs = subject.logprobs(questions, [option for _, options in asked for option in options]) if asked else []
        if logprobs is None:
            return found + unscored("multiple_choice", YIELDS, (example.id for example, _ in asked), "this model shows no likelihoods")
        scores = iter([float(values.double().mean()) for values in logprobs])
        for example, options in asked:
            score = [next(scores) for _ in options]
            values = (_share(score, max(score)), _share(score, min(score)), 1 / len(options), _smallest(score))
            setting = "" if example.id in own else MADE
            found += [
                Finding("multiple_choice", m, value, example.id, setting, note=case.source) for m, value in zip(YIELDS, values, strict=True)
            ]
        return found


def _share(scores: list[float], best: float) -> float:
    """1 where the first, true option alone is the best, 1/m where m options tie with it, else 0."""
    return 1 / scores.count(best) if scores[0] == best else 0.0


def _smallest(scores: Sequence[float]) -> float:
    """Inverse perplexity of the unlikeliest option, as a share of the sum over all; `scores` are logarithms (nats)."""
    highest = max(scores)  # taken out, so that nothing underflows
    chances = [math.exp(score - highest) for score in scores]
    return min(chances) / sum(chances)
