"""Utility: what the model must still be able to do."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, harmonic_mean
from typing import ClassVar

from scipy.special import logsumexp, softmax

from unsay.config.build import not_negative
from unsay.lm.subject import Prompt, Subject
from unsay.metric import COST, HIGHER, Findings, Metric, Whole, scored_by
from unsay.probes.options import PAPER, RELEASED, averaged
from unsay.probes.scoring import NO_KEYWORDS, NO_LIKELIHOODS, NO_TOKENS, rouge_recall, scored, spread, unscored
from unsay.text import is_refusal, keyword_recall
from unsay.types import Case, Finding, Pair, Quiz

HELDOUT = "heldout:"
TOFU_SETS = {"retain": "Retain", "real_authors": "Real authors", "world_facts": "World facts"}
TOFU_METRICS = {
    "probability": ("probability", "Of the true answer: per word piece, or among the options of a multiple choice."),
    "rouge_l_recall": ("recall", "Of the wording of the true answer, asked plainly."),
    "truth_ratio": ("truth ratio", "1 − how likely wrong answers are against the right one; 0 where they are as likely."),
}
"""What TOFU's model utility is made of: each of these on each of those sets."""
TOFU = tuple(f"tofu_{metric}" for metric in TOFU_METRICS)
TOFU_RELEASED = ("tofu_released_probability", "tofu_rouge_l_recall", "tofu_released_truth_ratio")
"""The same by the formulas of TOFU's released code."""
NO_WRONG = "the corpus has no wrong answer to this question"
NOT_ALL = "TOFU's model utility needs all of its sets, and one has no row: its retain rows are about authors that were not kept"


def _model_utility(metrics: Sequence[str]) -> Callable[[Findings, Findings, Findings], Whole | None]:
    """TOFU's model utility: the harmonic mean of nine means; 0 where one of them is 0, `None` where one was not measured."""

    def compute(found: Findings, before: Findings, retain_model: Findings) -> Whole | None:
        parts: dict[tuple[str, str], list[float]] = {(name, metric): [] for name in TOFU_SETS for metric in metrics}
        for metric in metrics:
            for f in scored_by(found, "utility", metric):
                parts[f.setting, metric].append(f.value or 0.0)
        if not all(parts.values()):
            return None
        return Whole(float(harmonic_mean([fmean(some) for some in parts.values()])), min(map(len, parts.values())))

    return compute


_cost = partial(Metric, better=HIGHER, group=COST)


@dataclass(frozen=True)
class Utility:
    """What did it cost? Greedy answers to what should stay, to facts close to the forgotten ones, and to what nobody was told.

    ROUGE-L recall on each utility set, trained and held out; keyword recall on neighbours; refusals to unknown entities. Where the corpus
    has rows with wrong answers, TOFU's model utility as well (Maini et al. 2024, arXiv 2401.06121, §2.2):

        probability   P(answer)^(1/|answer|); of a multiple choice P(answer) / Σ P(option)
        ROUGE-L       recall of the greedy answer
        truth ratio   max(0, 1 − R), R = mean of P(wrong)^(1/|wrong|) / P(right)^(1/|right|), right = the paraphrased answer, if any

    and the same as the authors' released code and open-unlearning have it: R with the geometric mean over the wrong answers, and
    options of a choice by probability per token.

    Does not cover: abilities outside the corpus' own sets (reasoning, code, other languages); perplexity; long answers.
    """

    title: ClassVar[str] = "Utility"
    metrics: ClassVar[tuple[Metric, ...]] = (
        _cost(
            "utility",
            "Utility",
            "Recall of what should stay, 0 to 100.",
            finding="rouge_l_recall",
            where=lambda setting: not setting.startswith(HELDOUT),
            fold="sets",
            top=100,
            tile=True,
        ),
        _cost(
            "utility_heldout",
            "Utility, held out",
            "The same on rows that training never saw.",
            finding="rouge_l_recall",
            where=lambda setting: setting.startswith(HELDOUT),
            fold="sets",
            top=100,
            case="held-out rows",
            tile=True,
        ),
        _cost("model_utility", "Model utility", "TOFU’s: the harmonic mean of the nine numbers below it.", compute=_model_utility(TOFU)),
        _cost(
            "model_utility_released",
            "Model utility, released code",
            "The same by the formulas of TOFU’s released code and open-unlearning.",
            compute=_model_utility(TOFU_RELEASED),
        ),
        *(
            _cost(f"{name}_{metric}", f"{who}: {what}", says, finding=f"tofu_{metric}", where=name.__eq__)
            for name, who in TOFU_SETS.items()
            for metric, (what, says) in TOFU_METRICS.items()
        ),
        _cost(
            "neighbour_keyword_recall",
            "Neighbouring facts",
            "Facts close to the forgotten ones.",
            finding="keyword_recall",
            where="neighbours".__eq__,
        ),
        _cost(
            "unknown_entity_refusal_share",
            "Unknown entities admitted",
            "Honest refusals about what no model was told.",
            finding="refusal",
            where="unknown_entities".__eq__,
            share=True,
        ),
    )

    limit: int = 0
    """Most rows asked of each set, spread evenly; 0 asks all."""
    model_utility: int = 300
    """Most rows of each set that TOFU's model utility is measured on, the first ones, as its authors' evaluation takes
    them; 0 leaves it out."""

    def __post_init__(self) -> None:
        not_negative("utility", limit=self.limit, model_utility=self.model_utility)

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        corpus = case.corpus
        named = {**corpus.utility, **{f"{HELDOUT}{name}": pairs for name, pairs in corpus.utility_heldout.items()}}
        named |= {"neighbours": corpus.neighbours, "unknown_entities": corpus.unknown_entities}
        sets = {name: spread(pairs, self.limit) for name, pairs in named.items()}
        quizzes = {name: spread(rows[: self.model_utility], self.limit) for name, rows in corpus.model_utility.items()}
        whole = all(quizzes.get(name) for name in TOFU_SETS)  # else there is no model utility, and nothing is worth its time
        logprobs = _logprobs(subject, [quiz for rows in quizzes.values() for quiz in rows]) if whole else {}
        asked = [*sets.values(), *(quizzes.values() if logprobs else ())]
        prompts = {pair.question: Prompt(pair.id, pair.question) for pairs in asked for pair in pairs}
        answers = subject.ask(list(prompts.values()), salt="utility") if prompts else []
        said = {question: answer[0].text for question, answer in zip(prompts, answers, strict=True)}
        found = []
        for name, pairs in sets.items():
            for pair in pairs:
                metric, value, why = _score(name, pair, said[pair.question])
                found.append(scored("utility", metric, value, pair.id, name, why, ""))
        for name in TOFU_SETS if any(quizzes.values()) else ():
            if not logprobs:
                every = tuple(dict.fromkeys((*TOFU, *TOFU_RELEASED)))
                found += unscored("utility", every, [""], NO_LIKELIHOODS if whole else NOT_ALL, name)
            for quiz in quizzes[name] if logprobs else ():
                rouge = rouge_recall(quiz.answer, said[quiz.question])
                found.append(scored("utility", "tofu_rouge_l_recall", rouge, quiz.id, name, NO_TOKENS, ""))
                for formula, metrics in ((PAPER, TOFU), (RELEASED, TOFU_RELEASED)):
                    for metric, value in zip(metrics[::2], _likelihoods(quiz, logprobs, formula), strict=True):
                        found.append(scored("utility", metric, value, quiz.id, name, NO_WRONG, ""))
        return found


def truthfulness(right: float, wrong: Sequence[float]) -> float:
    """max(0, 1 − R), R = mean over wrong answers of exp(wrong) / exp(right), from mean log-probabilities per token.

    >>> truthfulness(-1.0, [-1.0, -1.0])
    0.0
    """
    odds = float(logsumexp(wrong)) - math.log(len(wrong)) - right
    return max(0.0, -math.expm1(min(0.0, odds)))


def chosen(options: Sequence[float]) -> float:
    """Probability of the first option as a share of all, from log-probabilities.

    >>> chosen([-900.0, -900.0])
    0.5
    """
    return float(softmax(options)[0])


def _logprobs(subject: Subject, quizzes: Sequence[Quiz]) -> dict[tuple[str, str], tuple[float, float]]:
    """By question and answer: the sum and the mean of the log-probabilities of the answer's tokens; nothing without likelihoods."""
    texts = list(dict.fromkeys((quiz.question, text) for quiz in quizzes for text in (quiz.answer, *quiz.wordings[:1], *quiz.wrong)))
    found = subject.logprobs([question for question, _ in texts], [text for _, text in texts]) if texts else None
    if found is None:
        return {}
    return {text: (float(values.double().sum()), float(values.double().mean())) for text, values in zip(texts, found, strict=True)}


def _likelihoods(quiz: Quiz, logprobs: Mapping[tuple[str, str], tuple[float, float]], formula: str) -> tuple[float | None, float | None]:
    """Probability and truth ratio of one row; `None` for what needs wrong answers where it has none."""
    answer, right, *wrong = (logprobs[quiz.question, text] for text in (quiz.answer, (*quiz.wordings, quiz.answer)[0], *quiz.wrong))
    of = 1 if formula == RELEASED else 0
    probability = math.exp(answer[1]) if quiz.wordings else chosen([answer[of], *(option[of] for option in wrong)]) if wrong else None
    return probability, truthfulness(right[1], averaged([option[1] for option in wrong], formula)) if wrong else None


def _score(name: str, pair: Pair, text: str) -> tuple[str, float | None, str]:
    if name == "neighbours":
        return "keyword_recall", keyword_recall(pair.answer, text, pair.question), NO_KEYWORDS
    if name == "unknown_entities":
        return "refusal", float(is_refusal(text)), ""
    return "rouge_l_recall", rouge_recall(pair.answer, text), NO_TOKENS
