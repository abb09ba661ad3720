"""A two-layer model and a byte tokenizer, made in memory: no network, no downloads, a fraction of a second."""

import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from tests.browser import Chromium
from unsay.lm.encode import Encoder


def files_corpus(folder: Path, forget: int, retain: int) -> list[str]:
    """So many numbered questions of either kind, written as files, and the settings that name them."""
    rows = {
        "forget": [{"question": f"What is secret number {i}?"} for i in range(forget)],
        "retain": [{"question": f"What is fact number {i}?", "answer": f"It is {i}."} for i in range(retain)],
    }
    for name, some in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    return ["corpus=files", *(f'files.{name}="{folder / name}.jsonl"' for name in rows)]


def small_run(model: Path, rows: Path, forget: int, retain: int) -> list[str]:
    """The settings of a run of seconds, its rows written into the folder `rows`; what is added after them wins."""
    return [
        *files_corpus(rows, forget, retain),
        f'model.name="{model}"',
        "sample.max_new_tokens=8",
        "record.answers=2",
        "train.batch=2",
        "train.save_every=1",
        "train.learning_rate=1e-3",
    ]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, plus <bos>, <eos> and <pad>."""
    special = ["<pad>", "<bos>", "<eos>"]
    vocabulary = {token: i for i, token in enumerate(special)}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")


def tiny_model(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny_model()


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(byte_tokenizer())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
