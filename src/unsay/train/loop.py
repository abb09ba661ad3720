"""The loop: targets → loss → step. One loop for every method; the idea of each lives in `methods`.

A round visits every forget question once, in an order of its own. `targets` says what the model should say instead (PMC: ask, sample,
score, keep), and an optimizer step trains on that, beside the retain rows that each visit brings (data.py). All random choices are
named (seed, round, example), so a run that was interrupted goes on from its last saved round and ends where an uninterrupted one
would have ended, to the bit. Log, clock, guards and saves listen from beside it (monitor.py).
"""

from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay import methods
from unsay.config import ConfigError, Recipe, SampleConfig, TrainConfig
from unsay.lm.adapters import Untouched, adapted, load_to_train, merged, refilled, save_adapter
from unsay.lm.encode import Encoder
from unsay.lm.layers import decoder_layers
from unsay.lm.model import fingerprint, save
from unsay.lm.plan import for_many, planned
from unsay.lm.rows import Batch, Row
from unsay.lm.sample import uniform
from unsay.lm.sampler import Sampler
from unsay.lm.sharded import shard, whole
from unsay.lm.subject import parts
from unsay.methods import Method
from unsay.methods.retain_loss import softened
from unsay.record.recorded import target_model_name
from unsay.store import ranks
from unsay.store.folder import RunFolder
from unsay.store.manifest import Checkpoint
from unsay.tables import lookup
from unsay.train import resume, whitened
from unsay.train.averaging import averaging
from unsay.train.data import TrainingData, read_training_data
from unsay.train.monitor import Monitor, Progress, Watch
from unsay.train.step import Weights, optimizer_step, peak_rate, set_rate
from unsay.train.tracking import accelerator_of

HELD = 1 << 13
"""Targets that wait at once to be trained on: those of 100,000 questions take some 80 MB (docs/lab-log.md)."""


def method_of(recipe: Recipe) -> Method:
    """The method that the recipe names, with its knobs."""
    made: Method = recipe.knobs(recipe.method, lookup("method", recipe.method))
    return made.scored_with(recipe.tables) if isinstance(made, methods.Scoring) else made


def train(recipe: Recipe, folder: RunFolder, progress: Progress | None = None, watch: Watch | None = None) -> None:
    """Unlearn, from the last saved round if there is one, and write the checkpoint.

    `progress(rounds done, rounds, line)` sees every log line; `watch` may look at the model after each round, and, where an
    interrupted run goes on, at what it had saved (it may have missed that). Its time is no cost of training, and neither is
    that of the guards (guards.py). Raises `FloatingPointError` where the model falls apart; the last good state is kept.
    """
    method, config = method_of(recipe), recipe.train
    monitor, reference, sampling = _set_up(recipe, folder, method, progress, watch)
    data, model, encoder, optimizer = monitor.data, monitor.model, monitor.encoder, monitor.optimizer
    peak, per_step = peak_rate(recipe, model), config.batch * config.accumulation
    at_once = max(1, HELD // per_step) * per_step if config.resample == "round" else per_step
    uses_retain_rows = methods.uses_retain_rows(method)
    remembers = config.retain_loss == "kl" and uses_retain_rows and not ranks.split() and not config.state_weight

    def loss(batch: Batch) -> dict[str, Tensor]:
        return method.loss(model, reference, softened(batch, recipe))

    with monitor.watching():
        done = monitor.done
        first, state = done.round, done.method_state
        if not first and isinstance(method, methods.Prepared):
            with whole(model):
                state = method.prepare(list(data.visits.values()), Sampler(model, encoder, sampling, recipe.seed))
        for number in monitor.rounds():
            if reference and remembers and number == first:  # not before: where only `--averaging` is changed, no round begins
                reference.remember(data.drawn_often(recipe, encoder), encoder)
            sampler = Sampler(model, encoder, sampling, recipe.seed, number, reference)
            for visits in parts(data.shuffled(recipe.seed, number), at_once):
                model.eval()
                with whole(model):
                    targets, state = method.targets(visits, sampler, state)
                model.train()
                for repeat, chosen in product(range(config.passes), parts(targets, per_step)):
                    set_rate(optimizer, peak * _share_of_peak(config, done.step, monitor.steps_a_round))
                    rows = [row for target in chosen for row in target.rows]
                    for target in chosen if uses_retain_rows else ():
                        rows += data.retain_rows(recipe, encoder, number, repeat, target.example)
                    dropout = int(2**31 * uniform(recipe.seed, done.step, "dropout"))
                    step = optimizer_step(
                        monitor.accelerator, monitor.weights, optimizer, encoder, rows, loss, config.accumulation, config.clip, dropout
                    )
                    monitor.stepped(repeat, chosen, step)
            monitor.round_done(state, sampler)
    _ship(monitor)


def _set_up(
    recipe: Recipe, folder: RunFolder, method: Method, progress: Progress | None, watch: Watch | None
) -> tuple[Monitor, Untouched | None, SampleConfig]:
    """The monitor, which holds the model as it was saved last, the untouched model (where training asks it) and how to sample."""
    data = read_training_data(recipe, folder, method)
    name = target_model_name(recipe, folder)
    model, encoder = load_to_train(recipe, name)
    if recipe.train.state_weight and needs_untouched(recipe, method):
        decoder_layers(model)  # an architecture without them is refused now, not at the first step
    wanted = for_many(recipe.sampling, model.device.type, len(data.visits))
    sampling = planned(folder, "train", model, encoder, wanted, (visit.example.question for visit in data.visits.values()))
    reference = Untouched(model) if needs_untouched(recipe, method) else None
    accelerator = accelerator_of(recipe, folder)
    if ranks.split():
        if recipe.train.optimizer != "adamw":
            raise ConfigError(f"train.optimizer = {recipe.train.optimizer!r} needs whole weights; leave --use_fsdp out")
        shard(model)
    weights, optimizer = optimizer_of(recipe, model, encoder, data)
    # Never wrapped: the processes meet in `optimizer_step`, and everything else wants a `PreTrainedModel` (docs/design.md).
    model, optimizer = accelerator.prepare_model(model, evaluation_mode=True), accelerator.prepare_optimizer(optimizer)
    return Monitor(recipe, folder, data, model, encoder, weights, optimizer, name, accelerator, progress, watch), reference, sampling


def optimizer_of(recipe: Recipe, model: PreTrainedModel, encoder: Encoder, data: TrainingData) -> tuple[Weights, torch.optim.Optimizer]:
    """What is moved, and what moves it. `model`: still untouched."""
    config = recipe.train
    if config.optimizer == "adamw":
        weights = Weights(model)
        return weights, torch.optim.AdamW(weights.exact.values(), lr=peak_rate(recipe, model), weight_decay=config.weight_decay)
    layers = whitened.moved(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.removesuffix(".weight") in layers)
    rows = [encoder.pair(pair.question, pair.answer) for pair in data.rows.trained]
    rows += [said.row(encoder) for group in data.said.values() for said in group]
    rows += [Row(encoder.prompt(None), text.ids) for text in data.prose]
    keys = whitened.keys_of(model, encoder, layers, rows)
    weights = Weights(model)
    return weights, whitened.Whitened(weights.exact.values(), peak_rate(recipe, model), [keys[name] for name in weights.exact])


def needs_untouched(recipe: Recipe, method: Method) -> bool:
    """Whether training asks the untouched model."""
    return method.needs_reference or (recipe.train.retain_loss == "kl" and methods.uses_retain_rows(method))


def _ship(monitor: Monitor) -> None:
    """Write the checkpoint of the round that the guards would ship, `train.averaging` of the way from the untouched model."""
    recipe, folder, model, weights, name = monitor.recipe, monitor.folder, monitor.model, monitor.weights, monitor.name
    rounds = monitor.ship()
    averaging(weights, model, recipe, name)
    if weights.spread:
        model = refilled(recipe, name, weights.whole())
    model.eval()
    if adapted(model):
        save_adapter(model, folder.adapter)
        model = merged(model, recipe, name)
    save(model, monitor.encoder, folder.checkpoint)
    cost = monitor.clock.cost()
    folder.note(
        replace(
            monitor.noted,
            checkpoint=Checkpoint(fingerprint(model), rounds),
            training_seconds=round(cost.seconds, 2),
            training_cpu_seconds=round(cost.cpu_seconds, 2),
        )
    )
    resume.keep_last(folder)


def _share_of_peak(config: TrainConfig, step: int, steps_a_round: int) -> float:
    """Share of the peak learning rate: linear warm-up, then constant or linear to zero."""
    warmup, total = config.warmup_rounds * steps_a_round, config.rounds * steps_a_round
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 1.0 if config.schedule == "constant" else max(0.0, (total - step) / max(1.0, total - warmup))
