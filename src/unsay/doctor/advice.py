"""Which knob to turn where it does not fit, and where the time goes. Pure: no model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from unsay import audit
from unsay.config import Recipe
from unsay.doctor.cost import Costs
from unsay.doctor.machine import Machine
from unsay.doctor.memory import Sizes, adapter, memory
from unsay.doctor.pilot import Stage
from unsay.doctor.tape import Asked
from unsay.store.vault import retention

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


_Change = tuple[str, str, _State]


def _for_memory(state: _State, free: int | None) -> Iterator[Advice]:
    """Turn, again and again, the least harmful knob that lowers the peak, until it fits."""
    if free is None:
        return
    left = list(_KNOBS)
    while (now := state.peak()) > _SPARE * free:
        tried = ((knob, knob(state)) for knob in left)
        helps = next(((knob, change) for knob, change in tried if change and change[2].peak() < 0.97 * now), None)
        if helps is None:
            yield Advice("memory", "", 0.0, "no knob is left: take a smaller model, or a machine with more memory")
            return
        knob, (setting, note, state) = helps
        left.remove(knob)
        yield Advice("memory", setting, now - state.peak(), note, state.peak() <= _SPARE * free)


def _fewer_rows(state: _State) -> _Change | None:
    rows = state.recipe.sample.rows
    most = max((one.rows for stage in state.stages for one in stage.asked), default=rows)
    fewer = max(8, min(rows, most) // 4)
    if fewer >= rows:
        return None
    recipe = replace(state.recipe, sample=replace(state.recipe.sample, rows=fewer))
    stages = [replace(stage, asked=frozenset(_at_most(one, fewer) for one in stage.asked)) for stage in state.stages]
    return f"sample.rows={fewer}", "the same answers, decoded in smaller batches", replace(state, recipe=recipe, stages=stages)


def _at_most(one: Asked, rows: int) -> Asked:
    return one if one.rows <= rows else replace(one, rows=rows, prompts=-(-one.prompts * rows // one.rows))


def _smaller_batch(state: _State) -> _Change | None:
    train = state.recipe.train
    if train.batch == 1:
        return None
    parts = min(train.batch, 4)
    smaller = replace(train, batch=max(1, train.batch // parts), accumulation=train.accumulation * parts)
    share = smaller.batch / train.batch
    stages = [replace(one, step_tokens=int(one.step_tokens * share)) if one.name == "train" else one for one in state.stages]
    changed = replace(state, recipe=replace(state.recipe, train=smaller), stages=stages)
    return f"train.batch={smaller.batch} train.accumulation={smaller.accumulation}", "the same step, in smaller pieces", changed


def _checkpointing(state: _State) -> _Change | None:
    train, sizes = state.recipe.train, state.sizes
    if train.gradient_checkpointing:
        return None
    recipe = replace(state.recipe, train=replace(train, gradient_checkpointing=True))
    # What is kept then: the input of every layer, and one layer computed again.
    kept = sizes.layers * sizes.hidden * (2 if sizes.half else 4) + sizes.trained_token / max(1, sizes.layers)
    changed = replace(state, recipe=recipe, sizes=replace(sizes, trained_token=min(sizes.trained_token, kept)))
    return "train.gradient_checkpointing=true", "the same gradients, about a third more time a step", changed


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


_HALVED = ("trained_token", "attack_token", "cached_token", "prompt_token")


def _half_precision(state: _State) -> _Change | None:
    model, sizes = state.recipe.model, state.sizes
    if model.dtype != "float32":
        return None
    smaller = replace(sizes, weights=sizes.weights // 2, whole=sizes.whole // 2, half=True)
    smaller = replace(smaller, **{name: getattr(sizes, name) / 2 for name in _HALVED})
    changed = replace(state, recipe=replace(state.recipe, model=replace(model, dtype="bfloat16")), sizes=smaller)
    return "model.dtype=bfloat16", "half the weights and activations; slow on processors without bfloat16", changed


def _four_bits(state: _State) -> _Change | None:
    recipe, sizes = state.recipe, state.sizes
    if recipe.model.quantization != "none" or not recipe.lora.rank or not state.gpu:
        return None
    smaller = replace(sizes, weights=int(0.516 * (sizes.parameters - sizes.embeddings) + 2 * sizes.embeddings))
    recipe = replace(recipe, model=replace(recipe.model, quantization="4bit"))
    return "model.quantization=4bit", "the fixed weights in 4 bits, in training only", replace(state, recipe=recipe, sizes=smaller)


def _smaller_attack(state: _State) -> _Change | None:
    """Of the probes that train a whole copy of the model, the first that can train adapters instead."""
    rank = 16
    probes = audit.probes_of(state.recipe)
    for name in sorted({name for stage in state.stages for name, attack in stage.attacks.items() if attack.tokens and not attack.rank}):
        if hasattr(probes[name], "rank"):
            table = {**state.recipe.tables.get(name, {}), "rank": rank}
            recipe = replace(state.recipe, tables={**state.recipe.tables, name: table})
            stages = [_with_rank(stage, name, rank) for stage in state.stages]
            note = "the attacker trains adapters instead of a whole copy: a weaker attack"
            return f"{name}.rank={rank}", note, replace(state, recipe=recipe, stages=stages)
    return None


def _with_rank(stage: Stage, name: str, rank: float) -> Stage:
    return replace(stage, attacks={key: replace(one, rank=rank if key == name else one.rank) for key, one in stage.attacks.items()})


def _no_attacks(state: _State) -> _Change | None:
    attacking = {name for stage in state.stages for name, attack in stage.attacks.items() if attack.tokens}
    left = tuple(name for name in state.recipe.audit.probes if name not in attacking)
    if not attacking or not left:
        return None
    recipe = replace(state.recipe, audit=replace(state.recipe.audit, probes=left))
    stages = [replace(one, attacks={n: a for n, a in one.attacks.items() if n in left}) for one in state.stages]
    setting = f"audit.probes={list(left)}".replace("'", '"').replace(" ", "")
    note = f"without {', '.join(sorted(attacking))} the report cannot say how cheaply the secrets come back"
    return setting, note, replace(state, recipe=recipe, stages=stages)


_KNOBS: tuple[Callable[[_State], _Change | None], ...] = (
    _fewer_rows,
    _smaller_batch,
    _checkpointing,
    _smaller_attack,
    _frozen_embeddings,
    _half_precision,
    _adapters,
    _four_bits,
    _no_attacks,
)
"""Least harm first: the same run in smaller pieces, then slower, then another one, then a smaller audit."""


# -- disk, vault, time -------------------------------------------------------------------------------------------------


def _for_disk(recipe: Recipe, machine: Machine, disk: Mapping[str, float]) -> Iterator[Advice]:
    if sum(disk.values()) <= _SPARE * machine.disk_free:
        return
    if recipe.lora.rank:
        yield Advice("disk", "", 0.0, "point --out at a larger disk")
        return
    saves = disk.get("state", 0.0) + disk.get("state being replaced", 0.0)
    yield Advice("disk", "lora.rank=16", saves, "the saved state is then a few adapters; or point --out at a larger disk")


def _for_vault(recipe: Recipe, today: date) -> Iterator[Advice]:
    late = retention(recipe.vault.keep_until, today)
    if late:
        yield Advice("vault", "", 0.0, f"the vault may be kept for so long only: {late}; unsay vault destroy RUN ends it")


def _for_time(recipe: Recipe, costs: Costs, stages: Sequence[Stage]) -> Iterator[Advice]:
    """The parts that take a fifth or more of the whole, the audits taken together."""
    spent: dict[tuple[str, str], float] = {}
    for stage in stages:
        kind = "audit" if stage.name.startswith("audit") else stage.name
        for part, work in stage.parts.items():
            spent[kind, part] = spent.get((kind, part), 0.0) + costs.seconds(work)
    whole = sum(spent.values())
    for (kind, part), seconds in sorted(spent.items(), key=lambda item: -item[1]):
        if seconds >= _SINK * whole:
            setting, note = _sink(kind, part, recipe)
            yield Advice("time", setting, 0.5 * seconds, f"{kind}: {part} is {seconds / whole:.0%} of the time; {note}")


def _sink(kind: str, part: str, recipe: Recipe) -> tuple[str, str]:
    """A setting that halves the part's time, about, and what it costs."""
    train, record = recipe.train, recipe.record
    if kind == "audit":
        knobs = audit.probes_of(recipe)[part]
        if (n := getattr(knobs, "n", 1)) > 1:
            return f"{part}.n={n // 2}", "rarer slips stay unseen"
        asked = getattr(knobs, "limit", recipe.audit.limit)
        return (f"{part}.limit={asked // 2 or 50}" if hasattr(knobs, "limit") else f"audit.limit={asked // 2 or 20}"), "a coarser measure"
    if kind == "record":
        name = next((name for name in ("replay", "near_misses", "own_retain") if getattr(record, name)), "branches")
        return f"record.{name}={getattr(record, name) // 2}", "the model's own words hold on to less of what should stay"
    if kind == "train" and part != "steps" and train.resample == "step":
        return 'train.resample="round"', "answers are up to a round stale; saves most where a step has few rows"
    if kind == "train":
        return f"train.rounds={max(1, train.rounds // 2)}", "look at train/steps.jsonl: does the loss still fall at half time?"
    return f"finetune.epochs={max(1, recipe.finetune.epochs // 2)}", "planted less firmly"
