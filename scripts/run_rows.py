"""What single runs say of the paper's statements: general ability, free text, side effects. For reproduction.py."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ablation_rows import NO, PARTLY, YES

RESULTS = Path(__file__).resolve().parent.parent / "results"
RUNS = RESULTS / "runs.json"
NOT_SHOWN = "not shown"


@cache
def run(name: str) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """A single run as scripts/keep_runs.py has kept it."""
    found: dict[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = json.loads(RUNS.read_text(encoding="utf-8"))
    return found[name]


def ability() -> tuple[str, str]:
    """Gemma before and after: agrees where a loss of .02 or more in the mean would have been seen, and was not."""
    metrics, change = run("benchmark-gemma")["metrics"], run("benchmark-gemma")["changes"]["benchmark_accuracy"]
    tasks = ", ".join(f"{key} {metrics[key]['before']:.2f} → {metrics[key]['after']:.2f}" for key in ("arc_easy", "arc_challenge", "mmlu"))
    mean, low, high = (f"{round(change[end], 3) + 0.0:+.3f}" for end in ("mean", "low", "high"))
    text = f"Gemma 3 270M, 50 questions a task: {tasks}; mean change {mean} ({low} to {high})"
    return text, NO if change["high"] < 0 else YES if change["low"] > -0.02 else f"{NOT_SHOWN}: too few questions"


def texts() -> tuple[str, str]:
    """Invented news that a small model knew by heart: agrees where hardly anything is left and utility stays."""
    parts, done = [], True
    for seed, name in enumerate(("texts", "texts-1")):
        gone, useful = (run(name)["metrics"][key] for key in ("verbatim_memorisation", "utility_heldout"))
        done = done and gone["after"] < 0.2 and useful["after"] >= 0.95 * useful["before"]
        left = f"verbatim {gone['before']:.2f} → {gone['after']:.2f}, utility held out {useful['before']:.1f} → {useful['after']:.1f}"
        parts.append(f"seed {seed}: {left}")
    return f"invented news, a million parameters; {'; '.join(parts)}", YES if done else f"{PARTLY}: most is gone, not all"


def side_effects(model: str) -> tuple[str, str]:
    """How far the words of forget answers are, in WikiText, from where the retain model has them."""
    told = json.loads((RESULTS / f"side-effects-{model}.json").read_text(encoding="utf-8"))
    against = {name: one["drift"]["retain_model"] for name, one in told.items() if "retain_model" in one["drift"]}
    parts = [f"{name} {one['mean']:+.4f} ({one['low']:+.3f} to {one['high']:+.3f})" for name, one in against.items()]
    most = max(one["keyword recall"] for name, one in told.items() if name not in ("before", "retain_model"))
    size = {"people": "a million parameters", "gemma": "Gemma 3 270M, two authors"}[model]
    change = f"mean change of probability against the retain model: {', '.join(parts)}"
    text = f"{size}: {change}; keyword recall after unlearning at most {most:.2f}"
    if all(one["low"] <= 0 <= one["high"] for one in against.values()):
        return text, f"{NOT_SHOWN}: no method moves them at this size"
    return text, YES if abs(against["pmc"]["mean"]) < abs(against["npo"]["mean"]) else NO
