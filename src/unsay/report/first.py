"""The first page of the report: what a person reads before signing, in plain sentences. The rest of the page is the evidence for it."""

from collections.abc import Sequence
from typing import NamedTuple

from unsay import probes
from unsay.config import first_of
from unsay.measure.summary import metrics as every_metric
from unsay.measure.verdict import LineResult, passed
from unsay.metric import HIGHER
from unsay.report.evidence import Evidence
from unsay.store.manifest import SequentialRequests

Pairs = list[tuple[str, str]]
_NAMED = 6
"""Measures that a sentence names; the others are counted."""


class Decision(NamedTuple):
    kind: str
    """`pass`, `fail`, or nothing where nobody judged."""
    head: str
    because: str
    then: str


def decision(evidence: Evidence) -> Decision:
    """May it be released? Two sentences: why or why not, and what follows."""
    results, name = evidence.results, evidence.recipe.report.policy
    if not evidence.findings["after"]:
        because = "The model after unlearning has not been audited."
        return Decision("", "Not judged", because, "Run `unsay audit` on this folder before deciding.")
    if not results:
        return Decision("", "Not judged", "The recipe names no policy.", "Name one: `unsay gate RUN --policy default`.")
    if passed(results):
        because = f"because all {len(results)} lines of the policy “{name}” hold."
        then = "This says nothing about what was not tested, nor about attacks that no line judges."
        return Decision("pass", "May be released", because, then)
    failed = [line for line in results if not line.passed]
    reasons = [f"{words} ({_names(lines)})" for words, lines in _reasons(failed) if lines]
    because = f"because {len(failed)} of {len(results)} lines of the policy “{name}” failed: {'; '.join(reasons)}."
    return Decision("fail", "May not be released", because, "“Verdict, line by line” says what to do about each, and at what cost.")


def _reasons(failed: Sequence[LineResult]) -> list[tuple[str, list[LineResult]]]:
    unscored = [line for line in failed if line.value is None or line.detail.startswith("unscored") or line.name == "made for"]
    lost = [line for line in failed if line not in unscored and (one := every_metric().get(line.metric)) and one.better == HIGHER]
    told = [line for line in failed if line not in unscored and line not in lost]
    return [("it gives away too much", told), ("it lost too much of what should stay", lost), ("not measured as the policy asks", unscored)]


def _names(lines: Sequence[LineResult]) -> str:
    every = every_metric()
    names = [*dict.fromkeys(every[line.metric].title.lower() if line.metric in every else line.name for line in lines)]
    return first_of(names, _NAMED)


def asked(evidence: Evidence) -> Pairs:
    """What was asked for."""
    recipe, counts = evidence.recipe, evidence.manifest.counts
    kept = "not recorded" if counts.retain is None else f"{counts.retain:,} rows"
    return [
        ("Model", recipe.model.name),
        ("To forget", "not recorded" if counts.forget is None else f"{counts.forget:,} questions ({recipe.corpus})"),
        *([] if evidence.manifest.alone else [("To keep", kept)]),
        *([("Forgotten before", earlier_requests(evidence))] if evidence.earlier else []),
    ]


def done(evidence: Evidence) -> Pairs:
    """What was done for it."""
    recipe, checkpoint, share = evidence.recipe, evidence.manifest.checkpoint, evidence.recipe.train.averaging
    never_knew = "fine-tuned without the secrets" if recipe.model.retain_model == "finetune" else recipe.model.retain_model or "none"
    trained = [
        ("Method", f"{recipe.method}, preset {evidence.preset}" if evidence.preset else recipe.method),
        ("Rounds of training", f"{checkpoint.rounds} of {recipe.train.rounds}" if checkpoint else "not run"),
        *([("Weights", f"{share:.0%} of the way from the untouched to the trained ones")] if share < 1 else []),
        *([("Weights", f"{share - 1:.0%} beyond the trained ones")] if share > 1 else []),
    ]
    attacks = [name for name, probe in probes.declared().items() if probe.tested and name in evidence.scored]
    return [
        *([("Method", "none: audited only")] if evidence.manifest.alone else trained),
        ("Attacks tried", str(len(attacks)) if attacks else "none"),
        ("Compared with a model that never knew (retain model)", never_knew),
    ]


def untested(evidence: Evidence) -> list[str]:
    """What nobody has looked at, the most particular first."""
    ran, wanted = evidence.scored, evidence.without_result
    left = [name for name, probe in probes.declared().items() if probe.tested and name not in (*ran, *wanted)]
    others = [name for name in left if name != "earlier" or evidence.earlier]
    return [
        *([f"Asked for but not run, or without a result: {', '.join(wanted)}."] if wanted else []),
        *([f"Attacks that this audit left out: {', '.join(others)}."] if others else []),
        "Other questions, wordings, languages and attacks than those listed under “What is claimed”.",
        "Whether the knowledge is deleted from the weights: only what comes out was measured.",
        *(["Whether the model lost other abilities: no rows of what should stay were asked."] if "utility" not in ran else []),
    ]


def tied(evidence: Evidence) -> Pairs:
    """What the page is signed for: which weights, which request, which rules, which days."""
    found = evidence.identity
    checkpoint, rules = found["checkpoint"], found["policy"]
    dates = {name: day[:10] for name, day in found["dates"].items() if day}
    return [
        ("Dates", ", ".join(f"{name} {day}" for name, day in dates.items()) or "not recorded"),
        ("Version", f"unsay {evidence.manifest.versions.get('unsay', 'not recorded')}"),
        ("Request", found["request"] or "not recorded"),
        ("Weights (SHA-256 of the tensors)", checkpoint["weights"] if checkpoint else "not in a folder when they were audited"),
        ("Policy (SHA-256)", f"{rules['name']}, {rules['sha256']}" if rules else "none"),
        ("Looks into the vault", str(found["looks"])),
    ]


def earlier_requests(evidence: Evidence) -> str:
    """How many there are, and how much of the model's present answers keeps them forgotten."""
    found = evidence.manifest.earlier or SequentialRequests()
    number, rows = len(found.runs), found.retain_rows or 0
    return f"{evidence.earlier:,} questions of {number} earlier request{'s' * (number != 1)}, {rows:,} retain rows"
