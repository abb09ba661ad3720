"""Earlier requests: whether a model that has met another one since still does not say what it forgot before."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from unsay.lm.subject import Subject
from unsay.metric import EARLIER, LOWER, Metric
from unsay.probes.greedy import Greedy
from unsay.probes.multiple_choice import MultipleChoice
from unsay.probes.prefill import HALF, Prefill
from unsay.probes.sampling import Sampling
from unsay.probes.scoring import check_sampling
from unsay.types import Case, Finding


@dataclass(frozen=True)
class Earlier:
    """Does what was forgotten before stay forgotten? The questions of earlier requests: greedy, sampled, begun, multiple choice.

    The other probes at their own defaults, but for the numbers of answers, on the questions of each earlier request, held
    against what that request was held against. The setting is the request, the oldest first. Without one, there is no finding.

    Does not cover: what the other probes do not; paraphrases and relearning of earlier questions.
    """

    title: ClassVar[str] = "Earlier requests"
    tested: ClassVar[str] = "the questions of earlier requests, plainly, sampled and begun"
    by_setting: ClassVar[str] = "worst_keyword_recall"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "earlier_keyword_recall",
            "Asked plainly",
            "As above, for earlier requests; of several the least forgotten.",
            LOWER,
            EARLIER,
            "keyword_recall",
            fold="hardest",
        ),
        Metric(
            "earlier_worst_keyword_recall",
            "Asked many times, or begun for it",
            "Worst of the sampled answers.",
            LOWER,
            EARLIER,
            "worst_keyword_recall",
            fold="hardest",
            claim="{} of the secrets of earlier requests, asked many times or begun",
        ),
        Metric(
            "earlier_partial_secret_keyword_recall",
            "Partial secret told",
            "What counts is the rest.",
            LOWER,
            EARLIER,
            "partial_secret_worst_keyword_recall",
            fold="hardest",
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
        check_sampling("earlier", min(self.n, self.begun), self.temperature, 1.0)

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        return [found for name, request in case.earlier.items() for found in self._findings(subject, name, request)]

    def _findings(self, subject: Subject, name: str, request: Case) -> Iterable[Finding]:
        said = [f for f in Greedy()(subject, request) if f.metric == "keyword_recall"]
        chosen = [f for f in MultipleChoice()(subject, request) if f.metric in ("most", "least", "chance")]
        sampled = [f for f in Sampling(self.n, (self.temperature,), self.top_p)(subject, request) if f.metric == "worst_keyword_recall"]
        prefill = Prefill(self.begun, temperature=self.temperature, top_p=self.top_p)
        begun = [f for f in prefill(subject, request) if f.metric == "worst_keyword_recall"]
        half = [f for f in begun if f.setting == HALF]
        begun = _worst(f for f in begun if f.setting != HALF)
        for metric, findings in (
            ("keyword_recall", said),
            ("sampling_worst_keyword_recall", sampled),
            ("prefill_worst_keyword_recall", begun),
            ("worst_keyword_recall", _worst((*sampled, *begun))),
            ("partial_secret_worst_keyword_recall", half),
        ):
            yield from (_renamed(f, metric, name) for f in findings)
        yield from (_renamed(f, f"choice_{f.metric}", name) for f in chosen)


def _worst(findings: Iterable[Finding]) -> list[Finding]:
    """Of each question the finding with the largest value; an unscored one only where it has no other."""
    worst: dict[str, Finding] = {}
    for f in findings:
        kept = worst.setdefault(f.example, f)
        if f.value is not None and (kept.value is None or f.value > kept.value):
            worst[f.example] = f
    return list(worst.values())


def _renamed(finding: Finding, metric: str, request: str) -> Finding:
    return dataclasses.replace(finding, probe="earlier", metric=metric, setting=request)
