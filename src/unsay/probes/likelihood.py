"""Likelihood: what the probabilities of the answer's own tokens give away, all from one forward per batch."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import ClassVar

import torch
from scipy.stats import ks_2samp
from transformers import PreTrainedModel

from unsay.config.build import not_negative
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_states, plain_head
from unsay.lm.rows import Row
from unsay.lm.subject import Subject
from unsay.metric import HIGHER, LIKELIHOODS, LOWER, RETAIN_MODEL, Findings, Metric, Whole, scored_by
from unsay.probes import membership
from unsay.probes.gradients import gradient_norms
from unsay.probes.options import MADE, PAPER, RELEASED, averaged, choices
from unsay.probes.scoring import finite, known, missing, scored, spread, unscored
from unsay.stats import area_interval, independent_scores, roc_auc
from unsay.types import Case, Example, Finding, Pair

OF_ANSWER = ("probability", "extraction_strength", "extraction_strength_released", "exact_memorisation")
NO_ALL_TOKENS = "this model shows no likelihoods of all tokens, only of text"
TRUTH_RATIOS = {"truth_ratio": PAPER, "truth_ratio_released": RELEASED}
NO_WRONG = "no wrong answers, and too few other answers of the kind to make them from"
EMPTY = "the answer has no token"
NO_HOLDOUT = "the corpus has no answers that no model was trained on"
NO_GRADIENT = "weights in few bits, or in several places, take no gradient"
K = 0.2
"""Share of an answer's tokens, the least likely ones, that Min-K% and Min-K%++ look at."""
OPTIONS = 5
"""Most wrong answers made where the corpus has none."""
ROWS = 64
LOGITS = 1 << 27
"""Most logits of one forward (256 MB in half precision)."""


def _apart(which: str, metric: str = "truth_ratio") -> Callable[[Findings, Findings, Findings], Whole | None]:
    """`statistic` or `pvalue` of the Kolmogorov–Smirnov test of the truth ratios against the retain model's (Maini et al. 2024)."""

    def compute(found: Findings, before: Findings, retain_model: Findings) -> Whole | None:
        here, there = ([f.value or 0.0 for f in scored_by(some, "likelihood", metric)] for some in (found, retain_model))
        return Whole(float(getattr(ks_2samp(here, there), which)), len(here)) if here and there else None

    return compute


_read = partial(Metric, group=LIKELIHOODS)


Sides = Mapping[str, Sequence[Pair]]
"""Setting → the members, or the non-members, of a membership attack: questions with the text that is looked at."""


@dataclass(frozen=True)
class Likelihood:
    """Is it still in there? Truth ratio, probability and verbatim memory of the true answer; membership attacks on it.

    A *member* is the true answer and a *non-member* a wrong one to the same question, both in the wording of the first paraphrase, if
    any: texts of one form. Made wrong answers are those of multiple choice. `membership_…` is the area under the ROC curve: 1 where
    members look like members, .5 where nothing can be told, toward 0 where the true answers were pushed below the wrong ones.
    Log-probabilities count the end of the answer; extraction strength, exact memorisation and the scores `…_no_end` do not.
    `membership_holdout_…` and `privleak` are MUSE's and open-unlearning's: the true answers as they are against those of a holdout set
    that no model was trained on (`Corpus.holdout`). `…_reference` holds each text against the retain model.

    Does not cover: attacks with shadow models; paraphrases of the answer; wrong answers that differ from the true one in form or
    frequency (compare with the retain model). Unscored where a model shows no likelihoods.
    """

    title: ClassVar[str] = "Likelihoods"
    tested: ClassVar[str] = "likelihoods of the true answers"
    metrics: ClassVar[tuple[Metric, ...]] = (
        _read(
            "answer_probability",
            "Probability of the true answer",
            "Per word piece, given the question.",
            RETAIN_MODEL,
            finding="probability",
            forgotten=True,
            claim="a word piece of the true answer has a probability of {}",
        ),
        _read(
            "truth_ratio",
            "Truth ratio",
            "Near 0 the true answer is far likelier than wrong ones, near 1 far less likely.",
            RETAIN_MODEL,
            claim="the truth ratio is {}",
        ),
        _read(
            "forget_quality_d",
            "Distance from the retain model",
            "Largest gap between the two spreads of truth ratios; 0 is no gap.",
            LOWER,
            compute=_apart("statistic"),
        ),
        _read(
            "forget_quality_p",
            "Forget quality",
            "Chance of so large a gap between two models that never knew (p-value).",
            HIGHER,
            compute=_apart("pvalue"),
        ),
        _read(
            "truth_ratio_released",
            "Truth ratio, released code",
            "The same with the geometric mean over the wrong answers, as TOFU’s released code and open-unlearning take it.",
            RETAIN_MODEL,
        ),
        _read(
            "forget_quality_p_released",
            "Forget quality, released code",
            "The same chance from these ratios: what open-unlearning’s leaderboard lists.",
            HIGHER,
            compute=_apart("pvalue", "truth_ratio_released"),
        ),
        _read(
            "extraction_strength",
            "Extraction strength",
            "Share of the answer that follows by itself from its beginning.",
            LOWER,
            forgotten=True,
            claim="the extraction strength {}",
        ),
        _read(
            "extraction_strength_released",
            "Extraction strength, open-unlearning",
            "The same, but one word piece where nothing follows by itself: for comparison with figures from there.",
            LOWER,
        ),
        _read(
            "exact_memorisation",
            "Exact memorisation",
            "Share of its word pieces that the model would choose itself.",
            LOWER,
            forgotten=True,
            claim="the exact memorisation {}",
        ),
        *membership.MEMBERSHIP_METRICS,
    )

    gradients: int = 20
    """Most true answers, spread evenly, whose gradients are taken, and as many others; 0 takes none."""

    def __post_init__(self) -> None:
        not_negative("likelihood", gradients=self.gradients)

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        pairs = known(case)
        members = tuple(f"{name}_score" for name in membership.SCORES)
        found = missing("likelihood", (*TRUTH_RATIOS, *OF_ANSWER), case) + missing("likelihood", members, case)
        if subject.weights is None:
            ids = [example.id for example, _ in pairs]
            found += unscored("likelihood", (*TRUTH_RATIOS, *OF_ANSWER, *members), ids, NO_ALL_TOKENS)
            return [*found, *_no_areas(membership.ATTACKS, NO_ALL_TOKENS)]
        options, holdout = choices(case, OPTIONS), spread(case.corpus.holdout, len(pairs))
        texts = [(e.question, text) for e, fact in pairs for text in (fact.answer, *options.get(e.id, ()))]
        texts = list(dict.fromkeys([*texts, *((pair.question, pair.answer) for pair in holdout)]))
        model, encoder = subject.weights
        moments = dict(zip(texts, row_moments(model, encoder, [encoder.pair(*text) for text in texts]), strict=True))
        asked = [(example, options[example.id]) for example, _ in pairs if example.id in options]
        scores = {
            name: {e.id: [score(moments[e.question, text], text, K) for text in some] for e, some in asked}
            for name, score in membership.SCORES.items()
        }
        for example, fact in pairs:
            found += _of_answer(example, moments[example.question, fact.answer], case.source)
            if example.id in options:
                note = case.source if fact.wrong else f"{case.source}, {MADE}"
                found += _of_options(example.id, {name: some[example.id] for name, some in scores.items()}, note)
            else:
                found += unscored("likelihood", (*TRUTH_RATIOS, *members), [example.id], NO_WRONG)
        of = [[e for e, _ in asked], [e for e, (_, *others) in asked for _ in others]]
        for name, some in scores.items():
            both = [one[0] for one in some.values()], [value for one in some.values() for value in one[1:]]
            found += _area(name, both, of) if asked else _no_areas([name], NO_WRONG)
        wrong = {
            membership.MEMBER: [Pair(e.id, e.question, some[0], e.group) for e, some in asked],
            membership.NON_MEMBER: [Pair(e.id, e.question, some[1], e.group) for e, some in asked],
        }
        found += self._by_gradient(model, encoder, membership.GRADIENT, wrong, NO_WRONG)
        untold = {
            membership.ANSWER: [Pair(example.id, example.question, fact.answer, example.group) for example, fact in pairs],
            membership.HOLDOUT: holdout,
        }
        for name, score_name in membership.HOLDOUT_SCORES.items():
            score, k = membership.SCORES[score_name], membership.HOLDOUT_K
            held = [[score(moments[t.question, t.answer], t.answer, k) for t in some] for some in untold.values()]
            found += _contest(f"holdout_{name}", untold, held, NO_HOLDOUT)
        return [*found, *self._by_gradient(model, encoder, f"holdout_{membership.GRADIENT}", untold, NO_HOLDOUT)]

    def _by_gradient(self, model: PreTrainedModel, encoder: Encoder, name: str, sides: Sides, why: str) -> list[Finding]:
        if not self.gradients:
            return []
        some = {setting: spread(texts, self.gradients) for setting, texts in sides.items()}
        norms = [gradient_norms(model, encoder, [encoder.pair(t.question, t.answer) for t in texts]) for texts in some.values()]
        values = [[-norm for norm in one] for one in norms if one is not None]
        return _contest(name, some, values, why) if len(values) == len(norms) else _no_areas([name], NO_GRADIENT)


def _contest(name: str, sides: Sides, values: Sequence[Sequence[float]], why: str) -> list[Finding]:
    """A finding for each text, and the area under the curve of the first side against the second; that alone where one is empty."""
    if not all(values):
        return _no_areas([name], why)
    found = [
        Finding("likelihood", f"{name}_score", membership.unit(name, value), text.id, setting)
        for (setting, texts), some in zip(sides.items(), values, strict=True)
        for text, value in zip(texts, some, strict=True)
    ]
    return [*found, *_area(name, values, [*sides.values()])]


def _area(name: str, values: Sequence[Sequence[float]], of: Sequence[Sequence[Pair | Example]]) -> list[Finding]:
    """The area under the ROC curve of the first side against the second, and the ends of its interval. Questions of one group hang
    together; where a side has one group alone, each of its questions counts."""
    ids, groups = ([[getattr(one, key) for one in side] for side in of] for key in ("id", "group"))
    names = [side if len({*side}) > 1 else [""] * len(side) for side in groups]
    members, others = ([name or key for name, key in zip(*both, strict=True)] for both in zip(names, ids, strict=True))
    (positive, negative), n = values, min(len({*side}) for side in ids)
    area, independent = roc_auc(positive, negative), float(n)
    if any(name for side in names for name in side):
        independent = min(independent, independent_scores(positive, negative, members, others))
    low, high = area_interval(area, independent, independent)
    key = f"membership_{name}"
    return [Finding("likelihood", metric, value, n=n) for metric, value in ((key, area), (f"{key}_low", low), (f"{key}_high", high))]


def _of_answer(example: Example, moments: membership.Moments, source: str) -> Iterator[Finding]:
    told = moments.first[:-1]  # the last token ends the answer
    values: list[float | None] = [math.exp(float(moments.logprob.double().mean())), None, None, None]
    if len(told):
        strength = membership.extraction_strength(told)
        values[1:] = strength, max(strength, 1 / len(told)), membership.exact_memorisation(told)
    for metric, value in zip(OF_ANSWER, values, strict=True):
        yield scored("likelihood", metric, value, example.id, "", EMPTY, source)


def _of_options(example: str, scores: Mapping[str, Sequence[float]], note: str) -> Iterator[Finding]:
    """Truth ratios and scores of one question. `scores`: of the true answer, then of each wrong one."""
    right, *wrong = scores["loss"]
    for metric, formula in TRUTH_RATIOS.items():
        yield Finding("likelihood", metric, membership.truth_ratio(right, averaged(wrong, formula)), example, "", 1, note)
    for name, values in scores.items():
        for setting, some in ((membership.MEMBER, values[:1]), (membership.NON_MEMBER, values[1:])):
            mean = fmean(membership.unit(name, value) for value in some)
            yield Finding("likelihood", f"{name}_score", mean, example, setting, len(some), note)


def _no_areas(names: Iterable[str], why: str) -> list[Finding]:
    return unscored("likelihood", [f"membership_{name}" for name in names], ("",), why)


@torch.inference_mode()
def row_moments(model: PreTrainedModel, encoder: Encoder, rows: Sequence[Row]) -> list[membership.Moments]:
    """Moments of each row's answer tokens, on the CPU; rows of similar length share a forward.

    Raises `FloatingPointError` where the model outputs something that is not a number.
    """
    found: dict[int, membership.Moments] = {}
    for chosen in _plan(rows, 1 if plain_head(model) else model.get_input_embeddings().weight.shape[0]):
        batch = encoder.batch([rows[i] for i in chosen], model.device)
        values = membership.token_moments(answer_states(model, batch), batch.answers())
        finite(values.logprob)
        split = [value.cpu().split([len(rows[i].answer) for i in chosen]) for value in values]
        found |= {i: membership.Moments(*parts) for i, *parts in zip(chosen, *split, strict=True)}
    return [found[i] for i in range(len(rows))]


def _plan(rows: Sequence[Row], vocabulary: int) -> list[list[int]]:
    """Batches of similar length, none with more logits than `LOGITS`."""
    batches: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: (rows[i].length, i)):
        # The rows come in order of length, so this one's is the width of its batch.
        most = max(1, min(ROWS, LOGITS // (rows[i].length * vocabulary)))
        if not batches or len(batches[-1]) >= most:
            batches.append([])
        batches[-1].append(i)
    return batches
