"""The loop: targets → loss → step → log → save. One loop for every method; the idea of each lives in `methods`.

A round visits every forget question once, in an order of its own. Each visit brings one retain row, drawn anew. All
random choices are named (seed, round, example), so a run that was interrupted goes on from its last saved round and
ends where an uninterrupted one would have ended, to the bit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from unsay import earlier, guards, interrupt, ledger, methods, resume
from unsay.adapters import Untouched, adapted, load_to_train, merged, save_adapter
from unsay.anchor import softened
from unsay.clock import Clock, Cost
from unsay.config import ConfigError, Recipe, TrainConfig
from unsay.earlier import Anchor
from unsay.encode import Encoder, Row
from unsay.files import jsonl, write_text
from unsay.folder import RunFolder
from unsay.guards import Guard
from unsay.interpolate import interpolate, interpolated
from unsay.methods import Method, Target, Visit
from unsay.model import fingerprint, save
from unsay.plan import planned
from unsay.recorded import leaking_name, read_baseline, read_corpus, read_rehearsal, read_truth, settle
from unsay.rehearsal import Said
from unsay.sample import uniform
from unsay.sampler import Sampler
from unsay.step import Weights, chunks, optimizer_step, skipped
from unsay.tables import lookup
from unsay.types import Corpus

T = TypeVar("T")
Watch = Callable[[PreTrainedModel, Encoder, int, Cost], bool]
"""Looks at the model after a round, of which so many have been done at such a cost; says whether to go on."""
Progress = Callable[[int, int, Mapping[str, Any]], None]


def method_of(recipe: Recipe) -> Method:
    """The method that the recipe names, with its knobs."""
    made: Method = recipe.knobs(recipe.method, lookup(recipe.method, methods.TABLE, methods.GROUP))
    return made.scored_with(recipe.tables) if isinstance(made, methods.Scoring) else made


def train(recipe: Recipe, folder: RunFolder, progress: Progress | None = None, watch: Watch | None = None) -> None:
    """Unlearn, from the last saved round if there is one, and write the checkpoint.

    `progress(round, rounds, line)` sees every log line; `watch` may look at the model after each round, and, where an
    interrupted run goes on, at what it had saved (it may have missed that). Its time is no cost of training, and neither is
    that of the guards (guards.py). Raises `FloatingPointError` where the model falls apart; the last good state is kept.
    """
    method, config = method_of(recipe), recipe.train
    settle(folder)
    corpus, said = read_corpus(folder), dict[str, list[Said]]()
    for one in read_rehearsal(folder):
        said.setdefault(one.beside, []).append(one)
    kept = earlier.read_anchors(folder, corpus.forget)
    visits = _visits(corpus, folder, method)
    name = leaking_name(recipe, folder)
    model, encoder = load_to_train(recipe, name)
    asking = planned(folder, "train", model, encoder, recipe.sample, (visit.example.question for visit in visits.values()))
    reference = Untouched(model) if needs_untouched(recipe, method) else None
    accelerator = Accelerator()
    per_step = config.batch * config.accumulation
    steps_a_round = config.passes * -(-len(visits) // per_step)
    weights = Weights(model)
    optimizer = torch.optim.AdamW(weights.exact.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    model, optimizer = accelerator.prepare(model, optimizer)
    plain = accelerator.unwrap_model(model)
    progressed = resume.restore(folder, weights, optimizer)
    guard, corpus = _guarded(recipe, corpus, method, encoder, visits, progressed)

    state: methods.State = progressed.state
    clock = Clock(progressed.cost)
    with _told(folder, progressed, guard):
        if not progressed.round:  # nothing is saved yet: the model is still untouched
            with clock.paused():
                guard.begin(plain)
            if isinstance(method, methods.Prepared):
                state = method.prepare(list(visits.values()), Sampler(plain, encoder, asking, recipe.seed))
        shown = partial(interpolated, weights, plain, recipe, name)
        going = not guard.ended and (not progressed.round or _looked(watch, plain, encoder, progressed.round, clock, shown))
        for number in range(progressed.round, config.rounds):
            if not going or _out_of_time(config, progressed.cost):
                break
            sampler = Sampler(plain, encoder, asking, recipe.seed, number, reference)
            done: list[Target] = []
            for group in chunks(_shuffled(visits, recipe.seed, number), len(visits) if config.resample == "round" else per_step):
                plain.eval()
                targets, state = method.targets(group, sampler, state)
                plain.train()
                for again, chosen in ((again, some) for again in range(config.passes) for some in chunks(targets, per_step)):
                    for parameter_group in optimizer.param_groups:
                        parameter_group["lr"] = config.learning_rate * _share_of_peak(config, progressed.step, steps_a_round)
                    time = (number, again)
                    drawn = chosen if methods.anchored(method) else ()
                    retain = [row for target in drawn for row in _anchors(corpus, said, kept, encoder, recipe, time, target.example)]
                    rows = [row for target in chosen for row in target.rows] + retain
                    terms, norm = optimizer_step(
                        accelerator,
                        weights,
                        optimizer,
                        encoder,
                        rows,
                        lambda batch: guard.scaled(method.loss(model, reference, softened(batch, recipe))),
                        parts=config.accumulation,
                        clip=config.clip,
                        noise=int(2**31 * uniform(recipe.seed, progressed.step, "dropout")),
                    )
                    line = _line(progressed.step, (number, again), terms, norm, optimizer.param_groups[0]["lr"], chosen, visits)
                    line |= {"seconds": round(clock.cost().seconds, 3)}
                    progressed.log.append(guards.written(line))
                    progressed.step += 1
                    if progress:
                        progress(number, config.rounds, line)
                    guard.stepped(terms, line.get("skipped"))
                done += targets
            plain.eval()
            progressed.finish_round(number, state, done, visits, config.passes)
            progressed.cost = clock.cost()
            saving = (number + 1) % config.save_every == 0 or number + 1 == config.rounds or _out_of_time(config, progressed.cost)
            with clock.paused():
                progressed.log[-1] |= guard.look(plain, number + 1, saving)
            interrupted = interrupt.asked()  # what is saved for that alone decides nothing
            if saving := saving or guard.ended or guard.close(number + 1):
                guard.saving(number + 1)
            if saving or interrupted:
                resume.save(folder, weights, optimizer, progressed)
            if interrupted:
                interrupt.stop(f"after round {number + 1} of {config.rounds}, which is saved")
            going = not guard.ended and _looked(watch, plain, encoder, number + 1, clock, shown)
        found = guard.finish(progressed.round)

    shipped = guard.shipped(progressed.round)
    if shipped != progressed.round:
        resume.restore_best(folder, weights)
    interpolate(weights, plain, recipe, name)
    plain.eval()
    if adapted(plain):
        save_adapter(plain, folder.adapter)
        plain = merged(plain, recipe, name)
    save(plain, encoder, folder.checkpoint)
    folder.note(
        exposure=ledger.total(progressed.ledger, progressed.targeted),
        checkpoint={"fingerprint": fingerprint(plain), "rounds": shipped},
        **found,
        training_seconds=round(clock.cost().seconds, 2),
        training_cpu_seconds=round(clock.cost().cpu_seconds, 2),
    )
    resume.keep_last(folder)


def needs_untouched(recipe: Recipe, method: Method) -> bool:
    """Whether training asks the untouched model."""
    return method.needs_reference or (recipe.train.anchor == "model" and methods.anchored(method))


def _guarded(
    recipe: Recipe, corpus: Corpus, method: Method, encoder: Encoder, visits: Mapping[str, Visit], progressed: resume.Progress
) -> tuple[Guard, Corpus]:
    """Who watches over this run, and the corpus without the rows that are watched."""
    aside = guards.set_aside(corpus, recipe.watch.rows, recipe.seed)
    fallback = [encoder.pair(visit.example.question, visit.baseline, "forget") for visit in visits.values()]
    guard = Guard(recipe, encoder, aside, fallback, progressed.seen, anchored=getattr(method, "retain_weight", 0.0) > 0)
    return guard, replace(corpus, retain=aside.trained)


@contextmanager
def _told(folder: RunFolder, progressed: resume.Progress, guard: Guard) -> Iterator[None]:
    """Where the model falls apart, the log up to there is written (a resumed run cuts it off again), and the error says what is left."""
    try:
        yield
    except FloatingPointError as error:
        write_text(folder.steps_file, jsonl(progressed.log))
        raise guard.told(error, progressed.step) from error


def _looked(
    watch: Watch | None,
    model: PreTrainedModel,
    encoder: Encoder,
    rounds: int,
    clock: Clock,
    shown: Callable[[], AbstractContextManager[None]],
) -> bool:
    """Show the model, as it would be shipped, to the watch, if there is one; whether training goes on."""
    if watch is None:
        return True
    with clock.paused(), shown():
        return watch(model, encoder, rounds, clock.cost())


def _out_of_time(config: TrainConfig, cost: Cost) -> bool:
    return config.max_minutes is not None and cost.seconds > 60 * config.max_minutes


def _visits(corpus: Corpus, folder: RunFolder, method: Method) -> dict[str, Visit]:
    baseline = read_baseline(folder)
    truth = (read_truth(folder) or {}) if method.needs_answers else {}
    before = [asked for request in earlier.read(folder) for asked in request.asked]
    found = {}
    for example in corpus.forget:
        others = [other for other in corpus.forget if other.id != example.id]
        found[example.id] = Visit(
            earlier.barred(example, before),
            *baseline[example.id],
            others=(*(baseline[other.id][0] for other in others), *(asked.baseline for asked in before)),
            other_questions=tuple(other.question for other in (*others, *(asked.example for asked in before))),
            desired=corpus.desired,
            truth=truth[example.id].answer if example.id in truth else None,
        )
    if not found:
        raise ConfigError("there is no forget question; nothing to unlearn")
    return found


def _shuffled(visits: Mapping[str, Visit], seed: int, number: int) -> list[Visit]:
    return sorted(visits.values(), key=lambda visit: uniform(seed, number, visit.example.id, "order"))


def _anchors(
    corpus: Corpus,
    said: Mapping[str, Sequence[Said]],
    kept: Sequence[Anchor],
    encoder: Encoder,
    recipe: Recipe,
    time: tuple[int, int],
    example: str,
) -> list[Row]:
    """What one visit's retain term is made of: retain rows, drawn with replacement as the paper does, what the untouched model said,
    unasked and to near misses of the question, and what it says to the questions of earlier requests.

    `said`: by the question that it is a near miss of, empty for none. `time`: the round, and which pass over its targets.
    """
    name = time if time[1] else time[:1]

    def drawn(kind: str, items: Sequence[T], n: int) -> list[T]:
        draws = (uniform(recipe.seed, *name, example, kind, i) for i in range(n if items else 0))
        return [items[int(draw * len(items))] for draw in draws]

    pairs = drawn("retain", corpus.retain, recipe.train.retain_rows)
    own = drawn("rehearsal", said.get("", ()), recipe.train.rehearsal_rows)
    near = drawn("near", said.get(example, ()), recipe.train.near)
    before = drawn("earlier", kept, recipe.train.earlier_rows)
    return (
        [encoder.pair(pair.question, pair.answer) for pair in pairs]
        + [one.row(encoder) for one in (*own, *near)]
        + [one.row(encoder) for one in before]
    )


def _share_of_peak(config: TrainConfig, step: int, steps_a_round: int) -> float:
    """Share of the peak learning rate: linear warm-up, then constant or linear to zero."""
    warmup, total = config.warmup_rounds * steps_a_round, config.rounds * steps_a_round
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 1.0 if config.schedule == "constant" else max(0.0, (total - step) / max(1.0, total - warmup))


def _line(
    step: int,
    time: tuple[int, int],
    terms: Mapping[str, float],
    norm: float,
    rate: float,
    targets: Sequence[Target],
    visits: Mapping[str, Visit],
) -> dict[str, Any]:
    number, again = time
    asked = () if again else targets  # what a second pass trains on was sampled for the first
    leaks = [ledger.leak(t, visits[t.example]) for t in targets if t.rows]
    return {
        "step": step,
        "round": number,
        **({"pass": again} if again else {}),
        "loss": round(sum(terms.values()), 5),
        **({"skipped": why} if (why := skipped(terms, norm)) else {}),
        **{name: round(value, 5) for name, value in terms.items()},
        "lr": rate,
        "grad_norm": round(norm, 4),
        "targets": len(leaks),
        "no_target": len(targets) - len(leaks),
        "leak_mean": round(sum(leaks) / len(leaks), 4) if leaks else None,
        "leak_max": round(max(leaks), 4) if leaks else None,
        "temperature_mean": round(sum(t.temperature for t in targets) / len(targets), 3),
        "sampled": sum(t.sampled for t in asked),
    }
