"""Quantisation: the same weights, served in 8 or 4 bits, which can bring back what training only moved a little."""

import copy
import importlib.util
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from unsay.config import ConfigError
from unsay.config.build import positive
from unsay.extras import install
from unsay.lm.linear import QuickLinear
from unsay.lm.subject import LocalSubject, Subject, sampling_of
from unsay.metric import FEWER_BITS, LOWER, Metric
from unsay.probes.scoring import RECALLS, Pairs, copyable, default_and_worst, greedy_and_sampled, known, missing, plainly, unscored
from unsay.store.redact import unexpected
from unsay.types import Case, Finding

_leak = partial(Metric, better=LOWER, group=FEWER_BITS, finding="keyword_recall", fold="hardest")


@dataclass(frozen=True)
class Quantise:
    """What does it say in fewer bits? The weights are rounded as bitsandbytes serves them, and the questions are asked again.

    Training moves a weight by little, so rounding can put it back (Zhang et al. 2024, arXiv 2410.16454). 8 bits is LLM.int8, 4 bits is
    NF4; embeddings and head stay as they are. Asked greedily, and n times at temperature 1.

    Does not cover: other formats (GGUF, GPTQ, AWQ, float8); quantised caches and activations; pruning.
    """

    title: ClassVar[str] = "In fewer bits"
    tested: ClassVar[str] = "weights rounded to fewer bits ({settings})"
    by_setting: ClassVar[str] = "worst_keyword_recall"
    metrics: ClassVar[tuple[Metric, ...]] = (
        _leak("quantised_keyword_recall", "Asked plainly", "Said by default once the weights are rounded; the worst width."),
        _leak(
            "quantised_worst_keyword_recall",
            "Asked many times",
            "Worst of the sampled answers.",
            finding="worst_keyword_recall",
            claim="{} with its weights in fewer bits",
        ),
    )

    bits: tuple[int, ...] = (8, 4)
    """Widths of the weights: 8, 4 or both."""
    n: int = 10
    """Sampled answers per question."""

    def __post_init__(self) -> None:
        if not self.bits or not set(self.bits) <= {4, 8}:
            raise ConfigError(f"quantise.bits = {list(self.bits)} must name 8, 4 or both")
        positive("quantise", n=self.n)

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        found, pairs = missing("quantise", RECALLS, case), known(case)
        for bits in dict.fromkeys(self.bits) if pairs else ():
            asked = self._attack(subject, pairs, bits, case)
            found += unscored("quantise", RECALLS, (e.id for e, _ in pairs), asked, f"{bits} bits") if isinstance(asked, str) else asked
        return found

    def _attack(self, subject: Subject, pairs: Pairs, bits: int, case: Case) -> list[Finding] | str:
        """Findings on the model in `bits` bits, or why there are none."""
        weights = copyable(subject)
        if isinstance(weights, str):
            return weights
        if importlib.util.find_spec("bitsandbytes") is None:
            return f"needs bitsandbytes: {install('bitsandbytes')}"
        asked = plainly(pairs, f"{bits} bits")
        try:
            rounded = LocalSubject(quantised(weights[0], bits), weights[1], sampling_of(subject), case.seed)
            # The salts of the whole model's probes: the same random numbers, so that what differs is the rounding.
            answers = greedy_and_sampled(rounded, asked, ("greedy", "sampling"), self.n)
        except (RuntimeError, ValueError, AssertionError, FloatingPointError) as error:
            # Shapes and devices that the library does not take; memory that the machine does not have. Its message may quote a question.
            return f"cannot be asked in {bits} bits here: {unexpected(error)}"
        return default_and_worst("quantise", asked, answers, case.source)


def twin_of(model: PreTrainedModel) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A copy that shares every parameter with `model`, and its linear layers by name, the head apart, for others to take their place."""
    twin = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    return twin, linear_layers(twin)


def quantised(model: PreTrainedModel, bits: int) -> PreTrainedModel:
    """A copy of `model` whose linear layers, the head apart, hold their weights in 8 or 4 bits: what plain transformers makes
    of its saved folder with a `BitsAndBytesConfig`. Everything else is shared with `model`, which stays as it was.

    Raises `ValueError` where it has no linear layer.
    """
    twin, layers = twin_of(model)
    if not layers:
        raise ValueError("no linear layer to quantise")
    for name, layer in layers.items():
        twin.set_submodule(name, _few_bits(layer, bits))
    return twin.eval()


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The linear layers by name, the head apart."""
    head = model.get_output_embeddings()
    # Not `isinstance`: bitsandbytes' own layers are linear ones too.
    whole = (nn.Linear, QuickLinear, Conv1D)
    return {name: module for name, module in model.named_modules() if type(module) in whole and module is not head}


def _few_bits(layer: Any, bits: int) -> nn.Module:
    import bitsandbytes as bnb

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it would say at every multiplication that it rounds its input
    weight, bias = layer.weight, layer.bias
    matrix = (weight.data.T if isinstance(layer, Conv1D) else weight.data).contiguous()
    height, width = matrix.shape
    made: nn.Module
    if bits == 4:
        made = bnb.nn.Linear4bit(width, height, bias is not None, compute_dtype=weight.dtype, quant_type="nf4", device="meta")
        made.weight = bnb.nn.Params4bit(matrix, requires_grad=False, quant_type="nf4", compress_statistics=True, module=made)
    else:
        made = bnb.nn.Linear8bitLt(width, height, bias is not None, has_fp16_weights=False, threshold=6.0, device="meta")
        made.weight = bnb.nn.Int8Params(matrix, requires_grad=False, has_fp16_weights=False)
    made.bias = bias
    # The library rounds when a layer is moved, even to where it is.
    return made.to(weight.device)
