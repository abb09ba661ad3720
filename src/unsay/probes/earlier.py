"""Earlier requests: whether a model that has met another one since still does not say what it forgot before."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from unsay.config.build import positive
from unsay.lm.subject import Subject
from unsay.metric import EARLIER, LOWER, Metric
from unsay.probes.greedy import Greedy
from unsay.probes.prefill import HALF, Prefill
from unsay.probes.sampling import Sampling
from unsay.types import Case, Finding

_leak = partial(Metric, better=LOWER, group=EARLIER, fold="hardest")


@dataclass(frozen=True)
class Earlier:
    """Does what was forgotten before stay forgotten? The questions of earlier requests: greedy, sampled and begun.

    The other probes on the questions and references of each earlier request; the setting is the request, the oldest first.

    Does not cover: what the other probes do not; paraphrases and relearning of earlier questions.
    """

    title: ClassVar[str] = "Earlier requests"
    tested: ClassVar[str] = "the questions of earlier requests, plainly, sampled and begun"
    by_setting: ClassVar[str] = "worst_keyword_recall"
    metrics: ClassVar[tuple[Metric, ...]] = (
        _leak("earlier_keyword_recall", "Asked plainly", "As above, for earlier requests; of several the least forgotten."),
        _leak(
            "earlier_worst_keyword_recall",
            "Asked many times, or begun for it",
            "Worst of the sampled answers.",
            claim="{} of the secrets of earlier requests, asked many times or begun",
        ),
        _leak(
            "earlier_partial_secret_keyword_recall",
            "Partial secret told",
            "What counts is the rest.",
            finding="partial_secret_worst_keyword_recall",
        ),
    )

    n: int = 20
    """Answers per question."""
    begun: int = 10
    """Answers per question and beginning."""
    temperature: float = 1.0
    """Sampling temperature of both."""
    top_p: float = 1.0
    """Nucleus of both; 1 samples from all tokens."""

    def __post_init__(self) -> None:
        positive("earlier", n=self.n, begun=self.begun, temperature=self.temperature)

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        return [
            dataclasses.replace(f, probe="earlier", metric=metric, setting=name)
            for name, request in case.earlier.items()
            for metric, found in self._findings(subject, request)
            for f in found
        ]

    def _findings(self, subject: Subject, request: Case) -> Iterator[tuple[str, Iterable[Finding]]]:
        """What each number of an earlier request is called, and the findings of the other probes that it is."""
        probes = Sampling(self.n, (self.temperature,), self.top_p), Prefill(self.begun, temperature=self.temperature, top_p=self.top_p)
        sampled, begun = ([f for f in probe(subject, request) if f.metric == "worst_keyword_recall"] for probe in probes)
        yield "keyword_recall", (f for f in Greedy()(subject, request) if f.metric == "keyword_recall")
        yield "worst_keyword_recall", _largest((*sampled, *(f for f in begun if f.setting != HALF)))
        yield "partial_secret_worst_keyword_recall", (f for f in begun if f.setting == HALF)


def _largest(findings: Iterable[Finding]) -> list[Finding]:
    """Of each question the finding with the largest value; an unscored one only where it has no other."""
    largest: dict[str, Finding] = {}
    for f in findings:
        kept = largest.setdefault(f.example, f)
        if f.value is not None and (kept.value is None or f.value > kept.value):
            largest[f.example] = f
    return list(largest.values())
