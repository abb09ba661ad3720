"""What goes on beside the training loop: the log, the clock, the guards, what is saved, and who wants to look or to stop.

    monitor = Monitor(recipe, folder, …)
    with monitor.watching():
        for number in monitor.rounds():          from the last saved one on, as long as nothing says stop
            …
                monitor.stepped(…)               after each optimizer step
            monitor.round_done(number, state)

Nothing here decides what is trained on. What it costs to look at the model between rounds is no cost of training.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from unsay import methods
from unsay.config import Recipe
from unsay.lm.encode import Encoder
from unsay.lm.sampler import Sampler
from unsay.lm.sharded import whole
from unsay.methods import Target, Visit
from unsay.store import interrupt, ranks
from unsay.store.clock import Clock, Cost
from unsay.store.files import write_jsonl
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest
from unsay.train import ledger, resume, tracking
from unsay.train.averaging import averaged
from unsay.train.data import TrainingData
from unsay.train.enough import shares_told
from unsay.train.guards import Guard, written
from unsay.train.step import Step, Weights

Watch = Callable[[PreTrainedModel, Encoder, int, Cost], bool]
"""Looks at the model after a round, of which so many have been done at such a cost; says whether to go on."""
Progress = Callable[[float, int, Mapping[str, Any]], None]
"""Hears of each line of the log: rounds done (with the part of the one that runs), rounds in all, the line."""


class Monitor:
    """Listens to one run of training. `name`: the untouched model, between which and the trained one the shipped model lies."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        data: TrainingData,
        model: PreTrainedModel,
        encoder: Encoder,
        weights: Weights,
        optimizer: torch.optim.Optimizer,
        name: str,
        accelerator: Accelerator,
        told: Progress | None = None,
        watch: Watch | None = None,
    ):
        self.recipe, self.folder, self.data, self.model, self.encoder = recipe, folder, data, model, encoder
        self.weights, self.optimizer, self.name, self.accelerator = weights, optimizer, name, accelerator
        self.told, self.watch = told, watch
        self.progress = resume.restore(folder, weights, optimizer, recipe.train.rounds)
        fallback = [encoder.pair(visit.example.question, visit.baseline, "forget") for visit in data.visits.values()]
        self.guard = Guard(recipe, encoder, data.rows, fallback, self.progress.seen)
        self.noted = Manifest()
        """What is to be known of all this; complete once training has ended."""
        self.steps_a_round = recipe.train.passes * -(-len(data.visits) // (recipe.train.batch * recipe.train.accumulation))
        self._targets: list[Target] = []
        self.clock = Clock(self.progress.cost)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Where the model falls apart, the log up to there is written (a resumed run cuts it off again), and the
        `FloatingPointError` says what is left."""
        try:
            if not self.progress.round:  # nothing is saved yet: the model is still untouched
                with self.clock.paused():
                    self.guard.begin(self.model)
            yield
            watched, skipped = self.guard.finish(self.progress.round)
            exposure = ledger.total(self.progress.ledger, self.progress.targeted)
            self.noted = Manifest(exposure=exposure, watch=watched, skipped=skipped)
        except FloatingPointError as error:
            with ranks.apart():
                write_jsonl(self.folder.steps_file, self.progress.log)
            raise self.guard.explained(error, self.progress.step) from error
        finally:
            tracking.end(self.accelerator)  # a tracker writes what it holds back, after an interruption too

    def rounds(self) -> Iterator[int]:
        """Numbers of the rounds that are still to be trained, until time is up or the guards or the watch have had enough."""
        going = not self.guard.ended and (not self.progress.round or self._looked())
        while going and self.progress.round < self.recipe.train.rounds and not self._out_of_time():
            yield self.progress.round
            going = not self.guard.ended and self._looked()

    def stepped(self, number: int, again: int, targets: Sequence[Target], step: Step) -> None:
        """An optimizer step was made, or skipped, on these targets in pass `again` over those of round `number`."""
        line = _line(self.progress.step, number, again, step, self.optimizer.param_groups[0]["lr"], targets, self.data.visits)
        line |= {"seconds": round(self.clock.cost().seconds, 3)}
        self.progress.log.append(written(line))
        tracking.send(self.accelerator, line)
        self.progress.step += 1
        self._targets += () if again else targets
        if self.told:
            self.told(self.progress.step / self.steps_a_round, self.recipe.train.rounds, line)
        self.guard.stepped(step.terms, step.skipped)

    def round_done(self, number: int, state: methods.State, sampler: Sampler) -> None:
        """Look at the model, save what is to be saved, and stop where that was asked for."""
        config, done, progress, guard = self.recipe.train, number + 1, self.progress, self.guard
        self.model.eval()
        progress.finish_round(number, state, self._targets, self.data.visits, config.passes)
        self._targets = []
        progress.cost = self.clock.cost()
        saving = done % config.save_every == 0 or done == config.rounds or self._out_of_time()
        with self.clock.paused():
            progress.log[-1] |= guard.look(self.model, done, saving)
            if self.recipe.watch.enough and done % self.recipe.watch.every == 0:
                with averaged(self.weights, self.model, self.recipe, self.name), whole(self.model):
                    progress.log[-1] |= guard.told(*shares_told(list(self.data.visits.values()), sampler))
        interrupted = max(ranks.gathered("interrupted", interrupt.asked))  # what is saved for that alone decides nothing
        if saving := saving or guard.ended or guard.close(done):
            guard.saving(done)
        if saving or interrupted:
            resume.save(self.folder, self.weights, self.optimizer, progress)
        if interrupted:
            interrupt.stop(f"after round {done} of {config.rounds}, which is saved", interrupted)

    def ship(self) -> int:
        """Put the weights of the round that is shipped into the model; returns how many rounds they have seen."""
        shipped = self.guard.shipped(self.progress.round)
        if shipped != self.progress.round:
            resume.restore_best(self.folder, self.weights)
        return shipped

    def _looked(self) -> bool:
        """Show the model, as it would be shipped, to the watch, if there is one; whether training goes on."""
        if self.watch is None:
            return True
        with self.clock.paused(), averaged(self.weights, self.model, self.recipe, self.name):
            return self.watch(self.model, self.encoder, self.progress.round, self.clock.cost())

    def _out_of_time(self) -> bool:
        limit = self.recipe.train.max_minutes
        return limit is not None and ranks.on_main(lambda: self.progress.cost.seconds > 60 * limit)


def _line(
    number: int, round_: int, again: int, step: Step, rate: float, targets: Sequence[Target], visits: Mapping[str, Visit]
) -> dict[str, Any]:
    """A line of train/steps.jsonl (docs/run-folder.md)."""
    asked = () if again else targets  # what a second pass trains on was sampled for the first
    leaks = [ledger.leak(t, visits[t.example]) for t in targets if t.rows]
    return {
        "step": number,
        "round": round_,
        **({"pass": again} if again else {}),
        "loss": round(sum(step.terms.values()), 5),
        **({"skipped": step.skipped} if step.skipped else {}),
        **{name: round(value, 5) for name, value in step.terms.items()},
        "lr": rate,
        "grad_norm": round(step.norm, 4),
        "targets": len(leaks),
        "no_target": len(targets) - len(leaks),
        "leak_mean": round(sum(leaks) / len(leaks), 4) if leaks else None,
        "leak_max": round(max(leaks), 4) if leaks else None,
        "temperature_mean": round(sum(t.temperature for t in targets) / len(targets), 3),
        "sampled": sum(t.sampled for t in asked),
    }
