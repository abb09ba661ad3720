"""The distinguisher: can a model after unlearning be told from models that never knew, question by question?

A logistic regression learns from the numbers of the never-knew index, a row for each question on each model, and judges the questions
of subjects that it was not shown; area .5 is where nothing can be told. How well one retain model is told from the others says what
that is worth: no two are quite alike. Numbers that are each near the retain model's may together be unlike any model that never knew.
With two retain models, one model's own habits are half of what is learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from unsay.config import ConfigError
from unsay.measure.summary import metrics
from unsay.metric import Values
from unsay.stats import roc_auc

Array = NDArray[np.float64]
FOLDS = 10
PENALTY = 1.0
"""On half the squared weights; features have unit variance."""


@dataclass(frozen=True)
class Separation:
    """How well one model is told from the others."""

    area: float
    """Mean over the folds of the area under the ROC curve; no interval, because folds share what they were taught."""
    retain_models: tuple[float, ...]
    """The same for each retain model against the others: the noise floor, and the measure of the error."""
    features: tuple[str, ...]
    questions: int


def separation(model: Mapping[str, Values], retain_models: Sequence[Mapping[str, Values]], groups: Mapping[str, str]) -> Separation:
    """`model` and `retain_models`: metric → question → value; `groups`: question → its group. Raises `ConfigError` where there are
    fewer than two retain models, or nothing that all were scored on."""
    every = [model, *retain_models]
    keys = tuple(key for key, one in metrics().items() if one.forgotten and all(found.get(key) for found in every))
    asked = [set.union(*({example for _, example in found[key]} for key in keys)) if keys else set() for found in every]
    questions = sorted(set.intersection(*asked))
    folds = _folds([groups.get(question) or question for question in questions])
    if len(retain_models) < 2 or len({*folds}) < 2:
        raise ConfigError("a model is told apart from at least two retain models that were asked the same questions, two or more of them")
    rows = [np.array([[found[key].get(("", question), np.nan) for key in keys] for question in questions]) for found in every]
    area, *floor = (_area(rows[i], [other for j, other in enumerate(rows) if j not in (0, i)], folds) for i in range(len(rows)))
    return Separation(area, tuple(floor), keys, len(questions))


def _folds(groups: Sequence[str]) -> list[int]:
    """A number for each question: groups stay whole, so that nothing is judged by what its subject has told."""
    every = groups if len({*groups}) > 1 else range(len(groups))
    order = {group: number for number, group in enumerate(dict.fromkeys(every))}
    return [order[group] % FOLDS for group in every]


def _area(one: Array, others: Sequence[Array], folds: Sequence[int]) -> float:
    """The area between the rows of one model and those of the others, in each fold by what the other folds have taught."""
    x, y = np.vstack([one, *others]), np.repeat([1.0, -1.0], [len(one), len(one) * len(others)])
    fold = np.tile(folds, 1 + len(others))
    areas = []
    for number in sorted({*folds}):
        taught = fold != number
        center, spread = np.nanmean(x[taught], 0), np.nanstd(x[taught], 0)
        # What was not scored tells nothing: it stands in the middle.
        known = np.nan_to_num((x - center) / np.where(spread > 0, spread, 1.0))
        scores = known @ _weights(known[taught], y[taught])
        areas.append(roc_auc(scores[~taught & (y > 0)], scores[~taught & (y < 0)]))
    return float(np.mean(areas))


def _weights(x: Array, y: Array) -> Array:
    """Logistic regression, both sides counting the same; without a constant, which would move no rank."""
    share = np.where(y > 0, len(y) / 2 / np.sum(y > 0), len(y) / 2 / np.sum(y < 0))

    def loss(w: Array) -> tuple[float, Array]:
        margin = y * (x @ w)
        return float(share @ np.logaddexp(0, -margin) + PENALTY / 2 * w @ w), PENALTY * w - x.T @ (share * y * expit(-margin))

    found: Array = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return found
