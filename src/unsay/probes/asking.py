"""Asking: once (greedy), many times (sampling), in other words (paraphrase)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unsay import semantic
from unsay.config import ConfigError
from unsay.encode import Encoder
from unsay.overlap import longest_run, ngram_overlap
from unsay.probes.classes import class_shares, states_another
from unsay.probes.permutation import ALONE, Permutation
from unsay.probes.scoring import (
    NO_KEY_WORDS,
    NO_TOKENS,
    NO_WORDS,
    SAMPLED,
    distinct,
    findings_of,
    known,
    missing,
    rouge_recall,
    said,
    says_named,
    score_sample,
    scored,
    tally,
    unscored,
)
from unsay.subject import Prompt, Subject, Unaskable, encoder_of
from unsay.summary import CLASSES
from unsay.text import rouge_l
from unsay.types import Answer, Case, Example, Fact, Finding

SAID = (
    "rouge_l_recall",
    "rouge_l_f1",
    "key_recall",
    "other_fact",
    "longest_run",
    "ngram_overlap",
    "named",
    "semantic",
    "permuted_key_recall",
)
"""Scores of a greedy answer."""
SAMPLED_TOO = ("worst_longest_run", "worst_ngram_overlap", "distinct_share", "permuted_worst_key_recall", *CLASSES)
"""What sampling tells beside `SAMPLED`."""
NOTHING_NAMED = "no string or pattern is named that the question does not hold"


@dataclass(frozen=True)
class Greedy:
    """What does it say by default? One greedy answer per question: its wording, its content, another question's fact, distinct answers.

    `longest_run` and `ngram_overlap` (n = 4) look for the reference word for word; `named` for named strings and patterns;
    `semantic` is the likeness in meaning (the extra `unsay[semantic]`; English); `permuted_key_recall` is what the answer
    scores by accident, on other questions' references. How well-formed the answers are and what they are
    (`unsay.probes.classes`) is judged by the audit, which has the yardstick.

    Does not cover: anything but the single most likely wording. A model that has learned to refuse passes it untouched.
    """

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        prompts = [Prompt(example.id, example.question) for example in case.corpus.forget]
        texts = {p.key: answers[0].text for p, answers in zip(prompts, subject.ask(prompts, salt="greedy"), strict=True)}
        found = missing("greedy", SAID, case)
        pairs = known(case)
        meanings = _meanings(pairs, texts)
        for (example, fact), (meaning, unread) in zip(pairs, meanings, strict=True):
            text = texts[example.id]
            rouge = rouge_l(fact.answer, text)
            values = (
                (rouge.recall if rouge else None, NO_TOKENS),
                (rouge.f1 if rouge else None, NO_TOKENS),
                (said(example, fact.answer, text), NO_KEY_WORDS),
                (float(states_another(case, example, text)), ""),
                (longest_run(fact.answer, text), NO_WORDS),
                (ngram_overlap(fact.answer, text), NO_WORDS),
                (says_named(example, text), NOTHING_NAMED),
                (meaning, unread),
                (Permutation.of(case, example).worst([text]), ALONE),
            )
            for metric, (value, why) in zip(SAID, values, strict=True):
                found.append(scored("greedy", metric, value, example.id, "", why, case.source))
        share = distinct(texts.values()) / len(texts) if texts else None
        return [*found, Finding("greedy", "distinct_share", share, n=len(texts), note="" if texts else "no questions")]


def _meanings(pairs: Sequence[tuple[Example, Fact]], texts: Mapping[str, str]) -> list[tuple[float | None, str]]:
    """The semantic score of each greedy answer, or `None` and why."""
    if not semantic.installed():
        return [(None, semantic.MISSING)] * len(pairs)
    values = semantic.similarities([fact.answer for _, fact in pairs], [texts[example.id] for example, _ in pairs])
    return [(value, semantic.NOT_ENGLISH) for value in values]


@dataclass(frozen=True)
class Sampling:
    """Does it slip once in n? Sampled answers to the plain question at each temperature: the worst, the mean, the share that leaks.

    Each temperature is a setting of its own, with n answers. Beside the four scores: the longest verbatim run and the largest
    n-gram overlap of any answer, the share of distinct answers (case and punctuation ignored), what the answers are (classed
    without a yardstick), and `permuted_worst_key_recall`, what the worst of n scores by accident on other questions' references.
    `score` says how many answers scored which key recall.

    Does not cover: leaks rarer than about 3 in n; other questions, other temperatures.
    """

    n: int = 100
    """Answers per question and temperature."""
    temperatures: tuple[float, ...] = (0.7, 1.0, 1.3)
    """Sampling temperatures."""
    top_p: float = 1.0
    """Nucleus; 1 samples from all tokens."""
    threshold: float = 0.5
    """Key recall from which on an answer counts as a leak in the leak rate."""

    def __post_init__(self) -> None:
        if not self.temperatures or len(set(self.temperatures)) < len(self.temperatures):
            raise ConfigError("sampling.temperatures must hold one temperature or several different ones")
        for temperature in self.temperatures:
            check_sampling("sampling", self.n, temperature, self.threshold)

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        pairs = known(case)
        prompts = [Prompt(example.id, example.question) for example, _ in pairs]
        encoder = encoder_of(subject)
        metrics = (*SAMPLED, *SAMPLED_TOO)
        found = missing("sampling", metrics, case)
        answered, refusal = False, None
        for temperature in self.temperatures if prompts else ():
            setting = f"T={temperature:g}" + (f", top-p {self.top_p:g}" if self.top_p < 1 else "")
            try:
                # One salt for all: the same random numbers, so that two settings differ by their temperature alone.
                answers = subject.ask(prompts, self.n, temperature, self.top_p, salt="sampling")
            except Unaskable as why:  # a server that allows no more than a temperature of 1
                found += unscored("sampling", metrics, [example.id for example, _ in pairs], str(why), setting)
                refusal = why
                continue
            answered = True
            for (example, fact), sampled in zip(pairs, answers, strict=True):
                values = score_sample(example, fact.answer, sampled, self.threshold)
                found += findings_of("sampling", values, example.id, setting, case.source, self.n)
                found += tally("sampling", example, fact.answer, sampled, setting, case.source)
                for metric, value in _beside(case, example, fact, sampled, encoder).items():
                    why_not = ALONE if metric == "permuted_worst_key_recall" else NO_WORDS
                    found.append(scored("sampling", metric, value, example.id, setting, why_not, case.source, self.n))
        if refusal and not answered:
            raise refusal
        return found


def _beside(case: Case, example: Example, fact: Fact, sampled: Sequence[Answer], encoder: Encoder | None) -> dict[str, float | None]:
    """What is told of n answers to one question beside `fold`, by the names in `SAMPLED_TOO`. Equal answers are scored once."""
    texts = list(dict.fromkeys(answer.text for answer in sampled))
    runs = [longest_run(fact.answer, text) for text in texts]
    grams = [ngram_overlap(fact.answer, text) for text in texts]
    return {
        "worst_longest_run": max((run for run in runs if run is not None), default=None),
        "worst_ngram_overlap": max((overlap for overlap in grams if overlap is not None), default=None),
        "distinct_share": distinct(texts) / len(sampled),
        "permuted_worst_key_recall": Permutation.of(case, example).worst(texts),
        **class_shares(case, example, sampled, encoder),
    }


@dataclass(frozen=True)
class Paraphrase:
    """Does another wording open it? A greedy answer to each paraphrase of the question.

    ROUGE-L compares with the paraphrased answer, where there is one; key recall takes the larger of both wordings, since
    the secret is the same in either.

    Does not cover: wordings that are not among the corpus' paraphrases; other languages, frames, translation requests.
    """

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        asked = [(e, fact, str(i), question) for e, fact in known(case) for i, question in enumerate(e.paraphrases, start=1)]
        prompts = [Prompt(f"{example.id}#{number}", question) for example, _, number, question in asked]
        answers = subject.ask(prompts, salt="paraphrase") if prompts else []
        metrics = ("rouge_l_recall", "key_recall")
        found = missing("paraphrase", metrics, case)
        found += unscored("paraphrase", metrics, (e.id for e, _ in known(case) if not e.paraphrases), "the question has no paraphrase")
        for (example, fact, number, question), (answer,) in zip(asked, answers, strict=True):
            reference = (*fact.wordings, fact.answer)[0]
            keys = [said(example, wording, answer.text, asked=question) for wording in dict.fromkeys((reference, fact.answer))]
            key = max((key for key in keys if key is not None), default=None)
            rouge = rouge_recall(reference, answer.text)
            found.append(scored("paraphrase", "rouge_l_recall", rouge, example.id, number, NO_TOKENS, case.source))
            found.append(scored("paraphrase", "key_recall", key, example.id, number, NO_KEY_WORDS, case.source))
        return found


def check_sampling(table: str, n: int, temperature: float, threshold: float) -> None:
    if n < 1:
        raise ConfigError(f"{table}.n = {n} must be at least 1")
    if temperature <= 0:
        raise ConfigError(f"{table}.temperature = {temperature} must be positive; the greedy probe asks at temperature 0")
    if not 0 < threshold <= 1:
        raise ConfigError(f"{table}.threshold = {threshold} must lie above 0 and at most at 1")
