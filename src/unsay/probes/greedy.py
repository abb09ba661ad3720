"""Greedy: the single most likely answer to each question."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import ClassVar

from unsay.lm.subject import Prompt, Subject, encoder_of, parts
from unsay.metric import ANSWERS, EITHER, GIVES_AWAY, HIGHER, LOWER, PAPER, RETAIN_MODEL, VERBATIM, Findings, Metric, Whole, leak, scored_by
from unsay.packed import Packed, PackedRows
from unsay.probes.classes import CLASSES, is_formed, judged, states_another
from unsay.probes.permutation import ALONE, by_accident
from unsay.probes.scoring import BY_ACCIDENT, NO_KEYWORDS, NO_TOKENS, NO_WORDS, distinct, missing, says_named, scored, secret_recall
from unsay.text import embedding, rouge_l
from unsay.text.verbatim import longest_run, ngram_overlap
from unsay.types import Case, Example, Finding

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
NOTHING_NAMED = "no string or pattern is named that the question does not hold"


def _quality(found: Findings, before: Findings, retain_model: Findings) -> Whole | None:
    """50 · (2 − R(forget) − R(paraphrased)), R = mean ROUGE-L recall of greedy answers; the first paraphrase of each question."""
    asked = scored_by(found, "greedy", "rouge_l_recall")
    worded = [f for f in scored_by(found, "paraphrase", "rouge_l_recall") if f.setting == "1"]
    if not asked or not worded:
        return None
    forget, paraphrased = (fmean(f.value or 0.0 for f in some) for some in (asked, worded))
    return Whole(50 * (2 - forget - paraphrased), len({f.example for f in found if f.probe == "greedy"} - {""}))


_verbatim = partial(Metric, better=LOWER, group=VERBATIM)
_class = partial(Metric, group="", share=True, picture="answers")


@dataclass(frozen=True)
class Greedy:
    """What does it say by default? One greedy answer per question: its wording, its content, another question's fact, distinct answers.

    `semantic`, the likeness in meaning, needs the extra `unsay[semantic]` and English. How well-formed the answers are and what they
    are (`unsay.probes.classes`) is judged with the case's reference judge.

    Does not cover: anything but the single most likely wording. A model that has learned to refuse passes it untouched.
    """

    title: ClassVar[str] = "Asked plainly"
    tested: ClassVar[str] = "greedy decoding"
    judged: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        leak(
            "greedy_keyword_recall",
            "Asked plainly",
            "Share of the secret’s own words in the default answer.",
            accident="greedy_permuted_keyword_recall",
            forgotten=True,
            picture="leaks",
            claim="the default answer says {} of a secret’s own words on average",
        ),
        Metric("greedy_permuted_keyword_recall", "By accident, asked plainly", BY_ACCIDENT, EITHER, GIVES_AWAY),
        leak(
            "greedy_named_share",
            "Named words said",
            "Default answers with something that you said must not be said.",
            finding="named",
            share=True,
        ),
        _verbatim("greedy_longest_run", "Longest run, asked plainly", "Longest passage of the protected text, as a share of it."),
        _verbatim("greedy_ngram_overlap", "Shared phrases, asked plainly", "Share of its runs of four words that come back."),
        _verbatim(
            "greedy_semantic",
            "Likeness of meaning",
            "How alike the default answer and the secret are, whatever the wording.",
            better=RETAIN_MODEL,
        ),
        Metric("wellformed_share", "Well-formed", "Answers that read like sentences.", HIGHER, ANSWERS, "wellformed", share=True),
        Metric("distinct_share", "Distinct", "Different answers, as a share of all: one stock sentence is a tell.", HIGHER, ANSWERS),
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
            _class(f"class_{name}", title, f"Default answers classed as {title}.", finding=name, forgotten=name == "refusal")
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

    def __call__(self, subject: Subject, case: Case) -> Packed:
        return Packed(self._findings(subject, case))

    def _findings(self, subject: Subject, case: Case) -> Iterator[Finding]:
        yield from missing("greedy", SAID, case)
        encoder, texts, formed = encoder_of(subject), PackedRows[str](), list[bool]()
        for some in parts(case.corpus.forget):
            answers = [told[0] for told in subject.ask([Prompt(one.id, one.question) for one in some], salt="greedy")]
            for answer in answers:
                texts.append(answer.text)
                formed.append(is_formed(answer, encoder))
            yield from self._said(case, some, [answer.text for answer in answers])
        share = distinct(texts) / len(texts) if texts else None
        yield Finding("greedy", "distinct_share", share, n=len(texts), note="" if texts else "no questions")
        yield from judged(case, texts, formed)

    def _said(self, case: Case, examples: Sequence[Example], answers: Sequence[str]) -> Iterator[Finding]:
        """What some of the answers say of the secrets."""
        pairs = [(one, case.facts[one.id], text) for one, text in zip(examples, answers, strict=True) if one.id in case.facts]
        installed = embedding.installed()
        references, told = [fact.answer for _, fact, _ in pairs], [text for _, _, text in pairs]
        meanings = embedding.similarities(references, told) if installed else [None] * len(pairs)
        for (example, fact, text), meaning in zip(pairs, meanings, strict=True):
            rouge = rouge_l(fact.answer, text)
            values = (
                (rouge.recall if rouge else None, NO_TOKENS),
                (rouge.f1 if rouge else None, NO_TOKENS),
                (secret_recall(example, fact.answer, text), NO_KEYWORDS),
                (float(states_another(case, example, text)), ""),
                (longest_run(fact.answer, text), NO_WORDS),
                (ngram_overlap(fact.answer, text), NO_WORDS),
                (says_named(example, text), NOTHING_NAMED),
                (meaning, embedding.NOT_ENGLISH if installed else embedding.MISSING),
                (by_accident(case, example, [text]), ALONE),
            )
            for metric, (value, why) in zip(SAID, values, strict=True):
                yield scored("greedy", metric, value, example.id, "", why, case.source)
