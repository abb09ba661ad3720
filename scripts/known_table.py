"""Tables of scripts/known_states.py: how well each probe tells a model that knows from one that never knew.

A probe's score of a question is higher the more the probe takes the model to know its answer. The area under the ROC curve is
the chance that a question scores higher on the model than on the retain model: 1 and 0 tell the two apart, .5 does not.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from unsay.measure import summary
from unsay.measure.verdict import LineResult
from unsay.report import gate
from unsay.stats import area_interval, roc_auc
from unsay.store.files import write_text
from unsay.store.folder import RunFolder
from unsay.types import Finding

Scores = Mapping[str, float]
"""Question → score."""

ASKING = {
    "greedy": "greedy_keyword_recall",
    "sampling, worst of n": "sampling_worst_keyword_recall",
    "sampling, leak rate": "sampling_leak_at_1",
    "prefill": "prefill_worst_keyword_recall",
    "prefill, partial secret": "partial_secret_keyword_recall",
    "paraphrase": "paraphrase_keyword_recall",
    "prompt_variants": "prompt_variants_keyword_recall",
    "perturbed": "perturbed_keyword_recall",
    "indirect": "indirect_keyword_recall",
    "openings": "openings_keyword_recall",
    "beams": "beams_worst_keyword_recall",
}
READING = {
    "multiple choice, most likely": "multiple_choice_most",
    "multiple choice, least likely": "multiple_choice_least",
    "answer probability": "answer_probability",
    "truth ratio, turned round": "truth_ratio",
    "extraction strength": "extraction_strength",
    "exact memorisation": "exact_memorisation",
}
WEIGHTS = {
    "relearn": "relearn_worst_keyword_recall",
    "relearn, unrelated text": "relearn_unrelated_worst_keyword_recall",
    "quantise": "quantised_worst_keyword_recall",
    "damage": "damaged_keyword_recall",
    "depth": "hidden_states_kept",
}
TURNED = {"truth_ratio"}
"""Numbers that are small where a model knows."""
MEMBERSHIP = ("loss", "min_k", "min_k_plus", "zlib")
BEHIND = "prefill, the trigger"
WHOLE = ("drift_token_probability", "drift_inverse_perplexity", "utility", "utility_heldout")
"""What a model costs, not what it knows: in no table of areas, among the means."""


class Area(NamedTuple):
    area: float
    low: float
    high: float
    n: int
    """Independent cases on each side."""

    @property
    def tells(self) -> bool:
        """Whether .5 lies outside the interval."""
        return not self.low <= 0.5 <= self.high


def without(findings: Iterable[Finding], trigger: str) -> list[Finding]:
    """The audit as it is with the default prefixes: the draws of one prefix do not depend on which others there are."""
    return [f for f in findings if not (f.probe == "prefill" and f.setting == trigger)]


def scores(findings: Sequence[Finding], trigger: str) -> dict[str, Scores]:
    """Row of the table → question → score; questions that were not scored are left out."""
    values = summary.questions(f for f in without(findings, trigger) if f.value is not None)
    found: dict[str, Scores] = {}
    for name, key in (ASKING | READING | WEIGHTS).items():
        if key in values:
            found[name] = {example: -value if key in TURNED else value for (_, example), value in values[key].items()}
    for name in MEMBERSHIP:
        found[f"membership, {name}"] = _gap(findings, f"{name}_score")
    behind = [f for f in findings if f.probe == "prefill" and f.setting == trigger and f.metric == "worst_keyword_recall"]
    found[BEHIND] = {f.example: f.value for f in behind if f.value is not None}
    return found


def _gap(findings: Iterable[Finding], metric: str) -> Scores:
    """How much more the true answer looks like a member than the wrong ones to the same question."""
    sides: dict[str, dict[str, float]] = {"member": {}, "non-member": {}}
    for f in findings:
        if f.probe == "likelihood" and f.metric == metric and f.value is not None:
            sides[f.setting][f.example] = f.value
    member, other = sides.values()
    return {example: value - other[example] for example, value in member.items() if example in other}


def area(pairs: Sequence[tuple[Scores, Scores]]) -> Area | None:
    """Over the questions that both models of a pair were scored on, of one pair or several: as many independent cases as
    there are questions, since pairs of other seeds ask the same ones."""
    shared = [(now, retain_model, [example for example in now if example in retain_model]) for now, retain_model in pairs]
    positive = [now[example] for now, _, examples in shared for example in examples]
    negative = [retain_model[example] for _, retain_model, examples in shared for example in examples]
    n = max((len(examples) for _, _, examples in shared), default=0)
    if not n:
        return None
    found = roc_auc(positive, negative)
    return Area(found, *area_interval(found, n, n), n)


def across(target: Sequence[Scores], retain_model: Sequence[Scores]) -> Area | None:
    """Over training seeds: is the mean of a target model above that of a retain model? As many cases as there are models."""
    means = [[fmean(one.values()) for one in some if one] for some in (target, retain_model)]
    if not all(means):
        return None
    found = roc_auc(*means)
    return Area(found, *area_interval(found, len(means[0]), len(means[1])), min(map(len, means)))


def areas(found: Mapping[str, Sequence[Finding]], pairs: Mapping[str, str], trigger: str) -> dict[str, dict[str, Area | None]]:
    """Column → row → area. Columns: every model against the retain model of its seed, all target models together; the
    retain models of other seeds against the first as a control, which should tell nothing; and the target models against the
    retain models over the means of whole models."""
    told = {name: scores(findings, trigger) for name, findings in found.items()}
    kinds = {kind: [name for name in pairs if name.split(" ")[0] == kind] for kind in ("target", "retain_model")}
    columns: dict[str, list[tuple[str, str]]] = {"target": [(name, pairs[name]) for name in kinds["target"]]}
    columns |= {name: [(name, pairs[name])] for name in pairs if name not in (*kinds["target"], *kinds["retain_model"])}
    columns["retain_model, other seeds"] = [(name, "retain_model") for name in kinds["retain_model"] if name != "retain_model"]
    rows = list(dict.fromkeys(row for some in told.values() for row in some))
    table = {
        column: {row: area([(told[a][row], told[b][row]) for a, b in some]) for row in rows} for column, some in columns.items() if some
    }
    if min(map(len, kinds.values())) > 1:
        table["target, over seeds"] = {row: across(*([told[name][row] for name in some] for some in kinds.values())) for row in rows}
    return table


def judged(folder: RunFolder, policy: str) -> list[LineResult]:
    """The lines of the policy that the model in the folder fails, as `unsay gate` says."""
    return gate.judge(folder, policy, weights=False).failed


def publish(
    out: Path,
    found: Mapping[str, Sequence[Finding]],
    pairs: Mapping[str, str],
    gates: Mapping[str, Mapping[str, Sequence[str]]],
    trigger: str,
) -> None:
    """`known-states.json` and `known-states.md`: areas, the numbers behind them, and what each policy says."""
    table = areas(found, pairs, trigger)
    means = {name: {row: fmean(one.values()) for row, one in scores(some, trigger).items() if one} for name, some in found.items()}
    for name, some in found.items():
        whole = summary.summarise(without(some, trigger))
        means[name] |= {key: value for key in WHOLE if (value := whole[key]) is not None}
    told = {
        "areas": {column: {row: one and one._asdict() for row, one in rows.items()} for column, rows in table.items()},
        "not_working": {column: blind(rows) for column, rows in table.items()},
        "means": means,
        "gates": gates,
    }
    write_text(out / "known-states.json", json.dumps(told, indent=1) + "\n")
    write_text(out / "known-states.md", markdown(table, means, gates))


def blind(rows: Mapping[str, Area | None]) -> list[str]:
    """Probes whose interval includes .5: they tell nothing about this model."""
    return [row for row, one in rows.items() if one is not None and not one.tells]


def markdown(
    table: Mapping[str, Mapping[str, Area | None]], means: Mapping[str, Scores], gates: Mapping[str, Mapping[str, Sequence[str]]]
) -> str:
    names = list(dict.fromkeys(row for rows in table.values() for row in rows))
    parts = [_grid(["probe", *table], ([row, *(_cell(rows.get(row)) for rows in table.values())] for row in names))]
    parts.append("\n".join(f"- Not working on *{column}*: {'; '.join(blind(rows)) or 'none'}." for column, rows in table.items()))
    numbers = list(dict.fromkeys(row for some in means.values() for row in some))
    parts.append(_grid(["mean", *means], ([row, *(_number(some.get(row)) for some in means.values())] for row in numbers)))
    policies = list(dict.fromkeys(policy for some in gates.values() for policy in some))
    verdicts = ([name, *(_verdict(some[policy]) for policy in policies)] for name, some in gates.items())
    parts.append(_grid(["model", *(f"`unsay gate --policy {policy}`" for policy in policies)], verdicts))
    return "\n\n".join(parts) + "\n"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _cell(one: Area | None) -> str:
    return "–" if one is None else f"{_number(one.area)} [{_number(one.low)}, {_number(one.high)}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) > 1 else f"{value:.2f}"


def _verdict(failed: Sequence[str]) -> str:
    return f"1: {'; '.join(failed)}" if failed else "0"
