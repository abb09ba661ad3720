"""One configuration: its rounds measured, then a run for every seed, each a curve of checkpoints against its cost.

A trial's folder holds `trial.json` and, for each seed, a run folder like any other with a `curve.jsonl` beside it. What was
recorded of the model before is the same for all configurations and shared (`Recorded`). A trial that was interrupted goes on.
"""

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel

from unsay import audit
from unsay import run as runs
from unsay.config import AuditConfig, Recipe, ReportConfig, TrainConfig, WatchConfig, deployment
from unsay.lm.encode import Encoder
from unsay.lm.model import default_device
from unsay.lm.plan import planned
from unsay.lm.subject import LocalSubject
from unsay.measure.summary import summarise
from unsay.research.front.area import PLANES, hypervolume
from unsay.research.front.counted import OVER
from unsay.research.sweep.spec import Settings, Sweep
from unsay.run import Watchers
from unsay.store.clock import Cost
from unsay.store.files import jsonl, new_folder, read_jsonl, write_text
from unsay.store.folder import RunFolder, read_findings
from unsay.store.memory import give_back
from unsay.tables import entries
from unsay.train import train
from unsay.train.resume import keep_weights

_PILOT_ROUNDS = 2
CURVE, TRIAL = "curve.jsonl", "trial.json"


class _Measured(Exception):
    """The pilot has seen what it was to see."""


@dataclass(frozen=True)
class Outcome:
    value: float
    """Hypervolume of the curve, unlearn quality × utility (0 to 1), a mean over the seeds."""
    pruned: str = ""
    """Why the configuration was given up; empty where it was not."""


@dataclass(frozen=True)
class Recorded:
    """What `finetune`, `record` and the audits of the model before and of the retain model leave, made once for all runs that share it."""

    folder: Path
    probes: tuple[str, ...]
    watchers: Watchers

    def of(self, recipe: Recipe) -> RunFolder:
        """The folder for this recipe, made now or before. What differs between configurations plays no part in it."""
        shared = replace(recipe, title="", method="retain-only", train=TrainConfig(), watch=WatchConfig(), report=ReportConfig())
        taken = {recipe.corpus, *entries("probe")}  # what probes ask before they must ask after
        tables = {name: table for name, table in recipe.tables.items() if name in taken}
        shared = replace(shared, audit=AuditConfig(self.probes, recipe.audit.limit), tables=tables)
        # Without what is the same for all here: a knob that a later version adds to [train] must not make recorded texts useless.
        alike = ("title", "seed", "method", "train", "watch", "report")
        differs = {name: value for name, value in asdict(shared).items() if name not in alike}
        key = f"{zlib.crc32(json.dumps(differs, sort_keys=True).encode()):08x}"
        folder = RunFolder(self.folder / key / f"seed-{recipe.seed}")
        with folder.claimed(wait=True):  # another worker may be at it
            runs.open_folder(shared, folder)
            if recipe.finetune.epochs and not folder.done("finetune"):
                runs.run_finetune(shared, folder, self.watchers)
            if not folder.done("record"):
                runs.run_record(shared, folder, self.watchers)
            for which in ("before", "retain_model"):
                if not folder.done(f"audit {which}") and (which != "retain_model" or recipe.model.retain_model):
                    runs.run_audit(shared, folder, which, self.watchers)
        return folder

    def cost(self, recipe: Recipe) -> Cost:
        """What recording took, which every run is charged."""
        manifest = self.of(recipe).manifest()
        return Cost(manifest.seconds["record"], manifest.cpu_seconds["record"])


def on_gpu() -> bool:
    """Whether models are trained on a GPU here: cost is then counted in seconds of the clock."""
    return default_device().type == "cuda"


def run_configuration(sweep: Sweep, path: Path, name: str, drawn: Settings, folder: Path, recorded: Recorded) -> Outcome:
    """Every seed of one configuration. `path`: the recipe file. Raises `FloatingPointError` where the model falls apart."""
    rounds = _rounds(sweep, path, name, drawn, folder, recorded)
    values = []
    for seed in sweep.seeds:
        recipe = sweep.recipe_of(path, name, drawn, {"seed": seed, **_schedule(rounds, sweep.checkpoints)})
        # The last audit asks what the curve has not asked already.
        recipe = replace(recipe, audit=AuditConfig(sweep.final or sweep.probes, recipe.audit.limit))
        run = begun(recipe, recorded.of(recipe), folder / f"seed-{seed}")
        floor = sweep.floor * (summary(run, "before").get("utility") or 0.0)
        if not run.done("train"):
            recorded.watchers.stage(f"{name} {folder.name}, seed {seed}")
            _train(sweep, name, recipe, run, recorded, floor)
        if sweep.final and not run.done("audit after"):
            runs.run_audit(recipe, run, "after", recorded.watchers)
        _tidy(run, sweep.keep)
        points = curve(run)
        values.append(volume(points))
        low = (points[-1]["metrics"].get("utility") or 0.0) if points else 0.0
        if low < floor:
            return Outcome(fmean(values), f"utility {low:.1f} below the floor of {floor:.1f} with seed {seed}, checkpoint {len(points)}")
    return Outcome(fmean(values))


def _rounds(sweep: Sweep, path: Path, name: str, drawn: Settings, folder: Path, recorded: Recorded) -> int:
    """The recipe's rounds or, where there is a budget, those that fill it by what the first ones take; one a checkpoint at least."""
    if not sweep.budget:
        note(folder, rounds=(rounds := sweep.recipe_of(path, name, drawn).train.rounds))
        return rounds
    trial = json.loads((folder / TRIAL).read_text(encoding="utf-8"))
    if "rounds" in trial:
        return int(trial["rounds"])
    # One round more than is looked at: the last one is saved, which would be timed too.
    recipe = sweep.recipe_of(path, name, drawn, {"seed": sweep.seeds[0], **_schedule(_PILOT_ROUNDS + 1, 1)})
    scratch = folder / "pilot"
    shutil.rmtree(scratch, ignore_errors=True)
    costs: list[float] = []

    def look(model: PreTrainedModel, encoder: Encoder, rounds: int, cost: Cost) -> bool:
        costs.append(seconds(cost))
        if rounds == _PILOT_ROUNDS:
            raise _Measured
        return True

    try:
        train(recipe, begun(recipe, recorded.of(recipe), scratch), watch=look)
    except _Measured:
        pass
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    each = (costs[-1] - costs[0]) / (_PILOT_ROUNDS - 1)
    before = seconds(recorded.cost(recipe)) + max(0.0, costs[0] - each)
    rounds = max(sweep.checkpoints, round((sweep.budget - before) / max(each, 1e-6)))
    note(folder, rounds=rounds, seconds_a_round=round(each, 4), seconds_before=round(before, 2))
    if (whole := before + rounds * each) > OVER * sweep.budget:
        recorded.watchers.note(
            f"{rounds} rounds of {name} {folder.name}, one for each checkpoint, take {whole:.4g} s; `unsay front` does not count "
            f"what comes after a tenth over the budget of {sweep.budget:g} s"
        )
    return rounds


def _schedule(rounds: int, saves: int) -> Settings:
    # A run that ended by itself would have no last checkpoint; and what is looked at is what was trained.
    own = {"watch.rows": 0, "watch.enough": 0, "train.averaging": 1.0}
    return {"train.rounds": rounds, "train.save_every": max(1, rounds // saves), "train.max_minutes": None, **own}


def begun(recipe: Recipe, recorded: RunFolder, path: Path) -> RunFolder:
    """A run folder in which everything before training has been done already. Weights are shared with `recorded`, texts copied."""
    folder = RunFolder(path)
    if not folder.recipe_file.exists():
        skipped = shutil.ignore_patterns("recipe.toml", ".lock")
        with new_folder(path) as partial:
            shutil.copytree(recorded.path, partial, copy_function=_share, ignore=skipped, dirs_exist_ok=True)
            RunFolder(partial).write_recipe(recipe)
    return folder


def _share(source: str, target: str) -> None:
    # Only what is never written in place may be shared: the vault's generations are added to.
    if source.endswith(".safetensors"):
        with suppress(OSError):  # a file system without hard links, or another one
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _train(sweep: Sweep, name: str, recipe: Recipe, run: RunFolder, recorded: Recorded, floor: float) -> None:
    """Train, looking at the model at every checkpoint; ends early where the utility falls below `floor`."""
    before = read_findings(run.audit_file("before"))
    retain_model = read_findings(run.audit_file("retain_model"))
    case = runs.case(recipe, run)
    asked = replace(recipe, audit=AuditConfig(sweep.probes, recipe.audit.limit))
    marks = _marks(sweep, name, recipe.train.rounds)
    base = recorded.cost(recipe)

    def look(model: PreTrainedModel, encoder: Encoder, rounds: int, cost: Cost) -> bool:
        points = curve(run)
        if points and rounds < points[-1]["round"]:
            return True  # taken up again before a checkpoint that was looked at: what it said counts when it is there again
        if rounds in marks and marks.index(rounds) >= len(points):
            # As many rows at once as training was given; an optimizer lies beside the model here.
            sample = planned(run, "train", model, encoder, deployment.sample(recipe), ())
            found = summarise(audit.run(LocalSubject(model, encoder, sample, recipe.seed), case, asked), before, retain_model)
            whole = base + cost
            point = {
                "checkpoint": marks.index(rounds) + 1,
                "round": rounds,
                "seconds": round(cost.seconds, 3),
                "cpu_seconds": round(whole.cpu_seconds, 3),
                "gpu_seconds": round(whole.seconds, 3) if on_gpu() else None,
                "metrics": {key: round(value, 5) for key, value in found.items() if value is not None},
            }
            points.append(point)
            write_text(run.path / CURVE, jsonl(points))
        return not points or (points[-1]["metrics"].get("utility") or 0.0) >= floor

    with run.stage("train"):
        train(recipe, run, lambda done, rounds, line: recorded.watchers.steps(done, rounds, f"loss {line['loss']:.3f}"), look)


def _marks(sweep: Sweep, name: str, rounds: int) -> list[int]:
    """The rounds that are looked at, in order; the last one is."""
    some = sweep.looks.get(name) or (round(rounds * (i + 1) / sweep.checkpoints) for i in range(sweep.checkpoints))
    return sorted({*(one for one in some if 0 < one < rounds), rounds})


def seconds(cost: Cost) -> float:
    """What a budget is counted in here."""
    return cost.seconds if on_gpu() else cost.cpu_seconds


def curve(run: RunFolder) -> list[dict[str, Any]]:
    """The checkpoints that were looked at so far (docs/sweep.md); none where there was no look yet."""
    path = run.path / CURVE
    return read_jsonl(path) if path.exists() else []


def volume(points: Sequence[dict[str, Any]]) -> float:
    """Hypervolume of a curve, unlearn quality × utility (0 to 1)."""
    plane = PLANES["quality"]
    return float(hypervolume([(plane.x.of(point["metrics"]), plane.y.of(point["metrics"])) for point in points])) if points else 0.0


def summary(run: RunFolder, which: str) -> dict[str, float | None]:
    """The numbers of the model before, or of the retain model; empty where it was not audited."""
    findings, before, retain_model = (read_findings(run.audit_file(one)) for one in (which, "before", "retain_model"))
    return summarise(findings, before, retain_model) if findings else {}


def note(folder: Path, **entries: Any) -> None:
    """Merge entries into `trial.json`."""
    path = folder / TRIAL
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_text(path, json.dumps(known | entries, indent=1, ensure_ascii=False) + "\n")


def clear(folder: Path) -> None:
    """Of a failed configuration, keep no weights."""
    for path in folder.glob("seed-*"):
        _tidy(RunFolder(path), keep=False)


def _tidy(run: RunFolder, keep: bool) -> None:
    """What a finished run needs no more: the optimizer's state and, unless they are kept, the weights (`unsay par` moves them)."""
    give_back()
    if keep:
        keep_weights(run)
        return
    for folder in (run.state, run.checkpoint, run.adapter, run.planted):
        shutil.rmtree(folder, ignore_errors=True)
