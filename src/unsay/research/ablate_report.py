"""What an ablation found (a sweep's folder or kept file): a picture for each knob, one page, and every number as JSON. No model is loaded.

A bar reaches from the least to the largest of the seeds, and the line goes through their means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from unsay.config.toml import as_toml
from unsay.report.pictures import MUTED
from unsay.research.front.curves import Configuration, Metrics, Sweeps, read
from unsay.research.written import table as lines_of
from unsay.research.written import write as written

ROUNDS = "train.rounds"
DRAWN = {
    "unlearn_quality": ("forget quality", "#332288", "o"),
    "utility": ("utility", "#117733", "^"),
    "utility_heldout": ("utility, held out", "#CC6677", "s"),
}
"""Metric, 0 to 100 → its name, colour and marker."""
TABLED = {
    **{metric: (name, 1) for metric, (name, _, _) in DRAWN.items()},
    "greedy_keyword_recall": ("keyword recall", 3),
    "class_degenerate": ("broken answers", 3),
}
"""Metric → its column and decimals. Quality judges wording, and full of it is noise too: the last two tell them apart."""


@dataclass(frozen=True)
class Point:
    """One value of a knob."""

    value: Any
    seeds: Mapping[str, Metrics]
    """Seed → what the model at the end scored."""
    cpu_seconds: float
    """Of recording and training, a mean over the seeds."""

    @property
    def label(self) -> str:
        if isinstance(self.value, Mapping):
            return ", ".join(f"{key} {as_toml(one)}" for key, one in self.value.items())
        return self.value if isinstance(self.value, str) else as_toml(self.value)

    def of(self, metric: str) -> list[float]:
        """What the seeds scored, the least first; empty where none was scored."""
        return sorted(value for metrics in self.seeds.values() if (value := metrics.get(metric)) is not None)


@dataclass(frozen=True)
class Ablation:
    """What one folder holds."""

    knobs: Mapping[str, tuple[Point, ...]]
    """Knob → its values: numbers by size, other values in the order in which they were asked for."""
    failed: tuple[str, ...]
    """Values that could not be run, with the reason."""
    sweeps: Sweeps

    def reference(self, which: str, metric: str) -> float | None:
        """What the model before, or the retain model, scored: a mean over the seeds."""
        found = [value for some in self.sweeps.references.values() for one in some[which] if (value := one.get(metric)) is not None]
        return fmean(found) if found else None


def ablated(path: Path) -> Ablation:
    """The ablation in a folder, finished or not, or in a kept file. Raises `ConfigError` where there is none."""
    sweeps = read([path])
    knobs = {knob: _points(knob, some) for knob, some in sweeps.configurations.items()}
    failed = tuple(f"{one.method} = {as_toml(one.settings[one.method])}: {one.why}" for one in sweeps.failed)
    return Ablation({knob: points for knob, points in knobs.items() if points}, failed, sweeps)


def _points(knob: str, configurations: Sequence[Configuration]) -> tuple[Point, ...]:
    found: dict[str, tuple[Any, dict[str, Metrics], list[float]]] = {}
    for one in configurations:
        for seed, curve in one.curves.items():
            for step in curve if knob == ROUNDS else curve[-1:]:  # of rounds, every checkpoint of a run may be a value
                value = step.round if knob == ROUNDS else one.settings[knob]
                _, seeds, seconds = found.setdefault(as_toml(value), (value, {}, []))
                seeds[seed] = step.metrics
                seconds.append(step.cpu_seconds)
    points = [Point(value, seeds, fmean(seconds)) for value, seeds, seconds in found.values()]
    return tuple(sorted(points, key=lambda point: point.value) if _numbers(points) else points)


def _numbers(points: Sequence[Point]) -> bool:
    return all(isinstance(point.value, int | float) and not isinstance(point.value, bool) for point in points)


def write(found: Ablation, out: Path) -> list[Path]:
    """All files, each whole; returns where they lie. Raises `WriteError`."""
    return written(out, "ablation", page(found), as_json(found), {knob: partial(picture, found, knob) for knob in found.knobs})


def as_json(found: Ablation) -> dict[str, Any]:
    """Every value of every knob: means, and what each seed scored."""
    values = {
        knob: [
            {
                "value": point.value,
                "mean": {metric: fmean(scored) for metric in TABLED if (scored := point.of(metric))},
                "seeds": {seed: dict(metrics) for seed, metrics in point.seeds.items()},
                "cpu_seconds": point.cpu_seconds,
            }
            for point in points
        ]
        for knob, points in found.knobs.items()
    }
    beside = {which: {metric: found.reference(which, metric) for metric in TABLED} for which in ("before", "retain_model")}
    return {"knobs": values, **beside, "failed": list(found.failed)}


def page(found: Ablation) -> str:
    """The page: a picture and a table for each knob."""
    lines = ["# What does each knob do?", "", "A mean over the seeds, and in brackets the least and the largest of them."]
    for knob in found.knobs:
        lines += ["", f"## {knob}", "", f"![{knob}]({knob}.svg)", "", table(found, knob)]
    if found.failed:
        lines += ["", "## Could not be run", "", *(f"- {line}" for line in found.failed)]
    return "\n".join(lines) + "\n"


def table(found: Ablation, knob: str) -> str:
    """The values of one knob, and below them the model before and the retain model."""
    rows = []
    for point in found.knobs[knob]:
        cells = [_cell(point.of(metric), decimals) for metric, (_, decimals) in TABLED.items()]
        rows.append([point.label, *cells, str(len(point.seeds)), f"{point.cpu_seconds:.1f}"])
    for which, name in (("before", "*before*"), ("retain_model", "*retain model*")):
        numbers = [(found.reference(which, metric), decimals) for metric, (_, decimals) in TABLED.items()]
        rows.append([name, *("–" if one is None else f"{one:.{n}f}" for one, n in numbers), "", ""])
    return lines_of([knob, *(name for name, _ in TABLED.values()), "seeds", "CPU seconds"], rows)


def _cell(scored: Sequence[float], decimals: int) -> str:
    if not scored:
        return "–"
    mean, least, most = (f"{value:.{decimals}f}" for value in (fmean(scored), scored[0], scored[-1]))
    return mean if least == most else f"{mean} ({least}–{most})"


def picture(found: Ablation, knob: str) -> Figure:
    """Forget quality, utility and held-out utility over the values of a knob."""
    points = found.knobs[knob]
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    numbers = _numbers(points)
    places = [point.value for point in points] if numbers else list(range(len(points)))
    for i, (metric, (name, colour, marker)) in enumerate(DRAWN.items()):
        beside = 0 if numbers else 0.12 * (i - 1)  # bars of one category do not cover each other
        scored = {place + beside: some for place, point in zip(places, points, strict=True) if (some := point.of(metric))}
        means = list(map(fmean, scored.values()))
        bars = [[mean - some[0], some[-1] - mean] for mean, some in zip(means, scored.values(), strict=True)]
        if scored:
            look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4, "linestyle": "-" if numbers else "", "capsize": 2.5}
            axes.errorbar(list(scored), means, np.transpose(bars), label=name, **look)
    if (gold := found.reference("retain_model", "unlearn_quality")) is not None:
        axes.axhline(
            gold, color=DRAWN["unlearn_quality"][1], linestyle=(0, (1, 1.5)), linewidth=0.9, label="forget quality of the retain model"
        )
    if numbers and min(places) > 0 and max(places) >= 10 * min(places):
        axes.set_xscale("log")
    axes.set_xticks(places, [point.label.replace(", ", "\n") for point in points])
    axes.set_xticks([], minor=True)
    axes.set(xlabel=knob, ylabel="0 to 100")
    figure.legend(loc="outside lower center", ncols=2, labelcolor=MUTED)
    return figure
