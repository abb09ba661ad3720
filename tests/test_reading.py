"""How a model reads: through its cache, whatever its forward calls it, and never through one that stays empty."""

import inspect
import logging

import pytest
import torch
from transformers import PreTrainedModel

from tests import architectures
from tests.conftest import byte_tokenizer
from unsay.config import SampleConfig
from unsay.lm import reading
from unsay.lm.encode import Encoder
from unsay.lm.reading import Habits, cached_bytes, habits, read
from unsay.lm.sample import Draw, sample

CONFIG = SampleConfig(max_new_tokens=12, rows=64)
QUESTIONS = ["Who?", "Where does she live now?", "When was that?"]


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(byte_tokenizer())


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is said on the log, by a process that has said nothing yet."""
    reading._warn_once.cache_clear()
    caplog.set_level(logging.WARNING, "unsay")
    return caplog


def native(model: PreTrainedModel) -> str:
    """What the installed transformers calls the cache of a Llama."""
    return "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"


def called(name: str | None) -> PreTrainedModel:
    """A tiny Llama whose forward calls its cache `name`, or takes none. What it reads is counted in `tokens_read`."""
    model = architectures.build("llama")
    kind, theirs = type(model), native(model)

    def whole(self, input_ids, attention_mask, position_ids, cache, use_cache, logits_to_keep):
        self.tokens_read += input_ids.numel()
        memory = {} if cache is None else {theirs: cache}
        known = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": use_cache, "logits_to_keep": logits_to_keep}
        return kind.forward(self, input_ids=input_ids, **known, **memory)

    class Cache(kind):
        def forward(self, input_ids, attention_mask=None, position_ids=None, cache=None, use_cache=None, logits_to_keep=0):
            return whole(self, input_ids, attention_mask, position_ids, cache, use_cache, logits_to_keep)

    class PastKeyValues(kind):
        def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None, logits_to_keep=0):
            return whole(self, input_ids, attention_mask, position_ids, past_key_values, use_cache, logits_to_keep)

    class Both(kind):
        def forward(
            self, input_ids, attention_mask=None, position_ids=None, cache=None, past_key_values=None, use_cache=None, logits_to_keep=0
        ):
            assert cache is None or past_key_values is None, "one name is the old one of the other"
            return whole(self, input_ids, attention_mask, position_ids, cache or past_key_values, use_cache, logits_to_keep)

    class CacheParams(kind):
        def forward(self, input_ids, attention_mask=None, position_ids=None, cache_params=None, use_cache=None, logits_to_keep=0):
            return whole(self, input_ids, attention_mask, position_ids, cache_params, use_cache, logits_to_keep)

    class Neither(kind):
        def forward(self, input_ids, attention_mask=None, position_ids=None, use_cache=None, logits_to_keep=0, **kwargs):
            return whole(self, input_ids, attention_mask, position_ids, None, False, logits_to_keep)

    kinds = {"cache": Cache, "past_key_values": PastKeyValues, "both": Both, "cache_params": CacheParams, None: Neither}
    model.__class__, model.tokens_read = kinds[name], 0
    return model


@pytest.mark.parametrize("name", ["cache", "past_key_values", "cache_params", "both"])
def test_a_cache_is_used_whatever_it_is_called(name: str, encoder: Encoder, warned: pytest.LogCaptureFixture):
    """Each token is read once: a prompt for all its draws, then one token a row and step."""
    model, draws = called(name), [Draw(str(i), encoder.prompt(question), 2, 1.0) for i, question in enumerate(QUESTIONS)]
    assert habits(model) == Habits()
    assert not warned.records
    contexts = [draw.context for draw in draws]
    model.tokens_read = 0
    assert sample(model, encoder, draws, CONFIG) == sample(architectures.build("llama"), encoder, draws, CONFIG)
    prompts = len(contexts) * max(map(len, contexts))
    assert model.tokens_read <= prompts + 6 * CONFIG.max_new_tokens
    with torch.no_grad():
        reading = read(model, *encoder.prompts(contexts, model.device), room=4)
    assert reading._cache.get_seq_length() == max(map(len, contexts))


def test_a_cache_that_is_not_taken_is_said(encoder: Encoder, warned: pytest.LogCaptureFixture):
    model, draws = called(None), [Draw(str(i), encoder.prompt(question), 2, 1.0) for i, question in enumerate(QUESTIONS)]
    assert sample(model, encoder, draws, CONFIG) == sample(architectures.build("llama"), encoder, draws, CONFIG)
    assert habits(model) == Habits(cache=False)
    [said] = [record.getMessage() for record in warned.records]
    assert "no usable cache" in said
    assert "takes nothing called cache, past_key_values or cache_params" in said
    assert cached_bytes(model) == (0.0, 0.0)


def deaf(model: PreTrainedModel) -> PreTrainedModel:
    """The model, which takes a cache and leaves it empty, and whose next token depends on nothing but the last one: one
    token read alone has the logits of the whole row, and only a look into the cache tells that nothing is in it."""
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    kind, theirs = type(model), native(model)

    class Deaf(kind):
        def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None, logits_to_keep=0):
            return kind.forward(self, input_ids=input_ids, use_cache=False, logits_to_keep=logits_to_keep, **{theirs: None})

    model.__class__ = Deaf
    return model


def test_a_cache_that_stays_empty_is_not_used_and_said(warned: pytest.LogCaptureFixture):
    model = deaf(architectures.build("llama"))
    assert habits(model) == Habits(cache=False)
    [said] = [record.getMessage() for record in warned.records]
    assert "left it empty" in said


def test_a_cache_that_is_left_empty_later_is_not_used_and_said(encoder: Encoder, warned: pytest.LogCaptureFixture):
    """What was found out may change: a layer under gradient checkpointing, for one, drops the cache it is given."""
    model = architectures.build("llama")
    draws = [Draw(str(i), encoder.prompt(question), 2, 1.0) for i, question in enumerate(QUESTIONS)]
    expected = sample(model, encoder, draws, CONFIG)
    kind, theirs = type(model), native(model)

    class Forgetful(kind):
        def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None, logits_to_keep=0):
            known = {"attention_mask": attention_mask, "position_ids": position_ids, "logits_to_keep": logits_to_keep}
            return kind.forward(self, input_ids=input_ids, use_cache=False, **known, **{theirs: None})

    assert habits(model) == Habits()
    model.__class__ = Forgetful
    assert sample(model, encoder, draws, CONFIG) == expected
    assert habits(model) == Habits(cache=False)
    [said] = [record.getMessage() for record in warned.records]
    assert "left it empty" in said


def test_an_empty_sliding_window_is_seen(warned: pytest.LogCaptureFixture):
    """Its layer holds a tensor, the window's length, before anything was read."""
    assert habits(deaf(architectures.build("mistral"))) == Habits(cache=False)


@pytest.mark.parametrize("name", ["mamba", "jamba"])
def test_states_count_as_cached_bytes(name: str):
    """A state-space layer keeps its tensors in a dictionary."""
    fixed, token = cached_bytes(architectures.build(name))
    assert fixed > 0
    assert (token > 0) == (name == "jamba")
