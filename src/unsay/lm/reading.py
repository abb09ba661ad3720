"""How a model reads: the rows of a batch, token after token, from its cache where that can be trusted, else all over again.

Whether an architecture honours padding on the left, keeps a cache whose rows can be chosen, or wants a mask beside it, no
attribute says. So it is found out by trying, once for each model (`habits`): a few short rows are read in the quick way and
in the slow one, and the quick way is used where both give the same logits. The random numbers of a sample know nothing of
this (sample.py), so the slow way changes the time and nothing else.
"""

import functools
import inspect
import logging
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from unsay.lm.cache import slab_cache

_log = logging.getLogger(__name__)

CACHES = ("cache", "past_key_values", "cache_params")
"""What forwards call the cache that they take. Up to transformers 5.23 it was one of the last two; the newest name comes first."""


class NoCache(Exception):
    """The model cannot be read from its cache, and why."""


def positions(attention: Tensor) -> Tensor:
    """[B, T] position of each token, counted from its row's first real token."""
    return (attention.cumsum(1) - 1).clamp_min(0)


def accepted(model: PreTrainedModel, **options: object) -> dict[str, object]:
    """Those of `options` that this model's forward takes: state-space models, for one, know no positions."""
    known = inspect.signature(type(model).forward).parameters
    return {name: value for name, value in options.items() if name in known}


@dataclass(frozen=True)
class Habits:
    """What can be asked of one model."""

    padding: bool = True
    """A row padded on the left reads as it would alone. Where not, only prompts of one length are sampled from together."""
    cache: bool = True
    """Its cache can be repeated and cut by rows. Where not, every token reads the whole row again."""
    masked: bool = True
    """It takes the attention mask beside the cache, too. State-space models want it only for the first reading."""
    why: str = field(default="", compare=False)
    """Why there is no cache, where that is known: for the log."""

    def __str__(self) -> str:
        memory = "one cache for all draws of a prompt" if self.cache else "no usable cache: every token reads its whole row again (slow)"
        return memory if self.padding else f"{memory}; padding not honoured: only prompts of one length share a batch"


class Reading(Protocol):
    """Rows of a batch, each read up to its last token."""

    logits: Tensor
    """[R, V] of the next token, for the rows as they were first read."""

    def choose(self, rows: Tensor) -> None:
        """Go on with these rows, in this order; an index that comes twice repeats its row."""
        ...

    def append(self, tokens: Tensor) -> Tensor:
        """One more token for each row [R]; the logits of the next [R, V]."""
        ...


def read(model: PreTrainedModel, ids: Tensor, attention: Tensor, room: int) -> Reading:
    """Contexts [B, T], padded on the left, read in the best way this model knows, with `room` tokens to come."""
    known = habits(model)
    if known.cache:
        try:
            return _Cached(model, ids, attention, room, known.masked)
        except NoCache as error:  # it was otherwise when it was tried
            _note(model, replace(known, cache=False, why=str(error)))
    return _Anew(model, ids, attention)


class _Cached:
    def __init__(self, model: PreTrainedModel, ids: Tensor, attention: Tensor, room: int, masked: bool):
        self._model, self._attention, self._masked = model, attention, masked
        self._name = _cache_name(model)
        self._cache = slab_cache(model.config, ids.shape[1] + room)
        self.logits = self._forward(ids, attention, positions(attention))
        # Trap: each later token would be read alone, which the logits of a model that hardly looks back do not show.
        if not _held(self._cache):
            raise NoCache(f"its forward takes {self._name} and left it empty")

    def choose(self, rows: Tensor) -> None:
        # Made for beam search; of all ways to choose rows it is the one that every kind of layer has, state spaces included.
        self._cache.reorder_cache(rows)
        self._attention = self._attention[rows]

    def append(self, tokens: Tensor) -> Tensor:
        self._attention = torch.cat([self._attention, self._attention.new_ones(len(tokens), 1)], dim=1)
        last = self._attention.sum(1, keepdim=True) - 1
        return self._forward(tokens[:, None], self._attention if self._masked else None, last)

    def _forward(self, ids: Tensor, attention: Tensor | None, position_ids: Tensor) -> Tensor:
        memory = {self._name: self._cache, "use_cache": True}
        return _last_logits(self._model, ids, attention_mask=attention, position_ids=position_ids, **memory)


class _Anew:
    def __init__(self, model: PreTrainedModel, ids: Tensor, attention: Tensor):
        self._model, self._ids, self._attention = model, ids, attention
        self.logits = self._forward()

    def choose(self, rows: Tensor) -> None:
        self._ids, self._attention = self._ids[rows], self._attention[rows]

    def append(self, tokens: Tensor) -> Tensor:
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        self._attention = torch.cat([self._attention, self._attention.new_ones(len(tokens), 1)], dim=1)
        return self._forward()

    def _forward(self) -> Tensor:
        known = {"attention_mask": self._attention, "position_ids": positions(self._attention), "use_cache": False}
        return _last_logits(self._model, self._ids, **known)


def _cache_name(model: PreTrainedModel) -> str:
    for name in accepted(model, **dict.fromkeys(CACHES)):
        return name
    raise NoCache(f"its forward takes nothing called {', '.join(CACHES[:-1])} or {CACHES[-1]}")


def _last_logits(model: PreTrainedModel, ids: Tensor, **options: object) -> Tensor:
    logits: Tensor = model(input_ids=ids, **accepted(model, logits_to_keep=1, **options)).logits[:, -1]
    return logits


def cached_bytes(model: PreTrainedModel) -> tuple[float, float]:
    """Bytes of a row in the cache: (whatever its length, for each of its tokens). 0 and 0 for a model that reads anew."""
    few, many = (_cache_bytes(model, tokens) for tokens in (4, 12))
    token = max(0.0, (many - few) / 8)
    return max(0.0, few - 4 * token), token


@torch.no_grad()
def _cache_bytes(model: PreTrainedModel, tokens: int) -> int:
    ids = torch.ones((1, tokens), dtype=torch.long, device=model.device)
    reading = read(model, ids, torch.ones_like(ids), 0)
    return sum(value.nbytes for value in _held(reading._cache)) if isinstance(reading, _Cached) else 0


def _held(cache: DynamicCache) -> list[Tensor]:
    """The keys, values and states in a cache, without what its layers know before anything is read (the length of a window)."""
    values = [value for layer in cache.layers for value in vars(layer).values()]
    values += [state for value in values if isinstance(value, dict) for state in value.values()]  # state spaces number theirs
    return [value for value in values if isinstance(value, Tensor) and value.dim() and value.numel()]


# -- found out by trying -----------------------------------------------------------------------------------------------

_HABITS: WeakKeyDictionary[PreTrainedModel, Habits] = WeakKeyDictionary()
_warn_once = functools.cache(_log.warning)
"""A run loads one model again and again."""


def habits(model: PreTrainedModel) -> Habits:
    """What this model honours; a way that is slower than usual is said once, on the log."""
    if model not in _HABITS:
        training = model.training
        with torch.no_grad():
            found = _try(model.eval())
        model.train(training)
        _note(model, found)
    return _HABITS[model]


def _note(model: PreTrainedModel, found: Habits) -> None:
    _HABITS[model] = found
    if not (found.padding and found.cache):
        _warn_once(f"sampling from {type(model).__name__}{f' ({found.why})' if found.why else ''}: {found}")


def _try(model: PreTrainedModel) -> Habits:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    whole = torch.arange(4 * 12, device=model.device).mul(7).add(1).remainder(max(2, min(vocabulary, 97))).view(4, 12)
    lengths = torch.tensor([12, 3, 4, 5], device=model.device)
    attention = (torch.arange(12, device=model.device) >= 12 - lengths[:, None]).long()
    alone = torch.cat(
        [_Anew(model, row[None, -n:], mask[None, -n:]).logits for row, mask, n in zip(whole, attention, lengths, strict=True)]
    )
    if not torch.isfinite(alone).all():
        return Habits()  # the sampler will say so
    most = _rounding(model)
    padding = _same(_Anew(model, whole, attention).logits[1:], alone[1:], most)
    if not padding:
        attention = torch.ones_like(attention)
    expected, why = _walk(_Anew(model, whole, attention)), ""
    for masked in (True, False):
        try:
            walked = _walk(_Cached(model, whole, attention, 2, masked))
        except Exception as error:  # whatever went wrong, this is not the way; reading anew is always right
            why = str(error) if isinstance(error, NoCache) else why
            continue
        if walked.shape == expected.shape and _same(walked, expected, most):
            return Habits(padding, True, masked)
    return Habits(padding, False, why=why)


def _walk(reading: Reading) -> Tensor:
    """The logits [R, V] of a few turns such as a sample takes: rows repeated, a token, rows dropped, another token."""
    device = reading.logits.device
    reading.choose(torch.tensor([2, 0, 0, 1, 3, 3], device=device))
    first = reading.append(torch.tensor([1, 2, 3, 4, 5, 6], device=device))
    reading.choose(torch.tensor([5, 2, 1, 3], device=device))
    return torch.cat([reading.logits, first, reading.append(torch.tensor([2, 4, 3, 1], device=device))])


def _rounding(model: PreTrainedModel) -> float:
    """The largest relative error that is nothing but rounding. A wrong way errs by about 1.

    Weights in few bits come with kernels that round by the batch they are in (LLM.int8 picks its outliers from all rows):
    the same row, alone and in company, was seen to differ by .2.
    """
    few_bits = any(not parameter.is_floating_point() for parameter in model.parameters())
    return 0.4 if few_bits else float(torch.finfo(model.dtype).eps ** 0.5)


def _same(found: Tensor, expected: Tensor, most: float) -> bool:
    """Equal up to rounding. The median row decides: in half precision a mixture of experts may now and then send a token
    elsewhere."""
    found, expected = found.float(), expected.float()
    errors = (found - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-12)
    return bool(errors.median() < most)
