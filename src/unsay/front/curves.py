"""What sweeps have left, read: trials, the curves of their seeds, and the models they are measured against."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from unsay.config import ConfigError
from unsay.config.toml import read as read_toml
from unsay.folder import read_findings
from unsay.summary import summarise

Metrics = Mapping[str, float | None]
T = TypeVar("T")

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
    place: str
    """Of the trial inside the folder."""
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

    def at(self, checkpoint: int, metric: str) -> float | None:
        """Mean of a metric, on its own scale, over the seeds that got to the checkpoint; `None` where none was scored."""
        values = [step.metrics.get(metric) for curve in self.curves.values() for step in curve if step.checkpoint == checkpoint]
        scored = [value for value in values if value is not None and isfinite(value)]
        return fmean(scored) if scored else None


@dataclass(frozen=True)
class Sweeps:
    """What several sweep folders hold."""

    folders: tuple[str, ...]
    configurations: Mapping[str, tuple[Configuration, ...]]
    """By method."""
    references: Mapping[str, Mapping[str, tuple[Metrics, ...]]]
    """Folder → `before`, `gold` → the metrics of each seed."""
    budgets: Mapping[str, float]
    """Folder → the seconds that each of its runs was given, where the folder says so."""

    @property
    def currency(self) -> str:
        """What cost is counted in: GPU seconds where every curve has them, else CPU seconds, the same for all."""
        steps = [step for some in self.configurations.values() for one in some for curve in one.curves.values() for step in curve]
        return "gpu_seconds" if all(step.gpu_seconds is not None for step in steps) else "cpu_seconds"

    def reference(self, which: str, axis: Axis, folder: str | None = None) -> float | None:
        """Mean over seeds and folders of what `before` or `gold` scores on an axis."""
        found = [axis.of(one) for name, some in self.references.items() if folder in (None, name) for one in some.get(which, ())]
        scored = [value for value in found if isfinite(value)]
        return fmean(scored) if scored else None


def read(paths: Sequence[Path]) -> Sweeps:
    """Everything in some sweep folders. Raises `ConfigError` naming the folder without a curve, or the file that cannot be read."""
    configurations: dict[str, list[Configuration]] = {}
    references, budgets = {}, {}
    for path in {path.resolve(): path for path in paths}.values():
        found = [_trial(file, path) for file in sorted(path.glob("*/*/trial.json"))]
        if not any(one.curves for one in found):
            states = ", ".join(f"{number} {state}" for state, number in Counter(one.state for one in found).items()) or "none"
            raise ConfigError(f"{path} holds no curve of a sweep (trials: {states}); make some with `unsay sweep`, or name its folder")
        for one in found:
            configurations.setdefault(one.method, []).append(one)
        references[str(path)] = _reference(path / "reference.json")
        if (budget := _budget(path / "sweep.toml")) is not None:
            budgets[str(path)] = budget
    if not references:
        raise ConfigError("name at least one folder that `unsay sweep` has left")
    return Sweeps(tuple(references), {name: tuple(configurations[name]) for name in sorted(configurations)}, references, budgets)


def _trial(file: Path, folder: Path) -> Configuration:
    def made(trial: Any) -> Configuration:
        if trial["state"] not in STATES:
            raise ValueError(f"state is {trial['state']!r}, not one of {', '.join(STATES)}")
        if not isinstance(trial["method"], str):
            raise TypeError("method is no text")
        files = sorted(file.parent.glob("seed-*/curve.jsonl")) if trial["state"] != "failed" else []
        curves = {path.parent.name.removeprefix("seed-"): curve for path in files if (curve := _curve(path))}
        about = {key: trial[key] for key in ("method", "settings", "state", "why")}
        return Configuration(
            str(folder),
            str(file.parent.relative_to(folder)),
            number=int(trial["number"]),
            **about,
            seeds=len(trial["seeds"]),
            curves=curves,
        )

    return _parsed(file, _text(file), made)


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
        steps[-1] = Step(last.checkpoint, last.round, last.cpu_seconds, last.gpu_seconds, fuller | scored)
    return tuple(steps)


def _step(line: Any) -> Step:
    gpu = line["gpu_seconds"]
    metrics = {key: None if value is None else float(value) for key, value in line["metrics"].items()}
    return Step(int(line["checkpoint"]), int(line["round"]), float(line["cpu_seconds"]), None if gpu is None else float(gpu), metrics)


def _reference(file: Path) -> dict[str, tuple[Metrics, ...]]:
    """Empty where there is none: fronts need no reference, only marks and caps do."""
    if not file.exists():
        return {}

    def made(found: Any) -> dict[str, tuple[Metrics, ...]]:
        return {which: tuple(dict(metrics) for metrics in (found.get(which) or {}).values()) for which in ("before", "gold")}

    return _parsed(file, _text(file), made)


def _budget(file: Path) -> float | None:
    """`None` where the file is not there, as beside curves that were written by hand."""
    if not file.exists():
        return None
    budget = read_toml(file).get("budget")
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
        raise ConfigError(f"{file}: budget is no number of seconds; it is as `unsay sweep` has left it, or taken away")
    return float(budget)


def _parsed(place: Path | str, text: str, make: Callable[[Any], T]) -> T:
    try:
        return make(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        # Only of a missing key the message is told: others may quote what stands in the file.
        what = f"no {error}" if isinstance(error, KeyError) else "not what a sweep writes"
        raise ConfigError(f"{place} cannot be read ({what}); if the sweep is still at work, wait; else remove the trial") from None
