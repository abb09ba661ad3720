"""What token log-probabilities say of whether a model was trained on a text: one number per text, higher for a member.

Each is computed from the `Moments` of the text's tokens, all from one forward. `unit` maps the four attack scores into
[0, 1] without changing their order.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

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


def token_moments(logits: Tensor, places: tuple[Tensor, Tensor], ids_N: Tensor, *, at_once: int = AT_ONCE) -> Moments:
    """Moments of `ids` under `logits[places]`, with `logits` `[B, T, V]` of any dtype and `places` the rows and columns `[N]`.

    The caller aligns: `logits[row, column]` must be the prediction *of* its id. Chunks hold at most `at_once` logits, so
    that no second `[B, T, V]` tensor exists.
    """
    size = max(1, at_once // logits.shape[-1])
    chunks = zip(places[0].split(size), places[1].split(size), ids_N.split(size), strict=True)
    parts = [_moments(logits[rows, columns], ids) for rows, columns, ids in chunks]
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


def unit(name: str, score: float) -> float:
    """A score of `SCORES` in [0, 1], its order kept: exp(score) where scores are at most 0, the logistic function where not.

    >>> unit("min_k_plus", 0.0)
    0.5
    """
    return float(torch.tensor(score, dtype=torch.float64).sigmoid()) if name.startswith("min_k_plus") else math.exp(min(0.0, score))


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
