"""Which knob to turn where it does not fit, and where the time goes. Pure: no model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from unsay import audit
from unsay.config import Recipe
from unsay.doctor.cost import Costs
from unsay.doctor.machine import Machine
from unsay.doctor.memory import USABLE, Sizes, memory
from unsay.doctor.pilot import Stage
from unsay.store.vault import retention

_SINK = 0.2
"""Share of the whole time from which on a part is worth a word."""
_RANK = 16


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
    recipe: Recipe, machine: Machine, sizes: Sizes, costs: Costs, stages: Sequence[Stage], disk: Mapping[str, float]
) -> tuple[Advice, ...]:
    """Memory first, then disk, then time; within each the least harm first."""

    def peak(recipe: Recipe) -> float:
        return max((memory(stage, recipe, sizes).total for stage in stages), default=0.0)

    return (
        *_for_memory(recipe, peak, machine.free, bool(machine.gpu), stages),
        *_for_disk(recipe, machine, disk),
        *_for_time(recipe, costs, stages),
        *_for_vault(recipe, date.today()),
    )


def _for_memory(recipe: Recipe, peak: Callable[[Recipe], float], free: int | None, gpu: bool, stages: Sequence[Stage]) -> Iterator[Advice]:
    """Turn, again and again, the least harmful knob that lowers the peak, until it fits."""
    while free is not None and (now := peak(recipe)) > USABLE * free:
        helps = next((change for change in _changes(recipe, gpu, stages) if peak(change[1]) < 0.97 * now), None)
        if helps is None:
            yield Advice("memory", "", 0.0, "no knob is left: take a smaller model, or a machine with more memory")
            return
        setting, recipe, note = helps
        yield Advice("memory", setting, now - peak(recipe), note, peak(recipe) <= USABLE * free)


def _changes(recipe: Recipe, gpu: bool, stages: Sequence[Stage]) -> Iterator[tuple[str, Recipe, str]]:
    """Setting, recipe and its cost, the least harm first: the same run in pieces, then slower, then another one, then a smaller audit."""

    def with_(table: str, **knobs: Any) -> tuple[str, Recipe]:
        setting = " ".join(f"{table}.{name}={str(value).lower() if value is True else value}" for name, value in knobs.items())
        return setting, replace(recipe, **{table: replace(getattr(recipe, table), **knobs)})

    model, train, adapters = recipe.model, recipe.train, recipe.lora.rank > 0
    rows = min(recipe.sample.rows, max((rows for stage in stages for rows, _ in stage.batches), default=1))
    for fewer in (rows // 4, rows // 16) if rows > 8 else ():  # an audit on a processor takes fewer anyway (lm/plan.py)
        yield *with_("sample", rows=max(8, fewer)), "the same answers, decoded in smaller batches"
    if (parts := min(train.batch, 4)) > 1:
        pieces = with_("train", batch=train.batch // parts, accumulation=train.accumulation * parts)
        yield *pieces, "the same step, in smaller pieces"
    if not train.gradient_checkpointing:
        yield *with_("train", gradient_checkpointing=True), "the same gradients, about a third more time a step"
    training = {name for stage in stages for name, attack in stage.attacks.items() if attack.tokens and attack.trains}
    for name, probe in audit.probes_of(recipe).items():
        if name in training and getattr(probe, "rank", None) == 0:
            smaller = replace(recipe, tables={**recipe.tables, name: {**recipe.tables.get(name, {}), "rank": _RANK}})
            yield f"{name}.rank={_RANK}", smaller, "the attacker trains adapters instead of a whole copy: a weaker attack"
            break
    if not (model.freeze_embeddings or adapters):
        yield *with_("model", freeze_embeddings=True), "words keep their meaning; often better"
    if model.dtype == "float32":
        yield *with_("model", dtype="bfloat16"), "half the weights and activations; slow on processors without bfloat16"
    if not adapters:
        note = "trains adapters instead of the weights, and needs no frozen copy"
        raised = "" if train.learning_rate is None else "; raise train.learning_rate about tenfold"
        yield *with_("lora", rank=_RANK), note + raised
    if model.quantization == "none" and adapters and gpu:
        yield *with_("model", quantization="4bit"), "the fixed weights in 4 bits, in training only"
    left = tuple(name for name in recipe.audit.probes if name not in training)
    if left and left != recipe.audit.probes:
        setting = f"audit.probes={list(left)}".replace("'", '"').replace(" ", "")
        note = "without the probes that train the report cannot say how cheaply the secrets come back"
        yield setting, replace(recipe, audit=replace(recipe.audit, probes=left)), note


def _for_disk(recipe: Recipe, machine: Machine, disk: Mapping[str, float]) -> Iterator[Advice]:
    if sum(disk.values()) <= USABLE * machine.disk_free:
        return
    if recipe.lora.rank:
        yield Advice("disk", "", 0.0, "point --out at a larger disk")
        return
    saves = disk.get("state", 0.0) + disk.get("state being replaced", 0.0)
    yield Advice("disk", f"lora.rank={_RANK}", saves, "the saved state is then a few adapters; or point --out at a larger disk")


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
            if part != "loading":  # no knob makes that shorter
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
        if (rounds := getattr(knobs, "rounds", 1)) > 1:
            return f"{part}.rounds={rounds // 2}", "a shallower search"
        asked = getattr(knobs, "limit", recipe.audit.limit)
        return (f"{part}.limit={asked // 2 or 50}" if hasattr(knobs, "limit") else f"audit.limit={asked // 2 or 20}"), "a coarser measure"
    if kind == "record":
        name = next((name for name in ("replay", "near_misses", "kindred", "prose", "own_retain") if getattr(record, name)), "branches")
        return f"record.{name}={getattr(record, name) // 2}", "the model's own words hold on to less of what should stay"
    if kind == "train" and part != "steps" and train.resample == "step":
        return 'train.resample="round"', "answers are up to a round stale; saves most where a step has few rows"
    if kind == "train":
        return f"train.rounds={max(1, train.rounds // 2)}", "look at train/steps.jsonl: does the loss still fall at half time?"
    return f"finetune.epochs={max(1, recipe.finetune.epochs // 2)}", "planted less firmly"
