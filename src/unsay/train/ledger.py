"""The exposure ledger (promise 2): how much of the sensitive answer the trained targets carried, round by round.

This is the argument of the paper, measured: other remedies replay the secret at every step in order to remove it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from unsay.methods import LOSS, Target, Visit
from unsay.rewards.overlap import own_leak
from unsay.store.manifest import Exposure, RoundExposure


def leak(target: Target, visit: Visit) -> float:
    """The larger of keyword recall and ROUGE-L recall of what is trained, against the sensitive answer; 1 for what was named."""
    reference = replace(visit.reference(), baseline=visit.known, prefix=target.prefix)
    return max(own_leak(text, reference) for text in (target.text, target.rejected))


class Noted(NamedTuple):
    """What the ledger keeps of a target until its round is over: of 100,000 targets far less than themselves."""

    example: str
    leak: float | None
    """`None` where the visit found nothing to train on."""
    source: str
    reads: Mapping[str, int]


def noted(targets: Sequence[Target], visits: Mapping[str, Visit]) -> list[Noted]:
    """What is to be kept of these targets."""
    return [Noted(t.example, leak(t, visits[t.example]) if t.rows else None, t.source, t.reads) for t in targets]


def leaks(targets: Sequence[Noted]) -> list[float]:
    """Those of the targets that are trained on."""
    return [target.leak for target in targets if target.leak is not None]


def mean_and_most(found: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean and the largest of some leaks; `None` where there is none."""
    return (round(sum(found) / len(found), 4), round(max(found), 4)) if found else (None, None)


def of_round(number: int, targets: Sequence[Noted], passes: int = 1) -> RoundExposure:
    """One line of the ledger. Each pass over the targets is one more exposure; what was read to find them was read once."""
    found = leaks(targets)
    mean, most = mean_and_most(found)
    reads: Counter[str] = Counter()
    for target in targets:
        reads.update({reader: count * (passes if reader == LOSS else 1) for reader, count in target.reads.items()})
    return RoundExposure(
        round=number,
        targets=len(found) * passes,
        no_target=len(targets) - len(found),
        over_half=sum(value > 0.5 for value in found) * passes,
        mean_leak=mean,
        max_leak=most,
        sources={source: count * passes for source, count in Counter(t.source for t in targets if t.leak is not None).items()},
        baseline_reads=dict(reads),
    )


def total(rounds: Sequence[RoundExposure], targeted: Mapping[str, int]) -> Exposure:
    """`targeted`: by example id, in how many rounds it had a target."""
    reads: Counter[str] = Counter()
    for line in rounds:
        reads.update(line.baseline_reads)
    return Exposure(
        targets=sum(line.targets for line in rounds),
        over_half=sum(line.over_half for line in rounds),
        never_targeted=sum(count == 0 for count in targeted.values()),
        baseline_reads=dict(reads),
        rounds=tuple(rounds),
    )


def warning(exposure: Exposure | None, preset: str | None) -> str:
    """What to say at the end of training where a method whose loss reads no answer still trained on what should go. Empty where there is
    nothing to say. `preset`: of PMC, `None` for another method."""
    last = exposure.rounds[-1] if exposure and exposure.rounds else None
    # Of another method that reads the answer it is no news.
    if last is None or not last.over_half or (preset is None and LOSS in last.baseline_reads):
        return ""
    warned = (
        f"in the last round {last.over_half} of {last.targets} targets carried more than half of what is to be forgotten, most often "
        "because the model offers hardly anything else"
    )
    if preset in (None, "guarded"):
        return warned
    return f"{warned}; pmc.preset=guarded filters targets and explores, a higher pmc.temperature may do"
