"""How much memory each stage needs at most, by part: sizes of the model, times what the probe saw a token hold.

    stage = libraries + weights + copies + optimizer + max over moments (step, sampling, scoring)

All arithmetic, in bytes; docs/doctor.md has the derivation, docs/memory.md what the knobs do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

from unsay.config import Recipe
from unsay.doctor.pilot import Attack, Stage
from unsay.doctor.tape import Asked

_LOGITS_AT_ONCE = 1 << 25
"""Elements of a chunk of logits (`logprobs.head_logprobs`)."""
_READ_ROWS = 32
"""Rows that are scored at once (`subject.row_logprobs`)."""


SLACK, GPU_SLACK = 1.4, 1.1
"""Room taken for each byte of tensors that come and go: measured, docs/doctor.md."""
GPU_CONTEXT = 600_000_000
"""What CUDA and its libraries take on the card."""


@dataclass(frozen=True)
class Sizes:
    """What the model weighs, and what a token of work holds."""

    weights: int
    """Bytes as training loads them, quantised or not."""
    whole: int
    """Bytes in `model.dtype`, as record and the audit load them."""
    parameters: int
    """Numbers in all weights."""
    trained: int
    """Numbers that an optimizer moves."""
    largest: int
    """Numbers in the largest matrix that is trained."""
    embeddings: int
    """Numbers in the embedding matrices."""
    head: int
    """The same, where they are trained: their gradient is there from the backward pass' first moment."""
    vocabulary: int
    hidden: int
    layers: int
    half: bool
    """Weights are in half precision; where they are trained themselves, the optimizer keeps exact copies."""
    gpu: bool
    libraries: int
    """Bytes of the process before any weight: the interpreter, torch, tokenizer and corpus."""
    tokenizer: int
    """Bytes of one more tokenizer: the reference judge brings its own."""
    converted: int
    """Bytes of the weights' files where they lie in another type than `model.dtype`: there beside the weights while these are read."""
    trained_token: float
    """Bytes that the forward pass keeps for a token of a micro-batch (with gradient checkpointing, that it has at most)."""
    attack_token: float
    """The same without gradient checkpointing, as attacks on the weights train."""
    row: float
    """Bytes for a row that is decoded."""
    cached_token: float
    """Bytes for a token of a row in the cache."""
    prompt_token: float
    """Further bytes for a token of the cache of prompts that are read at once, before it is spread over their answers."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one stage: what stays, and the largest of the moments."""

    stage: str
    stays: Mapping[str, float]
    moments: Mapping[str, float] = field(default_factory=dict)

    @property
    def moment(self) -> str:
        """The moment that needs most."""
        return max(self.moments, key=lambda name: self.moments[name], default="")

    @property
    def total(self) -> float:
        return sum(self.stays.values()) + max(self.moments.values(), default=0.0)

    @property
    def tensors(self) -> float:
        """Without libraries: what lies on an accelerator, where there is one."""
        return self.total - self.stays.get("libraries", 0.0)


def memory(stage: Stage, recipe: Recipe, sizes: Sizes, reference: bool) -> Memory:
    """One stage's bytes. `reference`: the method compares with the untouched model."""
    if stage.name == "record":
        return Memory(stage.name, _fixed(sizes, weights=sizes.whole), _loading(stage, recipe, sizes) | _asking(stage, sizes))
    if stage.name.startswith("audit"):
        return _audit(stage, recipe, sizes)
    lora, trained = recipe.lora.rank > 0, sizes.trained
    gradients = 4.0 * trained
    stays = _fixed(
        sizes,
        weights=sizes.weights,
        exact_copies=4.0 * trained if sizes.half and not lora else 0.0,
        reference_copy=sizes.weights if reference and stage.name == "train" and not lora else 0.0,
        optimizer=8.0 * trained,
    )
    parts = recipe.train.accumulation if stage.name == "train" else 1
    # Gradients come into being while activations go: only with several micro-batches are both there in full.
    begin = sizes.trained_token * stage.step_tokens + _logits(stage.step_tokens, sizes) + 4.0 * sizes.head
    begin += gradients if parts > 1 else 0.0
    end = gradients + (2.0 * trained if sizes.half and not lora else 0.0) + _update(trained, sizes)
    asking = {name: gradients + size for name, size in _asking(stage, sizes).items()}
    return Memory(stage.name, stays, _loading(stage, recipe, sizes) | _slack({"backward pass": begin, "update": end}, sizes) | asking)


def _audit(stage: Stage, recipe: Recipe, sizes: Sizes) -> Memory:
    """The model; then, one after the other, the reference judge, and what probes do to copies of it."""
    asking = _asking(stage, sizes)
    loading = _loading(stage, recipe, sizes).get("loading", 0.0)
    reference_judge = sizes.weights + (0.0 if sizes.gpu else float(sizes.tokenizer)) + max(loading, asking["scoring"])
    attacked = {name: _attacked(attack, sizes, asking["sampling"]) for name, attack in stage.attacks.items()}
    return Memory(stage.name, _fixed(sizes, weights=sizes.whole), {"reference_judge": reference_judge, **asking, **attacked})


def _attacked(attack: Attack, sizes: Sizes, sampling: float) -> float:
    """A copy in few bits, or one in float32 that trains with AdamW's two moments, or adapters in float32 with theirs."""
    inner = sizes.parameters - sizes.embeddings
    if not attack.tokens:
        return attack.few_bits * inner + sampling
    trained = adapter(attack.rank, sizes) if attack.rank else float(sizes.parameters)
    whole = not attack.rank
    begin = (2.0 if sizes.half and whole else 1.0) * sizes.attack_token * attack.tokens + _logits(attack.tokens, sizes)
    begin += 4.0 * sizes.head if whole else 0.0
    end = 4.0 * trained + (_update(sizes.parameters, sizes) if whole else 0.0)
    # The copy comes and goes as well.
    return max(*_slack({"": 12.0 * trained + max(begin, end)}, sizes).values(), 16.0 * trained + sampling)


def _fixed(sizes: Sizes, **parts: float) -> dict[str, float]:
    return {"libraries": float(GPU_CONTEXT if sizes.gpu else sizes.libraries)} | {name: size for name, size in parts.items() if size}


def _loading(stage: Stage, recipe: Recipe, sizes: Sizes) -> dict[str, float]:
    """Files that are read into another type; what a stage of the run wrote is in the right one already."""
    planted = recipe.finetune.epochs > 0 and stage.name not in ("finetune", "retain model")
    return {"loading": float(sizes.converted)} if sizes.converted and not planted and not sizes.gpu else {}


def _asking(stage: Stage, sizes: Sizes) -> dict[str, float]:
    """Reading prompts, decoding, and scoring texts without gradients."""
    scored = _READ_ROWS * max((one.capacity for one in stage.asked), default=1)
    return _slack(
        {
            "sampling": max((_sampling(one, sizes) for one in stage.asked), default=0.0),
            "scoring": sizes.attack_token / max(1, sizes.layers) * scored + _logits(scored / 2, sizes),
        },
        sizes,
    )


def _sampling(one: Asked, sizes: Sizes) -> float:
    return sizes.row * one.rows + (sizes.cached_token * one.rows + sizes.prompt_token * one.prompts) * one.capacity


def _slack(moments: Mapping[str, float], sizes: Sizes) -> dict[str, float]:
    """What comes and goes leaves gaps between what stays, and operations need room of their own."""
    factor = GPU_SLACK if sizes.gpu else SLACK
    return {name: factor * size for name, size in moments.items()}


def _logits(tokens: float, sizes: Sizes) -> float:
    """A chunk of logits in float32 with one temporary of its size; in half precision the half-size original too."""
    elements = min(tokens * sizes.vocabulary, _LOGITS_AT_ONCE)
    return elements * (10.0 if sizes.half else 8.0)


def adapter(rank: float, sizes: Sizes) -> float:
    """Numbers in adapters of this rank: r · (d + e) for a layer from d to e, which for matrices of like shape is 2·r·√(d·e)."""
    inner = sizes.parameters - sizes.embeddings
    return rank * 2.0 * sqrt(inner * 7 * sizes.layers) * 1.1


def _update(trained: int, sizes: Sizes) -> float:
    """AdamW's temporaries: of all trained weights at once on an accelerator (foreach), else of one matrix at a time."""
    return 4.0 * trained if sizes.gpu else 8.0 * min(trained, sizes.largest)
