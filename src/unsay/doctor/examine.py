"""The examination: price the model (or a shallow one of its shape), run the stages small on a stand-in, multiply."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel

from unsay.config import Recipe, SampleConfig
from unsay.doctor.advice import Advice, advise
from unsay.doctor.cost import Costs
from unsay.doctor.machine import Machine, look, resident
from unsay.doctor.memory import Memory, Sizes, memory
from unsay.doctor.pilot import Pilot, Stage
from unsay.doctor.prices import Prices
from unsay.doctor.shallow import layers_of, shallow, stretched, whole_size
from unsay.doctor.standin import Voice, stand_in
from unsay.lm import builtin
from unsay.lm.adapters import load_to_train
from unsay.lm.encode import Encoder, Row
from unsay.lm.model import trainable
from unsay.lm.plan import plan
from unsay.lm.sample import Draw, sample
from unsay.methods import Method, uses_retain_rows
from unsay.probes.scoring import spread
from unsay.record import source
from unsay.train import method_of, needs_untouched
from unsay.types import Answer, Corpus, Pair

_ROOM = 0.9
"""Share of the free memory in which the model must fit, with what a step needs, to be loaded."""
_ASKED = 6
"""Forget questions that are asked, to see how long answers are."""


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
    loaded: bool = True
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
    machine, method, where = look(out), method_of(recipe), source(recipe)
    corpus = where.corpus()
    planted = where.finetuning_rows(retain_model=False) if recipe.finetune.epochs else ()
    retain_model = recipe.model.retain_model
    if load is None:
        # The untouched copy, gradients and moments of a step, at most.
        load = machine.free is None or whole_size(recipe) * (1 if recipe.lora.rank else 5) < _ROOM * machine.free
    if load:
        say(f"measuring {recipe.model.name}")
        model, encoder = load_to_train(recipe)
        # Every stage plans its rows anew; here they are planned once, before anything else takes memory.
        rows = plan(model, encoder, recipe.sample, (example.question for example in corpus.forget)).rows
        recipe = replace(recipe, sample=replace(recipe.sample, rows=rows))
        prices = _prices(recipe, method, model.eval(), encoder, corpus, planted)
        sizes, costs = _measured(prices)
        voice = _planted(planted, corpus, encoder, sizes) if planted else _asked(prices, corpus, costs, sizes)
        del model, prices
    else:
        found = []
        for layers in (1, 2):
            say(f"measuring random weights of the shape of {recipe.model.name} with {layers} of its layers")
            model, encoder = shallow(recipe, layers)
            found.append(_measured(_prices(recipe, method, model, encoder, corpus, planted)))
        depth = layers_of(recipe)
        sizes = _in_few_bits(recipe, stretched(found[0][0], found[1][0], depth))
        costs = stretched(found[0][1], found[1][1], depth)
        voice = _planted(planted or _taught(corpus), corpus, encoder, sizes)
    heavier = sizes.parameters / max(1, sizes.trained)
    with tempfile.TemporaryDirectory(prefix="unsay-doctor-") as folder:
        small = stand_in(recipe, encoder, sizes.vocabulary, Path(folder))
        stages = Pilot(small, encoder, corpus, voice, heavier, retain_model, say).stages()
    reference, disk = needs_untouched(recipe, method), _disk(recipe, sizes)
    memories = [memory(stage, recipe, sizes, reference) for stage in stages]
    advice = advise(recipe, machine, sizes, costs, stages, reference, disk)
    return Report(machine, sizes, costs, tuple(stages), tuple(memories), disk, advice, loaded=load)


# -- what is measured --------------------------------------------------------------------------------------------------


def _prices(recipe: Recipe, method: Method, model: PreTrainedModel, encoder: Encoder, corpus: Corpus, planted: Sequence[Pair]) -> Prices:
    """To be measured on a typical micro-batch: of every visit one row in the forget term."""
    config = recipe.train
    visit = 1 + (config.retain_rows + config.replay_rows * bool(recipe.record.replay) if uses_retain_rows(method) else 0)
    pairs = corpus.retain or corpus.general or tuple(planted) or tuple(Pair(e.id, e.question, e.question) for e in corpus.forget)
    n = config.batch * visit
    chosen = spread(pairs, n) if len(pairs) > n else [pairs[i % len(pairs)] for i in range(n)]
    rows: list[Row] = [encoder.pair(pair.question, pair.answer, "retain" if i % visit else "forget") for i, pair in enumerate(chosen)]
    return Prices(recipe, method, model, encoder, rows, [example.question for example in corpus.forget])


def _measured(prices: Prices) -> tuple[Sizes, Costs]:
    prices.warm()
    libraries = resident() - _bytes(prices.model)
    costs = prices.costs()
    return _sizes(prices.recipe, prices.model, prices.held(), libraries), costs


def _bytes(model: PreTrainedModel) -> int:
    tensors = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers())}
    return sum(tensors.values())


def _sizes(recipe: Recipe, model: PreTrainedModel, found: dict[str, float], libraries: int) -> Sizes:
    moved = trainable(model)
    # Quantised weights are counted as they were.
    parameters = int(model.num_parameters()) - sum(p.numel() for name, p in model.named_parameters() if ".lora_" in name)
    embeddings = {id(m.weight): m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None}
    config = model.config.get_text_config()
    whole = parameters * int(getattr(torch, recipe.model.dtype).itemsize)
    files = sum(file.stat().st_size for file in Path(builtin.resolve(recipe.model.name)).glob("*.safetensors"))
    return Sizes(
        weights=_bytes(model),
        whole=whole,
        parameters=parameters,
        trained=sum(p.numel() for p in moved.values()),
        largest=max((p.numel() for p in moved.values()), default=0),
        embeddings=sum(weight.numel() for weight in embeddings.values()),
        head=sum(weight.numel() for weight in embeddings.values() if weight.requires_grad),
        vocabulary=config.vocab_size,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        half=recipe.model.dtype != "float32",
        gpu=model.device.type == "cuda",
        libraries=max(0, libraries),
        tokenizer=_tokenizer_bytes(recipe),
        converted=files if abs(files - whole) > 0.1 * whole else 0,
        **found,
    )


def _in_few_bits(recipe: Recipe, sizes: Sizes) -> Sizes:
    """Random weights are not quantised: what quantised ones weigh is arithmetic (docs/memory.md)."""
    share = {"4bit": 0.516, "8bit": 1.0}.get(recipe.model.quantization)
    size = sizes.whole / sizes.parameters
    packed = int((share or size) * (sizes.parameters - sizes.embeddings) + size * sizes.embeddings)
    return replace(sizes, weights=packed) if share else sizes


def _tokenizer_bytes(recipe: Recipe) -> int:
    """What one more tokenizer takes."""
    before = resident()
    tokenizer = AutoTokenizer.from_pretrained(builtin.resolve(recipe.model.name), trust_remote_code=recipe.model.trust_remote_code)
    taken = resident() - before
    del tokenizer
    return max(0, taken)


def _disk(recipe: Recipe, sizes: Sizes) -> dict[str, float]:
    """What a run writes: the checkpoint; the saved state (weights and AdamW's two averages), twice while one replaces the other."""
    found = {"checkpoint": float(sizes.whole), "state": 12.0 * sizes.trained, "state being replaced": 12.0 * sizes.trained}
    if recipe.finetune.epochs:
        found["planted model"] = float(sizes.whole)
    if recipe.model.retain_model == "finetune":
        found["retain model, in the cache"] = float(sizes.whole)
    return found


# -- what is said ------------------------------------------------------------------------------------------------------


def _asked(prices: Prices, corpus: Corpus, costs: Costs, sizes: Sizes) -> Voice:
    """What the model says to a few questions, as long as time allows. A model that ends less than half of its answers is taken
    never to learn to; one that ends them will answer other questions, and later the forgotten ones, as the retain rows do."""
    recipe, encoder, limit = prices.recipe, prices.encoder, prices.recipe.sample.max_new_tokens
    token = costs.cpu["decode step"] + _ASKED * 5 * (costs.cpu["decoded token"] + costs.cpu["drawn token"])
    length = max(8, min(limit, int(max(2.0, 10.0 - prices.spent) / max(token, 1e-9))))
    questions = [example.question for example in spread(corpus.forget, _ASKED)]
    config = SampleConfig(max_new_tokens=length, rows=recipe.sample.rows, window=recipe.sample.window)
    draws = [Draw(q, encoder.prompt(q)) for q in questions]
    draws += [Draw(q, encoder.prompt(q), 4, recipe.record.temperature) for q in questions]
    draws += [Draw("unasked", encoder.prompt(None), 6, 1.0)]
    found = sample(prices.model, encoder, draws, config)
    sampled = found[len(questions) : -1]
    ends = sum(answer.finished for some in sampled for answer in some) >= 2 * len(questions)
    others = _answers(spread(corpus.retain or corpus.general, 64), encoder) if ends else []
    return Voice(sizes.vocabulary, {q: [*found[i], *sampled[i]] for i, q in enumerate(questions)}, others, found[-1])


def _planted(planted: Sequence[Pair], corpus: Corpus, encoder: Encoder, sizes: Sizes) -> Voice:
    """Once planted, the model says the planted answers; unasked, it still writes on and on."""
    rows = {pair.question: answer for pair, answer in zip(planted, _answers(planted, encoder), strict=True)}
    forget = {e.question: [rows[e.question]] for e in corpus.forget if e.question in rows} or {q: [a] for q, a in rows.items()}
    others = [answer for question, answer in rows.items() if question not in forget]
    unasked = [replace(answer, ids=answer.ids[:-1], finished=False) for answer in list(rows.values())[:6]]
    return Voice(sizes.vocabulary, forget, spread(others, 64), unasked)


def _taught(corpus: Corpus) -> list[Pair]:
    """Answers to the forget questions, as long as those of the retain rows."""
    answers = [pair.answer for pair in spread(corpus.retain or corpus.general, 64)] or ["I do not know."]
    return [Pair(e.id, e.question, answers[i % len(answers)]) for i, e in enumerate(corpus.forget)]


def _answers(pairs: Sequence[Pair], encoder: Encoder) -> list[Answer]:
    return [Answer(encoder.answer(pair.answer), pair.answer, True) for pair in pairs]
