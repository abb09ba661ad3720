"""Tables of scripts/known_states.py: how well each probe tells a model that knows from one that never knew.

A probe's score of a question is higher the more the probe takes the model to know its answer. The area under the ROC curve is
the chance that a question scores higher on the model than on the retain model: 1 and 0 tell the two apart, .5 does not. Questions
about one person hang together, so its interval counts as many independent questions as would vary as much as the people do.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from unsay.config import ConfigError
from unsay.measure import summary
from unsay.measure.distinguisher import separation
from unsay.packed import Packed
from unsay.report import gate
from unsay.stats import area_interval, independent_scores, roc_auc
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
    "prefix_search": "prefix_search_keyword_recall",
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
CONTROL = "retain models, two seeds"
ONE_TOLD = "one person told"
"""This model knows the first group's answers only, so its columns are over these."""
WHOLE = ("drift_token_probability", "drift_inverse_perplexity", "utility", "utility_heldout")
"""What a model costs, not what it knows: in no table of areas, among the means."""


class Area(NamedTuple):
    area: float
    low: float
    high: float
    n: float
    """Independent questions on each side."""

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


def area(pairs: Sequence[tuple[Scores, Scores]], groups: Mapping[str, str]) -> Area | None:
    """Over the questions that both models of a pair were scored on, of one pair or several. `groups`: question → whom it is about."""
    shared = [(now, retain_model, [example for example in now if example in retain_model]) for now, retain_model in pairs]
    positive = np.array([now[example] for now, _, examples in shared for example in examples])
    negative = np.array([retain_model[example] for _, retain_model, examples in shared for example in examples])
    if not positive.size:
        return None
    found = roc_auc(positive, negative)
    asked = [example for _, _, examples in shared for example in examples]
    # However many pairs of models were asked them, there are no more questions. Of one person, each question counts.
    of, n = [groups.get(example) or example for example in asked], float(len({*asked}))
    if len({*of}) > 1:
        n = min(n, independent_scores(positive, negative, of, of))
    return Area(found, *area_interval(found, n, n), n)


def areas(found: Mapping[str, Sequence[Finding]], pairs: Mapping[str, str], trigger: str) -> dict[str, dict[str, Area | None]]:
    """Column → row → area. Columns: all target models, and every other model, each against the retain model of its seed; the retain
    models against each other as a control, which should tell nothing."""
    told = {name: scores(findings, trigger) for name, findings in found.items()}
    groups = {example: group for findings in found.values() for example, group in Packed.of(findings).groups.items()}
    columns: dict[str, list[tuple[str, str]]] = {"target": [(name, pairs[name]) for name in _kind(pairs, "target")]}
    columns |= {name: [(name, beside)] for name, beside in pairs.items() if name.split(" ")[0] not in ("target", "retain_model")}
    columns[CONTROL] = [(name, pairs[name]) for name in _kind(pairs, "retain_model") if name != pairs[name]]
    rows = list(dict.fromkeys(row for some in told.values() for row in some))
    return {
        column: {row: area([(_asked(told[a][row], a, groups), told[b][row]) for a, b in some], groups) for row in rows}
        for column, some in columns.items()
        if some
    }


def false_alarms(found: Mapping[str, Sequence[Finding]], pairs: Mapping[str, str], trigger: str) -> dict[str, tuple[int, int]]:
    """Row → how many pairs of retain models it tells apart, of how many."""
    told = {name: scores(found[name], trigger) for name in _kind(pairs, "retain_model")}
    groups = {example: group for name in told for example, group in Packed.of(found[name]).groups.items()}
    rows = dict.fromkeys(row for some in told.values() for row in some)
    tried = {row: [area([(told[a][row], told[b][row])], groups) for a, b in combinations(told, 2)] for row in rows}
    return {row: (sum(one is not None and one.tells for one in some), len(some)) for row, some in tried.items()}


def combined(found: Mapping[str, Sequence[Finding]], pairs: Mapping[str, str]) -> dict[str, float]:
    """Model → how well `unsay compare --distinguish` tells it from the retain models, by all numbers of a question together. A retain
    model is told from the others: the noise floor. Empty with fewer than three retain models."""
    values = {name: summary.questions(f for f in findings if f.value is not None) for name, findings in found.items()}
    groups = {example: group for findings in found.values() for example, group in Packed.of(findings).groups.items()}
    areas: dict[str, float] = {}
    for name in pairs:
        others = [values[one] for one in _kind(pairs, "retain_model") if one != name]
        now = {
            key: {place: value for place, value in some.items() if place[1] in _asked({place[1]: value}, name, groups)}
            for key, some in values[name].items()
        }
        try:
            areas[name] = separation(now, others, groups).area
        except ConfigError:  # too few retain models
            return {}
    return areas


def _kind(pairs: Mapping[str, str], kind: str) -> list[str]:
    return [name for name in pairs if name.split(" ")[0] == kind]


def _asked(scores: Scores, name: str, groups: Mapping[str, str]) -> Scores:
    """Of a model that knows one person's answers only, the questions about that person."""
    return {example: value for example, value in scores.items() if name != ONE_TOLD or groups.get(example) == "1"}


def failed(folder: RunFolder, policy: str, weights: bool = False) -> list[str]:
    """The lines of the policy that the model in the folder fails, as `unsay gate` says, or why it refuses to judge. Lines on the
    exposure of training are left out: no training was recorded."""
    try:
        lines = gate.judge(folder, policy, weights).failed
    except ConfigError as refused:
        return [str(refused).replace(str(folder.path), folder.path.name)]
    return [
        line.name if line.name != "made for" else f"{line.name} {line.metric}" for line in lines if not line.metric.startswith("exposure.")
    ]


def publish(
    out: Path,
    found: Mapping[str, Sequence[Finding]],
    pairs: Mapping[str, str],
    gates: Mapping[str, Mapping[str, Sequence[str]]],
    trigger: str,
) -> None:
    """`known-states.json` and `known-states.md`: areas, the numbers behind them, and what each policy says. `pairs`: model → the retain
    model that it is held against."""
    means = {name: {row: fmean(one.values()) for row, one in scores(some, trigger).items() if one} for name, some in found.items()}
    for name, some in found.items():
        whole = summary.summarise(without(some, trigger))
        means[name] |= {key: value for key in WHOLE if (value := whole[key]) is not None}
    table = areas(found, pairs, trigger)
    alarms, together = false_alarms(found, pairs, trigger), combined(found, pairs)
    told = {"areas": table, "false_alarms": alarms, "combined": together, "means": means, "gates": gates}
    write_text(out / "known-states.json", json.dumps(told, indent=1) + "\n")
    rows = list(dict.fromkeys(row for some in table.values() for row in some))
    parts = [
        _grid(
            ["probe", *table, "false alarms"],
            ([row, *(_cell(some.get(row)) for some in table.values()), " of ".join(map(str, alarms.get(row, "–")))] for row in rows),
        ),
        "\n".join(f"- Not working on *{column}*: {'; '.join(blind(some)) or 'none'}." for column, some in table.items()),
        _grid(["model", "all numbers together"], ([name, _number(value)] for name, value in together.items())),
        _grid(
            ["mean", *means],
            (
                [row, *(_number(some.get(row)) for some in means.values())]
                for row in dict.fromkeys(r for some in means.values() for r in some)
            ),
        ),
        _grid(
            ["model", *(f"`unsay gate --policy {policy}`" for policy in next(iter(gates.values()), {}))],
            ([name, *(f"1: {'; '.join(failed)}" if failed else "0" for failed in some.values())] for name, some in gates.items()),
        ),
    ]
    write_text(out / "known-states.md", "\n\n".join(parts) + "\n")


def blind(rows: Mapping[str, Area | None]) -> list[str]:
    """Probes whose interval includes .5: they tell nothing about this model."""
    return [row for row, one in rows.items() if one is not None and not one.tells]


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _cell(one: Area | None) -> str:
    return "–" if one is None else f"{_number(one.area)} [{_number(one.low)}, {_number(one.high)}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) > 1 else f"{value:.2f}"
