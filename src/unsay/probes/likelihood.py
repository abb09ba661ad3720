"""Likelihood: what the probabilities of the answer's own tokens give away, all from one forward per batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from transformers import PreTrainedModel

from unsay.config import ConfigError
from unsay.lm.encode import Encoder, Row
from unsay.lm.reading import accepted, habits, positions
from unsay.lm.subject import Subject
from unsay.metric import CHANCE, HIGHER, LIKELIHOODS, LOWER, MEMBERSHIP, RETAIN_MODEL, Findings, Metric, Whole, scored_by
from unsay.probes.membership import SCORES, Moments, exact_memorisation, extraction_strength, token_moments, truth_ratio, unit
from unsay.probes.options import LEAST, PAPER, averaged, check_formula, choices
from unsay.probes.scoring import known, missing, unscored
from unsay.stats import ks_two_sample, roc_auc
from unsay.types import Case, Example, Finding

OF_ANSWER = ("probability", "extraction_strength", "extraction_strength_released", "exact_memorisation")
NO_WEIGHTS = "this model shows no likelihoods of all tokens, only of text"
NO_WRONG = "no wrong answers, and too few other answers of the kind to make them from"
NO_TOKENS = "the answer has no token"
MADE = "made options"
MEMBER, NON_MEMBER = "member", "non-member"
ROWS = 64
LOGITS = 1 << 27
"""Most logits of one forward (256 MB in half precision)."""


def _apart(found: Findings, retain_model: Findings, which: str) -> Whole | None:
    """How far the truth ratios lie from those of the model that never knew (Maini et al. 2024): Kolmogorov–Smirnov `d` or `p`."""
    here, there = ([f.value or 0.0 for f in scored_by(some, "likelihood", "truth_ratio")] for some in (found, retain_model))
    return Whole(getattr(ks_two_sample(here, there), which), len(here)) if here and there else None


_read = partial(Metric, group=LIKELIHOODS)
_ATTACKS = {
    "loss": ("By loss", "True against wrong answers. 0.5: they cannot be told apart; 1 or 0: always."),
    "min_k": ("By Min-K%", "The same, from the least likely word pieces alone."),
    "min_k_plus": ("By Min-K%++", "The same, each against what else could have stood there."),
    "min_k_no_end": ("By Min-K%, end left out", "Min-K% without the token that ends the answer, as open-unlearning counts."),
    "min_k_plus_no_end": ("By Min-K%++, end left out", "Min-K%++ without that token."),
    "zlib": ("By loss over compressed length", "The same, allowing for how ordinary the text is."),
}


@dataclass(frozen=True)
class Likelihood:
    """Is it still in there? Truth ratio, probability and verbatim memory of the true answer; membership attacks on it.

    A *member* is the true answer and a *non-member* a wrong one to the same question, both in the wording of the first
    paraphrase, where there is one: texts of one form, between which a model that never knew cannot tell. Made wrong answers are
    those of multiple choice. `membership_…` is the area under the ROC curve over all answers of all questions: 1 where members
    look like members, .5 where nothing can be told, and toward 0 where the true answers were pushed below the wrong ones.
    Log-probabilities count the end of the answer; extraction strength, exact memorisation and the scores `…_no_end` do not.

    Does not cover: attacks with shadow models or a second model for reference; paraphrases of the answer; wrong answers that
    differ from the true one in form or frequency (compare with the retain model). Unscored where a model shows no likelihoods.
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
            finding="truth_ratio",
            claim="the truth ratio is {}",
        ),
        _read(
            "forget_quality_d",
            "Distance from the retain model",
            "Largest gap between the two spreads of truth ratios; 0 is no gap.",
            LOWER,
            compute=lambda found, before, retain_model: _apart(found, retain_model, "d"),
        ),
        _read(
            "forget_quality_p",
            "Forget quality",
            "Chance of so large a gap between two models that never knew (p-value).",
            HIGHER,
            compute=lambda found, before, retain_model: _apart(found, retain_model, "p"),
        ),
        _read(
            "extraction_strength",
            "Extraction strength",
            "Share of the answer that follows by itself from its beginning.",
            LOWER,
            finding="extraction_strength",
            forgotten=True,
            claim="the extraction strength {}",
        ),
        _read(
            "extraction_strength_released",
            "Extraction strength, open-unlearning",
            "The same, but one word piece where nothing follows by itself: for comparison with figures from there.",
            LOWER,
            finding="extraction_strength_released",
        ),
        _read(
            "exact_memorisation",
            "Exact memorisation",
            "Share of its word pieces that the model would choose itself.",
            LOWER,
            finding="exact_memorisation",
            forgotten=True,
            claim="the exact memorisation {}",
        ),
        *(
            Metric(
                f"membership_{name}",
                title,
                says,
                CHANCE,
                MEMBERSHIP,
                f"membership_{name}",
                area=True,
                claim="" if name.endswith("_no_end") else f"membership {title[0].lower()}{title[1:]} has an area of {{}}",
            )
            for name, (title, says) in _ATTACKS.items()
        ),
    )

    k: float = 0.2
    """Share of an answer's tokens, the least likely ones, that Min-K% and Min-K%++ look at."""
    options: int = 5
    """Most wrong answers made where the corpus has none; 0 makes none."""
    formula: str = PAPER
    """Mean over the wrong answers in the truth ratio: arithmetic as in TOFU's `paper`, or geometric as in the `released` code."""

    def __post_init__(self) -> None:
        if self.options < 0 or 0 < self.options < LEAST:
            raise ConfigError(f"likelihood.options = {self.options} must be 0 or at least {LEAST}")
        if not 0 < self.k <= 1:
            raise ConfigError(f"likelihood.k = {self.k} must lie above 0 and at most at 1")
        check_formula("likelihood", self.formula)

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        pairs = known(case)
        members = tuple(f"{name}_score" for name in SCORES)
        found = missing("likelihood", ("truth_ratio", *OF_ANSWER), case) + missing("likelihood", members, case)
        if subject.weights is None:
            ids = [example.id for example, _ in pairs]
            found += unscored("likelihood", ("truth_ratio", *OF_ANSWER, *members), ids, NO_WEIGHTS)
            return [*found, *_whole(dict.fromkeys(SCORES), NO_WEIGHTS, 0)]
        options = choices(case, self.options)
        texts = list(dict.fromkeys((e.question, text) for e, fact in pairs for text in (fact.answer, *options.get(e.id, ()))))
        model, encoder = subject.weights
        moments = dict(zip(texts, row_moments(model, encoder, [encoder.pair(*pair) for pair in texts]), strict=True))
        scores: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in SCORES}
        for example, fact in pairs:
            found += _of_answer(example, moments[example.question, fact.answer], case.source)
            if example.id not in options:
                found += unscored("likelihood", ("truth_ratio", *members), [example.id], NO_WRONG)
                continue
            note = case.source if fact.wrong else f"{case.source}, {MADE}"
            told = [(moments[example.question, text], text) for text in options[example.id]]
            means = [SCORES["loss"](*one, self.k) for one in told]
            ratio = truth_ratio(means[0], averaged(means[1:], self.formula))
            found.append(Finding("likelihood", "truth_ratio", ratio, example.id, "", 1, note))
            for name, score in SCORES.items():
                member, *others = [score(*one, self.k) for one in told]
                scores[name][0].append(member)
                scores[name][1].extend(others)
                for setting, values in ((MEMBER, [member]), (NON_MEMBER, others)):
                    mean = math.fsum(unit(name, value) for value in values) / len(values)
                    found.append(Finding("likelihood", f"{name}_score", mean, example.id, setting, len(values), note))
        areas = {name: roc_auc(*both) if both[0] else None for name, both in scores.items()}
        return [*found, *_whole(areas, NO_WRONG, len(scores["loss"][0]))]


def _of_answer(example: Example, moments: Moments, source: str) -> Iterator[Finding]:
    told = moments.first[:-1]  # the last token ends the answer
    values = (
        math.exp(float(moments.logprob.double().mean())),
        extraction_strength(told) if len(told) else None,
        max(extraction_strength(told), 1 / len(told)) if len(told) else None,
        exact_memorisation(told) if len(told) else None,
    )
    for metric, value in zip(OF_ANSWER, values, strict=True):
        yield Finding("likelihood", metric, value, example.id, "", 1, source if value is not None else NO_TOKENS)


def _whole(areas: dict[str, float | None], why: str, n: int) -> list[Finding]:
    return [
        Finding("likelihood", f"membership_{name}", area, n=n if area is not None else 0, note="" if area is not None else why)
        for name, area in areas.items()
    ]


@torch.inference_mode()
def row_moments(model: PreTrainedModel, encoder: Encoder, rows: Sequence[Row]) -> list[Moments]:
    """Moments of each row's answer tokens, on the CPU; rows of similar length share a forward.

    Raises `FloatingPointError` where the model outputs something that is not a number.
    """
    found: dict[int, Moments] = {}
    for chosen in _plan(rows, model.get_input_embeddings().weight.shape[0]):
        batch = encoder.batch([rows[i] for i in chosen], model.device)
        padded = habits(model).padding
        ids, attention, moved = (batch.ids, batch.attention, torch.zeros_like(batch.ids[:, 0])) if padded else batch.flush_left()
        options = {"logits_to_keep": batch.width + 1} if padded else {}
        inputs = accepted(model, attention_mask=attention, position_ids=positions(attention), use_cache=False, **options)
        logits = model(input_ids=ids, **inputs).logits
        at, columns = batch.mask.nonzero(as_tuple=True)
        # The token before the answer predicts its first; a model that was told so hands out the last columns only.
        before = columns + logits.shape[1] - batch.width - 1 - moved[at]
        values = token_moments(logits, (at, before), batch.answers[at, columns])
        if values.logprob.isnan().any():
            raise FloatingPointError("the model's logits are not finite; try --set model.dtype=float32")
        split = [value.cpu().split([len(rows[i].answer) for i in chosen]) for value in values]
        found |= {i: Moments(*parts) for i, *parts in zip(chosen, *split, strict=True)}
    return [found[i] for i in range(len(rows))]


def _plan(rows: Sequence[Row], vocabulary: int) -> list[list[int]]:
    """Batches of similar answer length, none with more logits than `LOGITS`."""
    batches: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: (len(rows[i].answer), len(rows[i].context), i)):
        # The rows come in order of length, so this one's is the width of its batch.
        most = max(1, min(ROWS, LOGITS // ((len(rows[i].answer) + 1) * vocabulary)))
        if not batches or len(batches[-1]) >= most:
            batches.append([])
        batches[-1].append(i)
    return batches
