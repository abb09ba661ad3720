"""Two pictures of a report that show every question or word, not a mean: multiple choice by how unlikely an option is, and drift."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import StrMethodFormatter

from unsay.metric import scored_by
from unsay.packed import Packed
from unsay.report.evidence import Evidence
from unsay.report.pictures import COLOURS, DASHED, INK, PAPER, STYLE, canvas, legend, svg
from unsay.stats import Estimate, mean_interval
from unsay.types import Finding

_PARTS = 5
_LEAST = 8
"""Questions that a part must have for its share to mean anything."""
_LINES = {"before": (0, (4, 2)), "after": "solid", "retain_model": (0, (1, 1.5)), "endpoint": (0, (3, 1, 1, 1))}


def options(evidence: Evidence) -> str:
    """How often the true option is the most and the least likely, by quantile of the smallest option probability."""
    sides = {metric: {which: by_quantile(evidence.findings[which], metric) for which in evidence.models} for metric in ("most", "least")}
    if not any(len(shares) > 1 for side in sides.values() for shares in side.values()):
        return ""
    chance = next((value for value in evidence.metrics["chance"].values() if value is not None), None)
    titles = {"most": "True option is the likeliest", "least": "True option is the unlikeliest"}
    with matplotlib.rc_context(STYLE):
        figure, panels = canvas(2, 2.3)
        for axes, (metric, side) in zip(panels, sides.items(), strict=True):
            for which, shares in side.items():
                across = [(i + 0.5) / len(shares) for i in range(len(shares))]
                if shares:
                    dots: dict[str, Any] = {"marker": "o", "markersize": 3.5, "color": COLOURS[which], "linestyle": _LINES[which]}
                    axes.plot(across, [share.mean for share in shares], label=which.replace("_", " "), **dots)
                for x, (_, low, high) in zip(across, shares, strict=True) if which == "after" else ():
                    axes.plot([x, x], [low, high], color=COLOURS[which], linewidth=1, alpha=0.5)
            if chance is not None:
                axes.axhline(chance, label=f"chance {chance:.2f}", **DASHED)
            axes.set(title=titles[metric], xlabel="questions, the least likely option first", xlim=(0, 1), ylim=(-0.03, 1.45), xticks=[])
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
            legend(axes)
        return svg(figure, "options", "Multiple choice by quantile of the smallest option probability, against chance")


def by_quantile(findings: Sequence[Finding], metric: str) -> list[Estimate]:
    """How often the true option is the `most` or the `least` likely, with intervals, in equal parts of the questions by the smallest
    probability of an option; empty where there are too few."""
    smallest = {f.example: f.value for f in scored_by(findings, "multiple_choice", "min_probability")}
    hit = {f.example: f.value for f in scored_by(findings, "multiple_choice", metric) if f.value is not None}
    order = sorted((example for example in smallest if example in hit), key=lambda example: (smallest[example], example))
    if len(order) < _LEAST:
        return []
    groups, parts = Packed.of(findings).groups, np.array_split(order, min(_PARTS, len(order) // _LEAST))
    return [mean_interval([hit[example] for example in part], [groups.get(example, "") for example in part]) for part in parts]


def drift(evidence: Evidence) -> str:
    """Probabilities of sensitive words in unrelated text: the changes from before to after, and each model's distribution."""
    found = {
        which: {(f.setting, f.example): f.value for f in evidence.found("drift", "token_probability", which) if f.value is not None}
        for which in evidence.models
    }
    before, after = found["before"], found["after"]
    changes = [value - before[place] for place, value in after.items() if place in before]
    if not changes:
        return ""
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = canvas(2, 2.3)
        bins = [float(edge) for edge in np.linspace(-1, 1, 42)]  # an odd number of bins: one of them holds no change in its middle
        left.hist(changes, bins=bins, color=COLOURS["after"], edgecolor=PAPER, linewidth=0.5)
        left.axvline(0, color=INK, linewidth=0.8)
        title = f"Change of probability, {len(changes):,} words"
        left.set(title=title, xlabel="after − before", ylabel="words", xlim=(-1.02, 1.02), yscale="symlog")
        left.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        for which, values in found.items():
            if values:
                ordered = np.sort(list(values.values()))
                share = np.linspace(0, 1, min(101, len(ordered)))
                right.plot(np.quantile(ordered, share), share, color=COLOURS[which], linestyle=_LINES[which], label=which.replace("_", " "))
        right.set(title="Share of words at most so probable", xlabel="probability", xlim=(-0.02, 1.02), ylim=(0, 1.02))
        right.legend(loc="lower right")
        return svg(figure, "drift", "Drift of sensitive words in unrelated text: changes of probability, and probabilities by model")
