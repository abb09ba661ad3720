"""Weight averaging: weights on the line from the untouched ones to the trained ones, and a little beyond.

Training moves every weight a little where few would do, and what it was not trained on pays for it. On the straight line between
the two models that comes back sooner than what was forgotten, up to a point: a dial between forgetting and usefulness that
costs no training. Beyond the trained weights more is forgotten, and more is lost. Sources: Wortsman, Ilharco et al., *Robust
fine-tuning of zero-shot models* (WiSE-FT), arXiv 2109.01903, who give a fine-tuned model back what it could before; Ilharco et al.,
*Editing models with task arithmetic*, arXiv 2212.04089, for factors above 1. On the built-in people: docs/methods.md.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from unsay.config import Recipe
from unsay.lm.adapters import adapted
from unsay.lm.model import load
from unsay.lm.sharded import like
from unsay.train.step import Weights

_ADDED = re.compile(r"\blora_(embedding_)?B\b")
"""Of an adapter BA, the factor that begins as zero: what is added to a weight is in proportion to it."""


@torch.no_grad()
def averaging(weights: Weights, model: PreTrainedModel, recipe: Recipe, name: str) -> None:
    """Put `model` `train.averaging` of the way from the untouched model, called `name`, to the trained one (above 1: beyond it), whose
    `weights` it holds; in float32, rounded once. Adapters need no second model: they began as no change."""
    share = recipe.train.averaging
    if share == 1:
        return
    if adapted(model):
        for key, exact in weights.exact.items():
            if _ADDED.search(key):
                exact.mul_(share)
    else:
        untouched, _ = load(recipe.model, name, device=torch.device("cpu"))
        before = dict(untouched.named_parameters())
        for key, exact in weights.exact.items():
            exact.copy_(torch.lerp(like(exact, before[key].to(exact.device, exact.dtype)), exact, share))
    weights.write_back()


@contextmanager
def averaged(weights: Weights, model: PreTrainedModel, recipe: Recipe, name: str) -> Iterator[None]:
    """The model as it would be shipped, as long as the block lasts; then it is what it was, to the bit."""
    if recipe.train.averaging == 1:
        yield
        return
    trained = {key: exact.detach().clone() for key, exact in weights.exact.items()}
    averaging(weights, model, recipe, name)
    try:
        yield
    finally:
        weights.restore(trained)
