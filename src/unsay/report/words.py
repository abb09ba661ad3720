"""Fixed words of the report that belong to no probe."""

from unsay.measure.summary import metrics
from unsay.metric import CHANCE, EITHER, HEADINGS, HIGHER, LOWER, RETAIN_MODEL, Metric


def by_heading() -> dict[str, list[Metric]]:
    """The tables of the report: heading → its metrics, the known headings first."""
    every = metrics().values()
    headings = dict.fromkeys([*HEADINGS, *(one.group for one in every)])
    return {heading: [one for one in every if one.group == heading] for heading in headings if heading}


DIRECTIONS = {
    LOWER: "lower is better",
    HIGHER: "higher is better",
    CHANCE: "chance is best",
    RETAIN_MODEL: "the retain model’s is best",
    EITHER: "for orientation",
}

READERS = {
    "reward and filter": "by the collapse reward and the target filter, which compare each candidate with it",
    "prefix": "by the answer prefixes, which are cut from the model’s own recorded answers and stand in the context, outside the loss",
    "repulsion": "by the repulsion, which penalises its words while candidates are sampled",
    "loss": "by the loss itself, which is computed on the sensitive answer or on a piece of it",
    "reference": "by the likelihood under the untouched model, which the loss compares with",
    "request": "by the request for alternatives, which shows it to the model",
}
"""By whom the ledger says the baseline answer was read during training."""

TWO_RETAIN_MODELS = 0.97
"""Never-knew index of one retain model held against another of another training seed, mean of six pairs: docs/audit-audited.md."""

NOT_CLAIMED = "Not claimed: deletion from the weights; other prompts; other attacks."


def figure(value: float | None, top: float = 1.0) -> str:
    """A value on its scale. What was not measured is a word, never a nought; what is not quite 0 or all is not printed as if it were.

    >>> [figure(value) for value in (None, 0.0, 1.4e-5, 0.25, 0.9999, 1.0)]
    ['not run', '0.00', '<0.01', '0.25', '>0.99', '1.00']
    """
    if value is None:
        return "not run"
    places, least = (1, 0.1) if top > 1 else (2, 0.01)
    text = f"{value:.{places}f}"
    if value > 0 and not float(text):
        return f"<{least:g}"
    return f">{top - least:g}" if value < top and float(text) == top else text
