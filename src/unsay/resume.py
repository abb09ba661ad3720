"""What an exact resume of training needs: weights, optimizer, counters, the method's state.

Written at the end of a round as one folder that appears whole, its texts in the vault. All random choices are named (seed, round,
example), so there is no generator to save.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors.torch import load_file

from unsay import ledger, methods
from unsay.clock import Cost
from unsay.files import jsonl, read_jsonl, replace_folder, write_text
from unsay.folder import RunFolder
from unsay.methods import Target, Visit
from unsay.model import write_tensors
from unsay.step import Weights


@dataclass
class Progress:
    """Everything the loop carries from round to round, weights and optimizer apart."""

    round: int
    step: int
    cost: Cost
    state: methods.State
    targeted: dict[str, int]
    ledger: list[dict[str, Any]]
    log: list[dict[str, Any]]

    def finish_round(self, number: int, state: methods.State, targets: Sequence[Target], visits: Mapping[str, Visit]) -> None:
        self.round, self.state = number + 1, state
        self.ledger.append(ledger.of_round(number, targets, visits))
        for target in targets:
            self.targeted[target.example] = self.targeted.get(target.example, 0) + bool(target.rows)


def save(folder: RunFolder, weights: Weights, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Weights, optimizer and counters as one folder that appears whole; the texts of the state go to the vault."""
    partial = folder.state.with_name("state.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_tensors(weights.exact, partial / "weights.safetensors")
    torch.save(optimizer.state_dict(), partial / "optimizer.pt")
    counters = {"round": progress.round, "step": progress.step, "targeted": progress.targeted, **asdict(progress.cost)}
    (partial / "progress.json").write_text(json.dumps(counters | {"ledger": progress.ledger}), encoding="utf-8")
    # The vault's part carries its round in the name, so that a crash between the two writes leaves a matching pair.
    folder.keep(f"method-state-{progress.round}", ({"id": key, **value} for key, value in progress.state.items()))
    write_text(folder.steps_file, jsonl(progress.log))
    replace_folder(partial, folder.state)
    for path in folder.vault.glob("method-state-*.jsonl"):
        if path.name != f"method-state-{progress.round}.jsonl":
            os.unlink(path)


def restore(folder: RunFolder, weights: Weights, optimizer: torch.optim.Optimizer) -> Progress:
    """The last saved progress, its weights put into the model; a fresh one where nothing is saved."""
    if not (folder.state / "progress.json").exists():
        return Progress(0, 0, Cost(), {}, {}, [], [])
    saved = json.loads((folder.state / "progress.json").read_text(encoding="utf-8"))
    weights.restore(load_file(folder.state / "weights.safetensors"))
    optimizer.load_state_dict(torch.load(folder.state / "optimizer.pt", weights_only=True))
    state = {row.pop("id"): row for row in folder.kept(f"method-state-{saved['round']}")}
    log = read_jsonl(folder.steps_file)[: saved["step"]]
    cost = Cost(saved["seconds"], saved["cpu_seconds"])
    return Progress(saved["round"], saved["step"], cost, state, saved["targeted"], saved["ledger"], log)
