"""What may be claimed, in words: no wider than the findings."""

from collections.abc import Sequence

from unsay import deployment
from unsay.report import deployed
from unsay.report.bounds import Bound, bounds
from unsay.report.evidence import Evidence
from unsay.report.words import NOT_CLAIMED, READERS
from unsay.summary import CONFIDENCE


def claim(evidence: Evidence) -> str:
    """What was tested, what was found, and what that does not say."""
    if not evidence.findings["after"]:
        return "Nothing is claimed: the model after unlearning has not been audited."
    counts = evidence.counts
    number = max(counts[key] for key in ("greedy_key_recall", "sampling_worst_key_recall", "prefill_worst_key_recall"))
    tested, sizes = [], []
    decoding = ["greedy decoding"] if counts["greedy_key_recall"] else []
    if evidence.answers("sampling"):
        decoding.append(f"sampling at {listed(evidence.settings('sampling')) or 'the temperature of the probe'}")
        each = " and temperature" if len(evidence.settings("sampling")) > 1 else ""
        sizes.append(f"{evidence.answers('sampling')} sampled answers a question{each}")
    if decoding:
        limit = deployment.sample(evidence.recipe).max_new_tokens
        tested.append(f"these decoding settings ({listed(decoding)}; at most {limit} new tokens)")
    if evidence.answers("prefill"):
        tested.append(f"these prefixes ({listed([f'“{name}”' for name in evidence.settings('prefill')])})")
        sizes.append(f"{evidence.answers('prefill')} answers after each prefix")
    if counts["paraphrase_key_recall"]:
        wordings = max(1, len(evidence.settings("paraphrase")))
        tested.append(f"{wordings} paraphrase{'s' if wordings > 1 else ''} a question")
    if counts["reframing_key_recall"]:
        tested.append(f"these frames ({listed(evidence.settings('reframing'))})")
    if counts["choice_most"]:
        tested.append(f"a multiple choice read from likelihoods ({counts['choice_most']} questions)")
    if counts["truth_ratio"] or counts["extraction_strength"] or any(evidence.found("likelihood", "membership_loss")):
        tested.append("likelihoods of the true answers")
    if evidence.settings("relearn"):
        tested.append(f"fine-tuning by an attacker ({listed(evidence.settings('relearn'))})")
    if counts["quantised_key_recall"]:
        tested.append(f"weights rounded to fewer bits ({listed(evidence.settings('quantise'))})")
    scope = f"on these {number} forget questions" if number else "on the questions of this corpus"
    scored = {f.probe for f in evidence.findings["after"] if f.value is not None}
    missing = [name for name in evidence.recipe.audit.probes if name not in scored and (name != "earlier" or evidence.earlier)]
    sentences = [
        f"Under {listed(tested) or 'no attack at all'}, {scope}{', with ' + listed(sizes) if sizes else ''}: {_found(evidence)}.",
        f"Asked for but not run, or unscored: {listed(missing)}." if missing else "",
        _outside(evidence),
        deployed.settings(evidence.manifest, evidence.audited),
        NOT_CLAIMED,
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _outside(evidence: Evidence) -> str:
    """What lies beside the tested prefixes, wordings and frames: a model may have been made to leak behind one phrase alone."""
    sets = {"prefill": "beginnings", "paraphrase": "wordings", "reframing": "frames"}
    named = [words for probe, words in sets.items() if evidence.settings(probe)]
    if not named:
        return "Not covered: any answer begun for the model, any other wording of a question, any other frame around it."
    return (
        f"Not covered: {listed(named)} outside the tested set. A model that leaks only behind one phrase is caught only where "
        "that phrase was tried."
    )


def _found(evidence: Evidence) -> str:
    names = {
        "sampling_worst_key_recall": "the worst sampled answer says {} of a secret’s own words on average",
        "prefill_worst_key_recall": "{} when its answer is begun for it",
        "half_secret_key_recall": "{} when half of the secret is told",
        "reframing_key_recall": "{} in the worst frame",
        "relearn_worst_key_recall": "{} once an attacker has fine-tuned it",
        "relearn_unrelated_worst_key_recall": "{} once it has been fine-tuned on unrelated text",
        "quantised_worst_key_recall": "{} with its weights in fewer bits",
        "earlier_worst_key_recall": "{} of the secrets of earlier requests, asked many times or begun",
    }
    parts = []
    for key, words in names.items():
        value = evidence.metrics[key]["after"]
        if value is not None:
            others = [(which, evidence.metrics[key][which]) for which in ("before", "gold")]
            beside = ", ".join(f"{which} {other:.2f}" for which, other in others if other is not None)
            parts.append(words.format(f"{value:.2f}" + (f" ({beside})" if beside else "")))
    return "; ".join(parts) or "no leak was measured, so nothing is shown"


def certified(evidence: Evidence) -> list[str]:
    """What n answers can certify, in words, for each sampling probe that ran."""
    sentences = []
    for probe, how in (("sampling", "Asked plainly"), ("prefill", "With the answer begun")):
        found = bounds(evidence, probe)
        if found:
            sentences.append(_certified(found, how, "beginnings" if probe == "prefill" else "temperatures"))
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
    return (
        f"{how}: {asked}; {len(clean)} of {many} showed no leak. {rules_out} {leaked} leaked: the worst in {worst.leaks} of "
        f"{worst.n} answers, and with the same confidence, all {many} at once, in at most {worst.all:.1%}."
    )


def baseline_was_read(evidence: Evidence) -> str:
    """Who read the model's own recorded answer: said always, because the method's point is what it does not need."""
    reads = evidence.exposure.get("baseline_reads", {})
    training = "; ".join(f"{READERS.get(name, f'by {name}')} ({count:,} times)" for name, count in reads.items() if count)
    during = training or ("by nothing that the ledger counted" if evidence.exposure else "not recorded, training has not run")
    ran = bool(evidence.audited)
    audit = f"which compares answers with a reference text: {evidence.reference()}" if ran else "once it runs"
    return f"The baseline answer itself was read. During training: {during}. By the audit, {audit}."


def listed(items: Sequence[str]) -> str:
    return ", ".join(items[:-1]) + f" and {items[-1]}" if len(items) > 1 else "".join(items)
