"""The gradient-norm membership attack: a text that a model was trained on pulls its weights less than one that it was not.

Wang et al. 2024 (arXiv 2402.17012), as open-unlearning computes it:

    score = mean over the parameters of ‖ ∂ (mean −log p(token)) / ∂ parameter ‖₂

without the token that ends the answer. One departure: dropout is off, so that the number is the same each time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay.lm.encode import Encoder, Row
from unsay.lm.heard import told
from unsay.lm.model import answer_logprobs
from unsay.lm.placement import is_split


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

    wanted = [weight.requires_grad for weight in weights]
    hooks = [weight.requires_grad_(True).register_post_accumulate_grad_hook(taken) for weight in weights]
    found = []
    try:
        with torch.enable_grad():
            for done, row in enumerate(rows, 1):
                logprobs = answer_logprobs(model, encoder.batch([row], model.device))[0]
                logprobs[: max(1, len(row.answer) - 1)].mean().backward()
                found.append(float(torch.stack(norms).mean()))
                norms.clear()
                told(done, len(rows), "gradients taken")
    finally:
        for weight, hook, before in zip(weights, hooks, wanted, strict=True):
            hook.remove()
            weight.requires_grad_(before)
            weight.grad = None
    return found
