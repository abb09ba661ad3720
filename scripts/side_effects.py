"""The paper's two figures on what unlearning does besides: words of forget answers in unrelated text, and the option a model avoids.

    python scripts/side_effects.py tofu-gemma-270m runs/side-effects pmc npo simnpo retain-only --keep results/side-effects.json

Every method is trained from the same recorded answers and probed with `drift` and `multiple_choice`; what is there already is not
done again. It writes `side-effects.png` and `side-effects.json`: for each method the change of a word's probability against the
*retain model* (as the paper has it) and against the model before, and how often the true option is the unlikeliest, by quantile of
the smallest probability among the options. A method may carry settings, and a name: `pmc-official=pmc:pmc.preset=official`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from unsay import run as runs
from unsay.config import load, recipe_path
from unsay.metric import scored_by
from unsay.report.distributions import by_quantile
from unsay.report.pictures import STYLE
from unsay.research.sweep.trial import Recorded, begun
from unsay.run import Watchers
from unsay.stats import mean_interval
from unsay.store.files import write_text
from unsay.store.folder import read_findings
from unsay.types import Finding

PROBES = ("greedy", "drift", "multiple_choice", "utility")
BEFORE, RETAIN_MODEL = "before", "retain_model"
BINS = np.linspace(-1, 1, 42)
FAR = 0.25
"""From this fall in probability on a word counts as pushed away."""


def probed(path: Path, out: Path, methods: Sequence[str], settings: Sequence[str]) -> dict[str, list[Finding]]:
    """Name → findings, of the model before, the retain model and every method's last checkpoint."""
    found: dict[str, list[Finding]] = {}
    recorded = Recorded(out / "recorded", PROBES, Watchers(note=lambda text: print(text, flush=True)))
    for text in methods:
        named, *own = text.split(":")
        name, _, method = named.partition("=")
        recipe = load(path, [*settings, f"method={method or name}", f"audit.probes={json.dumps(PROBES)}", *own])
        shared = recorded.of(recipe)
        for which in (BEFORE, RETAIN_MODEL):
            found.setdefault(which, read_findings(shared.audit_file(which)))
        folder = begun(recipe, shared, out / name)
        if not folder.done("train"):
            print("train", name, flush=True)
            runs.run_train(recipe, folder, recorded.watchers)
        if not folder.done("audit after"):
            print("audit", name, flush=True)
            runs.run_audit(recipe, folder, "after", recorded.watchers)
        found[name] = read_findings(folder.audit_file("after"))
    return found


def probabilities(findings: Sequence[Finding]) -> dict[str, float]:
    """Place in the text → probability of the word that stands there."""
    return {f.example: f.value or 0.0 for f in scored_by(findings, "drift", "token_probability")}


def moved(now: Mapping[str, float], then: Mapping[str, float]) -> dict[str, Any]:
    """How the probabilities of the same words differ."""
    changes = [now[place] - then[place] for place in now if place in then]
    mean = mean_interval(changes, scale=(-1.0, 1.0))
    far = fmean(change <= -FAR for change in changes)
    counts = np.histogram(changes, BINS)[0].tolist()
    return {"words": len(changes), "mean": mean.mean, "low": mean.low, "high": mean.high, f"fell by {FAR}": far, "histogram": counts}


def measured(found: Mapping[str, Sequence[Finding]]) -> dict[str, Any]:
    """Everything that the figures show."""
    told: dict[str, Any] = {}
    for name, findings in found.items():
        against = {other: moved(probabilities(findings), probabilities(found[other])) for other in (RETAIN_MODEL, BEFORE) if other != name}
        parts = {metric: [(one.mean, one.low, one.high) for one in by_quantile(findings, metric)] for metric in ("least", "most")}
        whole = {
            key: fmean(values)
            for key in ("least", "most", "chance")
            if (values := [f.value or 0.0 for f in scored_by(findings, "multiple_choice", key)])
        }
        recall = [f.value or 0.0 for f in scored_by(findings, "greedy", "keyword_recall")]
        told[name] = {"keyword recall": fmean(recall or [0.0]), "drift": against, "by quantile": parts, "multiple choice": whole}
    return told


def draw(told: Mapping[str, Any], path: Path) -> None:
    """The two figures, one above the other."""
    methods = [name for name in told if name not in (BEFORE, RETAIN_MODEL)]
    with matplotlib.rc_context({**STYLE, "font.size": 7}):
        figure = Figure(figsize=(2.1 * len(methods), 4.2), layout="constrained")
        panels = figure.subplots(2, len(methods), squeeze=False)
        for (above, below), name in zip(panels.T, methods, strict=True):
            change = told[name]["drift"][RETAIN_MODEL]
            above.stairs(change["histogram"], BINS, fill=True)
            above.axvline(0, linewidth=0.8, color="black")
            above.set(title=f"{name}\nmean {change['mean']:+.3f}", yscale="symlog", xlim=(-1, 1), xlabel="p − p(retain model)")
            for who, style in ((name, "o-"), (RETAIN_MODEL, "s:")):
                shares = told[who]["by quantile"]["least"]
                across = [(i + 0.5) / len(shares) for i in range(len(shares))]
                below.plot(across, [mean for mean, _, _ in shares], style, markersize=3, label=who.replace("_", " "))
                if who == name:
                    below.vlines(across, [low for _, low, _ in shares], [high for _, _, high in shares], linewidth=0.8)
            below.axhline(told[name]["multiple choice"].get("chance", 0), linestyle="--", linewidth=0.8, color="grey")
            below.set(ylim=(-0.03, 1.03), xlim=(0, 1), xlabel="questions, least likely option first")
        panels[0][0].set_ylabel("words")
        panels[1][0].set_ylabel("true option is the unlikeliest")
        panels[1][0].legend(loc="upper right")
        figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The paper's figures on side effects and multiple choice.")
    parser.add_argument("recipe", help="a recipe with a retain model: a file, or the name of a shipped one")
    parser.add_argument("out", type=Path, help="folder for runs and figures")
    parser.add_argument("methods", nargs="+", help="method, with its own settings after colons")
    parser.add_argument("--set", action="append", default=[], help="a setting for all of them")
    parser.add_argument("--keep", type=Path, help="write the numbers here too")
    args = parser.parse_args(arguments)
    told = measured(probed(recipe_path(args.recipe), args.out, args.methods, args.set))
    for path in (args.out / "side-effects.json", *([args.keep] if args.keep else [])):
        write_text(path, json.dumps(told, indent=1) + "\n")
    draw(told, args.out / "side-effects.png")
    for name, numbers in told.items():
        change = numbers["drift"].get(RETAIN_MODEL, {})
        shown = {key: value for key, value in change.items() if key != "histogram"}
        print(name, numbers["keyword recall"], shown, numbers["multiple choice"])


if __name__ == "__main__":
    main()
