"""What sweeps have left, read: trials, the curves of their seeds, and the models they are measured against.

A sweep is a folder that `unsay sweep` has left, or one file that `scripts/keep_sweep.py` made of it: JSON lines, compressed. The first
line holds the sweep's own files by name, as text; each further line is a trial, its `trial.json` with the `curves` of its seeds.
"""

import json
import lzma
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import isfinite, nan
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from unsay.config import ConfigError
from unsay.config.toml import read as read_toml
from unsay.measure.never_knew import never_knew
from unsay.measure.summary import summarise
from unsay.store.folder import read_findings

Metrics = Mapping[str, float | None]
T = TypeVar("T")

NEVER_KNEW = "never_knew"
"""Key of the never-knew index (unsay/measure/never_knew.py), which no curve holds: it is made here, from the models of the sweep."""
STATES = ("complete", "pruned", "failed", "running")


@dataclass(frozen=True)
class Axis:
    """A metric on the scale 0 to 1, higher is better."""

    metric: str
    top: float = 1.0
    flipped: bool = False
    """Whether 1 − the metric is meant."""

    def of(self, metrics: Metrics) -> float:
        """NaN where it was not scored."""
        value = metrics.get(self.metric)
        if value is None or not isfinite(value):
            return nan
        share = min(1.0, max(0.0, value / self.top))
        return 1 - share if self.flipped else share


@dataclass(frozen=True)
class Step:
    """One checkpoint of one seed."""

    checkpoint: int
    round: int
    cpu_seconds: float
    gpu_seconds: float | None
    metrics: Metrics


@dataclass(frozen=True)
class Configuration:
    """One trial of a sweep with the curves of its seeds."""

    folder: str
    """The sweep's folder, or its file."""
    place: str
    """Of the trial inside the folder: method/number."""
    method: str
    number: int
    settings: Mapping[str, Any]
    state: str
    why: str
    seeds: int
    """How many it was given; fewer may have got anywhere."""
    curves: Mapping[str, tuple[Step, ...]]
    """By seed. Those of a failed trial take no part."""

    @property
    def name(self) -> tuple[str, str]:
        """Trial 3 of two folders is two configurations."""
        return self.folder, self.place

    @cached_property
    def checkpoints(self) -> dict[int, list[Step]]:
        """In order, with the steps of the seeds that got there."""
        found: dict[int, list[Step]] = {}
        for step in sorted((step for curve in self.curves.values() for step in curve), key=lambda step: step.checkpoint):
            found.setdefault(step.checkpoint, []).append(step)
        return found

    def at(self, checkpoint: int, metric: str) -> float | None:
        """Mean of a metric, on its own scale, over the seeds that got to the checkpoint; `None` where none was scored."""
        values = [step.metrics.get(metric) for step in self.checkpoints[checkpoint]]
        scored = [value for value in values if value is not None and isfinite(value)]
        return fmean(scored) if scored else None

    def cost(self, checkpoint: int, currency: str) -> float:
        """Mean over the seeds that got there."""
        return fmean(getattr(step, currency) for step in self.checkpoints[checkpoint])


@dataclass(frozen=True)
class Sweeps:
    """What several sweeps hold."""

    folders: tuple[str, ...]
    configurations: Mapping[str, tuple[Configuration, ...]]
    """By method."""
    references: Mapping[str, Mapping[str, tuple[Metrics, ...]]]
    """Folder → `before`, `retain_model` → the metrics of each seed."""
    budgets: Mapping[str, float]
    """Folder → the seconds that each of its runs was given, where the folder says so."""

    @property
    def steps(self) -> list[Step]:
        """Of all configurations and seeds."""
        return [step for some in self.configurations.values() for one in some for curve in one.curves.values() for step in curve]

    @property
    def failed(self) -> tuple[Configuration, ...]:
        return tuple(one for some in self.configurations.values() for one in some if one.state == "failed")

    @property
    def currency(self) -> str:
        """What cost is counted in: GPU seconds where every curve has them, else CPU seconds, the same for all."""
        return "gpu_seconds" if all(step.gpu_seconds is not None for step in self.steps) else "cpu_seconds"

    def reference(self, which: str, axis: Axis, folder: str | None = None) -> float | None:
        """Mean over seeds and folders of what `before` or `retain_model` scores on an axis."""
        found = [axis.of(one) for name, some in self.references.items() if folder in (None, name) for one in some.get(which, ())]
        scored = [value for value in found if isfinite(value)]
        return fmean(scored) if scored else None


def read(paths: Sequence[Path]) -> Sweeps:
    """Everything in some sweeps, folders or files. Raises `ConfigError` naming the one without a curve, or the file that cannot be read."""
    configurations: dict[str, list[Configuration]] = {}
    references, budgets = {}, {}
    for path in {path.resolve(): path for path in paths}.values():
        found, reference, budget = _file(path) if path.is_file() else _folder(path)
        if not any(one.curves for one in found):
            states = ", ".join(f"{number} {state}" for state, number in Counter(one.state for one in found).items()) or "none"
            raise ConfigError(f"{path} holds no curve of a sweep (trials: {states}); make some with `unsay sweep`, or name its folder")
        for one in found:
            curves = {
                seed: tuple(replace(step, metrics=_with_index(step.metrics, reference)) for step in curve)
                for seed, curve in one.curves.items()
            }
            configurations.setdefault(one.method, []).append(replace(one, curves=curves))
        references[str(path)] = {which: tuple(_with_index(one, reference) for one in some) for which, some in reference.items()}
        if budget is not None:
            budgets[str(path)] = budget
    if not references:
        raise ConfigError("name at least one folder that `unsay sweep` has left")
    return Sweeps(tuple(references), {name: tuple(configurations[name]) for name in sorted(configurations)}, references, budgets)


References = dict[str, tuple[Metrics, ...]]
Sweep = tuple[list[Configuration], References, float | None]
"""Trials, metrics of the models before and the retain model, budget in seconds."""


def _with_index(metrics: Metrics, reference: References) -> Metrics:
    """With the never-knew index, held against the means over seeds of the model before and the retain model, where the sweep has them."""
    beside = {which: _means(reference.get(which, ())) for which in ("before", "retain_model")}
    found = never_knew({key: {"after": value} | {which: some.get(key) for which, some in beside.items()} for key, value in metrics.items()})
    return {**metrics, NEVER_KNEW: found.index} if found else metrics


def _means(some: Sequence[Metrics]) -> dict[str, float]:
    scored = {key: [value for one in some if (value := one.get(key)) is not None] for key in {key for one in some for key in one}}
    return {key: fmean(values) for key, values in scored.items() if values}


def _folder(path: Path) -> Sweep:
    trials = [_parsed(file, _text(file), partial(_trial, path, file)) for file in sorted(path.glob("*/*/trial.json"))]
    reference, sweep = path / "reference.json", path / "sweep.toml"
    return (
        trials,
        _parsed(reference, _text(reference), _reference) if reference.exists() else {},
        _budget(sweep, read_toml(sweep)) if sweep.exists() else None,
    )


def _file(path: Path) -> Sweep:
    try:
        head, *lines = lzma.decompress(path.read_bytes()).decode("utf-8", errors="replace").rstrip("\n").split("\n")
    except (OSError, lzma.LZMAError):
        raise ConfigError(f"{path} cannot be read; name a sweep's folder, or what scripts/keep_sweep.py has made of one") from None

    def trial(row: Any) -> Configuration:
        place = f"{row['method']}/{row['number']:03d}"
        return _configuration(path, place, row, ((seed, tuple(map(_step, rows))) for seed, rows in row["curves"].items()))

    def about(files: Any) -> tuple[References, float | None]:
        reference, sweep = files.get("reference.json"), files.get("sweep.toml")
        return _reference(json.loads(reference)) if reference else {}, _budget(path, tomllib.loads(sweep)) if sweep else None

    reference, budget = _parsed(f"{path}, line 1", head, about)
    return [_parsed(f"{path}, line {i}", line, trial) for i, line in enumerate(lines, 2)], reference, budget


def _trial(sweep: Path, file: Path, trial: Any) -> Configuration:
    curves = ((one.parent.name.removeprefix("seed-"), _curve(one)) for one in sorted(file.parent.glob("seed-*/curve.jsonl")))
    return _configuration(sweep, str(file.parent.relative_to(sweep)), trial, curves)


def _configuration(sweep: Path, place: str, trial: Any, curves: Iterable[tuple[str, tuple[Step, ...]]]) -> Configuration:
    """`curves`: by seed; those of a failed trial are not looked at."""
    if trial["state"] not in STATES:
        raise ValueError(f"state is {trial['state']!r}, not one of {', '.join(STATES)}")
    if not isinstance(trial["method"], str):
        raise TypeError("method is no text")
    about = {key: trial[key] for key in ("method", "settings", "state", "why")}
    kept = {seed: curve for seed, curve in curves if curve} if trial["state"] != "failed" else {}
    return Configuration(str(sweep), place, number=int(trial["number"]), **about, seeds=len(trial["seeds"]), curves=kept)


def _text(path: Path) -> str:
    """What is not UTF-8 then is no JSON either, and is said to be so."""
    return path.read_text(encoding="utf-8", errors="replace")


def _curve(path: Path) -> tuple[Step, ...]:
    lines = [line for line in _text(path).split("\n") if line]
    steps = [_parsed(f"{path}, line {i}", line, _step) for i, line in enumerate(lines, 1)]
    audit = path.parent / "audit" / "after.jsonl"
    if steps and audit.exists():
        try:
            fuller = summarise(read_findings(audit))
        except (ValueError, TypeError, KeyError):  # its message may quote what stands in the file
            raise ConfigError(f"{audit} cannot be read; audit again, or remove it") from None
        # Only what the curve has not scored: two audits of different size must not stand on one axis.
        last = steps[-1]
        scored = {key: value for key, value in last.metrics.items() if value is not None}
        steps[-1] = replace(last, metrics=fuller | scored)
    return tuple(steps)


def _step(line: Any) -> Step:
    gpu = line["gpu_seconds"]
    metrics = {key: None if value is None else float(value) for key, value in line["metrics"].items()}
    return Step(int(line["checkpoint"]), int(line["round"]), float(line["cpu_seconds"]), None if gpu is None else float(gpu), metrics)


def _reference(found: Any) -> References:
    """Empty where a sweep has none: fronts need no reference, only marks and caps do."""
    return {which: tuple(dict(metrics) for metrics in (found.get(which) or {}).values()) for which in ("before", "retain_model")}


def _budget(place: Path, sweep: Mapping[str, Any]) -> float | None:
    """`None` where its runs were given rounds, not seconds."""
    budget = sweep.get("budget")
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget >= 0:
        raise ConfigError(f"{place}: budget is no number of seconds; it is as `unsay sweep` has left it, or taken away")
    return float(budget) or None


def _parsed(place: Path | str, text: str, make: Callable[[Any], T]) -> T:
    try:
        return make(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        # Only of a missing key the message is told: others may quote what stands in the file.
        what = f"no {error}" if isinstance(error, KeyError) else "not what a sweep writes"
        raise ConfigError(f"{place} cannot be read ({what}); if the sweep is still at work, wait; else remove the trial") from None
