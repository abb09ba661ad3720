"""The model under test, and what it is asked."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from pairs import tell
from unsay.config import ConfigError, ModelConfig
from unsay.corpora import general
from unsay.corpora.people import People
from unsay.corpora.tofu import Tofu
from unsay.lm.encode import Encoder
from unsay.lm.model import default_device, load
from unsay.store.memory import keep_freed_pages
from unsay.types import Corpus, Example

PEOPLE = "people-target"
GEMMA = "gemma-3-270m"


@dataclass(frozen=True)
class Subject:
    name: str
    model: PreTrainedModel
    encoder: Encoder

    @property
    def endless(self) -> Encoder:
        """The encoder with no end of answer: every answer reaches its length limit."""
        endless = copy.copy(self.encoder)
        endless.stops = frozenset()
        return endless

    @property
    def flops_per_token(self) -> float:
        """Two for every weight that a token is multiplied with: the head counts, looking up an embedding does not."""
        return 2.0 * sum(module.weight.numel() for module in self.model.modules() if isinstance(module, nn.Linear | Conv1D))


def subject(name: str, dtype: str = "float32", keep_pages: bool = True) -> Subject:
    """The named model; a random Llama of 60 million weights where `gemma-3-270m` is not installed.

    `keep_pages` asks the C library to keep freed memory, as the command line does; it helps both sides.
    """
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if keep_pages:
        keep_freed_pages()
    try:
        model, encoder = load(ModelConfig(name, dtype=dtype))
    except ConfigError as error:
        if name != GEMMA:
            raise SystemExit(str(error)) from None
        tell(f"{error}; a random Llama stands in")
        name = "random-llama-60m"
        model, encoder = _random_llama(dtype)
    model.generation_config = GenerationConfig()  # each side says what it wants; a checkpoint's defaults would creep in
    return Subject(name, model, encoder)


def _random_llama(dtype: str) -> tuple[PreTrainedModel, Encoder]:
    _, encoder = load(ModelConfig(PEOPLE))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(encoder.tokenizer),
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=12,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    return model.eval().to(default_device()), encoder


def corpus(name: str) -> Corpus:
    """What fits the model: the built-in people for their own model and the random one, else TOFU where `UNSAY_DATA` is set,
    else the package's general questions."""
    if not name.startswith(("people", "random")):
        if os.environ.get("UNSAY_DATA"):
            return Tofu(forget="forget01", retain_authors=3, mix=0).corpus()
        rows = general.load()
        return Corpus("general", tuple(Example(row.id, row.question) for row in rows[::2]), retain=rows[1::2])
    return People().corpus()


def questions(name: str, n: int) -> list[str]:
    return [example.question for example in corpus(name).forget[:n]]


def contexts(tested: Subject, asked: Sequence[str]) -> list[tuple[int, ...]]:
    return [tested.encoder.prompt(question) for question in asked]
