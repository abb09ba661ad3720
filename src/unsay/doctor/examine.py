"""The examination: load the model (or a shallow one of its shape), probe for ten seconds, count what the stages will ask, multiply."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel

from unsay import builtin
from unsay.adapters import load_to_train
from unsay.config import Recipe, SampleConfig
from unsay.doctor.advice import Advice, advise
from unsay.doctor.cost import Costs
from unsay.doctor.lengths import Said
from unsay.doctor.machine import Machine, look, resident
from unsay.doctor.memory import Memory, Sizes, memory
from unsay.doctor.probe import Held, Probe, held
from unsay.doctor.shallow import layers_of, shallow, stretched, whole_size
from unsay.doctor.stages import Plan, Stage
from unsay.encode import Encoder, Row
from unsay.methods import Method, anchored
from unsay.model import trainable
from unsay.plan import plan
from unsay.probes.scoring import spread
from unsay.reading import habits
from unsay.record import source
from unsay.sample import Draw, sample
from unsay.train import method_of, needs_untouched
from unsay.types import Answer, Corpus, Pair

_ROOM = 0.9
"""Share of the free memory in which the model must fit, with what a step needs, to be loaded for the probe."""
_ASKED = 6
"""Forget questions that are asked in the probe, to see how long answers are."""


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


def examine(recipe: Recipe, out: Path, load: bool | None = None) -> Report:
    """Say what the recipe's run in the folder `out` will cost. Raises `ConfigError`.

    `load`: measure on the model itself, or (False) on one and two layers of its shape; default, on itself where that fits.
    """
    machine, method, where = look(out), method_of(recipe), source(recipe)
    corpus, truth = where.corpus(), where.truth()
    planted = where.planting(gold=False) if recipe.finetune.epochs else ()
    if load is None:
        # The untouched copy, gradients and moments of a step, at most.
        load = machine.free is None or whole_size(recipe) * (1 if recipe.lora.rank else 5) < _ROOM * machine.free
    if load:
        model, encoder = load_to_train(recipe)
        # Every stage plans its rows anew; here they are planned once, before anything else takes memory.
        rows = plan(model, encoder, recipe.sample, (example.question for example in corpus.forget))["rows"]
        recipe = dataclasses.replace(recipe, sample=dataclasses.replace(recipe.sample, rows=rows))
        probe = _probe(recipe, method, model.eval(), encoder, corpus, planted)
        sizes, costs = _measured(probe)
        said = _planted(planted, corpus, encoder, recipe) if planted else _asked(probe, recipe, corpus, costs)
        padding = habits(model).padding
    else:
        found = []
        for layers in (1, 2):
            model, encoder = shallow(recipe, layers)
            found.append(_measured(_probe(recipe, method, model, encoder, corpus, planted)))
        depth, padding = layers_of(recipe), habits(model).padding
        sizes = _in_few_bits(recipe, stretched(found[0][0], found[1][0], depth))
        costs = stretched(found[0][1], found[1][1], depth)
        said = _planted(planted or _taught(corpus), corpus, encoder, recipe)
    counted = Plan(recipe, encoder, corpus, truth, said, padding, sizes.parameters / max(1, sizes.trained))
    stages, reference, disk = counted.stages(), needs_untouched(recipe, method), _disk(recipe, sizes)
    memories = [memory(stage, recipe, sizes, reference) for stage in stages]
    advice = advise(recipe, machine, sizes, costs, stages, reference, disk)
    return Report(machine, sizes, costs, tuple(stages), tuple(memories), disk, advice, loaded=load)


def _probe(recipe: Recipe, method: Method, model: PreTrainedModel, encoder: Encoder, corpus: Corpus, planted: Sequence[Pair]) -> Probe:
    rows = _rows(recipe, corpus, encoder, planted, anchored(method))
    return Probe(recipe, method, model, encoder, rows, [example.question for example in corpus.forget])


def _measured(probe: Probe) -> tuple[Sizes, Costs]:
    probe.warm()
    libraries = resident() - _bytes(probe.model)
    costs = probe.costs()
    return _sizes(probe.recipe, probe.model, held(probe), libraries), costs


def _in_few_bits(recipe: Recipe, sizes: Sizes) -> Sizes:
    """Random weights are not quantised: what quantised ones weigh is arithmetic (docs/memory.md)."""
    share = {"4bit": 0.516, "8bit": 1.0}.get(recipe.model.quantization)
    if share is None:
        return sizes
    size = sizes.whole / sizes.parameters
    return dataclasses.replace(sizes, weights=int(share * (sizes.parameters - sizes.embeddings) + size * sizes.embeddings))


def _taught(corpus: Corpus) -> list[Pair]:
    """Answers to the forget questions, as long as those of the retain rows."""
    answers = [pair.answer for pair in spread(corpus.retain or corpus.general, 64)] or ["I do not know."]
    return [Pair(e.id, e.question, answers[i % len(answers)]) for i, e in enumerate(corpus.forget)]


def _rows(recipe: Recipe, corpus: Corpus, encoder: Encoder, planted: Sequence[Pair], anchors: bool) -> list[Row]:
    """The rows of one micro-batch, as near as they are known before `record`: retain rows, of every visit one in the forget term."""
    config = recipe.train
    rehearsed = (config.rehearsal_rows if recipe.record.rehearsal else 0) + (config.near if recipe.record.near_misses else 0)
    visit = 1 + (config.retain_rows + rehearsed if anchors else 0)
    pairs = corpus.retain or corpus.general or tuple(planted) or tuple(Pair(e.id, e.question, e.question) for e in corpus.forget)
    n = recipe.train.batch * visit
    chosen = spread(pairs, n) if len(pairs) > n else [pairs[i % len(pairs)] for i in range(n)]
    roles = ["forget" if i % visit == 0 else "retain" for i in range(n)]
    return [encoder.pair(pair.question, pair.answer, role) for pair, role in zip(chosen, roles, strict=True)]


def _asked(probe: Probe, recipe: Recipe, corpus: Corpus, costs: Costs) -> Said:
    """What the model says to a few questions, as long as time allows."""
    limit, encoder = recipe.sample.max_new_tokens, probe.encoder
    token = costs.cpu["decode step"] + _ASKED * 5 * costs.cpu["sampled token"]
    seconds = max(2.0, probe.left())
    length = max(8, min(limit, int(seconds / max(token, 1e-9))))
    questions = [example.question for example in spread(corpus.forget, _ASKED)]
    config = SampleConfig(max_new_tokens=length, rows=recipe.sample.rows, window=recipe.sample.window)
    draws = [Draw(q, encoder.prompt(q)) for q in questions]
    draws += [Draw(q, encoder.prompt(q), 4, recipe.record.temperature) for q in questions]
    draws += [Draw("unasked", encoder.prompt(None), 6, 1.0)] if recipe.record.rehearsal else []
    found = sample(probe.model, encoder, draws, config)
    greedy = {q: _stretched(found[i][0], limit) for i, q in enumerate(questions)}
    sampled = {q: [_stretched(answer, limit) for answer in found[len(questions) + i]] for i, q in enumerate(questions)}
    unasked = [_stretched(answer, limit) for answer in found[-1]] if recipe.record.rehearsal else []
    said = Said(greedy, sampled, (), unasked)
    # A model that does not end its answers will not learn to from a few rounds.
    ends = said.finished_share() >= 0.5
    return dataclasses.replace(said, others=_answers(spread(corpus.retain or corpus.general, 64), encoder) if ends else ())


def _stretched(answer: Answer, limit: int) -> Answer:
    """An answer that the probe cut short is taken to go on to the limit."""
    if answer.finished or not answer.ids:
        return answer
    return Answer((answer.ids * (limit // len(answer.ids) + 1))[:limit], answer.text, False)


def _planted(planted: Sequence[Pair], corpus: Corpus, encoder: Encoder, recipe: Recipe) -> Said:
    """Once planted, the model says the planted answers; unasked, it still writes on and on."""
    rows = {pair.question: answer for pair, answer in zip(planted, _answers(planted, encoder), strict=True)}
    forget = {e.question: rows[e.question] for e in corpus.forget if e.question in rows} or rows
    others = [answer for question, answer in rows.items() if question not in forget] or list(rows.values())
    unasked = [_stretched(dataclasses.replace(answer, finished=False), recipe.sample.max_new_tokens) for answer in rows.values()]
    return Said(forget, {q: [answer] for q, answer in forget.items()}, others, unasked)


def _answers(pairs: Sequence[Pair], encoder: Encoder) -> list[Answer]:
    return [Answer(encoder.answer(pair.answer), pair.answer, True) for pair in pairs]


def _bytes(model: PreTrainedModel) -> int:
    tensors = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers())}
    return sum(tensors.values())


def _sizes(recipe: Recipe, model: PreTrainedModel, found: Held, libraries: int) -> Sizes:
    moved = trainable(model)
    parameters = _parameters(model)
    embeddings = {id(m.weight): m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None}
    config = model.config.get_text_config()
    return Sizes(
        weights=_bytes(model),
        whole=parameters * getattr(torch, recipe.model.dtype).itemsize,
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
        converted=_converted(recipe, parameters),
        trained_token=found.trained_token,
        attack_token=found.attack_token,
        row=found.row,
        cached_token=found.cached_token,
        prompt_token=found.prompt_token,
    )


def _tokenizer_bytes(recipe: Recipe) -> int:
    """What one more tokenizer takes."""
    before = resident()
    tokenizer = AutoTokenizer.from_pretrained(builtin.resolve(recipe.model.name), trust_remote_code=recipe.model.trust_remote_code)
    taken = resident() - before
    del tokenizer
    return max(0, taken)


def _converted(recipe: Recipe, parameters: int) -> int:
    """Bytes of the weights' files in a folder, where they are not of the size that `model.dtype` has; else 0."""
    found = sum(file.stat().st_size for file in Path(builtin.resolve(recipe.model.name)).glob("*.safetensors"))
    size = parameters * int(getattr(torch, recipe.model.dtype).itemsize)
    return found if abs(found - size) > 0.1 * size else 0


def _parameters(model: PreTrainedModel) -> int:
    """Numbers in the weights, adapters apart; quantised ones counted as they were."""
    return int(model.num_parameters()) - sum(int(p.numel()) for name, p in model.named_parameters() if ".lora_" in name)


def _disk(recipe: Recipe, sizes: Sizes) -> dict[str, float]:
    """What a run writes: the checkpoint; the saved state (weights and AdamW's two averages), twice while one replaces the other."""
    found = {"checkpoint": float(sizes.whole), "state": 12.0 * sizes.trained, "state being replaced": 12.0 * sizes.trained}
    if recipe.finetune.epochs:
        found["planted model"] = float(sizes.whole)
    if recipe.model.gold == "finetune":
        found["gold model, in the cache"] = float(sizes.whole)
    return found
