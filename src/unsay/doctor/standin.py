"""A stand-in for the recipe's model, with which stages are run to be counted: a tiny model, and what it is to say.

The tiny model has the tokenizer, the vocabulary, the layers and the longest text of the real one, and next to no weights. What it
computes means nothing, so its answers are put into its mouth: those that the real model gave to a few questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from unsay.config import Recipe, SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.sample import Draw, uniform
from unsay.types import Answer

_WIDTH = 64
"""Hidden size of the tiny model, the least that bitsandbytes packs."""
Ids = tuple[int, ...]


def stand_in(recipe: Recipe, encoder: Encoder, vocabulary: int, layers: int, folder: Path) -> Recipe:
    """The recipe with the tiny model, written to `folder`, in the place of its own."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=_WIDTH,
        intermediate_size=_WIDTH,
        num_hidden_layers=layers,
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
    return replace(recipe, model=model, lora=replace(recipe.lora, targets=("all-linear",)))


@dataclass
class Said:
    """Answers in the place of those that the stand-in would write."""

    forget: Mapping[str, Sequence[Answer]]
    """By forget question, the greedy one first; a question that is not among them gets all of these."""
    others: Sequence[Answer]
    """To any other question, and, once it has `unlearned`, to forget questions too."""
    unasked: Sequence[Answer] = ()
    unlearned: bool = False
    prompts: dict[Ids, Sequence[Answer]] = field(default_factory=dict)
    empty: set[Ids] = field(default_factory=set)

    def know(self, encoder: Encoder, questions: Sequence[str]) -> None:
        """The prompts of forget questions, as this encoder writes them."""
        every = [answer for answers in self.forget.values() for answer in answers]
        self.empty.add(encoder.prompt(None))
        for question in questions:
            self.prompts[encoder.prompt(question)] = self.forget.get(question) or every

    def __call__(self, encoder: Encoder, draws: Sequence[Draw], config: SampleConfig, salt: str) -> list[Answer]:
        """`draw.n` answers to each draw, by chance; the first to a forget question asked greedily, all in turn where nobody asks."""
        found = []
        for draw in draws:
            pool, begun = self._pool(draw.context)
            if draw.repelled and self.unasked:  # kept from its own words it writes as it does unasked
                pool = self.unasked
            limit = min(draw.limit or config.max_new_tokens, config.max_new_tokens)
            greedy = not draw.temperature and begun >= 0
            numbers = range(draw.first, draw.first + draw.n)
            names = [(salt, draw.key, i) for i in numbers] if draw.temperature else [("greedy", draw.context)]
            for i, name in enumerate(names):
                # Unasked each once in a draw: what is written twice counts as somebody's name (replay.names_in).
                in_turn = draw.context in self.empty
                answer = pool[0] if greedy else pool[i % len(pool) if in_turn else int(uniform(0, *name) * len(pool))]
                found.append(_rest(answer, max(0, begun), limit, encoder))
        return found

    def _pool(self, context: Ids) -> tuple[Sequence[Answer], int]:
        """What may follow a context, and how many tokens of it are there already; -1 where it is no forget question."""
        if context in self.empty and self.unasked:
            return self.unasked, -1
        for length in range(len(context), 0, -1):
            if (known := self.prompts.get(context[:length])) is not None:
                return (self.others if self.unlearned else known), len(context) - length
        return self.others, -1


def _rest(answer: Answer, begun: int, limit: int, encoder: Encoder) -> Answer:
    """What is still to be said of an answer; one that did not end goes on to the limit."""
    ids = answer.ids[min(begun, max(0, len(answer.ids) - 1)) :] or (0,)
    if not answer.finished:
        ids = ids * (limit // len(ids) + 1)
    finished = answer.finished and len(ids) <= limit
    ids = ids[:limit]
    return Answer(ids, encoder.decode(ids[:-1] if finished else ids), finished)


def light_logprobs(hidden_NH: Tensor, weight_VH: Tensor, ids_N: Tensor) -> Tensor:
    """In the place of `logprobs.head_logprobs`, with gradients and without logits."""
    return (hidden_NH * weight_VH[ids_N]).sum(1).float() - 8.0


def light_divergences(hidden_NH: Tensor, weight_VH: Tensor, taught_NH: Tensor, taught_VH: Tensor, temperatures: Sequence[float]) -> Tensor:
    """In the place of `logprobs.head_divergences`."""
    return ((hidden_NH - taught_NH) ** 2).sum(1).float() + 0.0 * weight_VH.sum()
