"""Under which settings the models were asked, and what is said of an endpoint: read from the manifest, in words."""

from collections.abc import Sequence

from unsay.manifest import Manifest
from unsay.types import Finding

ENDPOINT = "endpoint"
TRAINED = "the settings of training"
_WHY = {
    "sampling": "it gave the same answer at every temperature",
    "prefill": "it does not continue an answer that is begun for it",
}
"""What a server could not do, by the key of the manifest that says so."""


def settings(manifest: Manifest, models: Sequence[str]) -> str:
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
    scored = {f.probe for f in findings if f.value is not None}
    missing = [name for name in probes if name not in scored and any(f.probe == name for f in findings)]
    why = [text for key, text in _WHY.items() if getattr(served, key) == "no"]
    unscored = f" Unscored there: {', '.join(missing)} (it shows no likelihoods and no weights{''.join('; ' + text for text in why)})."
    return (
        f"The column “{ENDPOINT}” is what answered at {served.url} as “{served.model}” ({served.api}, {served.audited}). "
        "The claim and the verdict are about the checkpoint; whether that is what is served there, nobody has checked."
        f"{unscored if missing else ''} Its random numbers are its own: another audit draws other samples."
    )
