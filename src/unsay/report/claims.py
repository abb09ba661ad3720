"""What may be claimed, in words: no wider than the findings."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from unsay import probes
from unsay.config import deployment
from unsay.measure.summary import metrics
from unsay.probes.scoring import CONFIDENCE
from unsay.report.bounds import VACUOUS, Bound, bounds
from unsay.report.evidence import Evidence
from unsay.report.notes import asked_with
from unsay.report.words import NOT_CLAIMED, READERS, figure


class Claim(NamedTuple):
    """Short sentences and lists, so that a page need not print one sentence of a screen's length."""

    scope: str
    tested: list[str]
    found: list[str]
    limits: list[str]
    """What was not covered, and what is not claimed, which comes last."""


def claimed(evidence: Evidence) -> Claim:
    """What was tested, what was found, and what that does not say."""
    if not evidence.findings["after"]:
        return Claim("Nothing is claimed: the model after unlearning has not been audited.", [], [], [])
    # Of the forget questions alone: those of earlier requests are none of this one's.
    number = max((evidence.counts.get(key, 0) for key, one in metrics().items() if one.forgotten and one.picture == "leaks"), default=0)
    scope = f"these {number} forget questions" if number else "the questions of this corpus"
    scored, after = evidence.scored, evidence.findings["after"]
    tested = []
    for name, probe in probes.declared().items():
        if name in scored and probe.tested:
            settings = evidence.settings(name)
            quoted = joined([f"“{setting}”" if " " in setting else setting for setting in settings])
            asked = {f.example for kind in after.kinds if kind[0] == name for f in after.kind(*kind) if f.value is not None and f.example}
            blanks = {"settings": quoted, "count": max(1, len(settings)), "n": evidence.answers(name), "questions": len(asked)}
            tested.append(probe.tested.format(**blanks))
    limit = deployment.sample(evidence.recipe).max_new_tokens
    missing = [*evidence.without_result, *_half_run(evidence, scored)]
    limits = [
        f"Asked for but not run, or unscored: {joined(missing)}." if missing else "",
        f"Found by probes that are not installed here, and not told: {joined(evidence.unknown)}." if evidence.unknown else "",
        _outside(evidence, scored),
        asked_with(evidence.manifest, evidence.audited),
        NOT_CLAIMED,
    ]
    return Claim(
        f"Tested on {scope}, with at most {limit} new tokens an answer.",
        tested or ["no attack at all"],
        _found(evidence) or ["no leak was measured, so nothing is shown"],
        [sentence for sentence in limits if sentence],
    )


def claim(evidence: Evidence) -> str:
    """The same as one text."""
    found = claimed(evidence)
    lists = [f"{name}: {'; '.join(items)}." for name, items in (("Attacks", found.tested), ("Found", found.found)) if items]
    return " ".join([found.scope, *lists, *found.limits])


def _outside(evidence: Evidence, scored: Collection[str]) -> str:
    """What lies beside the tested prefixes, wordings and frames: a model may have been made to leak behind one phrase alone."""
    sets = {name: one.variants for name, one in probes.declared().items() if one.variants}
    tried = [words for name, words in sets.items() if name in scored and evidence.settings(name)]
    untried = [words for words in sets.values() if words not in tried]
    parts = ([f"{joined(tried)} outside the tested set"] if tried else []) + ([f"any {joined(untried)} at all"] if untried else [])
    return f"Not covered: {'; '.join(parts)}. A model that leaks only behind one phrase is caught only where that phrase was tried."


def _half_run(evidence: Evidence, scored: Collection[str]) -> list[str]:
    """Numbers of the claim that a probe was to give and could not, though it gave others."""
    failed = [f for f in evidence.findings["after"].heads if f.value is None and f.probe in scored]
    return [
        f"“{one.title}” of {one.probe}"
        for key, one in metrics().items()
        if one.claim and evidence.metrics[key]["after"] is None and one.probe in scored
        if any(f.probe == one.probe and f.metric == one.finding and one.where(f.setting) for f in failed)
    ]


def _found(evidence: Evidence) -> list[str]:
    """What every attack came to: the clauses that it declares; of one that declares none, its first number by its title."""
    parts = []
    for probe in probes.declared().values():
        there = [one for one in probe.metrics if evidence.metrics[one.key]["after"] is not None]
        for one in [one for one in there if one.claim] or (there[:1] if probe.tested else []):
            values = evidence.metrics[one.key]
            others = [(which.replace("_", " "), values[which]) for which in ("before", "retain_model") if values[which] is not None]
            beside = ", ".join(f"{which} {figure(other)}" for which, other in others)
            value = figure(values["after"]) + (f" ({beside})" if beside else "")
            parts.append((one.claim or f"{one.title[0].lower()}{one.title[1:]}: {{}}").format(value))
    return parts


def certified(evidence: Evidence) -> list[str]:
    """What n answers can certify, in words, for each sampling probe that ran."""
    sentences = []
    for name, probe in probes.declared().items():
        found = bounds(evidence, name) if probe.certified else []
        if found:
            sentences.append(_certified(found, probe.certified, probe.variants))
    if sentences:
        sentences.append(
            "A leak is an answer that says at least the probe’s threshold of the secret’s own words. “Taken alone” is for whoever "
            "named the case before looking; “all at once” also holds for whoever looks first and picks the worst."
        )
    return sentences


def _certified(found: Sequence[Bound], how: str, settings: str) -> str:
    questions = len({bound.example for bound in found})
    places = len({bound.setting for bound in found})
    n = min(bound.n for bound in found)
    clean = [bound for bound in found if not bound.leaks]
    asked = f"{n} answers to each of {questions} questions" + (f" at each of {places} {settings}" if places > 1 else "")
    case = "question" if places == 1 else "case"
    many = f"{len(found)} cases" if places > 1 else f"{questions} questions"
    if not clean:
        return f"{how}: {asked}, and every {case} leaked at least once. Nothing is certified."
    one = f"one {case}" if len(clean) == len(found) else "one of these"
    everyone = many if len(clean) == len(found) else "of them"
    rules_out = (
        f"With {CONFIDENCE:.0%} confidence {one}, taken alone, leaks in at most {max(bound.one for bound in clean):.1%} of its "
        f"answers, and all {everyone} at once in at most {max(bound.all for bound in clean):.1%}."
    )
    if len(clean) == len(found):
        return f"{how}: no leak in {asked}. {rules_out}"
    worst = max(found, key=lambda bound: bound.all)
    leaked = len(found) - len(clean)
    # A bound of all answers is none, and beside a verdict that passed it would only confuse.
    bound = (
        f", and with the same confidence, all {many} at once, in at most {worst.all:.1%}"
        if worst.all < VACUOUS
        else ", which rules out nothing for it"
    )
    return (
        f"{how}: {asked}; {len(clean)} of {many} showed no leak. {rules_out} {leaked} leaked: the worst in {worst.leaks} of "
        f"{worst.n} answers{bound}."
    )


def baseline_was_read(evidence: Evidence) -> str:
    """Who read the model's own recorded answer: said always, because the method's point is what it does not need."""
    reads = evidence.exposure.get("baseline_reads", {})
    training = "; ".join(f"{READERS.get(name, f'by {name}')} ({count:,} times)" for name, count in reads.items() if count)
    during = training or ("by nothing that the ledger counted" if evidence.exposure else "not recorded, training has not run")
    ran = bool(evidence.audited)
    audit = f"which compares answers with a reference text: {evidence.reference()}" if ran else "once it runs"
    return f"The baseline answer itself was read. During training: {during}. By the audit, {audit}."


def joined(items: Sequence[str]) -> str:
    return ", ".join(items[:-1]) + f" and {items[-1]}" if len(items) > 1 else "".join(items)
