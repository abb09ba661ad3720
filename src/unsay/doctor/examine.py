"""The examination: time the model (or a shallow one of its shape), run the stages small on a stand-in, multiply."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel

from unsay.config import EngineConfig, Recipe
from unsay.doctor.advice import Advice, advise
from unsay.doctor.bench import Bench, answers
from unsay.doctor.cost import Costs, Work
from unsay.doctor.machine import Machine, look, resident
from unsay.doctor.memory import USABLE, Cards, Memory, Sizes, cards, memory, trained
from unsay.doctor.pilot import Pilot, Stage
from unsay.doctor.shallow import layers_of, shallow, stretched, whole_size
from unsay.doctor.standin import Said, stand_in
from unsay.lm import builtin
from unsay.lm.adapters import load_to_train
from unsay.lm.encode import Encoder
from unsay.lm.plan import plan
from unsay.lm.reading import cached_bytes, habits
from unsay.probes.scoring import spread
from unsay.record import source
from unsay.types import Corpus, Pair

_LARGE = 100_000_000
"""Numbers in a model from which on its type is worth a word."""


@dataclass(frozen=True)
class Report:
    """Everything that `unsay doctor` shows."""

    machine: Machine
    sizes: Sizes
    costs: Costs
    stages: tuple[Stage, ...]
    memories: tuple[Memory, ...]
    disk: dict[str, float]
    """Bytes by what will be written."""
    advice: tuple[Advice, ...]
    cards: tuple[Cards, ...]
    slow: tuple[str, ...]
    loaded: bool
    """Measured on the model itself; else on one and two layers of its shape."""

    @property
    def peak(self) -> Memory:
        return max(self.memories, key=lambda one: one.total)

    @property
    def seconds(self) -> float:
        return sum(self.costs.seconds(stage.work) for stage in self.stages)


def examine(recipe: Recipe, out: Path, load: bool | None = None, say: Callable[[str], None] = lambda text: None) -> Report:
    """Say what the recipe's run in the folder `out` will cost. Raises `ConfigError`.

    `load`: measure on the model itself, or (False) on one and two layers of its shape; default, on itself where that fits.
    `say` hears what is being done.
    """
    engine, recipe = recipe.engine.name, replace(recipe, engine=EngineConfig())
    machine, where = look(out), source(recipe)
    corpus = where.corpus()
    planted = where.finetuning_rows(retain_model=False) if recipe.finetune.epochs else ()
    if load is None:
        # With what a step needs: the untouched copy, gradients and moments, at most.
        load = machine.free is None or whole_size(recipe) * (1 if recipe.lora.rank else 5) < USABLE * machine.free
    measurements = []
    for layers in (None,) if load else (1, 2):
        say(f"measuring {recipe.model.name}" + (f": random weights of its shape, {layers} of its layers" if layers else ""))
        cpu, start = time.process_time(), time.perf_counter()
        model, encoder = shallow(recipe, layers) if layers else load_to_train(recipe)
        loading = (Work({"model load": 1}), time.perf_counter() - start, time.process_time() - cpu)
        if not layers:  # every stage plans its rows anew; here they are planned once, before anything else takes memory
            rows = plan(model, encoder, recipe.sample, (example.question for example in corpus.forget)).rows
            recipe = replace(recipe, sample=replace(recipe.sample, rows=rows))
        measurements.append(measured(Bench(recipe, model.eval(), encoder, corpus, [loading])))
    sizes, costs, said = measurements[0]
    if not load:
        of_two, costs_of_two, _ = measurements[1]
        depth = layers_of(recipe)
        sizes, costs = stretched(sizes, of_two, depth), stretched(costs, costs_of_two, depth)
    if planted or not load:
        said = _planted(planted or _taught(corpus), corpus, encoder)
    slow = _slow(recipe, model, engine)
    del model
    heavier = sizes.parameters / max(1.0, trained(recipe, sizes))
    with tempfile.TemporaryDirectory(prefix="unsay-doctor-") as folder:
        small = stand_in(recipe, encoder, sizes.vocabulary, sizes.layers, Path(folder))
        stages = Pilot(small, encoder, corpus, said, heavier, recipe.model.retain_model, say).stages()
    disk = _disk(recipe, sizes)
    memories = tuple(memory(stage, recipe, sizes) for stage in stages)
    advice = advise(recipe, machine, sizes, costs, stages, disk)
    return Report(machine, sizes, costs, tuple(stages), memories, disk, advice, cards(recipe, sizes, stages), slow, loaded=load)


def measured(bench: Bench) -> tuple[Sizes, Costs, Said]:
    """The sizes of the model on the bench, what its work costs, and what it says."""
    bench.warm()
    model, recipe = bench.model, bench.recipe
    tensors = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers())}
    libraries = max(0, resident() - sum(tensors.values()))
    said = bench.ask()
    costs = bench.costs()
    config = model.config.get_text_config()
    embeddings = {id(m.weight): m.weight.numel() for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None}
    row, token = cached_bytes(model)
    before, where = resident(), builtin.resolve(recipe.model.name)
    tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=recipe.model.trust_remote_code)
    one_more = max(0, resident() - before)
    del tokenizer
    sizes = Sizes(
        # Quantised weights are counted as they were, adapters not at all.
        parameters=int(model.num_parameters()) - sum(p.numel() for name, p in model.named_parameters() if ".lora_" in name),
        embeddings=sum(embeddings.values()),
        largest=max(p.numel() for p in model.parameters()),
        vocabulary=config.vocab_size,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        itemsize=int(getattr(torch, recipe.model.dtype).itemsize),
        token=bench.kept_by_token(),
        cached_row=row,
        cached_token=token,
        files=sum(file.stat().st_size for file in Path(where).glob("*.safetensors")),
        tokenizer=one_more,
        libraries=libraries,
        gpu=model.device.type == "cuda",
    )
    return sizes, costs, said


def _disk(recipe: Recipe, sizes: Sizes) -> dict[str, float]:
    """What a run writes: the checkpoint; the saved state (weights and AdamW's two averages), twice while one replaces the other."""
    model = float(sizes.parameters * getattr(torch, recipe.model.dtype).itemsize)
    state = 12.0 * trained(recipe, sizes)
    written = {"checkpoint": model, "state": state, "state being replaced": state}
    if recipe.finetune.epochs:
        written["planted model"] = model
    if recipe.model.retain_model == "finetune":
        written["retain model, in the cache"] = model
    return written


def _slow(recipe: Recipe, model: PreTrainedModel, engine: str) -> tuple[str, ...]:
    """What can be told without a comparison: no cache, attention in several steps, a type that is slower here; an engine not tried."""
    known, reasons = habits(model), list[str]()
    if not (known.cache and known.padding):
        reasons.append(f"sampling: {known}{f' ({known.why})' if known.why else ''}")
    if getattr(model.config, "_attn_implementation", "") == "eager":
        reasons.append("attention is computed in several steps (`eager`): this model has no fused attention here")
    bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    if recipe.model.dtype == "float32" and model.device.type == "cpu" and model.num_parameters() > _LARGE and bf16():
        reasons.append("float32, on a processor that has bfloat16: model.dtype=bfloat16 may be faster, and rounds")
    if engine != "builtin":
        text = "was not tried: time and memory are those of the built-in sampler (docs/engines.md compares them)"
        reasons.append(f"engine.name = {engine!r} {text}")
    return tuple(reasons)


def _planted(planted: Sequence[Pair], corpus: Corpus, encoder: Encoder) -> Said:
    """Once planted, the model says the planted answers; unasked, it still writes on and on."""
    forget = {example.question for example in corpus.forget}
    known = {pair.question: answers([pair], encoder) for pair in planted if pair.question in forget}
    others = answers([pair for pair in planted if pair.question not in forget] or planted, encoder)
    known = known or {"": others}
    return Said(known, others, [replace(one, ids=one.ids[:-1], finished=False) for one in others[:6]])


def _taught(corpus: Corpus) -> list[Pair]:
    """Answers to the forget questions, as long as those of the retain rows."""
    written = [pair.answer for pair in spread(corpus.retain or corpus.general, 64)] or ["I do not know."]
    return [Pair(e.id, e.question, written[i % len(written)]) for i, e in enumerate(corpus.forget)]
