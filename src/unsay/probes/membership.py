"""What token log-probabilities say of whether a model was trained on a text: one number per text, higher for a member.

Each is computed from the `Moments` of the text's tokens, all from one forward. `unit` maps the scores into [0, 1] without changing
their order. `HOLDOUT_SCORES` are the scores of MUSE and open-unlearning, by which `privleak` compares a model with the retain model.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unsay.lm.linear import linear
from unsay.lm.model import States
from unsay.metric import CHANCE, EITHER, MEMBERSHIP, Findings, Metric, Whole, scored_by
from unsay.stats import roc_auc

MEMBER, NON_MEMBER = "member", "non-member"
"""Settings: the true answer in other words, and wrong answers to the same question."""
ANSWER, HOLDOUT = "answer", "holdout"
"""Settings: the true answer as it is, and answers to other questions that no model was trained on."""
GRADIENT = "gradient_norm"
AT_ONCE = 1 << 24
"""Elements of a chunk of logits in float32 (64 MB); a handful of tensors of that size exist at a time."""


class Moments(NamedTuple):
    """Of N tokens, all `[N]`; float32 and in nats, but for `first`."""

    logprob: Tensor
    """log p(id)."""
    mean: Tensor
    """Σ_v p(v) log p(v): the expected log-probability of a token drawn here."""
    variance: Tensor
    """Σ_v p(v) (log p(v) − mean)²."""
    first: Tensor
    """Whether the id is the most likely token: what greedy decoding would have written."""


def token_moments(states: States, ids_N: Tensor) -> Moments:
    """Moments of `ids` under the states that predict them. Chunks hold at most `AT_ONCE` logits."""
    found, head = states
    size = max(1, AT_ONCE // (found.shape[-1] if head is None else len(head)))
    chunks = zip(found.split(size), ids_N.split(size), strict=True)
    parts = [_moments(some if head is None else linear(some, head), ids) for some, ids in chunks]
    return Moments(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _moments(logits_NV: Tensor, ids_N: Tensor) -> Moments:
    logprobs = logits_NV.float().log_softmax(-1)
    probs = logprobs.exp()
    # Where the logits bar a token, 0 · −inf would be NaN; it counts 0.
    finite = logprobs.masked_fill(probs == 0, 0.0)
    mean = (probs * finite).sum(-1)
    # Not Σ p log² p − mean²: where the model is certain that difference is all rounding.
    variance = (probs * (finite - mean[:, None]).square()).sum(-1)
    return Moments(logprobs.gather(-1, ids_N[:, None]).squeeze(-1), mean, variance, logits_NV.argmax(-1) == ids_N)


def loss_score(moments: Moments, text: str, k: float) -> float:
    """Mean log-probability per token, the negative loss (Yeom et al. 2018, arXiv 1709.01604)."""
    return float(moments.logprob.double().mean())


def min_k_score(moments: Moments, text: str, k: float) -> float:
    """Mean log-probability of the share k of least likely tokens (Min-K%, Shi et al. 2023, arXiv 2310.16789)."""
    return _lowest(moments.logprob.double(), k)


def min_k_plus_score(moments: Moments, text: str, k: float) -> float:
    """The same of log-probabilities standardised at each position (Min-K%++, Zhang et al. 2024, arXiv 2404.02936):

    z_t = (log p(x_t) − μ_t) / σ_t,   μ and σ over tokens v drawn from p(· | x_<t)
    """
    # Where the model is certain σ is 0, and so is the difference unless the token is one that it rules out.
    spread = moments.variance.double().sqrt().clamp_min(1e-6)
    return _lowest((moments.logprob.double() - moments.mean.double()) / spread, k)


def zlib_score(moments: Moments, text: str, k: float) -> float:
    """Mean log-probability per token over the bytes that zlib needs for the text (Carlini et al. 2021, arXiv 2012.07805)."""
    return loss_score(moments, text, k) / len(zlib.compress(text.encode()))


SCORES: dict[str, Callable[[Moments, str, float], float]] = {
    "loss": loss_score,
    "min_k": min_k_score,
    "min_k_plus": min_k_plus_score,
    "min_k_no_end": lambda moments, text, k: min_k_score(_open(moments), text, k),
    "min_k_plus_no_end": lambda moments, text, k: min_k_plus_score(_open(moments), text, k),
    "zlib": zlib_score,
}

HOLDOUT_K = 0.4
"""The share of least likely tokens in MUSE (Shi et al. 2024, arXiv 2407.06460) and open-unlearning."""
HOLDOUT_SCORES = {"loss": "loss", "min_k": "min_k_no_end", "min_k_plus": "min_k_plus_no_end", "zlib": "zlib"}
"""What true answers are held by against those of a holdout set that no model was trained on: the one of `SCORES` that it is."""


def privleak(area: float, retain_model: float) -> float:
    """MUSE's privacy leakage in per cent, from the areas under the ROC curve of Min-K% on this model and on the retain model
    (1: members look like members): ((1 − area) − (1 − retain_model)) / (1 − retain_model). 0 is best; −100: every member is
    recognised; above 0: members look less likely than what no model has seen.

    >>> round(privleak(0.9, 0.5))
    -80
    """
    return 100 * (retain_model - area) / (1 - retain_model + 1e-10)


def unit(name: str, score: float) -> float:
    """A score of `SCORES` in [0, 1], its order kept: exp(score) where scores are at most 0, the logistic function where not.

    >>> unit("min_k_plus", 0.0)
    0.5
    """
    return float(torch.tensor(score, dtype=torch.float64).sigmoid()) if "min_k_plus" in name else math.exp(min(0.0, score))


def _open(moments: Moments) -> Moments:
    """Without the token that ends the answer, where it has another one."""
    return Moments(*(values[: max(1, len(values) - 1)] for values in moments))


def _lowest(values: Tensor, k: float) -> float:
    """Mean of the lowest share k, rounded down as in the authors' code, but of one value at least."""
    return float(values.sort().values[: max(1, int(k * len(values)))].mean())


def truth_ratio(right: float, wrong: Sequence[float]) -> float:
    """R / (1 + R) of TOFU's truth ratio (Maini et al. 2024, arXiv 2401.06121), from mean log-probabilities per token:

        R = mean over wrong answers of exp(wrong) / exp(right)

    0: the right answer is all that is likely; ½: it is as likely as a wrong one; 1: it was pushed below them.
    """
    odds = torch.tensor(wrong, dtype=torch.float64).logsumexp(0) - math.log(len(wrong)) - right
    return float(odds.sigmoid())


def extraction_strength(first: Tensor) -> float:
    """Share of a text that greedy decoding completes word for word from the rest (Carlini et al. 2023; arXiv 2407.17817):

        1 − min{ k : greedy(x_<k) = x_≥k } / |x|

    `first` `[T]`: whether each token is the most likely after the true ones before it. Up to the first mistake greedy decoding
    writes those same tokens, so the answer is the length of the last run of hits, and one forward is enough.
    """
    misses = (~first).nonzero()
    return 1 - (int(misses[-1]) + 1) / len(first) if len(misses) else 1.0


def exact_memorisation(first: Tensor) -> float:
    """Share of tokens that are the most likely after the true ones before them (Tirumala et al. 2022, arXiv 2205.10770)."""
    return float(first.double().mean())


# -- what the report says of them --------------------------------------------------------------------------------------


def _beside(score: str, settings: tuple[str, str]) -> Callable[[Findings, Findings, Findings], Whole | None]:
    """The reference attack (Carlini et al. 2021, arXiv 2012.07805): how much likelier each text is here than to the retain model."""

    def compute(found: Findings, before: Findings, retain_model: Findings) -> Whole | None:
        there = {(f.setting, f.example): f.value for f in scored_by(retain_model, "likelihood", score)}
        sides: dict[str, list[float]] = {setting: [] for setting in settings}
        for f in scored_by(found, "likelihood", score):
            if there.get((f.setting, f.example)) and f.value:
                sides[f.setting].append(math.log(f.value) - math.log(there[f.setting, f.example] or 1))
        members, others = sides.values()
        return Whole(roc_auc(members, others), len(members)) if members and others else None

    return compute


def _privleak(found: Findings, before: Findings, retain_model: Findings) -> Whole | None:
    areas = [scored_by(some, "likelihood", "membership_holdout_min_k") for some in (found, retain_model)]
    here, there = (some[0].value if some else None for some in areas)
    return Whole(privleak(here, there), areas[0][0].n) if here is not None and there is not None else None


ATTACKS = {
    "loss": ("By loss", "True against wrong answers. 0.5: they cannot be told apart; 1 or 0: always."),
    "min_k": ("By Min-K%", "The same, from the least likely word pieces alone."),
    "min_k_plus": ("By Min-K%++", "The same, each against what else could have stood there."),
    "min_k_no_end": ("By Min-K%, end left out", "Min-K% without the token that ends the answer, as open-unlearning counts."),
    "min_k_plus_no_end": ("By Min-K%++, end left out", "Min-K%++ without that token."),
    "zlib": ("By loss over compressed length", "The same, allowing for how ordinary the text is."),
    GRADIENT: ("By gradient norm", "How little the text would move the weights, for the first of the wrong answers."),
    "holdout_loss": ("By loss, against holdout", "True answers against those of a holdout set, as open-unlearning does it."),
    "holdout_min_k": ("By Min-K%, against holdout", "The same with k = 0.4 and without the token that ends the answer."),
    "holdout_min_k_plus": ("By Min-K%++, against holdout", "The same, each word piece against what else could have stood there."),
    "holdout_zlib": ("By loss over compressed length, against holdout", "The same by loss and length."),
    f"holdout_{GRADIENT}": ("By gradient norm, against holdout", "The same by how little a text would move the weights."),
}
MEMBERSHIP_METRICS = (
    *(
        Metric(
            f"membership_{name}",
            title,
            says,
            CHANCE,
            MEMBERSHIP,
            area=True,
            claim="" if name.endswith("_no_end") or "holdout" in name else f"membership {title[0].lower()}{title[1:]} has an area of {{}}",
        )
        for name, (title, says) in ATTACKS.items()
    ),
    *(
        Metric(f"membership_{name}", title, "Each by how much likelier it is here than there.", CHANCE, MEMBERSHIP, compute=compute)
        for name, title, compute in (
            ("reference", "Against the retain model", _beside("loss_score", (MEMBER, NON_MEMBER))),
            ("holdout_reference", "Against the retain model and holdout", _beside("holdout_loss_score", (ANSWER, HOLDOUT))),
        )
    ),
    Metric(
        "privleak",
        "PrivLeak, per cent",
        "MUSE’s: Min-K% against holdout, beside the retain model’s. 0 is best, −100 recognises every answer.",
        EITHER,
        MEMBERSHIP,
        compute=_privleak,
        top=100,
    ),
)
