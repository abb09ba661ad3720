"""The pictures of a report: inline SVG that follows the page's colours, the same bytes for the same numbers.

matplotlib draws with fixed hex colours; each is replaced by one of the page's CSS variables, so one drawing serves light, dark and
paper. Text stays text, in the page's font. Every function returns "" where there is nothing to draw.
"""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unsay.measure.summary import metrics
from unsay.report.evidence import Evidence
from unsay.report.words import figure as written

INK, MUTED, RULE, PAPER = "#1b1d22", "#6b7078", "#dcdfe4", "#fdfdfc"
COLOURS = {"before": "#c4472f", "after": "#1d6fa5", "retain_model": "#b98a1a", "endpoint": "#7a3fb0"}
_SERIES = ("#4a86b5", "#d98f3c", "#8a6bb1", "#5b9e77", "#c75d6f", "#7c838d")
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper"} | {colour: name for name, colour in COLOURS.items()}
_VARIABLES |= {colour: f"series-{i}" for i, colour in enumerate(_SERIES, 1)}

_MARKERS = {"before": "o", "after": "o", "retain_model": "D", "endpoint": "s"}
_SOURCES = ("plain", "hot", "repelled", "counterfactual", "memory", "desired", "answer", "refusal")
DASHED: dict[str, Any] = {"color": MUTED, "linestyle": (0, (3, 3)), "linewidth": 0.9}
_STEPS = 2000
"""Most points of a curve."""
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "unsay",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
}


def leak(evidence: Evidence) -> str:
    """A row per attack, a dot per model: the share of the secret's own words that came out."""
    keys = [key for key, one in metrics().items() if one.picture == "leaks"]
    title = "Leak per attack, before and after unlearning and for the retain model"
    return _dots("leak", title, keys, evidence, "share of the secret’s own words said")


def multiple_choice(evidence: Evidence) -> str:
    """The two choices against chance, with the interval of the model after unlearning."""
    keys, title = ("multiple_choice_most", "multiple_choice_least"), "Multiple choice read from likelihoods, against chance"
    chances = [evidence.metrics["chance"][which] for which in ("after", "before", "retain_model")]
    chance = next((value for value in chances if value is not None), None)
    return _dots("multiple_choice", title, keys, evidence, "share of questions", chance)


def classes(evidence: Evidence) -> str:
    """What the default answers are, one stacked bar a model."""
    kinds = {key: one.title for key, one in metrics().items() if one.picture == "answers"}
    models = [which for which in evidence.models if any(evidence.metrics[key][which] is not None for key in kinds)]
    if not models:
        return ""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = canvas(1, 0.75 + 0.3 * len(models))
        left = [0.0] * len(models)
        for colour, (key, title) in zip(("#4a86b5", "#5b9e77", "#d98f3c", "#c75d6f", "#7c838d"), kinds.items(), strict=True):
            widths = [evidence.metrics[key][which] or 0.0 for which in models]
            bars = axes.barh(range(len(models)), widths, left=left, color=colour, label=title, height=0.62, edgecolor=PAPER, linewidth=1)
            told = [f"{width:.0%}" if width >= 0.06 else "" for width in widths]
            axes.bar_label(bars, told, label_type="center", color=PAPER, fontsize=7.5)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set(yticks=range(len(models)), yticklabels=[which.replace("_", " ") for which in models], xlim=(0, 1), xticks=[])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.invert_yaxis()
        axes.grid(False)
        axes.spines[:].set_visible(False)
        swatch = {"handlelength": 0.9, "handleheight": 0.9, "borderaxespad": 0.2, "columnspacing": 1.4}
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.02), ncols=len(kinds), **swatch)
        return svg(figure, "classes", "What the default answers are: " + ", ".join(kinds.values()))


def training(steps: Sequence[Mapping[str, Any]]) -> str:
    """Loss terms, and how much of the secret the trained answers carried, step by step."""
    if not steps:
        return ""
    steps = _thinned(steps)
    with matplotlib.rc_context(STYLE):
        figure, (losses, leaks) = canvas(2, 2.3)
        for name, colour in (("forget", "#4a86b5"), ("retain", "#d98f3c"), ("align", "#8a6bb1")):
            _curve(losses, steps, "step", name, colour, name)
        losses.set(title="Loss", xlabel="step")
        losses.set_ylim(bottom=min(0.0, losses.get_ylim()[0]) if losses.dataLim.y0 < 0 else 0.0)
        _leaks(leaks, steps, "step", "leak_max", "leak_mean", "Share of the secret in what is trained")
        for axes in (losses, leaks):
            legend(axes)
        return svg(figure, "training", "Training curve: loss terms, and the share of the secret carried by the trained answers")


def _thinned(steps: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """At most `_STEPS` lines: of as many steps as one line then stands for, that of the most leaking target."""
    each = -(-len(steps) // _STEPS)
    some = (steps[start : start + each] for start in range(0, len(steps), each))
    return [max(lines, key=lambda line: line.get("leak_max") or 0.0) for lines in some] if each > 1 else steps


def exposure(rounds: Sequence[Mapping[str, Any]]) -> str:
    """Where each round's targets came from, and how much of the secret they carried."""
    if not rounds:
        return ""
    numbers = range(1, len(rounds) + 1)
    seen = {source for line in rounds for source in line.get("sources", {})}
    sources = [source for source in _SOURCES if source in seen] + sorted(seen - set(_SOURCES))
    with matplotlib.rc_context(STYLE):
        figure, (counts, leaks) = canvas(2, 2.3)
        bottom = [0.0] * len(rounds)
        layers = [(source, [line.get("sources", {}).get(source, 0) for line in rounds]) for source in sources]
        for i, (name, heights) in enumerate(layers):
            counts.bar(numbers, heights, bottom=bottom, color=_SERIES[i % 5], label=name, width=0.86)
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        without = [line.get("no_target", 0) for line in rounds]
        if any(without):
            counts.bar(numbers, without, bottom=bottom, color=RULE, label="no target", width=0.86)
        counts.set(title="Targets by source", xlabel="round")
        room, highest = (1.22 if len(layers) + any(without) <= 3 else 1.4), max(map(sum, zip(bottom, without, strict=True)))
        counts.set_ylim(top=room * highest or 1)
        lines = [{**line, "round": number} for number, line in zip(numbers, rounds, strict=True)]
        _leaks(leaks, lines, "round", "max_leak", "mean_leak", "Share of the secret in the targets")
        for axes in (counts, leaks):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            legend(axes)
        return svg(figure, "exposure", "Exposure ledger: where each round's targets came from and how much of the secret they carried")


def _dots(name: str, title: str, keys: Sequence[str], evidence: Evidence, label: str, chance: float | None = None) -> str:
    keys = [key for key in keys if any(value is not None for value in evidence.metrics[key].values())]
    if not keys:
        return ""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = canvas(1, 0.75 + 0.34 * len(keys))
        for row, key in enumerate(keys):
            values = {which: value for which, value in evidence.metrics[key].items() if value is not None}
            axes.plot([min(values.values()), max(values.values())], [row, row], color=RULE, linewidth=3, zorder=1)
            interval = evidence.intervals.get(key)
            if interval:
                axes.plot(interval, [row, row], color=COLOURS["after"], linewidth=1.2, alpha=0.6, zorder=2)
            for which, value in values.items():
                axes.plot([value], [row], _MARKERS[which], zorder=3 + evidence.models.index(which), **_style(which))
            if "after" in values:
                axes.text(1.05, row, written(values["after"]), color=COLOURS["after"], ha="left", va="center")
        for which in evidence.models:
            if any(evidence.metrics[key][which] is not None for key in keys):
                axes.plot([], [], _MARKERS[which], label=which.replace("_", " "), **_style(which))
        if chance is not None:
            axes.axvline(chance, color=MUTED, linestyle=(0, (3, 3)), linewidth=1, zorder=0, label=f"chance {chance:.2f}")
        names = [f"{metrics()[key].title} (n {evidence.counts.get(key, 0)})" for key in keys]
        axes.set(yticks=range(len(keys)), yticklabels=names, xlim=(-0.03, 1.03), xlabel=label)
        axes.set_ylim(len(keys) - 0.45, -0.55)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        spaces = {"handlelength": 1.6, "handletextpad": 0.4, "columnspacing": 1.6, "borderaxespad": 0.1}
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, **spaces)
        return svg(figure, name, title)


def _style(which: str) -> dict[str, Any]:
    """Colour, fill and shape all say which model it is: colour alone is not seen by everyone."""
    face, edge = (PAPER if which == "before" else COLOURS[which]), (PAPER if which == "retain_model" else COLOURS[which])
    # The smallest on top: equal values lie on one spot and are all still seen.
    size = {"before": 9.5, "after": 8, "retain_model": 5.5, "endpoint": 3}[which]
    width = 0.8 if which == "retain_model" else 1.5
    return {"markerfacecolor": face, "markeredgecolor": edge, "markeredgewidth": width, "markersize": size}


def canvas(columns: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(7.4, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _curve(axes: Axes, lines: Sequence[Mapping[str, Any]], across: str, key: str, colour: str, label: str, alpha: float = 1.0) -> None:
    """One line; steps that have no such value leave a gap."""
    if any(line.get(key) is not None for line in lines):
        values = [float("nan") if line.get(key) is None else line[key] for line in lines]
        axes.plot([line[across] for line in lines], values, color=colour, label=label, alpha=alpha, marker="o" if len(lines) == 1 else "")


def _leaks(axes: Axes, lines: Sequence[Mapping[str, Any]], across: str, most: str, mean: str, title: str) -> None:
    """The most leaking target and the mean over the targets, and one half dashed. `most`, `mean`: their keys."""
    _curve(axes, lines, across, most, "#c75d6f", "most leaking target", alpha=0.45)
    _curve(axes, lines, across, mean, "#1d6fa5", "mean over the targets")
    axes.axhline(0.5, **DASHED)
    axes.set(title=title, xlabel=across, ylim=(-0.02, 1.02))


def legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", ncols=1 if len(axes.get_legend_handles_labels()[0]) < 3 else 3, handlelength=1.2, columnspacing=1.0)


def svg(figure: Figure, name: str, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    # One page holds several drawings, and ids must be unique on it.
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    text = re.sub(r"(font: [\d.]+px|font-family:) '[^;\"]+", r"\1 var(--sans)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" ', r"<svg \1", re.sub(r'(<svg [^>]*?)height="[^"]*" ', r"\1", text, count=1), count=1)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return text.strip()
