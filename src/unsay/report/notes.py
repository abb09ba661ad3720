"""What a reader must know of a run before its numbers: where retain rows came from, what was named, and how the models were asked.

From the manifest alone, so without a word of any question or answer. The console says the same after `record`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from unsay.config import first_of
from unsay.packed import Packed
from unsay.store.manifest import Manifest
from unsay.types import Finding

ENDPOINT = "endpoint"
TRAINED = "the settings of training"
_FEW_TEXTS = 50
_WHY = {
    "sampling": "it gave the same answer at every temperature",
    "prefill": "it does not continue an answer that is begun for it",
}
"""What a server could not do, by the key of the manifest that says so."""


def notes(manifest: Manifest) -> list[str]:
    """Sentences for the report and the model card."""
    return [sentence for sentence in (*_retain(manifest), _endless(manifest), *_others(manifest)) if sentence]


def after_record(manifest: Manifest, run: Path) -> list[str]:
    """Lines for the console: what there is to look at before training, and what gives cause for worry."""
    lines: list[str] = []
    if spans := manifest.spans:
        without = f" ({len(spans.none)} have none)" if spans.none else ""
        lines.append(
            f"{spans.proposed} sensitive spans proposed for {manifest.counts.forget} questions{without}; before training, look at "
            f"them with `unsay spans {run} --reveal` and correct them with `unsay spans {run} --edit`"
        )
    if spans and spans.long:
        lines.append(
            f"warning: long answers in which nothing is named: {first_of(spans.long, 10)}; put what must never be said into their 'strings'"
        )
    if endless := _endless(manifest):
        lines.append(f"warning: {endless} Begin again (--out DIR) with --set 'model.stop=\"\\n\"', which ends an answer with its line")
    if (texts := manifest.counts.prose) is not None and texts < _FEW_TEXTS:
        lines.append(f"warning: the model wrote only {texts:,} texts that may be kept (record.prose), so little holds plain text in place")
    return lines + [f"warning: {line}" if manifest.retain and manifest.retain.few else line for line in _retain(manifest)]


def _retain(manifest: Manifest) -> list[str]:
    found = manifest.retain
    if found is None:
        return []
    if found.from_ != "own answers":
        return ["No retain rows were handed over: the package’s general questions and answers take their place."]
    rows = found.general + found.neighbours
    sentence = (
        f"No retain rows were handed over. The {rows:,} in their place are the untouched model’s own answers, {found.general:,} to "
        f"general questions and {found.neighbours:,} to the forget questions asked about other names; {found.heldout:,} stayed "
        "out of training. Utility therefore says how far the model still answers as it did, right or wrong."
    )
    if found.few:
        left = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items()) or "none left out"
        sentence += f" These are few ({found.asked:,} asked, {left}), so little holds the rest of the model in place."
    return [sentence]


def _endless(manifest: Manifest) -> str:
    number = manifest.model.runs_on if manifest.model else 0
    return (
        f"{number:,} of {manifest.counts.forget:,} recorded answers go on with a question of their own, as a base model’s do: what comes "
        "after the answer is trained on and judged with it."
        if number
        else ""
    )


def _others(manifest: Manifest) -> Iterator[str]:
    spans, skipped = manifest.spans, manifest.skipped
    if spans and (spans.added or spans.struck):
        yield f"The operator corrected what counts as sensitive: {spans.added:,} spans added, {spans.struck:,} words taken out."
    if number := len(spans.long) if spans else 0:
        have = "recorded answers have" if number > 1 else "recorded answer has"
        yield (
            f"{number:,} {have} more than 40 content words and nothing was named that must not be said: "
            "overlap with so long a text can be low while a detail of it is still given away."
        )
    yield _watch(manifest)
    if steps := skipped.loss + skipped.gradient if skipped else 0:
        yield f"Training steps skipped because a number was not finite: {steps:,}."
    if found := [one for one in manifest.answers.values() if one and one.kept]:
        number = sum(one.kept for one in found)
        sentence = f"Of the answers behind these numbers {number:,} were not given anew but kept by an earlier audit"
        if all(one.encrypted for one in found):
            yield f"{sentence}, encrypted, so that nobody without the key could change them."
        else:
            yield f"{sentence}, where whoever can write into the run folder could change them; with --no-cache all are asked anew."


def _watch(manifest: Manifest) -> str:
    """What the guards of training saw, where it is not all good."""
    watch = manifest.watch
    if watch and not watch.rows:
        return "No retain rows were watched during training: there were too few, or the recipe asked for none."
    if not watch or not watch.rises:
        return ""
    last, rise = watch.rises[-1]
    if watch.within is not False and watch.shipped == last:
        return ""
    if watch.shipped == last:
        return f"The loss on watched retain rows had risen by {rise:.2f} nats per token at the end, beyond the limit of {watch.limit:g}."
    why = "the last saved one within it" if watch.within else "which rose least of those saved"
    return f"The loss on watched retain rows rose beyond {watch.limit:g} nats per token; shipped is round {watch.shipped}, {why}."


def asked_with(manifest: Manifest, models: Sequence[str]) -> str:
    """One sentence where any of the audited `models` was asked otherwise than it was trained; else nothing."""
    found: dict[str, list[str]] = {}
    for which in models:
        found.setdefault(manifest.deployment.get(which, "") or TRAINED, []).append(which)
    if set(found) <= {TRAINED}:
        return ""
    if len(found) == 1:
        return f"Audited as deployed, with {next(iter(found))}; for what that does not name, with {TRAINED}."
    each = "; ".join(f"{' and '.join(some)} with {said}" for said, some in found.items())
    return f"Not all were asked alike, so do not compare across: {each}."


def endpoint(manifest: Manifest, findings: Sequence[Finding], probes: Sequence[str]) -> str:
    """What the endpoint's column is, what could not be scored there and why; nothing where none was audited."""
    served = manifest.endpoint
    if not findings or served is None:
        return ""
    heads = Packed.of(findings).heads
    scored = {f.probe for f in heads if f.value is not None}
    missing = [name for name in probes if name not in scored and any(f.probe == name for f in heads)]
    why = [text for key, text in _WHY.items() if getattr(served, key) == "no"]
    unscored = f" Unscored there: {', '.join(missing)} (it shows no likelihoods and no weights{''.join('; ' + text for text in why)})."
    return (
        f"The column “{ENDPOINT}” is what answered at {served.url} as “{served.model}” ({served.api}, {served.audited}). "
        "The claim and the verdict are about the checkpoint; whether that is what is served there, nobody has checked."
        f"{unscored if missing else ''} Its random numbers are its own: another audit draws other samples."
    )
