"""How much memory each stage needs at most, by part: the model's sizes and the recipe's knobs, in bytes.

    stage = libraries + weights + copies + optimizer + largest of its moments (step, sampling, scoring)

All arithmetic; docs/memory.md has the derivation, docs/doctor.md how far it is off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf, sqrt

import torch

from unsay import audit
from unsay.config import Recipe
from unsay.doctor.pilot import Attack, Stage
from unsay.lm.logprobs import LOGITS_AT_ONCE
from unsay.lm.model import default_device
from unsay.lm.plan import DRAWN, for_many
from unsay.lm.subject import READ_ROWS
from unsay.probes import declared_by

_KL_CHUNKS = 3
"""Chunks that the KL retain loss holds: two distributions at two temperatures (`logprobs.head_divergences`)."""
USABLE = 0.9
"""Share of the free memory that a run may plan with."""
SLACK, GPU_SLACK = 1.4, 1.1
"""Room taken for each byte of tensors that come and go: measured, docs/doctor.md."""
KERNELS, MOST_KERNELS = 0.3e6, 0.014e9
"""What oneDNN keeps on a processor of the code for each new shape of a batch, and for the 48 that are kept at most (lm/linear.py): fitted
to the demo's stages, which take .1 to .5 MB a shape (docs/doctor.md)."""
GPU_CONTEXT = 600_000_000
"""What CUDA and its libraries take on the card."""
FEW_BITS = {"4bit": 0.516, "8bit": 1.0}
"""Bytes for a number of a quantised layer, its scales included."""


@dataclass(frozen=True)
class Sizes:
    """The model, and what a token of work holds."""

    parameters: int
    """Numbers in all weights, of which in `embeddings`, and in the `largest` matrix."""
    embeddings: int
    largest: int
    vocabulary: int
    hidden: int
    layers: int
    itemsize: int
    """Bytes of a number in the type in which the rest was measured."""
    token: float
    """Bytes that the forward pass keeps for a token of a micro-batch, without gradient checkpointing."""
    cached_row: float
    """Bytes of a row in the cache, whatever its length."""
    cached_token: float
    """Bytes for each token of a row in the cache."""
    files: int
    """Bytes of the files that the weights are read from."""
    tokenizer: int
    """Bytes of one more tokenizer: the reference judge brings its own."""
    libraries: int
    """Bytes of the process before any weight: the interpreter, torch, tokenizer and corpus."""
    gpu: bool

    @property
    def inner(self) -> int:
        """Numbers outside the embeddings."""
        return self.parameters - self.embeddings


@dataclass(frozen=True)
class Memory:
    """Bytes of one stage: what stays, and the largest of the moments."""

    stage: str
    stays: Mapping[str, float]
    moments: Mapping[str, float] = field(default_factory=dict)
    shared: float = 0.0
    """What several cards can divide among them."""
    each: float = 0.0
    """What each of them then holds besides."""

    @property
    def moment(self) -> str:
        """The moment that needs most."""
        return max(self.moments, key=lambda name: self.moments[name], default="")

    @property
    def parts(self) -> dict[str, float]:
        """What stays, and that moment."""
        return {**self.stays, self.moment: max(self.moments.values(), default=0.0)}

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def memory(stage: Stage, recipe: Recipe, sizes: Sizes) -> Memory:
    """One stage's bytes."""
    arithmetic = _Arithmetic(stage, recipe, sizes)
    if stage.name == "record":
        return arithmetic.of_record()
    return arithmetic.of_audit() if stage.name.startswith("audit") else arithmetic.of_training()


def trained(recipe: Recipe, sizes: Sizes) -> float:
    """Numbers that the recipe's optimizer moves."""
    return _adapter(recipe.lora.rank, sizes) if recipe.lora.rank else sizes.parameters - sizes.embeddings * recipe.model.freeze_embeddings


def _adapter(rank: float, sizes: Sizes) -> float:
    """Numbers in adapters of this rank: r · (d + e) for a layer from d to e, which for matrices of like shape is 2·r·√(d·e)."""
    return rank * 2.0 * sqrt(sizes.inner * 7 * sizes.layers) * 1.1


@dataclass(frozen=True)
class _Arithmetic:
    stage: Stage
    recipe: Recipe
    sizes: Sizes

    @property
    def itemsize(self) -> int:
        return int(getattr(torch, self.recipe.model.dtype).itemsize)

    @property
    def narrower(self) -> float:
        """Than when it was measured."""
        return self.itemsize / self.sizes.itemsize

    @property
    def whole(self) -> float:
        """Bytes of the weights as record and the audit load them."""
        return float(self.itemsize * self.sizes.parameters)

    @property
    def weights(self) -> float:
        """Bytes as training loads them, quantised or not."""
        return FEW_BITS.get(self.recipe.model.quantization, self.itemsize) * self.sizes.inner + self.itemsize * self.sizes.embeddings

    @property
    def slack(self) -> float:
        """What comes and goes leaves gaps between what stays, and operations need room of their own."""
        return GPU_SLACK if self.sizes.gpu else SLACK

    def of_record(self) -> Memory:
        stays, asking = self._stays(weights=self.whole), self._asking()
        return Memory(self.stage.name, stays, self._loading() | asking, self.whole, stays["libraries"] + max(asking.values()))

    def of_training(self) -> Memory:
        """Weights that are trained, in `train`, in `finetune` or for a retain model."""
        config, sizes, lora = self.recipe.train, self.sizes, self.recipe.lora.rank > 0
        copies = self.itemsize < 4 and not lora  # in half precision, weights that are trained themselves have exact copies
        moved, training = trained(self.recipe, sizes), self.stage.name == "train"
        gradients = 4.0 * moved
        stays = self._stays(
            weights=self.weights,
            exact_copies=gradients if copies else 0.0,
            reference_copy=self.weights if self.stage.reference and not lora else 0.0,
            optimizer=2 * gradients,
        )
        tokens = self.stage.tokens * (config.batch if training else self.recipe.finetune.batch)
        token = self.narrower * sizes.token
        if config.gradient_checkpointing:  # kept then: the input of every layer, and one layer computed again
            held = 8.0 * bool(config.state_weight) * sizes.layers * sizes.hidden  # states before, and how far off they are
            token = min(token, sizes.layers * sizes.hidden * self.itemsize + token / sizes.layers + held)
        # Gradients come into being while activations go: only with several micro-batches are both there in full.
        logits = self._logits(tokens) * (_KL_CHUNKS if self.stage.reference and config.retain_loss == "kl" else 1)
        begin = token * tokens + logits + (0.0 if lora or self.recipe.model.freeze_embeddings else 4.0 * sizes.embeddings)
        begin += gradients if training and config.accumulation > 1 else 0.0
        end = gradients + (2.0 * moved if copies else 0.0) + self._update(moved)
        asking = {name: gradients + size for name, size in self._asking().items()}
        moments = self._loading() | {"backward pass": self.slack * begin, "update": self.slack * end} | asking
        spread = 0.0 if lora else stays.get("exact_copies", 0.0) + stays["optimizer"]  # and what an update takes
        each = sum(stays.values()) - spread + max(size for name, size in moments.items() if name != "update")
        return Memory(self.stage.name, stays, moments, spread + moments["update"] if spread else 0.0, each)

    def of_audit(self) -> Memory:
        """The model; beside it the reference judge, up to the last probe that asks it; and what probes do to copies of the model."""
        asking, probes = self._asking(), audit.probes_of(self.recipe)
        judge = self.weights + (0.0 if self.sizes.gpu else self.sizes.tokenizer)
        judged = [i for i, probe in enumerate(probes.values()) if declared_by(probe).judged]
        beside = {name: judge * (i <= max(judged, default=-1)) for i, name in enumerate(probes)}
        moments = {"reference_judge": judge + max(self._loading().get("loading", 0.0), *asking.values())} if judged else {}
        attacks = {name: one for name, one in self.stage.attacks.items() if name in probes}
        attacked = {name: beside[name] + self._attacked(name, one, asking["sampling"]) for name, one in attacks.items()}
        stays = self._stays(weights=self.whole)
        both = self.whole + (judge if judged else 0.0)
        return Memory(self.stage.name, stays, {**moments, **asking, **attacked}, both, stays["libraries"] + max(asking.values()))

    def _attacked(self, name: str, attack: Attack, sampling: float) -> float:
        """A copy in few bits, or one in float32 that trains with AdamW's two moments, or adapters in float32 with theirs; or the
        activations of a model that trains nothing."""
        sizes = self.sizes
        if not attack.tokens:
            return attack.few_bits * sizes.inner + sampling
        if not attack.trains:
            read = self.narrower * sizes.token * attack.tokens + self._logits(attack.tokens)
            return max(self.slack * read, sampling)
        rank = getattr(audit.probes_of(self.recipe)[name], "rank", 0)
        moved = _adapter(rank, sizes) if rank else float(sizes.parameters)
        token = (self.narrower if rank else 4 / sizes.itemsize) * sizes.token
        begin = token * attack.tokens + self._logits(attack.tokens) + (0.0 if rank else 4.0 * sizes.embeddings)
        end = 4.0 * moved + (0.0 if rank else self._update(moved))
        # The copy comes and goes as well.
        return max(self.slack * (12.0 * moved + max(begin, end)), 16.0 * moved + sampling)

    def _stays(self, **parts: float) -> dict[str, float]:
        work = self.stage.work
        shapes = work["read batch"] + work["decode step"] + 2 * work["micro-batch"]
        libraries = GPU_CONTEXT if self.sizes.gpu else self.sizes.libraries + min(KERNELS * shapes, MOST_KERNELS)
        return {"libraries": float(libraries)} | {name: size for name, size in parts.items() if size}

    def _loading(self) -> dict[str, float]:
        """Files that are read into another type; what a stage of the run wrote is in the right one already."""
        planted = self.recipe.finetune.epochs > 0 and self.stage.name not in ("finetune", "retain model")
        other = abs(self.sizes.files - self.whole) > 0.1 * self.whole
        return {"loading": float(self.sizes.files)} if other and not planted and not self.sizes.gpu else {}

    def _asking(self) -> dict[str, float]:
        """Reading prompts, decoding, and scoring texts without gradients."""
        scored = READ_ROWS * max((capacity for _, capacity in self.stage.batches), default=1)
        scoring = self.narrower * self.sizes.token / max(1, self.sizes.layers) * scored + self._logits(scored / 2)
        questions = None if self.stage.name.startswith("audit") else self.stage.questions
        sampling, most = 0.0, for_many(self.recipe.sample, "cuda" if self.sizes.gpu else default_device().type, questions)
        for rows, capacity in self.stage.batches:  # a row's cache, and what drawing its next token takes
            cache = self.narrower * (self.sizes.cached_row + self.sizes.cached_token * capacity)
            sampling = max(sampling, min(rows, most.rows) * (cache + 4.0 * DRAWN * self.sizes.vocabulary))
        return {"sampling": self.slack * sampling, "scoring": self.slack * scoring}

    def _logits(self, tokens: float) -> float:
        """A chunk of logits in float32 with one temporary of its size; in half precision the half-size original too."""
        return min(tokens * self.sizes.vocabulary, LOGITS_AT_ONCE) * (10.0 if self.itemsize < 4 else 8.0)

    def _update(self, moved: float) -> float:
        """AdamW's temporaries: of all trained weights at once on an accelerator (foreach), else of one matrix at a time."""
        return 4.0 * moved if self.sizes.gpu else 8.0 * min(moved, self.sizes.largest)


KINDS = (24, 40, 80, 141)
"""Gigabytes of memory of the cards in use: RTX 4090 and L4, A100, H100, H200."""


@dataclass(frozen=True)
class Cards:
    """What a run takes of one kind of card."""

    gigabytes: int
    number: int | None
    """`None`: not even many of them will do."""
    stage: str
    """The stage that takes so many."""


def cards(recipe: Recipe, sizes: Sizes, stages: Sequence[Stage]) -> tuple[Cards, ...]:
    """For each kind, the most that a stage takes: projected, for no card was at hand."""
    needs = [memory(stage, recipe, replace(sizes, gpu=True)) for stage in stages]
    by_kind = ([Cards(kind, number(need, USABLE * kind * 1e9), need.stage) for need in needs] for kind in KINDS)
    return tuple(max(taken, key=lambda card: inf if card.number is None else card.number) for taken in by_kind)


def number(need: Memory, usable: float) -> int | None:
    """Cards for one stage where each has `usable` bytes; `None` where what every card must hold is more than that.

    A stage that one card cannot hold is spread in the ways that unsay has: a model that is only asked layer by layer
    (`model.device_map=auto`, without the attacks that change a copy of it), a full training as exact weights and moments (FSDP2),
    adapters not at all.
    """
    if need.total <= usable:
        return 1
    left = usable - need.each
    return max(2, ceil(need.shared / left)) if need.shared and left > 0 else None
