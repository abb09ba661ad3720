"""The gradient-norm membership attack: a text that a model was trained on pulls its weights less than one that it was not.

Wang et al. 2024 (arXiv 2402.17012), as open-unlearning computes it:

    score = mean over the parameters of ‖ ∂ (mean −log p(token)) / ∂ parameter ‖₂

without the token that ends the answer. One departure: dropout is off, so that the number is the same each time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs
from unsay.lm.placement import is_split
from unsay.lm.progress import report
from unsay.lm.rows import Row


def gradient_norms(model: PreTrainedModel, encoder: Encoder, rows: Sequence[Row]) -> list[float] | None:
    """One number per row; `None` where a weight takes no gradient (few bits, several places). The model is left as it was.

    A gradient is measured and dropped as soon as it is there, so that no second copy of the weights exists.
    """
    weights = list(model.parameters())
    if is_split(model) or not all(weight.is_floating_point() for weight in weights):
        return None
    norms: list[Tensor] = []

    def taken(weight: Tensor) -> None:
        norms.append(torch.linalg.vector_norm(weight.grad, dtype=torch.float32))
        weight.grad = None

    found = []
    with taking_gradients(model, True), torch.enable_grad():
        hooks = [weight.register_post_accumulate_grad_hook(taken) for weight in weights]
        try:
            for done, row in enumerate(rows, 1):
                logprobs = answer_logprobs(model, encoder.batch([row], model.device))[0]
                logprobs[: max(1, len(row.answer) - 1)].mean().backward()
                found.append(float(torch.stack(norms).mean()))
                norms.clear()
                report(done, len(rows), "gradients taken")
        finally:
            for weight, hook in zip(weights, hooks, strict=True):
                hook.remove()
                weight.grad = None
    return found


@contextmanager
def taking_gradients(model: PreTrainedModel, whether: bool) -> Iterator[None]:
    """While it lasts every weight takes a gradient, or none does."""
    wanted = [weight.requires_grad for weight in model.parameters()]
    model.requires_grad_(whether)
    try:
        yield
    finally:
        for weight, before in zip(model.parameters(), wanted, strict=True):
            weight.requires_grad_(before)
