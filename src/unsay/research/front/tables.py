"""The trade between forgetting and usefulness in tables (front.md) and in numbers (front.json)."""

from typing import Any

from unsay.research.front.area import Point
from unsay.research.front.curves import Configuration
from unsay.research.front.trade import Front, Panel, Reach, Volume
from unsay.research.written import table

CURRENCIES = {"cpu_seconds": "CPU seconds of training", "gpu_seconds": "GPU seconds of training"}
TOLD = (
    "unlearn_quality",
    "utility",
    "utility_heldout",
    "greedy_keyword_recall",
    "paraphrase_keyword_recall",
    "sampling_worst_keyword_recall",
    "prefill_worst_keyword_recall",
    "partial_secret_keyword_recall",
    "multiple_choice_least",
    "multiple_choice_most",
    "relearn_keyword_recall",
    "drift_token_probability",
)
"""What front.json says beside a point of a front or of the table: how deep the forgetting goes."""

Table = tuple[list[str], list[list[str]]]
"""Head, rows."""


def volumes(front: Front, brief: bool = False) -> Table:
    """A row per method: trials, and hypervolume with interval on each pair of axes (to the retain model, where it is known). Not brief:
    also with as many tries as the method with the fewest, where they differ, and with forgetting counted however far it goes."""
    head = ["method", "trials"]
    for key, panel in front.panels.items():
        head.append(f"{key}{to_retain_model(panel)}")
        if not brief:
            head += [f"{key}, equal tries"] * _uneven(panel) + [f"{key}, uncapped"] * (panel.cap is not None)
    rows = []
    for name, states in front.states.items():
        row = [name, ", ".join(f"{count} {state}" for state, count in states.items())]
        for panel in front.panels.values():
            reach = panel.methods[name]
            row.append(_volume(reach.capped or reach.volume))
            if not brief:
                row += [f"{reach.equal_tries:.3f}"] * _uneven(panel) + [_volume(reach.volume)] * (panel.cap is not None)
        rows.append(row)
    return head, rows


def _uneven(panel: Panel) -> bool:
    """Whether some methods were tried more often than others."""
    return len({reach.tries for reach in panel.methods.values()}) > 1


def to_retain_model(panel: Panel) -> str:
    """What stands behind the name of a hypervolume in which forgetting counts no further than the retain model’s."""
    return ", to the retain model" if panel.cap is not None else ""


def _volume(volume: Volume) -> str:
    return f"{volume.value:.3f}" + (f" ({volume.interval.low:.3f}–{volume.interval.high:.3f})" if volume.interval else "")


def above(panel: Panel) -> Table:
    """Chance that the method of the row has the larger hypervolume (to the retain model, where it is known) than that of the column;
    none of two methods without an interval: there was nothing to resample, and a chance of 1 would claim too much."""
    found = {name: reach.capped or reach.volume for name, reach in panel.methods.items()}

    def chance(name: str, other: str) -> str:
        known = name != other and (found[name].interval or found[other].interval)
        return f"{found[name].above[other]:.2f}" if known else "–"

    return ["", *found], [[name, *(chance(name, other) for other in found)] for name in found]


def equal_cost(front: Front) -> Table:
    """A row per budget and least quality: each method's best held-out utility."""
    names = list(front.states)
    rows = []
    for row in front.rows:
        best = (f"{100 * point.y:.1f}" if (point := row.best[name]) else "–" for name in names)
        rows.append([f"{row.budget:.4g}", f"{row.quality:.1f}", *best])
    return [CURRENCIES[front.sweeps.currency].removesuffix(" of training"), "quality at least", *names], rows


def failures(front: Front) -> list[str]:
    """Every failed trial by name, those of one reason together."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for one in front.sweeps.failed:
        alike.setdefault((one.method, one.folder, one.why or "no reason given"), []).append(f"{one.number:03d}")
    return [f"{method} {', '.join(numbers)} of {folder} failed: {why}" for (method, folder, why), numbers in alike.items()]


def halved(front: Front) -> str:
    """How the first budget came about."""
    if not front.halved:
        return "No point halved the keyword recall of the model before (asked plainly), so there is no table at equal cost."
    first, one = front.halved, front.halved.configuration
    return (
        f"First to halve what the model before says when asked plainly: {one.method} {one.number:03d} of {one.folder}, round "
        f"{first.round}, after {first.cost:.4g} {CURRENCIES[front.sweeps.currency]}. Best held-out utility (0 to 100) within each budget:"
    )


def markdown(front: Front) -> str:
    """The tables as a page."""
    parts = ["# Forgetting against usefulness", ", ".join(f"`{folder}`" for folder in front.sweeps.folders)]
    parts += ["## Hypervolume", "0 to 1, 95 % interval in brackets. How to read it: docs/front.md.", table(*volumes(front))]
    if len(front.states) > 1:
        for key, panel in front.panels.items():
            parts += [f"Chance that the row's hypervolume is larger than the column's, {key}:", table(*above(panel))]
    parts += ["## At equal cost", halved(front), *([table(*equal_cost(front))] if front.rows else [])]
    parts += ["## Worth taking on", f"Largest additions to the hypervolume on {front.chosen_on}.", table(*_chosen(front))]
    said = [*failures(front), *front.notes]
    parts += ["## Notes", "\n".join(f"- {line}" for line in said)] if said else []
    return "\n\n".join(parts) + "\n"


def _chosen(front: Front) -> Table:
    rows = [
        [name, choice.configuration.folder, f"{choice.configuration.number:03d}", f"{choice.adds:.3f}", _settings(choice.configuration)]
        for name, choices in front.chosen.items()
        for choice in choices
    ]
    return ["method", "folder", "trial", "adds", "settings"], rows


def _settings(one: Configuration) -> str:
    return ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in one.settings.items())


def as_json(front: Front) -> dict[str, Any]:
    """Every number of the pictures and tables. Axes as drawn from 0 to 1, higher is better; `metrics` on their own scales."""
    return {
        "folders": list(front.sweeps.folders),
        "currency": front.sweeps.currency,
        "trials": front.states,
        "failed": [_named(one) | {"method": one.method, "why": one.why} for one in front.sweeps.failed],
        "panels": {key: _panel(panel) for key, panel in front.panels.items()},
        "equal_cost": {
            "halved": _full(front.halved) if front.halved else None,
            "rows": [
                {
                    "budget": row.budget,
                    "quality": row.quality,
                    "best": {name: _full(point) if point else None for name, point in row.best.items()},
                }
                for row in front.rows
            ],
        },
        "chosen_on": front.chosen_on,
        "chosen": {
            name: [_named(choice.configuration) | {"settings": choice.configuration.settings, "adds": choice.adds} for choice in choices]
            for name, choices in front.chosen.items()
        },
        "notes": list(front.notes),
    }


def _panel(panel: Panel) -> dict[str, Any]:
    methods = {name: _reach(reach) for name, reach in panel.methods.items()}
    axes = {which: vars(axis) for which, axis in {"x": panel.plane.x, "y": panel.plane.y}.items()}
    return {"axes": axes, "before": panel.before, "retain_model": panel.retain_model, "cap": panel.cap, "methods": methods}


def _reach(reach: Reach) -> dict[str, Any]:
    return {
        "hypervolume": vars(reach.volume),
        "hypervolume_to_retain_model": vars(reach.capped) if reach.capped else None,
        "tries": reach.tries,
        "equal_tries": reach.equal_tries,
        "by_cost": [{"budget": budget, "hypervolume": value, "interval": band} for budget, value, band in reach.by_cost],
        "front": [_full(point) | _spot(point) for point in reach.front],
        "points": [_short(point) | _spot(point) for point in reach.points],
    }


def _named(one: Configuration) -> dict[str, Any]:
    return {"folder": one.folder, "number": one.number}


def _short(point: Point) -> dict[str, Any]:
    about = {"checkpoint": point.checkpoint, "round": point.round, "cost": round(point.cost, 3), "seeds": point.seeds}
    return _named(point.configuration) | about


def _spot(point: Point) -> dict[str, float]:
    return {"x": round(point.x, 6), "y": round(point.y, 6)}


def _full(point: Point) -> dict[str, Any]:
    one = point.configuration
    return {"method": one.method} | _short(point) | {"metrics": {key: one.at(point.checkpoint, key) for key in TOLD}}
