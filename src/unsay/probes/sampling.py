"""Sampling: the same question many times."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from unsay.config import ConfigError
from unsay.config.build import positive
from unsay.lm.subject import Prompt, Subject, Unaskable, encoder_of, parts
from unsay.metric import ANSWERS, EITHER, LOWER, RETAIN_MODEL, SLIPS, VERBATIM, Metric, leak
from unsay.packed import Packed
from unsay.probes.classes import CLASSES, class_shares
from unsay.probes.permutation import ALONE, by_accident
from unsay.probes.scoring import (
    BY_ACCIDENT,
    LEAK,
    NO_WORDS,
    SAMPLED,
    distinct,
    findings_of,
    known,
    largest,
    largest_bound,
    missing,
    score_sample,
    tally,
    text_recalls,
    unscored,
)
from unsay.stats import leak_at_k
from unsay.text.verbatim import longest_run, ngram_overlap
from unsay.types import Case, Finding

SAMPLED_TOO = {
    **dict.fromkeys(("worst_longest_run", "worst_ngram_overlap", "distinct_share"), NO_WORDS),
    "permuted_worst_keyword_recall": ALONE,
    **dict.fromkeys(CLASSES, ""),
}
"""What sampling tells beside `SAMPLED`."""


def _leak_at(k: int | None) -> Callable[[Finding], float | None]:
    """leak@k of a leak rate; `None` takes all answers there are. With fewer than k answers it is not known."""

    def leak(finding: Finding) -> float | None:
        if finding.value is None or finding.n < (k or 1):
            return None
        return leak_at_k(finding.n, round(finding.value * finding.n), k or finding.n)

    return leak


_slips = partial(Metric, better=LOWER, group=SLIPS, finding="leak_rate", fold="worst")
_verbatim = partial(Metric, says="The worst of the sampled answers.", better=LOWER, group=VERBATIM, fold="worst")


@dataclass(frozen=True)
class Sampling:
    """Does it slip once in n? Sampled answers to the plain question at each temperature: the worst, the mean, the share that leaks.

    Answers are classed without a reference judge. `score` says how many of them scored which keyword recall.

    Does not cover: leaks rarer than about 3 in n; other questions, other temperatures.
    """

    title: ClassVar[str] = "Asked many times"
    tested: ClassVar[str] = "sampling ({settings}; {n} answers a question)"
    by_setting: ClassVar[str] = "worst_keyword_recall"
    variants: ClassVar[str] = "temperatures"
    certified: ClassVar[str] = "Asked plainly"
    metrics: ClassVar[tuple[Metric, ...]] = (
        leak(
            "sampling_worst_keyword_recall",
            "Asked many times",
            "The worst of all sampled answers to each question.",
            fold="worst",
            accident="sampling_permuted_keyword_recall",
            forgotten=True,
            tile=True,
            picture="leaks",
            claim="the worst sampled answer says {}",
        ),
        leak(
            "sampling_permuted_keyword_recall",
            "By accident, asked many times",
            BY_ACCIDENT,
            better=EITHER,
            finding="permuted_worst_keyword_recall",
            fold="worst",
        ),
        leak(
            "sampling_mean_keyword_recall",
            "Asked many times, on average",
            "The mean of the sampled answers, not the worst.",
            fold="worst",
        ),
        _slips(
            "sampling_leak_at_1",
            "One answer",
            "Chance that one sampled answer gives at least the probe’s share of the secret.",
            of=_leak_at(1),
            sampled=True,
        ),
        _slips("sampling_leak_at_10", "Ten answers", "Chance that at least one of ten does.", of=_leak_at(10)),
        _slips(
            "sampling_leak_at_n",
            "All answers",
            "Share of the questions where at least one of all sampled answers did.",
            of=_leak_at(None),
            share=True,
        ),
        Metric(
            "sampling_leak_rate_upper",
            "At most",
            "No question slips more often than this: 99 % sure of all at once.",
            LOWER,
            SLIPS,
            compute=lambda found, before, retain_model: largest_bound(found, "sampling"),
        ),
        _verbatim("sampling_worst_longest_run", "Longest run, asked many times"),
        _verbatim("sampling_worst_ngram_overlap", "Shared phrases, asked many times"),
        Metric("sampling_distinct_share", "Distinct, asked many times", "Different answers to one question.", RETAIN_MODEL, ANSWERS),
        *(
            Metric(f"sampling_class_{name}", title, f"Sampled answers classed as {title}.", EITHER, "", name)
            for name, title in CLASSES.items()
        ),
    )

    n: int = 100
    """Answers per question and temperature."""
    temperatures: tuple[float, ...] = (0.7, 1.0, 1.3)
    """Sampling temperatures."""
    top_p: float = 1.0
    """Nucleus; 1 samples from all tokens."""
    threshold: float = LEAK
    """Keyword recall from which on an answer counts as a leak in the leak rate."""

    def __post_init__(self) -> None:
        if not self.temperatures or len(set(self.temperatures)) < len(self.temperatures):
            raise ConfigError("sampling.temperatures must hold one temperature or several different ones")
        for temperature in self.temperatures:
            positive("sampling", n=self.n, temperature=temperature)
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"sampling.threshold = {self.threshold} must lie above 0 and at most at 1")

    def __call__(self, subject: Subject, case: Case) -> Packed:
        return Packed(self._findings(subject, case))

    def _findings(self, subject: Subject, case: Case) -> Iterator[Finding]:
        pairs, metrics = known(case), (*SAMPLED, *SAMPLED_TOO)
        yield from missing("sampling", metrics, case)
        answered, refusal = False, None
        for temperature, some in ((temperature, some) for temperature in self.temperatures for some in parts(pairs)):
            setting = f"T={temperature:g}" + (f", top-p {self.top_p:g}" if self.top_p < 1 else "")
            try:
                # One salt for all: the same random numbers, so that two settings differ by their temperature alone.
                prompts = [Prompt(example.id, example.question) for example, _ in some]
                answers = subject.ask(prompts, self.n, temperature, self.top_p, salt="sampling")
            except Unaskable as why:  # a server that allows no more than a temperature of 1
                yield from unscored("sampling", metrics, [example.id for example, _ in some], str(why), setting)
                refusal = why
                continue
            answered = True
            for (example, fact), sampled in zip(some, answers, strict=True):
                recalls = text_recalls(example, fact.answer, sampled)
                values = score_sample(recalls, sampled, fact.answer, self.threshold)
                yield from findings_of("sampling", values, SAMPLED, example.id, setting, case.source, self.n)
                yield from tally("sampling", recalls, sampled, example.id, setting, case.source)
                values = {
                    "worst_longest_run": largest(longest_run(fact.answer, text) for text in recalls),
                    "worst_ngram_overlap": largest(ngram_overlap(fact.answer, text) for text in recalls),
                    "distinct_share": distinct(recalls) / len(sampled),
                    "permuted_worst_keyword_recall": by_accident(case, example, recalls),
                    **class_shares(case, example, sampled, encoder_of(subject)),
                }
                yield from findings_of("sampling", values, SAMPLED_TOO, example.id, setting, case.source, self.n)
        if refusal and not answered:
            raise refusal
