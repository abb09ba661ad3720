"""A run's findings in the files of open-unlearning (github.com/locuslab/open-unlearning), so that a row can join its leaderboard.

Names and definitions are open-unlearning's; docs/open-unlearning.md says where its numbers would still differ. Only scores stand here,
where open-unlearning writes question and answer; what was not measured is left out.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from unsay.config import ConfigError
from unsay.measure.summary import summarise
from unsay.metric import scored_by
from unsay.store.files import write_text
from unsay.store.folder import RunFolder, read_findings
from unsay.types import Finding

SAID: dict[str, Callable[[float], dict[str, float]]] = {
    "prob": lambda value: {"prob": value, **({"avg_loss": -math.log(value)} if value else {})},  # JSON has no infinity
    "ratio": lambda value: {"score": value / max(1 - value, 1e-10)},
    "untruth": lambda value: {"score": 1 - value},
}
"""A finding's value → its entry in `value_by_index`, where that holds more than the value: of a truth ratio R a finding has R / (1 + R),
on what should stay max(0, 1 − R)."""


@dataclass(frozen=True)
class Column:
    """One of open-unlearning's numbers that is a mean over questions."""

    probe: str
    finding: str
    said: str = "score"
    """A key of `SAID`, or what the value is called."""
    setting: str = ""
    of: Callable[[float], float] = float
    """A finding's value → what the mean is of."""


SETS = {"retain": "retain", "ra": "real_authors", "wf": "world_facts"}
FORGOTTEN = {
    "extraction_strength": Column("likelihood", "extraction_strength_released"),
    "exact_memorization": Column("likelihood", "exact_memorisation"),
}
TOFU = {
    **FORGOTTEN,
    "forget_Q_A_Prob": Column("likelihood", "probability", "prob"),
    "forget_Q_A_PARA_Prob": Column("likelihood", "loss_score", "prob", "member"),
    "forget_Q_A_PERT_Prob": Column("likelihood", "loss_score", "prob", "non-member"),
    "forget_Q_A_ROUGE": Column("greedy", "rouge_l_recall", "rougeL_recall"),
    "forget_truth_ratio": Column(
        "likelihood", "truth_ratio_released", "ratio", of=lambda value: min(value, 1 - value) / max(value, 1 - value)
    ),
    **{f"{short}_Q_A_ROUGE": Column("utility", "tofu_rouge_l_recall", "rougeL_recall", name) for short, name in SETS.items()},
    **{
        f"{short}_Q_A_Prob{'' if short == 'retain' else '_normalised'}": Column("utility", "tofu_released_probability", "prob", name)
        for short, name in SETS.items()
    },
    **{f"{short}_Truth_Ratio": Column("utility", "tofu_released_truth_ratio", "untruth", name) for short, name in SETS.items()},
}
MUSE = {
    **FORGOTTEN,
    "forget_verbmem_ROUGE": Column("memorisation", "verbatim_f1", "rougeL_f1"),
    "forget_knowmem_ROUGE": Column("memorisation", "knowledge_f1", "rougeL_f1", "forget"),
    "retain_knowmem_ROUGE": Column("memorisation", "knowledge_f1", "rougeL_f1", "retain"),
}
ATTACKS = {
    "mia_loss": "membership_holdout_loss",
    "mia_min_k": "membership_holdout_min_k",
    "mia_min_k_plus_plus": "membership_holdout_min_k_plus",
    "mia_zlib": "membership_holdout_zlib",
    "mia_gradnorm": "membership_holdout_gradient_norm",
    "mia_reference": "membership_holdout_reference",
}
WHOLE = {"forget_quality": "forget_quality_p_released", "model_utility": "model_utility_released", "privleak": "privleak"}
"""Theirs → ours, of numbers of a whole model; an attack's entry has its area as `auc` too."""


def entries(findings: Sequence[Finding], retain_model: Sequence[Finding], muse: bool = False) -> dict[str, dict[str, Any]]:
    """What stands in EVAL.json: name → `agg_value`, and `value_by_index` where the number is a mean over questions."""
    found: dict[str, dict[str, Any]] = {}
    for name, column in (MUSE if muse else TOFU).items():
        values = [f.value or 0.0 for f in scored_by(findings, column.probe, column.finding) if f.setting == column.setting]
        if values:
            said = SAID.get(column.said, lambda value, name=column.said: {name: value})
            by_index = {str(number): said(value) for number, value in enumerate(values)}
            found[name] = {"agg_value": fmean(map(column.of, values)), "value_by_index": by_index}
    summary = summarise(findings, (), retain_model)
    for name, key in {**ATTACKS, **WHOLE}.items():
        value = summary.get(key)
        if value is not None and not (muse and name in ("forget_quality", "model_utility")):
            found[name] = {"agg_value": value, **({"auc": value} if name in ATTACKS else {})}
    return dict(sorted(found.items()))


def export(folder: RunFolder, which: str, out: Path) -> list[Path]:
    """Write both files into `out`. Raises `ConfigError` where that model was not audited."""
    recipe = folder.recipe(texts=False)
    findings = read_findings(folder.audit_file(which))
    if not findings:
        raise ConfigError(f"{folder.path} has no audit {which!r}; run `unsay audit {folder.path}` first, or choose another --which")
    retain_model = read_findings(folder.audit_file("retain_model")) if which != "retain_model" else []
    muse = bool(scored_by(findings, "memorisation", "verbatim_f1"))
    found = entries(findings, retain_model, muse)
    if not found:
        raise ConfigError(f"{folder.path} measured none of open-unlearning's numbers (it ran {', '.join(recipe.audit.probes)})")
    name = "MUSE" if muse else "TOFU"
    written = [out / f"{name}_EVAL.json", out / f"{name}_SUMMARY.json"]
    for path, content in zip(written, (found, {key: entry["agg_value"] for key, entry in found.items()}), strict=True):
        write_text(path, json.dumps(content, indent=4) + "\n")
    return written
