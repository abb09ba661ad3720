"""What an exact resume of training needs: weights, optimizer, counters, the method's state.

Written at the end of a round as one folder that appears whole, `train/state/round-N`, its texts in the vault. All random
choices are named (seed, round, example), so there is no generator to save. The state before stays until the next one is
begun: where the last one is damaged (its contents are hashed), training goes on from that, and without any from the start,
and ends the same. Where the guards would ship an earlier round, its weights stay beside the states, as `best-N.safetensors`.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from unsay import methods
from unsay.config import ConfigError
from unsay.lm.model import write_tensors
from unsay.lm.sharded import all_state, load_state
from unsay.store import ranks
from unsay.store.clock import Cost
from unsay.store.files import jsonl, new_folder, read_jsonl, sha256, write_jsonl
from unsay.store.folder import RunFolder
from unsay.store.manifest import RoundExposure
from unsay.train import ledger
from unsay.train.guards import Seen
from unsay.train.ledger import Noted
from unsay.train.step import Weights

_WEIGHTS, _OPTIMIZER, _PROGRESS, _SUMS = "weights.safetensors", "optimizer.pt", "progress.json", "sums.json"
_TEXTS, _LOG, _BEST = "method-state", "steps", "best"
_log = logging.getLogger(__name__)


class _Damaged(Exception):
    """A saved state is not what was written."""


@dataclass
class Done:
    """What has been done: everything the loop carries from round to round, weights and optimizer apart."""

    round: int = 0
    """Rounds done, which is also the number of the next one."""
    step: int = 0
    cost: Cost = field(default_factory=Cost)
    method_state: methods.State = field(default_factory=dict)
    targeted: dict[str, int] = field(default_factory=dict)
    """By example id, in how many rounds it had a target."""
    ledger: list[RoundExposure] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)

    def finish_round(self, state: methods.State, targets: Sequence[Noted], passes: int) -> None:
        self.ledger.append(ledger.of_round(self.round, targets, passes))
        self.round, self.method_state = self.round + 1, state
        for target in targets:
            self.targeted[target.example] = self.targeted.get(target.example, 0) + (target.leak is not None)


def save(folder: RunFolder, weights: Weights, optimizer: torch.optim.Optimizer, done: Done) -> None:
    """Weights, optimizer and counters as one folder that appears whole; the texts of the state go to the vault.

    Of the states before, the last one stays. Raises `WriteError`, and that one stays too.
    """
    _write(folder, weights.whole(), all_state(optimizer), done)


@ranks.main_only
def _write(folder: RunFolder, weights: dict[str, Tensor], optimizer: Mapping[str, Any], done: Done) -> None:
    keep_last(folder)
    # The vault's part carries its round in the name, so that a crash between the writes leaves matching pairs.
    folder.texts.write(f"{_TEXTS}-{done.round}", _rows(done.method_state))
    write_jsonl(folder.steps_file, done.log)
    best = done.seen.best
    with new_folder(_place(folder, done.round)) as place:
        write_tensors(weights, place / _WEIGHTS)
        with (place / _OPTIMIZER).open("wb") as optimizer_file:  # given a path, torch would not say why it cannot write
            torch.save(optimizer, optimizer_file)
        counters = {"round": done.round, "step": done.step, "targeted": done.targeted, **asdict(done.cost)}
        counters |= {"ledger": [asdict(line) for line in done.ledger], "seen": asdict(done.seen)}
        with (place / _PROGRESS).open("w", encoding="utf-8") as file:
            file.writelines(json.JSONEncoder().iterencode(counters))  # `json.dumps` would hold all of its pieces
        sums = {name: sha256(place / name) for name in (_WEIGHTS, _OPTIMIZER, _PROGRESS)}
        sums |= {_TEXTS: _sum(_rows(done.method_state)), _LOG: _sum(done.log)}
        if best not in (0, done.round):
            sums[_BEST] = sha256(_weights_file(folder, best))
        (place / _SUMS).write_text(json.dumps(sums), encoding="utf-8")


def restore(folder: RunFolder, weights: Weights, optimizer: torch.optim.Optimizer, rounds: int) -> Done:
    """The last sound state, its weights put into the model; a fresh one where nothing is saved. Damaged states are removed. Raises
    `ConfigError` where `rounds` ask for more of a run that `keep_weights` has left without its optimizer: it would end elsewhere."""
    for number in _saved(folder):
        place = _place(folder, number)
        try:
            done = _read(folder, number)
        except _Damaged as damage:
            _log.warning("unsay: %s is damaged (%s); training goes on from what was saved before it", place, damage)
            ranks.on_main(partial(shutil.rmtree, place))
            continue
        weights.restore(load_file(place / _WEIGHTS))
        if (place / _OPTIMIZER).exists():
            load_state(optimizer, torch.load(place / _OPTIMIZER, weights_only=True))
        refuse_more(folder, rounds)
        return done
    return Done()


def refuse_more(folder: RunFolder, rounds: int) -> None:
    """Raises `ConfigError` where `keep_weights` has left no optimizer and there are fewer rounds than these."""
    number = next(iter(_saved(folder)), rounds)
    if number < rounds and not (_place(folder, number) / _OPTIMIZER).exists():
        raise ConfigError(f"{_place(folder, number)} keeps no optimizer to go on with to round {rounds}; train in another run: --out DIR")


def restore_trained(folder: RunFolder, weights: Weights) -> None:
    """Put the weights that training ended with into the model, before any weight averaging. Raises `ConfigError` where none are kept."""
    checkpoint = folder.manifest().checkpoint
    if checkpoint is None or not _weights_file(folder, checkpoint.rounds).exists():
        raise ConfigError(f"{folder.path} keeps no trained weights; train it to its end, or again in another run (--out DIR)")
    weights.restore(load_file(_weights_file(folder, checkpoint.rounds)))


def restore_best(folder: RunFolder, weights: Weights) -> None:
    """Put the weights of the best saved round, as the guards saw it when the last one was saved, into the model."""
    weights.restore(load_file(_weights_file(folder, _best(folder, _saved(folder)[0]))))


@ranks.main_only
def keep_last(folder: RunFolder) -> None:
    """Remove every saved state but the last, and what the vault holds of others."""
    numbers = _saved(folder)
    last = numbers[0] if numbers else 0
    best = _best(folder, last) if last else 0
    for number in numbers[1:]:
        if number == best and not _best_file(folder, number).exists():  # a death in the removal below leaves a folder without them
            os.replace(_place(folder, number) / _WEIGHTS, _best_file(folder, number))
        shutil.rmtree(_place(folder, number))
    for path in folder.state.glob("best-*.safetensors"):
        if path != _best_file(folder, best):
            path.unlink()
    folder.texts.remove(f"{_TEXTS}-*", but=f"{_TEXTS}-{last}")


@ranks.main_only
def keep_weights(folder: RunFolder) -> None:
    """Of what a finished run keeps to go on from, leave what `restore_trained` and another weight averaging read."""
    keep_last(folder)
    for path in folder.state.glob(f"round-*/{_OPTIMIZER}"):
        path.unlink()


def _read(folder: RunFolder, number: int) -> Done:
    """Raises `_Damaged`, saying what; nothing that is read has been used yet."""
    place, part = _place(folder, number), _SUMS
    try:
        sums = json.loads((place / part).read_text(encoding="utf-8"))
        for part in (_WEIGHTS, _OPTIMIZER, _PROGRESS):
            if part == _OPTIMIZER and not (place / part).exists() and folder.manifest().checkpoint is not None:
                continue  # trained to its end, and only the weights were kept
            _check(part, sha256(place / part), sums)
        part = _PROGRESS
        saved = json.loads((place / part).read_text(encoding="utf-8"))
        saved["seen"].pop("factor", None)  # of the controller that older runs could have; whoever had it on is refused by its recipe
        seen, exposed = Seen(**saved["seen"]), [RoundExposure(**line) for line in saved["ledger"]]
        if seen.best not in (0, number):
            part = _BEST
            _check(part, sha256(_weights_file(folder, seen.best)), sums)
        part = _LOG
        log = read_jsonl(folder.steps_file)[: saved["step"]]
        _check(part, _sum(log), sums)
        part = _TEXTS
        texts = folder.texts.rows(f"{_TEXTS}-{number}")
        _check(part, _sum(texts), sums)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Damaged(f"{part} cannot be read") from error
    cost, state = Cost(saved["seconds"], saved["cpu_seconds"]), {row.pop("id"): row for row in texts}
    return Done(saved["round"], saved["step"], cost, state, saved["targeted"], exposed, log, seen)


def _check(part: str, found: str, sums: Mapping[str, str]) -> None:
    if found != sums[part]:
        raise _Damaged(f"{part} is not what was written")


def _saved(folder: RunFolder) -> list[int]:
    """Rounds after which there is a state, the last first."""
    numbers = (path.name.removeprefix("round-") for path in folder.state.glob("round-*"))
    return sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)


def _best(folder: RunFolder, number: int) -> int:
    """The best saved round as that state knows it; 0 where there is none."""
    best: int = json.loads((_place(folder, number) / _PROGRESS).read_text(encoding="utf-8"))["seen"]["best"]
    return best


def _place(folder: RunFolder, number: int) -> Path:
    return folder.state / f"round-{number}"


def _best_file(folder: RunFolder, number: int) -> Path:
    return folder.state / f"best-{number}.safetensors"


def _weights_file(folder: RunFolder, number: int) -> Path:
    """The weights after a round: its own, or those that outlived its state."""
    best = _best_file(folder, number)
    return best if best.exists() else _place(folder, number) / _WEIGHTS


def _rows(state: methods.State) -> Iterator[dict[str, Any]]:
    return ({"id": key, **value} for key, value in state.items())


def _sum(rows: Iterable[Mapping[str, Any]]) -> str:
    # Of the rows, not of their file: how the vault writes them down is its own affair.
    found = hashlib.sha256()
    for row in rows:
        found.update(jsonl([row]).encode())
    return found.hexdigest()
