"""A stand-in for the recipe's model, with which stages are run to be counted: a tiny model, and what it is to say.

The tiny model has the tokenizer, the vocabulary and the longest text of the real one, and next to no weights. It computes
nothing worth having, so its answers are put into its mouth: a `Voice` knows what the real model said to a few questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from unsay.config import Recipe
from unsay.lm.encode import Encoder
from unsay.types import Answer

_WIDTH = 64
"""Hidden size of the tiny model, the least that bitsandbytes packs."""
PER_RANK = 14 * _WIDTH
"""Numbers in its adapters of rank 1 on all seven linear layers."""
Ids = tuple[int, ...]


def stand_in(recipe: Recipe, encoder: Encoder, vocabulary: int, folder: Path) -> Recipe:
    """The recipe with the tiny model, written to `folder`, in the place of its own."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=_WIDTH,
        intermediate_size=_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=encoder.room or 1 << 20,
        eos_token_id=sorted(encoder.stops),
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    model = replace(recipe.model, name=str(folder), revision="main", retain_model=None, dtype="float32", quantization="none")
    lora = replace(recipe.lora, targets=("all-linear",))
    return replace(recipe, model=model, lora=lora)


@dataclass
class Voice:
    """What the stand-in says. Of several answers to a question the first is the greedy one."""

    vocabulary: int
    answers: Mapping[str, Sequence[Answer]]
    """To forget questions; one that is not among them gets all of these."""
    others: Sequence[Answer] = ()
    """To any other question, and, once it has `unlearned`, to forget questions too."""
    unasked: Sequence[Answer] = ()
    """Written where nobody asks."""
    unlearned: bool = False
    prompts: dict[Ids, list[Answer]] = field(default_factory=dict)
    """Answers by prompt, of the forget questions."""
    empty: set[Ids] = field(default_factory=set)

    @property
    def all(self) -> list[Answer]:
        return [answer for some in self.answers.values() for answer in some]

    def know(self, encoder: Encoder, questions: Sequence[str]) -> None:
        """The prompts of forget questions, as this encoder writes them."""
        self.empty.add(encoder.prompt(None))
        for question in questions:
            self.prompts[encoder.prompt(question)] = list(self.answers.get(question) or self.all)

    def pool(self, context: Ids) -> list[Ids]:
        """What may follow a context: answers without the tokens of them that it holds already."""
        if context in self.empty and self.unasked:
            return [_Said.of(answer) for answer in self.unasked]
        for length in range(len(context), 0, -1):
            if (found := self.prompts.get(context[:length])) is not None:
                told = self.others if self.unlearned and self.others else found
                begun = len(context) - length
                return [_Said.of(answer, begun) for answer in told]
        return [_Said.of(answer) for answer in self.others or self.all]

    def read(self, ids: Tensor, attention: Tensor) -> "_Said":
        contexts = [tuple(row[mask.bool()].tolist()) for row, mask in zip(ids, attention, strict=True)]
        return _Said([self.pool(context) for context in contexts], self.vocabulary, ids.device)

    @staticmethod
    def draw(logits: Tensor, uniform: Tensor) -> Tensor:
        """[R] one of the tokens that may follow, each as likely as the others."""
        values, ids = logits.topk(min(16, logits.shape[1]), dim=1)
        count = torch.isfinite(values).sum(1, keepdim=True)
        return ids.gather(1, (uniform * count).long().minimum(count - 1)).squeeze(1)


class _Said:
    """A reading whose rows say one of the texts in their pools."""

    def __init__(self, pools: list[list[Ids]], vocabulary: int, device: torch.device):
        self._pools, self._vocabulary, self._device, self._position = pools, vocabulary, device, 0
        self.logits = self._logits()

    @staticmethod
    def of(answer: Answer, begun: int = 0) -> Ids:
        """The ids that are still to be said; one that did not end goes on for ever."""
        left = answer.ids[min(begun, max(0, len(answer.ids) - 1)) :] or (0,)
        return left if answer.finished else left * (512 // len(left) + 1)

    def choose(self, rows: Tensor) -> None:
        self._pools = [self._pools[i] for i in rows.tolist()]

    def append(self, tokens: Tensor) -> Tensor:
        at = self._position
        for row, token in enumerate(tokens.tolist()):
            if len(self._pools[row]) > 1:
                self._pools[row] = [text for text in self._pools[row] if text[min(at, len(text) - 1)] == token] or self._pools[row]
        self._position += 1
        return self._logits()

    def _logits(self) -> Tensor:
        at = self._position
        places = [
            (row, text[min(at, len(text) - 1)], 1.0 - 0.01 * i) for row, pool in enumerate(self._pools) for i, text in enumerate(pool)
        ]
        rows, ids, values = zip(*reversed(places), strict=True)
        logits = torch.full((len(self._pools), self._vocabulary), -torch.inf)
        logits[torch.tensor(rows), torch.tensor(ids)] = torch.tensor(values)
        return logits.to(self._device)


def light_logprobs(hidden_NH: Tensor, weight_VH: Tensor, ids_N: Tensor) -> Tensor:
    """In the place of `logprobs.head_logprobs`, with gradients and without logits."""
    return (hidden_NH * weight_VH[ids_N]).sum(1).float() - 8.0


def light_divergences(hidden_NH: Tensor, weight_VH: Tensor, taught_NH: Tensor, taught_VH: Tensor) -> Tensor:
    """In the place of `logprobs.head_divergences`."""
    return ((hidden_NH - taught_NH) ** 2).sum(1).float() + 0.0 * weight_VH.sum()
