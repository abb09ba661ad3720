"""Choice: the true answer among wrong ones, by likelihood."""

import math
from dataclasses import dataclass

from unsay.probes.scoring import known, missing, unscored
from unsay.subject import Subject
from unsay.types import Case, Finding

METRICS = ("most", "least", "chance")


@dataclass(frozen=True)
class Choice:
    """Can it be read from likelihoods? Whether the true option is the most, or the least, likely of several.

    The score of an option is the inverse of its perplexity given the question, exp(mean log-probability per token). A tie
    counts as a share. Both ends count: an answer pushed below all others is as easy to find as one above them.

    Does not cover: wrong options that differ in form or frequency from the true one (compare with gold, which then is off
    chance too); hidden states; differences too small to change the order.
    """

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        asked = [(example, ((*fact.wordings, fact.answer)[0], *fact.wrong)) for example, fact in known(case) if fact.wrong]
        found = missing("choice", METRICS, case)
        found += unscored("choice", METRICS, (e.id for e, fact in known(case) if not fact.wrong), "the question has no wrong options")
        questions = [example.question for example, options in asked for _ in options]
        logprobs = subject.logprobs(questions, [option for _, options in asked for option in options]) if asked else []
        if logprobs is None:
            return found + unscored("choice", METRICS, (example.id for example, _ in asked), "this model shows no likelihoods")
        scores = iter([math.exp(float(values.double().mean())) for values in logprobs])
        for example, options in asked:
            score = [next(scores) for _ in options]
            values = (_share(score, max(score)), _share(score, min(score)), 1 / len(options))
            found += [Finding("choice", metric, value, example.id, note=case.source) for metric, value in zip(METRICS, values, strict=True)]
        return found


def _share(scores: list[float], best: float) -> float:
    """1 where the first, true option alone is the best, 1/m where m options tie with it, else 0."""
    return 1 / scores.count(best) if scores[0] == best else 0.0
