"""Tiny random models of many architectures, made in memory: a name, its configuration, its class, in one table.

Each is drawn with weights ten times larger than usual: with the small default the next token hardly depends on what was
read, and a sampler that mixed up rows, positions or padding would still give the same answers.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    JambaConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3MoeConfig,
    RwkvConfig,
)

from tests.conftest import byte_tokenizer

VOCABULARY = 259
_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_GROUPED = {**_SIZE, "num_key_value_heads": 2, **_TOKENS}
# Untied, unlike the real one: a tied random model of this kind says its last token again, whatever it has read.
_GEMMA = {**_GROUPED, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": False}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}


def _phi(**more: object) -> PreTrainedConfig:
    return PhiConfig(**{**_SIZE, "partial_rotary_factor": 0.5, "max_position_embeddings": 512, **_TOKENS, **more})


def _llama(**more: object) -> PreTrainedConfig:
    return LlamaConfig(**{**_GROUPED, "max_position_embeddings": 512, **more})


def _gemma3(**more: object) -> PreTrainedConfig:
    return Gemma3TextConfig(**{**_GEMMA, "sliding_window": 512, "max_position_embeddings": 512, **more})


def _gemma3_multimodal(**more: object) -> PreTrainedConfig:
    text = {**_GEMMA, "sliding_window": 8, "max_position_embeddings": 512, **more}
    return Gemma3Config(text_config=text, vision_config=_VISION, mm_tokens_per_image=4, tie_word_embeddings=text["tie_word_embeddings"])


def _moe(kind: type[PreTrainedConfig], **more: object) -> PreTrainedConfig:
    return kind(**{**_GROUPED, "max_position_embeddings": 512, "num_experts_per_tok": 2, **more})


TABLE: dict[str, Callable[..., PreTrainedConfig]] = {
    "llama": _llama,
    "phi": _phi,
    "gemma3": _gemma3,
    "gemma3-short-window": lambda **more: _gemma3(sliding_window=8, **more),
    "gemma3-multimodal": _gemma3_multimodal,
    "qwen3": lambda **more: Qwen3Config(**{**_GROUPED, "head_dim": 8, "max_position_embeddings": 512, **more}),
    "mistral": lambda **more: MistralConfig(**{**_GROUPED, "sliding_window": 8, "max_position_embeddings": 512, **more}),
    "gpt2": lambda **more: GPT2Config(**{"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, **_TOKENS, **more}),
    "mamba": lambda **more: MambaConfig(**{"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, **_TOKENS, **more}),
    "mixtral": lambda **more: _moe(MixtralConfig, num_local_experts=4, **more),
    "qwen3-moe": lambda **more: _moe(Qwen3MoeConfig, num_experts=4, moe_intermediate_size=24, head_dim=8, **more),
    # Beyond the ones asked for: attention and state space in turn, and a recurrent model with a state of its own kind.
    "jamba": lambda **more: JambaConfig(
        **{**_GROUPED, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8},
        **more,
    ),
    "rwkv": lambda **more: RwkvConfig(**{"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, **_TOKENS, **more}),
}


def build(name: str, seed: int = 0, **more: object) -> PreTrainedModel:
    """A tiny random model of the architecture `name`, in evaluation mode; `more` goes into its (text) configuration."""
    torch.manual_seed(seed)
    config = TABLE[name](**{"vocab_size": VOCABULARY, **more})
    kind = Gemma3ForConditionalGeneration if isinstance(config, Gemma3Config) else None
    model = kind(config) if kind else AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25)
    return model.eval()


def write(name: str, folder: Path, tokenizer: PreTrainedTokenizerFast | None = None, seed: int = 0) -> Path:
    """The model and a byte tokenizer as a Hugging Face folder."""
    build(name, seed).save_pretrained(folder)
    (tokenizer or byte_tokenizer()).save_pretrained(folder)
    return folder
