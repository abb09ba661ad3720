"""Which knob to turn where it does not fit, and where the time goes. Pure: no model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from unsay.config import Recipe
from unsay.doctor.cost import Costs
from unsay.doctor.machine import Machine
from unsay.doctor.memory import Sizes, adapter, memory
from unsay.doctor.meter import Asked
from unsay.doctor.stages import Stage
from unsay.vault import retention

_SINK = 0.2
"""Share of the whole time from which on a part is worth a word."""
_SPARE = 0.9
"""Share of the free memory that a run may plan with."""


@dataclass(frozen=True)
class Advice:
    """One knob."""

    about: str
    """`memory`, `time`, `disk` or `vault`."""
    setting: str
    """As `--set` takes it; several are separated by a space."""
    saves: float
    """Bytes, or seconds."""
    note: str
    enough: bool = False
    """With this one and all before it, the run fits."""


def advise(
    recipe: Recipe, machine: Machine, sizes: Sizes, costs: Costs, stages: Sequence[Stage], reference: bool, disk: Mapping[str, float]
) -> tuple[Advice, ...]:
    """Memory first, then disk, then time; within each the least harm first."""
    state = _State(recipe, sizes, stages, reference, bool(machine.gpu))
    return (
        *_for_memory(state, machine.free),
        *_for_disk(recipe, machine, disk),
        *_for_time(recipe, costs, stages),
        *_for_vault(recipe, date.today()),
    )


# -- memory ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _State:
    """A recipe as far as its knobs have been turned."""

    recipe: Recipe
    sizes: Sizes
    stages: Sequence[Stage]
    reference: bool
    gpu: bool

    def peak(self) -> float:
        return max((memory(stage, self.recipe, self.sizes, self.reference).total for stage in self.stages), default=0.0)

    def with_stages(self, rows: int = 0, step: float = 1.0) -> list[Stage]:
        """The stages with at most so many rows decoded at once, and that share of the tokens of training's micro-batch."""
        return [
            replace(
                stage,
                asked=frozenset(_at_most(one, rows) for one in stage.asked),
                step_tokens=int(stage.step_tokens * (step if stage.name == "train" else 1.0)),
                answer_tokens=int(stage.answer_tokens * (step if stage.name == "train" else 1.0)),
            )
            for stage in self.stages
        ]


def _at_most(one: Asked, rows: int) -> Asked:
    """A batch cut down to `rows`; 0 leaves it."""
    if not rows or one.rows <= rows:
        return one
    return replace(one, rows=rows, prompts=-(-one.prompts * rows // one.rows))


def _for_memory(state: _State, free: int | None) -> Iterator[Advice]:
    """Turn, again and again, the least harmful knob that lowers the peak, until it fits."""
    if free is None or state.peak() <= _SPARE * free:
        return
    turned: set[str] = set()
    while state.peak() > _SPARE * free:
        now = state.peak()
        for knob in _KNOBS:
            if knob.__name__ in turned:
                continue
            change = knob(state)
            if change is not None and change[2].peak() < 0.97 * now:
                break
        else:
            yield Advice("memory", "", 0.0, "no knob is left: take a smaller model, or a machine with more memory")
            return
        setting, note, state = change
        turned.add(knob.__name__)
        yield Advice("memory", setting, now - state.peak(), note, state.peak() <= _SPARE * free)


_Change = tuple[str, str, _State]


def _fewer_rows(state: _State) -> _Change | None:
    rows = state.recipe.sample.rows
    most = max((one.rows for stage in state.stages for one in stage.asked), default=rows)
    fewer = max(8, min(rows, most) // 4)
    if fewer >= rows:
        return None
    recipe = replace(state.recipe, sample=replace(state.recipe.sample, rows=fewer))
    changed = replace(state, recipe=recipe, stages=state.with_stages(rows=fewer))
    return f"sample.rows={fewer}", "the same answers, decoded in smaller batches", changed


def _smaller_batch(state: _State) -> _Change | None:
    train = state.recipe.train
    if train.batch == 1:
        return None
    parts = min(train.batch, 4)
    smaller = replace(train, batch=max(1, train.batch // parts), accumulation=train.accumulation * parts)
    changed = replace(state, recipe=replace(state.recipe, train=smaller), stages=state.with_stages(step=smaller.batch / train.batch))
    return f"train.batch={smaller.batch} train.accumulation={smaller.accumulation}", "the same step, in smaller pieces", changed


def _checkpointing(state: _State) -> _Change | None:
    train, sizes = state.recipe.train, state.sizes
    if train.gradient_checkpointing:
        return None
    recomputed = replace(sizes, trained_token=checkpointed(sizes))
    changed = replace(state, recipe=replace(state.recipe, train=replace(train, gradient_checkpointing=True)), sizes=recomputed)
    return "train.gradient_checkpointing=true", "the same gradients, about a third more time a step", changed


def checkpointed(sizes: Sizes) -> float:
    """Bytes that a trained token holds with gradient checkpointing: the input of every layer, and one layer computed again."""
    kept = sizes.layers * sizes.hidden * (2 if sizes.half else 4)
    return min(sizes.trained_token, kept + sizes.trained_token / max(1, sizes.layers))


def _frozen_embeddings(state: _State) -> _Change | None:
    model, sizes = state.recipe.model, state.sizes
    if model.freeze_embeddings or not sizes.head:
        return None
    frozen = replace(sizes, trained=sizes.trained - sizes.head, head=0)
    recipe = replace(state.recipe, model=replace(model, freeze_embeddings=True))
    return "model.freeze_embeddings=true", "words keep their meaning; often better", replace(state, recipe=recipe, sizes=frozen)


def _adapters(state: _State) -> _Change | None:
    if state.recipe.lora.rank:
        return None
    sizes, rank = state.sizes, 16
    trained = int(min(sizes.trained, adapter(rank, sizes)))
    small = replace(sizes, trained=trained, head=0, largest=min(sizes.largest, trained))
    recipe = replace(state.recipe, lora=replace(state.recipe.lora, rank=rank))
    note = "trains adapters instead of the weights, and needs no frozen copy; raise train.learning_rate about tenfold"
    return f"lora.rank={rank}", note, replace(state, recipe=recipe, sizes=small)


def _half_precision(state: _State) -> _Change | None:
    model, sizes = state.recipe.model, state.sizes
    if model.dtype != "float32":
        return None
    smaller = replace(
        sizes,
        weights=sizes.weights // 2,
        whole=sizes.whole // 2,
        half=True,
        trained_token=sizes.trained_token / 2,
        attack_token=sizes.attack_token / 2,
        cached_token=sizes.cached_token / 2,
        prompt_token=sizes.prompt_token / 2,
    )
    return (
        "model.dtype=bfloat16",
        "half the weights and activations; slow on processors without bfloat16",
        replace(state, recipe=replace(state.recipe, model=replace(model, dtype="bfloat16")), sizes=smaller),
    )


def _four_bits(state: _State) -> _Change | None:
    recipe, sizes = state.recipe, state.sizes
    if recipe.model.quantization != "none" or not recipe.lora.rank or not state.gpu:
        return None
    smaller = replace(sizes, weights=int(0.516 * (sizes.parameters - sizes.embeddings) + 2 * sizes.embeddings))
    recipe = replace(recipe, model=replace(recipe.model, quantization="4bit"))
    return "model.quantization=4bit", "the fixed weights in 4 bits, in training only", replace(state, recipe=recipe, sizes=smaller)


def _relearn_adapters(state: _State) -> _Change | None:
    knobs = state.recipe.tables.get("relearn", {})
    if "relearn" not in state.recipe.audit.probes or knobs.get("rank", 0):
        return None
    recipe = replace(state.recipe, tables={**state.recipe.tables, "relearn": {**knobs, "rank": 16}})
    return "relearn.rank=16", "the attacker trains adapters instead of a whole copy: a weaker attack", replace(state, recipe=recipe)


def _no_relearning(state: _State) -> _Change | None:
    left = tuple(name for name in state.recipe.audit.probes if name != "relearn")
    if left == state.recipe.audit.probes or not left:
        return None
    recipe = replace(state.recipe, audit=replace(state.recipe.audit, probes=left))
    setting = f"audit.probes={list(left)}".replace("'", '"').replace(" ", "")
    return setting, "without relearning the report cannot say how cheaply the secrets come back", replace(state, recipe=recipe)


_KNOBS: tuple[Callable[[_State], _Change | None], ...] = (
    _fewer_rows,
    _smaller_batch,
    _checkpointing,
    _relearn_adapters,
    _frozen_embeddings,
    _half_precision,
    _adapters,
    _four_bits,
    _no_relearning,
)
"""Least harm first: the same run in smaller pieces, then slower, then another one, then a smaller audit."""


# -- disk --------------------------------------------------------------------------------------------------------------


def _for_disk(recipe: Recipe, machine: Machine, disk: Mapping[str, float]) -> Iterator[Advice]:
    if sum(disk.values()) <= _SPARE * machine.disk_free:
        return
    if not recipe.lora.rank:
        saves = disk.get("state", 0.0) + disk.get("state being replaced", 0.0)
        yield Advice("disk", "lora.rank=16", saves, "the saved state is then a few adapters; or point --out at a larger disk")
    else:
        yield Advice("disk", "", 0.0, "point --out at a larger disk")


# -- vault -------------------------------------------------------------------------------------------------------------


def _for_vault(recipe: Recipe, today: date) -> Iterator[Advice]:
    late = retention(recipe.vault.keep_until, today)
    if late:
        yield Advice("vault", "", 0.0, f"the vault may be kept for so long only: {late}; unsay vault destroy RUN ends it")


# -- time --------------------------------------------------------------------------------------------------------------


def _for_time(recipe: Recipe, costs: Costs, stages: Sequence[Stage]) -> Iterator[Advice]:
    """The parts that take a fifth or more of the whole, the audits taken together."""
    spent: dict[str, float] = {}
    for stage in stages:
        kind = "audit" if stage.name.startswith("audit") else stage.name
        for part, work in stage.parts.items():
            spent[f"{kind}: {part}"] = spent.get(f"{kind}: {part}", 0.0) + costs.seconds(work)
    whole = sum(spent.values())
    for part, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        if seconds < _SINK * whole:
            return
        found = _sink(part, recipe)
        if found is not None:
            setting, share, note = found
            yield Advice("time", setting, share * seconds, f"{part} is {seconds / whole:.0%} of the time; {note}")


def _sink(part: str, recipe: Recipe) -> tuple[str, float, str] | None:
    """(setting, the share of the part's time that it saves, what it costs)."""
    train = recipe.train
    if part == "record: rehearsal":
        return f"record.rehearsal={recipe.record.rehearsal // 2}", 0.5, "fewer anchors for what no retain row covers"
    if part == "record: branches":
        return f"record.branches={recipe.record.branches // 2}", 0.5, "fewer wordings to cut openings from"
    if part == "train: sampling and scoring" and train.resample == "step":
        return 'train.resample="round"', 0.5, "answers are up to a round stale; saves most where a step has few rows"
    if part.startswith("train"):
        return f"train.rounds={max(1, train.rounds // 2)}", 0.5, "look at train/steps.jsonl: does the loss still fall at half time?"
    if part.startswith(("finetune", "gold model")):
        return f"finetune.epochs={max(1, recipe.finetune.epochs // 2)}", 0.5, "planted less firmly"
    if part == "audit: relearn":
        return "relearn.learning_rates=[3e-4]", 0.67, "an attacker who tries only one rate"
    if part in ("audit: sampling", "audit: prefill"):
        name = part.removeprefix("audit: ")
        n = int(dict(recipe.tables.get(name, {})).get("n", 100 if name == "sampling" else 10))
        return f"{name}.n={max(1, n // 2)}", 0.5, "rarer slips stay unseen"
    if part == "audit: utility":
        return "utility.limit=50", 0.5, "a coarser measure"
    return None
