"""n answers per question, from the weights at hand.

How it departs from `generate`: each prompt is read once and its cache expanded to n rows (reading.py, which also knows
what to do where a model has no such cache); rows that have finished leave the batch; the nucleus is taken from the largest
logits and the full vocabulary is sorted only for rows that need it, with the same result; temperature, top-p and penalties
belong to the row; and the random number of a token depends only on (seed, salt, key, draw, position), never on the batch
it happens to sit in.
"""

import hashlib
from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import SampleConfig, VllmConfig
from unsay.lm.encode import Encoder
from unsay.lm.progress import report
from unsay.lm.reading import habits, read
from unsay.store import ranks
from unsay.types import Answer

_GOLDEN = 0x9E3779B97F4A7C15
SHRINK = 0.8
"""Finished rows are dropped once they are more than a fifth of the batch: dropping copies the cache."""


@dataclass(frozen=True, slots=True)
class Draw:
    """n answers wanted for one context."""

    key: str
    """Names the example in the random numbers."""
    context: tuple[int, ...] = field(repr=False)
    n: int = 1
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    repelled: tuple[int, ...] = ()
    """Token ids whose logits are lowered while sampling."""
    repulsion: float = 0.0
    """By how much (nats, at temperature 1)."""
    limit: int = 0
    """Length limit in tokens where it is tighter than the configured one; 0 sets none."""
    first: int = 0
    """Number of its first answer: those of a large n may be asked for in several draws of one key."""


@torch.inference_mode()
def sample(
    model: PreTrainedModel, encoder: Encoder, draws: Sequence[Draw], config: SampleConfig, seed: int = 0, salt: str = ""
) -> list[list[Answer]]:
    """Answers for every draw, in order. `salt` names the occasion (a probe, a round) in the random numbers.

    Several processes share the batches. Raises `FloatingPointError` where the model outputs something that is not a number.
    """
    if isinstance(config, VllmConfig):
        from unsay.lm import vllm  # it imports this module

        return vllm.sample(model, encoder, draws, config, seed, salt)
    lengths, counts = [len(draw.context) for draw in draws], [draw.n for draw in draws]
    total = sum(counts)
    batches = ranks.mine(_plan(lengths, counts, ranks.part(config.rows, total), habits(model).padding))

    def share() -> dict[int, list[Answer]]:
        answers, done = {}, 0
        for batch in batches:
            rows = _decode(model, encoder, [draws[i] for i in batch], config, seed, salt, (done, total))
            done += sum(counts[i] for i in batch)
            for i in batch:
                answers[i] = [next(rows) for _ in range(counts[i])]
            report(done, total, "answers")
        return answers

    answers = ChainMap(*ranks.gathered(f"answers {salt}", share, about=draws))
    if sum(counts[i] for batch in batches for i in batch) < total:  # the others' are made, too
        report(total, total, "answers")
    return [answers[i] for i in range(len(draws))]


@torch.inference_mode()
def first_tokens(model: PreTrainedModel, encoder: Encoder, contexts: Sequence[tuple[int, ...]], k: int) -> list[list[int]]:
    """The k most likely tokens to begin an answer with, ends of answer left out, for each context."""
    found: list[list[int]] = [[] for _ in contexts]
    stops = sorted(encoder.stops)
    for batch in _plan([len(context) for context in contexts], [1] * len(contexts), 32, habits(model).padding):
        logits = read(model, *encoder.prompts([contexts[i] for i in batch], model.device), room=0).logits.float()
        logits[:, stops] = -torch.inf
        for i, tokens in zip(batch, logits.topk(k, dim=1).indices.tolist(), strict=True):
            found[i] = tokens
    return found


def _plan(lengths: Sequence[int], counts: Sequence[int], rows: int, padding: bool) -> list[list[int]]:
    """Batches of indices of similar prompt length (of one length, where `padding` is not honoured), at most `rows`
    sequences each (a single draw may exceed it)."""
    batches: list[list[int]] = []
    filled, length = rows, 0
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if filled + counts[i] > rows or (not padding and lengths[i] != length):
            batches.append([])
            filled, length = 0, lengths[i]
        batches[-1].append(i)
        filled += counts[i]
    return batches


def limits_of(draws: Sequence[Draw], config: SampleConfig, encoder: Encoder) -> list[int]:
    """Most tokens of each draw's answers: its own limit, and what the model has room for after the prompt."""
    limits = []
    for draw in draws:
        wanted = min(draw.limit or config.max_new_tokens, config.max_new_tokens)
        # Trap: behind the bar of a key may stand the beginning of an answer, which no message may show.
        limits.append(min(wanted, encoder.left(len(draw.context), draw.key.partition("|")[0])))
    return limits


def _decode(
    model: PreTrainedModel, encoder: Encoder, draws: Sequence[Draw], config: SampleConfig, seed: int, salt: str, of: tuple[int, int]
) -> Iterator[Answer]:
    """`of`: answers finished before these, and in all."""
    device = model.device
    limits = limits_of(draws, config, encoder)
    longest = max(limits)
    reading = read(model, *encoder.prompts([draw.context for draw in draws], device), room=longest)

    owner = torch.tensor([i for i, draw in enumerate(draws) for _ in range(draw.n)], device=device)
    nucleus = _Nucleus(draws, owner, config.window, seed, salt)
    reading.choose(owner)
    logits = reading.logits[owner]
    alive = torch.arange(len(owner), device=device)  # rows of the result that are still being written
    stops = torch.tensor(sorted(encoder.stops), device=device)
    written = torch.full((len(owner), longest), -1, device=device)
    last = torch.tensor(limits, device=device)[owner] - 1
    # Where the end of the model's context is near, no finished row may ride along: learned positions end there.
    tight = encoder.room is not None and max(len(draw.context) for draw in draws) + longest > encoder.room

    for position in range(longest):
        tokens = nucleus.pick(logits, alive, position)
        written[alive, position] = tokens
        # Trap: a finished row that rides along goes on writing, so its end must be remembered, not seen again.
        last[alive[torch.isin(tokens, stops) & (last[alive] > position)]] = position
        going = last[alive] > position
        left = int(going.sum())
        if left == 0:
            break
        report(of[0] + max(len(owner) - left, len(owner) * (position + 1) / longest), of[1], "answers")
        # Finished rows ride along until enough of them have gathered; what they write then is cut off below.
        if left < (1 if tight else SHRINK) * len(alive):
            keep = going.nonzero().squeeze(1)
            reading.choose(keep)
            alive, tokens = alive[keep], tokens[keep]
        logits = reading.append(tokens)

    return (encoder.sampled(row[: end + 1]) for row, end in zip(written.tolist(), last.tolist(), strict=True))


class _Nucleus:
    """The next token of each row: greedy, or inverse-CDF sampling from the row's nucleus in order of probability."""

    def __init__(self, draws: Sequence[Draw], owner: Tensor, window: int, seed: int, salt: str):
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, device=owner.device, dtype=torch.float32)[owner, None]

        self.window = window
        self.temperature = column([draw.temperature or 1.0 for draw in draws])
        self.greedy = column([draw.temperature == 0 for draw in draws]).bool().squeeze(1)
        self.top_p = column([draw.top_p for draw in draws])
        self.keys = row_keys(draws, seed, salt)
        self.penalties = [(torch.tensor(draw.repelled, device=owner.device), draw.repulsion) for draw in draws]
        self.repels = any(draw.repelled and draw.repulsion for draw in draws)
        self.owner = owner

    def pick(self, logits: Tensor, alive: Tensor, position: int) -> Tensor:
        """[R] token ids from logits [R, V] of the rows `alive` [R]."""
        if self.repels:
            logits = self._repel(logits, alive)
        greedy = self.greedy[alive]
        if bool(greedy.all()):
            return _finite(logits.argmax(1), logits)
        uniform = torch.from_numpy(uniforms(self.keys[alive.cpu().numpy()], position)).to(logits.device)
        drawn = nucleus(logits, self.temperature[alive], self.top_p[alive], uniform[:, None], self.window)
        # The largest logit is looked for again only where some rows want it: on a large vocabulary that costs a tenth of a token.
        return _finite(torch.where(greedy, logits.argmax(1), drawn) if bool(greedy.any()) else drawn, logits)

    def _repel(self, logits: Tensor, alive: Tensor) -> Tensor:
        logits = logits.clone()
        for row, owner in enumerate(self.owner[alive].tolist()):
            ids, strength = self.penalties[owner]
            if strength and len(ids):
                logits[row, ids] -= strength
        return logits


NOT_FINITE = "the model's logits are not finite; try --set model.dtype=float32"


def _finite(tokens: Tensor, logits: Tensor) -> Tensor:
    if not torch.isfinite(logits.gather(1, tokens[:, None])).all():
        raise FloatingPointError(NOT_FINITE)
    return tokens


def nucleus(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor, window: int) -> Tensor:
    """[R] the token at quantile `uniform` [R, 1] of each row's nucleus, tokens ordered by falling probability.

    The nucleus is the smallest set of most likely tokens whose mass reaches top_p. Only the `window` largest logits are
    sorted; a row whose quantile lies beyond them, or whose nucleus may, is done over with more, so the result does not
    depend on `window`. logits [R, V]; temperature, top_p [R, 1]. Raises `FloatingPointError` where a logit is not a number.
    """
    logprobs = (logits.float() / temperature).log_softmax(1)
    window = min(window, logprobs.shape[1])
    values, ids = logprobs.topk(window, dim=1)
    if not torch.isfinite(values[:, 0]).all():
        raise FloatingPointError(NOT_FINITE)
    index, inside = _quantile(values.exp(), top_p, uniform)
    tokens = ids.gather(1, index).squeeze(1)
    if window < logprobs.shape[1] and not bool(inside.all()):
        rest = (~inside).nonzero().squeeze(1)
        tokens[rest] = _by_rank(logprobs[rest], top_p[rest], uniform[rest], min(_WIDE, logprobs.shape[1]))
    return tokens


_WIDE = 1 << 14
"""Logits that are sorted next where the window is too narrow; then all."""


def _by_rank(logprobs: Tensor, top_p: Tensor, uniform: Tensor, width: int) -> Tensor:
    """`nucleus` for few rows and wide nuclei: values are sorted alone, and the token is looked up by its value's rank.
    Sorting the ids along takes sixteen times as long on a CPU. Equal values are ordered by id."""
    values = _largest(logprobs, width)
    index, inside = _quantile(values.exp(), top_p, uniform)
    value = values.gather(1, index)
    rank = index.squeeze(1) - (values > value).sum(1)
    rows, ids = (logprobs == value).nonzero(as_tuple=True)  # in order of row, then id
    first = torch.searchsorted(rows, torch.arange(len(value), device=rows.device))
    tokens = ids[first + rank]
    if width < logprobs.shape[1] and not bool(inside.all()):
        rest = (~inside).nonzero().squeeze(1)
        tokens[rest] = _by_rank(logprobs[rest], top_p[rest], uniform[rest], logprobs.shape[1])
    return tokens


def _largest(values: Tensor, width: int) -> Tensor:
    """The `width` largest of each row, falling."""
    if values.device.type != "cpu":
        return values.topk(width, dim=1).values
    # numpy selects and sorts with the processor's vector units, torch does not.
    found = values.numpy()
    if width < found.shape[1]:
        found = np.partition(found, found.shape[1] - width, axis=1)[:, -width:]
    return torch.from_numpy(np.sort(found, axis=1)).flip(1)


def _quantile(probs: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Columns [R, 1] of the tokens, and whether they are certain from these columns alone [R]."""
    cumulative = probs.cumsum(1)
    # With top-p below 1 the nucleus' own mass must lie inside; with 1 the mass is all there is.
    size = (cumulative < top_p).sum(1, keepdim=True).clamp_max(probs.shape[1] - 1)
    mass = torch.where(top_p < 1, cumulative.gather(1, size), torch.ones_like(top_p))
    index = (cumulative <= uniform * mass).sum(1, keepdim=True)
    inside = (index < probs.shape[1]) & ((top_p >= 1) | (cumulative[:, -1:] >= top_p))
    # The sum of all there is may miss 1 by its rounding: what lies beyond is the last token that has any probability.
    last = (cumulative < cumulative[:, -1:]).sum(1, keepdim=True)
    return index.minimum(last), inside.squeeze(1)


def row_keys(draws: Sequence[Draw], seed: int, salt: str) -> np.ndarray:
    """One 64-bit key per answer, from what names it and nothing else."""
    names = (f"{seed}|{salt}|{draw.key}|{i}" for draw in draws for i in range(draw.first, draw.first + draw.n))
    return np.array([int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") for name in names], dtype=np.uint64)


def uniforms(keys: np.ndarray, position: int) -> np.ndarray:
    """Uniform float32 numbers in [0, 1), one per key: the splitmix64 generator (Steele et al., OOPSLA 2014) at `position`."""
    with np.errstate(over="ignore"):
        z = keys + np.uint64((position + 1) * _GOLDEN & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float32)) * np.float32(2**-24)


def uniform(seed: int, *names: object) -> float:
    """One number in [0, 1) named by its arguments: for choices of the loop that must not depend on any order."""
    digest = hashlib.blake2b("|".join(map(str, (seed, *names))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
