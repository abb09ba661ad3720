"""What goes on beside the training loop: the log, the clock, the guards, what is saved, and who wants to look or to stop.

    monitor = Monitor(recipe, folder, …)
    with monitor.watching():
        for number in monitor.rounds():          from the last saved one on, as long as nothing says stop
            …
                monitor.stepped(…)               after each optimizer step
            monitor.round_done(…)

Nothing here decides what is trained on. What it costs to look at the model between rounds is no cost of training.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from unsay import methods
from unsay.config import Recipe
from unsay.lm.encode import Encoder
from unsay.lm.sampler import Sampler
from unsay.lm.sharded import whole
from unsay.methods import Target
from unsay.store import interrupt, ranks
from unsay.store.clock import Clock, Cost
from unsay.store.files import write_jsonl
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest
from unsay.train import ledger, resume, tracking
from unsay.train.averaging import averaged
from unsay.train.data import TrainingData
from unsay.train.enough import shares_told
from unsay.train.guards import FEWEST, Guard
from unsay.train.step import Step, Weights

Watch = Callable[[PreTrainedModel, Encoder, int, Cost], bool]
"""Looks at the model after a round, of which so many have been done at such a cost; says whether to go on."""
Progress = Callable[[float, int, Mapping[str, Any]], None]
"""Hears of each line of the log: rounds done (with the part of the one that runs), rounds in all, the line."""


@dataclass
class Monitor:
    """Listens to one run of training."""

    recipe: Recipe
    folder: RunFolder
    data: TrainingData
    model: PreTrainedModel
    encoder: Encoder
    weights: Weights
    optimizer: torch.optim.Optimizer
    name: str
    """The untouched model, between which and the trained one the shipped model lies."""
    accelerator: Accelerator
    progress: Progress | None
    watch: Watch | None

    def __post_init__(self) -> None:
        config = self.recipe.train
        self.done = resume.restore(self.folder, self.weights, self.optimizer, config.rounds)
        first = islice(self.data.visits.values(), FEWEST)
        fallback = [self.encoder.pair(visit.example.question, visit.baseline, "forget") for visit in first]
        self.guard = Guard(self.recipe, self.encoder, self.data.rows, fallback, self.done.seen)
        self.noted = Manifest()
        """What is to be known of all this; complete once training has ended."""
        self.steps_a_round = config.passes * -(-len(self.data.visits) // (config.batch * config.accumulation))
        self.clock = Clock(self.done.cost)
        self._targets: list[ledger.Noted] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Where the model falls apart, the log up to there is written (a resumed run cuts it off again), and the
        `FloatingPointError` says what is left."""
        try:
            if not self.done.round:  # nothing is saved yet: the model is still untouched
                with self.clock.paused():
                    self.guard.begin(self.model)
            yield
            watched, skipped = self.guard.finish(self.done.round)
            exposure = ledger.total(self.done.ledger, self.done.targeted)
            self.noted = Manifest(exposure=exposure, watch=watched, skipped=skipped)
        except FloatingPointError as error:
            with ranks.apart():
                write_jsonl(self.folder.steps_file, self.done.log)
            raise self.guard.explained(error, self.done.step) from error
        finally:
            tracking.end(self.accelerator)  # a tracker writes what it holds back, after an interruption too

    def rounds(self) -> Iterator[int]:
        """Numbers of the rounds that are still to be trained, until time is up or the guards or the watch have had enough."""
        going = not self.guard.ended and (not self.done.round or self._watch_goes_on())
        while going and self.done.round < self.recipe.train.rounds and not self._out_of_time():
            yield self.done.round
            going = not self.guard.ended and self._watch_goes_on()

    def stepped(self, repeat: int, targets: Sequence[Target], step: Step) -> None:
        """An optimizer step was made, or skipped, on these targets; `repeat`: how many passes over them came before."""
        noted = ledger.noted(targets, self.data.visits)
        line = self._line(repeat, targets, ledger.leaks(noted), step)
        self.done.log.append(finite_or_none(line))
        tracking.send(self.accelerator, line)
        self.done.step += 1
        self._targets += () if repeat else noted
        if self.progress:
            self.progress(self.done.step / self.steps_a_round, self.recipe.train.rounds, line)
        self.guard.stepped(step.terms, step.skipped)

    def _line(self, repeat: int, targets: Sequence[Target], leaks: Sequence[float], step: Step) -> dict[str, Any]:
        """A line of train/steps.jsonl (docs/run-folder.md)."""
        mean, most = ledger.mean_and_most(leaks)
        return {
            "step": self.done.step,
            "round": self.done.round,
            **({"pass": repeat} if repeat else {}),
            "loss": round(sum(step.terms.values()), 5),
            **({"skipped": step.skipped} if step.skipped else {}),
            **{name: round(value, 5) for name, value in step.terms.items()},
            "lr": self.optimizer.param_groups[0]["lr"],
            "grad_norm": round(step.norm, 4),
            "targets": len(leaks),
            "no_target": len(targets) - len(leaks),
            "leak_mean": mean,
            "leak_max": most,
            "temperature_mean": round(sum(t.temperature for t in targets) / len(targets), 3),
            "sampled": 0 if repeat else sum(t.sampled for t in targets),  # what a second pass trains on was sampled for the first
            "seconds": round(self.clock.cost().seconds, 3),
        }

    def round_done(self, state: methods.State, sampler: Sampler) -> None:
        """Look at the model, save what is to be saved, and stop where that was asked for."""
        config, watch, done, guard = self.recipe.train, self.recipe.watch, self.done, self.guard
        self.model.eval()
        done.finish_round(state, self._targets, config.passes)
        self._targets = []
        done.cost = self.clock.cost()
        saving = done.round % config.save_every == 0 or done.round == config.rounds or self._out_of_time()
        with self.clock.paused():
            done.log[-1] |= guard.look(self.model, done.round, saving)
            if watch.enough and done.round % watch.every == 0:
                with averaged(self.weights, self.model, self.recipe, self.name), whole(self.model):
                    done.log[-1] |= guard.asked(*shares_told(list(self.data.visits.values()), sampler))
        interrupted = max(ranks.gathered("interrupted", interrupt.asked))  # what is saved for that alone decides nothing
        if saving := saving or guard.ended or guard.close(done.round):
            guard.saving(done.round)
        if saving or interrupted:
            resume.save(self.folder, self.weights, self.optimizer, done)
        if interrupted:
            interrupt.stop(f"after round {done.round} of {config.rounds}, which is saved", interrupted)

    def ship(self) -> int:
        """Put the weights of the round that is shipped into the model; returns how many rounds they have seen."""
        shipped = self.guard.shipped(self.done.round)
        if shipped != self.done.round:
            resume.restore_best(self.folder, self.weights)
        return shipped

    def _watch_goes_on(self) -> bool:
        """Show the model, as it would be shipped, to the watch, if there is one; whether training goes on."""
        if self.watch is None:
            return True
        with self.clock.paused(), averaged(self.weights, self.model, self.recipe, self.name):
            return self.watch(self.model, self.encoder, self.done.round, self.clock.cost())

    def _out_of_time(self) -> bool:
        limit = self.recipe.train.max_minutes
        return limit is not None and ranks.on_main(lambda: self.done.cost.seconds > 60 * limit)


def finite_or_none(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the log as JSON may hold it: `None` for what is not finite."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()}
