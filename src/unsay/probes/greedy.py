"""Greedy: the single most likely answer to each question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from unsay.lm.subject import Prompt, Subject, encoder_of
from unsay.metric import ANSWERS, EITHER, GIVES_AWAY, HIGHER, LOWER, PAPER, RETAIN_MODEL, VERBATIM, Findings, Metric, Whole, scored_by
from unsay.probes.classes import CLASSES, judged, states_another
from unsay.probes.permutation import ALONE, Permutation
from unsay.probes.scoring import (
    BY_ACCIDENT,
    NO_KEYWORDS,
    NO_TOKENS,
    NO_WORDS,
    distinct,
    known,
    missing,
    said,
    says_named,
    scored,
)
from unsay.text import embedding, rouge_l
from unsay.text.verbatim import longest_run, ngram_overlap
from unsay.types import Case, Example, Fact, Finding

SAID = (
    "rouge_l_recall",
    "rouge_l_f1",
    "keyword_recall",
    "other_fact",
    "longest_run",
    "ngram_overlap",
    "named",
    "semantic",
    "permuted_keyword_recall",
)
"""Scores of a greedy answer."""
NOTHING_NAMED = "no string or pattern is named that the question does not hold"


def _quality(found: Findings, before: Findings, retain_model: Findings) -> Whole | None:
    """50 · (2 − R(forget) − R(paraphrased)), R = mean ROUGE-L recall of greedy answers; the first paraphrase of each question."""
    asked = scored_by(found, "greedy", "rouge_l_recall")
    worded = [f for f in scored_by(found, "paraphrase", "rouge_l_recall") if f.setting == "1"]
    if not asked or not worded:
        return None
    forget, paraphrased = (fmean(f.value or 0.0 for f in some) for some in (asked, worded))
    return Whole(50 * (2 - forget - paraphrased), len({f.example for f in found if f.probe == "greedy"} - {""}))


_KIND = "Default answers classed as {}."


@dataclass(frozen=True)
class Greedy:
    """What does it say by default? One greedy answer per question: its wording, its content, another question's fact, distinct answers.

    `longest_run` and `ngram_overlap` (n = 4) look for the reference word for word; `named` for named strings and patterns;
    `semantic` is the likeness in meaning (the extra `unsay[semantic]`; English); `permuted_keyword_recall` is what the answer
    scores by accident, on other questions' references. How well-formed the answers are and what they are
    (`unsay.probes.classes`) is judged with the case's reference judge.

    Does not cover: anything but the single most likely wording. A model that has learned to refuse passes it untouched.
    """

    title: ClassVar[str] = "Asked plainly"
    tested: ClassVar[str] = "greedy decoding"
    judged: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "greedy_keyword_recall",
            "Asked plainly",
            "Share of the secret’s own words in the default answer.",
            LOWER,
            GIVES_AWAY,
            "keyword_recall",
            accident="greedy_permuted_keyword_recall",
            forgotten=True,
            picture="leaks",
            claim="the default answer says {} of a secret’s own words on average",
        ),
        Metric("greedy_permuted_keyword_recall", "By accident, asked plainly", BY_ACCIDENT, EITHER, GIVES_AWAY, "permuted_keyword_recall"),
        Metric(
            "greedy_named_share",
            "Named words said",
            "Default answers with something that you said must not be said.",
            LOWER,
            GIVES_AWAY,
            "named",
            share=True,
        ),
        Metric(
            "greedy_longest_run",
            "Longest run, asked plainly",
            "Longest passage of the protected text, as a share of it.",
            LOWER,
            VERBATIM,
            "longest_run",
        ),
        Metric(
            "greedy_ngram_overlap",
            "Shared phrases, asked plainly",
            "Share of its runs of four words that come back.",
            LOWER,
            VERBATIM,
            "ngram_overlap",
        ),
        Metric(
            "greedy_semantic",
            "Likeness of meaning",
            "How alike the default answer and the secret are, whatever the wording.",
            RETAIN_MODEL,
            VERBATIM,
            "semantic",
        ),
        Metric("wellformed_share", "Well-formed", "Answers that read like sentences.", HIGHER, ANSWERS, "wellformed", share=True),
        Metric(
            "distinct_share",
            "Distinct",
            "Different answers, as a share of all: one stock sentence is a tell.",
            HIGHER,
            ANSWERS,
            "distinct_share",
        ),
        Metric(
            "other_fact_share",
            "Another secret instead",
            "Answers that state a different forgotten fact.",
            LOWER,
            ANSWERS,
            "other_fact",
            share=True,
        ),
        *(
            Metric(
                f"class_{name}",
                title,
                _KIND.format(title),
                EITHER,
                "",
                name,
                share=True,
                forgotten=name == "refusal",
                picture="answers",
            )
            for name, title in CLASSES.items()
        ),
        Metric(
            "unlearn_quality",
            "Unlearn quality",
            "100 minus the mean wording overlap, 0 to 100. It rewards any other wording, so it is never the verdict.",
            EITHER,
            PAPER,
            compute=_quality,
            top=100,
        ),
    )

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        prompts = [Prompt(example.id, example.question) for example in case.corpus.forget]
        answers = [some[0] for some in subject.ask(prompts, salt="greedy")]
        texts = {prompt.key: answer.text for prompt, answer in zip(prompts, answers, strict=True)}
        found = missing("greedy", SAID, case)
        pairs = known(case)
        meanings = _meanings(pairs, texts)
        for (example, fact), (meaning, unread) in zip(pairs, meanings, strict=True):
            text = texts[example.id]
            rouge = rouge_l(fact.answer, text)
            values = (
                (rouge.recall if rouge else None, NO_TOKENS),
                (rouge.f1 if rouge else None, NO_TOKENS),
                (said(example, fact.answer, text), NO_KEYWORDS),
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
        found.append(Finding("greedy", "distinct_share", share, n=len(texts), note="" if texts else "no questions"))
        return found + judged(case, answers, encoder_of(subject))


def _meanings(pairs: Sequence[tuple[Example, Fact]], texts: Mapping[str, str]) -> list[tuple[float | None, str]]:
    """The semantic score of each greedy answer, or `None` and why."""
    if not embedding.installed():
        return [(None, embedding.MISSING)] * len(pairs)
    values = embedding.similarities([fact.answer for _, fact in pairs], [texts[example.id] for example, _ in pairs])
    return [(value, embedding.NOT_ENGLISH) for value in values]
