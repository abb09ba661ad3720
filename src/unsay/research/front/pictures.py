"""The trade between forgetting and usefulness, drawn and tabulated: front.svg, front-cost.svg (and .png), front.md, front.json.

A method has the same colour and the same marker in every picture, so that neither colour alone nor order says which it is.
The colours are Paul Tol's scheme "muted" (SRON/EPS/TN/09-002), which colour-blind readers can tell apart.
"""

import zlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from unsay.report.pictures import COLOURS, MUTED
from unsay.research.front.area import Plane, Point
from unsay.research.front.curves import NEVER_KNEW, Axis
from unsay.research.front.tables import CURRENCIES, as_json, markdown, to_retain_model
from unsay.research.front.trade import Front, Panel
from unsay.research.written import write as written

METHODS = {
    "pmc": ("#332288", "o"),
    "npo": ("#CC6677", "s"),
    "simnpo": ("#88CCEE", "D"),
    "dpo": ("#117733", "^"),
    "altpo": ("#AA4499", "v"),
    "idk": ("#DDCC77", "P"),
    "gd": ("#44AA99", "<"),
    "ga": ("#882255", ">"),
    "retain-only": ("#7c838d", "X"),
}
_OTHERS = tuple((colour, marker) for marker in "pdh8H*" for colour in ("#999933", "#ee7733", "#0077bb", "#ee3377", "#661100"))
"""For other contenders, by name, in colours that no method has."""
_MARKS = {"before": ("o", 55, "white"), "retain_model": ("*", 130, COLOURS["retain_model"])}

LABELS = {
    "unlearn_quality": "unlearn quality",
    "utility": "utility",
    "utility_heldout": "utility, held out",
    "greedy_keyword_recall": "1 − keyword recall, asked plainly",
    "prefill_worst_keyword_recall": "1 − keyword recall, answer begun",
    NEVER_KNEW: "never-knew index",
}
TITLES = {
    "quality": "The paper’s axes",
    "recall": "Secret’s words, held-out use",
    "prefill": "Answer begun, held-out use",
    "never_knew": "As if it never knew, held-out use",
}


def write(front: Front, out: Path) -> list[Path]:
    """All files, each whole; returns where they lie. Raises `WriteError`."""
    return written(out, "front", markdown(front), as_json(front), {"front": partial(fronts, front), "front-cost": partial(by_cost, front)})


def fronts(front: Front) -> Figure:
    """A panel per pair of axes: every point faint, each method's front as a staircase, before and the retain model as marks."""

    def draw(axes: Axes, panel: Panel) -> None:
        plane, looks = panel.plane, styles(panel.methods)
        across, up = plane.x.top, plane.y.top
        for name, reach in panel.methods.items():
            colour, marker = looks[name]
            axes.scatter(*_scaled(reach.points, plane), s=9, color=colour, marker=marker, alpha=0.25, linewidths=0, zorder=2)
        for which, place in {"before": panel.before, "retain_model": panel.retain_model}.items():
            if place:
                marker, size, face = _MARKS[which]
                spot, name = (place[0] * across, place[1] * up), which.replace("_", " ")
                axes.scatter(*spot, s=size, marker=marker, facecolors=face, edgecolors=COLOURS[which], linewidths=1.5, zorder=5, label=name)
        (left, _), (bottom, _) = axes.set_xlim(axes.get_xlim()), axes.set_ylim(axes.get_ylim())  # that of the points, from here on
        for name, reach in panel.methods.items():
            colour, marker = looks[name]
            xs, ys = _scaled(reach.front[::-1], plane)
            axes.scatter(xs, ys, s=22, color=colour, marker=marker, edgecolors="white", linewidths=0.5, zorder=4, label=name)
            if xs:
                axes.plot([left, *xs, xs[-1]], [ys[0], *ys, bottom], drawstyle="steps-pre", color=colour, zorder=3)
        if panel.cap is not None:
            axes.axvline(panel.cap * across, color=COLOURS["retain_model"], linestyle=(0, (1, 1.5)), linewidth=0.9, zorder=1)
        axes.set(xlabel=_label(plane.x), ylabel=_label(plane.y))

    return _drawn(front, draw, height=4.2)


def by_cost(front: Front) -> Figure:
    """A panel per pair of axes: hypervolume of what a budget buys, with its interval."""

    def draw(axes: Axes, panel: Panel) -> None:
        looks = styles(panel.methods)
        for i, (name, reach) in enumerate(panel.methods.items()):
            colour, marker = looks[name]
            budgets, values, bands = zip(*reach.by_cost, strict=True)
            low, high = zip(*bands, strict=True)
            if any(point.configuration.seeds > 1 for point in reach.points):  # of one seed it would show the search alone, and look certain
                axes.fill_between(budgets, low, high, step="post", color=colour, alpha=0.12, linewidth=0)
            axes.plot(budgets, values, drawstyle="steps-post", color=colour, marker=marker, markersize=4, markevery=(i % 4, 4), label=name)
        axes.set(xlabel=CURRENCIES[front.sweeps.currency], ylabel=f"hypervolume{to_retain_model(panel)}", xscale="log")
        axes.xaxis.set(major_formatter=StrMethodFormatter("{x:g}"), major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
        axes.set_ylim(bottom=0)

    return _drawn(front, draw, height=2.9)


def _drawn(front: Front, draw: Callable[[Axes, Panel], None], height: float) -> Figure:
    """Two panels beside each other, since four would be too small on a page, over one legend. `height`: inches of a panel."""
    rows, columns = -(-len(front.panels) // 2), min(len(front.panels), 2)
    figure = Figure(figsize=(5.2 * columns, height * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    handles: dict[str, Artist] = {}
    for axes, (key, panel) in zip(places, front.panels.items(), strict=False):
        draw(axes, panel)
        axes.set_title(TITLES[key])
        # A contender that never scored here, or failed, is not taken for one that lies hidden behind others.
        if absent := [name for name, reach in panel.methods.items() if not reach.points]:
            axes.text(0.02, 0.02, f"no point: {', '.join(absent)}", transform=axes.transAxes, color=MUTED, fontsize="small", wrap=True)
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    for spare in places[len(front.panels) :]:
        spare.remove()
    look = {"loc": "outside lower center", "ncols": min(len(handles), 6), "handletextpad": 0.4, "labelcolor": MUTED}
    figure.legend(handles.values(), handles.keys(), **look)
    return figure


def styles(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each. A name that is no shipped method has its own too, or the next where another here has taken it."""
    found = {name: METHODS[name] for name in names if name in METHODS}
    for name in names:
        start = zlib.crc32(name.encode())
        looks = [_OTHERS[(start + i) % len(_OTHERS)] for i in range(len(_OTHERS))]
        free = [look for look in looks if look not in found.values()] or looks
        colours = {colour for colour, _ in found.values()}
        found.setdefault(name, next((look for look in free if look[0] not in colours), free[0]))
    return found


def _scaled(points: Sequence[Point], plane: Plane) -> tuple[list[float], list[float]]:
    """Across and up, as the axes are labelled."""
    return [point.x * plane.x.top for point in points], [point.y * plane.y.top for point in points]


def _label(axis: Axis) -> str:
    return LABELS[axis.metric] + (f" (0 to {axis.top:g})" if axis.top > 1 else "")
