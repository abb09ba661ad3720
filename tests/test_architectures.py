"""Any causal language model: the whole way through for every architecture, and the corners that real ones have."""

import json
import logging
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import architectures
from tests.conftest import byte_tokenizer, files_corpus
from unsay.config import ConfigError, ModelConfig, SampleConfig, load
from unsay.lm import reading
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs
from unsay.lm.model import load as load_model
from unsay.lm.reading import Habits, habits
from unsay.lm.rows import Row
from unsay.lm.sample import Draw, first_tokens, sample
from unsay.record import record, start
from unsay.run import Watchers, run_audit
from unsay.store.files import read_jsonl
from unsay.store.folder import RunFolder
from unsay.train import train

QUESTIONS = ["Who?", "Where does she live now, and since when?", "When was that?"]
CONFIG = SampleConfig(max_new_tokens=10, rows=64)
SLOW = {"rwkv": Habits(padding=False, cache=False)}
"""What cannot be read in the quick way; everything else can."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [
        *files_corpus(tmp_path_factory.mktemp("rows"), forget=3, retain=4),
        "sample.max_new_tokens=10",
        "record.answers=2",
        "record.branches=2",
        "train.rounds=1",
        "train.batch=2",
        "train.learning_rate=1e-3",
        "pmc.samples=2",
        'audit.probes=["greedy", "sampling"]',
        "sampling.n=2",
    ]


def through(settings: list[str], path: Path) -> RunFolder:
    """A run without its report and without the audit before."""
    recipe, folder = load(None, settings), RunFolder(path)
    start(recipe, folder)
    record(recipe, folder)
    train(recipe, folder)
    run_audit(recipe, folder, "after", Watchers())
    return folder


def greedy_of_plain_transformers(folder: Path, contexts: list[tuple[int, ...]]) -> list[list[int]]:
    """One context at a time, with nothing of ours but the prompts' ids."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == architectures.VOCABULARY
    answers = []
    for context in contexts:
        ids = torch.tensor([context])
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, use_cache=True)
        answers.append(made[0, len(context) :].tolist())
    return answers


@pytest.mark.parametrize("preset", [pytest.param("paper", marks=pytest.mark.slow), "guarded"])
@pytest.mark.parametrize("name", architectures.TABLE)
def test_the_whole_way(name: str, preset: str, rows: list[str], tmp_path: Path):
    """Record, two steps, audit; then plain transformers gives the same greedy answers as our sampler."""
    source = architectures.write(name, tmp_path / "model")
    folder = through([*rows, f'model.name="{source}"', f"pmc.preset={preset}"], tmp_path / "run")
    manifest = folder.manifest()
    assert manifest.checkpoint.fingerprint != manifest.model.target_fingerprint
    assert manifest.model.sampling == str(SLOW.get(name, Habits()))
    found = read_jsonl(folder.audit_file("after"))
    assert {finding["probe"] for finding in found if finding["value"] is not None} >= {"greedy", "sampling"}
    model, encoder = load_model(ModelConfig(name=str(folder.checkpoint)))
    contexts = [encoder.prompt(question) for question in QUESTIONS]
    ours = [found[0].ids for found in sample(model, encoder, [Draw(str(i), c) for i, c in enumerate(contexts)], CONFIG)]
    assert [list(ids) for ids in ours] == greedy_of_plain_transformers(folder.checkpoint, contexts)


@pytest.mark.parametrize("name", architectures.TABLE)
def test_a_batch_says_what_its_rows_say_alone(name: str, caplog: pytest.LogCaptureFixture):
    """Sampled and greedy, tokens and likelihoods: nothing depends on the padding that company brings."""
    model, encoder = architectures.build(name), Encoder(byte_tokenizer())
    reading._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "unsay"):
        known = habits(model)
        assert habits(model) is known
        habits(architectures.build(name))
    assert (known.padding, known.cache) == (SLOW.get(name, Habits()).padding, SLOW.get(name, Habits()).cache)
    said = [record.name for record in caplog.records if record.name.startswith("unsay")]
    assert said == ["unsay.lm.reading"] * (name in SLOW)  # and only once
    contexts = [encoder.prompt(question) for question in QUESTIONS]
    for temperature in (0.0, 1.0):
        draws = [Draw(str(i), context, 3, temperature) for i, context in enumerate(contexts)]
        together = sample(model, encoder, draws, CONFIG, seed=1)
        assert together == [sample(model, encoder, [draw], CONFIG, seed=1)[0] for draw in draws]
        assert len({answer.ids for answers in together for answer in answers}) > (6 if temperature else 1)
    firsts = first_tokens(model, encoder, contexts, 3)
    assert firsts == [first_tokens(model, encoder, [context], 3)[0] for context in contexts]
    pairs = [
        encoder.pair(question, answer) for question, answer in zip(QUESTIONS, ("Ada Lovelace.", "There.", "Once upon a time."), strict=True)
    ]
    values = answer_logprobs(model, encoder.batch(pairs))
    for row, pair in zip(values, pairs, strict=True):
        direct = model(input_ids=torch.tensor([pair.context + pair.answer])).logits.log_softmax(-1)[0, len(pair.context) - 1 : -1]
        expected = direct.gather(1, torch.tensor(pair.answer)[:, None]).squeeze(1)
        assert row[: len(pair.answer)].tolist() == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("name", ["llama", "mamba", "gemma3-short-window"])
def test_reading_anew_changes_nothing_but_the_time(name: str, monkeypatch: pytest.MonkeyPatch):
    """The slow way with the same random numbers gives the same answers: promise 5 holds where a cache does not."""
    model, encoder = architectures.build(name), Encoder(byte_tokenizer())
    draws = [Draw(str(i), encoder.prompt(question), 4, 1.0, 0.9) for i, question in enumerate(QUESTIONS)]
    quick = sample(model, encoder, draws, CONFIG, seed=5)
    for slow in (Habits(cache=False), Habits(padding=False), Habits(padding=False, cache=False)):
        monkeypatch.setattr("unsay.lm.sample.habits", lambda _, slow=slow: slow)
        monkeypatch.setattr("unsay.lm.reading.habits", lambda _, slow=slow: Habits(slow.padding, slow.cache, habits(model).masked))
        assert sample(model, encoder, draws, CONFIG, seed=5) == quick


def test_habits_are_found_by_trying():
    """A cache that forgets is noticed, whatever the model is called."""
    model = architectures.build("llama")
    assert habits(model) == Habits()
    forgetful = architectures.build("llama")
    inner = forgetful.forward

    class Forgetful(type(forgetful)):  # type: ignore[misc]
        def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None, logits_to_keep=0):
            return inner(input_ids, attention_mask=attention_mask[:, -input_ids.shape[1] :] if attention_mask is not None else None)

    forgetful.__class__ = Forgetful
    assert not habits(forgetful).cache


def test_training_mode_is_left_as_it_was():
    model = architectures.build("llama").train()
    habits(model)
    assert model.training
    assert all(module.training for module in model.modules())


# -- heads, tokenizers and embeddings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "mamba"])
def test_tied_and_untied_heads_survive_the_way_round(name: str, tied: bool, rows: list[str], tmp_path: Path):
    model = architectures.build(name, tie_word_embeddings=tied)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    model.save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    folder = through([*rows, f'model.name="{tmp_path / "model"}"', "pmc.preset=paper", "model.freeze_embeddings=true"], tmp_path / "run")
    again = AutoModelForCausalLM.from_pretrained(folder.checkpoint)
    assert (again.get_output_embeddings().weight is again.get_input_embeddings().weight) == tied
    assert torch.equal(again.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("missing", ["pad_token", "bos_token", "eos_token"])
def test_a_tokenizer_without(missing: str, rows: list[str], tmp_path: Path):
    tokenizer = byte_tokenizer()
    setattr(tokenizer, missing, None)
    model = architectures.build("llama")
    if missing == "eos_token":
        model.generation_config.eos_token_id = model.config.eos_token_id = None
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    folder = through([*rows, f'model.name="{tmp_path / "model"}"', "record.replay=2"], tmp_path / "run")
    _, encoder = load_model(ModelConfig(name=str(folder.checkpoint)))
    line_end = byte_tokenizer().encode("\n", add_special_tokens=False)[0]
    assert encoder.end == (line_end if missing == "eos_token" else 2)
    assert encoder.prompt(None) == ((2,) if missing == "bos_token" else (1,))


def written(folder: Path, vocabulary: int, tokenizer: object = None) -> ModelConfig:
    architectures.build("llama", vocab_size=vocabulary).save_pretrained(folder)
    (tokenizer or byte_tokenizer()).save_pretrained(folder)  # type: ignore[attr-defined]
    return ModelConfig(name=str(folder))


def test_a_tokenizer_larger_than_the_embedding(tmp_path: Path):
    with pytest.raises(ConfigError, match="ids up to 258, but the model's embedding has 200 rows"):
        load_model(written(tmp_path, 200))


def test_added_tokens_beyond_the_embedding_harm_only_texts_that_hold_them(tmp_path: Path):
    """As in text-only models that keep the place holder of an image, and where somebody added a padding token."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "pad_token": "<padding>"})
    model, encoder = load_model(written(tmp_path, architectures.VOCABULARY, tokenizer))
    assert tokenizer.pad_token_id >= architectures.VOCABULARY > encoder.pad
    draws = [Draw(str(i), encoder.prompt(question)) for i, question in enumerate(QUESTIONS)]
    assert [len(found) for found in sample(model, encoder, draws, CONFIG)] == [1, 1, 1]
    with pytest.raises(ConfigError, match=r"a special token of the tokenizer whose id (259|260) lies beyond"):
        encoder.prompt("What is <image>?")


def test_an_embedding_larger_than_the_tokenizer_is_fine(tmp_path: Path):
    model, encoder = load_model(written(tmp_path, 320))
    with torch.no_grad():
        model.lm_head.weight[300] += 5 * model.lm_head.weight.norm()  # an id that no text has
    answers = sample(model, encoder, [Draw("a", encoder.prompt("Who?"), 4, 1.5)], CONFIG)[0]
    assert all(isinstance(answer.text, str) for answer in answers)


def test_a_head_that_is_kept_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    config = architectures.write("llama", tmp_path)
    kind = type(architectures.build("llama"))
    encoder = Encoder(byte_tokenizer())
    batch = encoder.batch([encoder.pair("Who?", "Ada.")])
    expected = answer_logprobs(load_model(ModelConfig(name=str(config)))[0], batch)
    monkeypatch.setattr(kind, "get_output_embeddings", lambda self: None)
    model, _ = load_model(ModelConfig(name=str(config), freeze_embeddings=True))
    assert not model.get_input_embeddings().weight.requires_grad
    assert torch.allclose(answer_logprobs(model, batch), expected, atol=1e-5)


def test_a_forward_that_takes_ids_alone(monkeypatch: pytest.MonkeyPatch):
    """No mask, no positions, no cache: rows of one length share a batch, and the answers are those of the whole forward."""
    model, encoder = architectures.build("llama"), Encoder(byte_tokenizer())
    draws = [Draw(str(i), encoder.prompt(question), 2, 1.0) for i, question in enumerate(QUESTIONS)]
    expected, inner = sample(model, encoder, draws, CONFIG), type(model).forward
    bare = architectures.build("llama")

    class Bare(type(model)):  # type: ignore[misc]
        def forward(self, input_ids):
            return inner(self, input_ids, use_cache=False)

    bare.__class__ = Bare
    assert sample(bare, encoder, draws, CONFIG) == expected
    assert habits(bare) == Habits(padding=False, cache=False)
    rows = [encoder.pair("Who?", "Ada Lovelace."), encoder.pair("Where does she live?", "There.")]
    assert torch.allclose(answer_logprobs(bare, encoder.batch(rows)), answer_logprobs(model, encoder.batch(rows)), atol=1e-4)


# -- the length of the context, and folders that cannot be loaded --------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_prompt_longer_than_the_context(name: str, rows: list[str], tmp_path: Path):
    architectures.build(name, **{"n_positions" if name == "gpt2" else "max_position_embeddings": 40}).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    model, encoder = load_model(ModelConfig(name=str(tmp_path / "model")))
    fitting = [Draw("short", encoder.prompt("A?")), Draw("tight", encoder.prompt("Where is that?"))]
    short, tight = sample(model, encoder, fitting, SampleConfig(max_new_tokens=15))
    assert (len(short[0].ids), len(tight[0].ids)) == (15, 40 - len(fitting[1].context))
    assert not tight[0].finished
    with pytest.raises(ConfigError, match=r"the prompt of 'forget-007' is \d+ tokens long, and this model reads at most 40") as error:
        sample(model, encoder, [Draw("forget-007|the secret", encoder.prompt("Where is Ada's house, and who lives there?"))], CONFIG)
    assert "secret" not in str(error.value)
    with pytest.raises(ConfigError, match=r"row 'retain-000' is \d+ tokens long with its answer"):
        through([*rows, f'model.name="{tmp_path / "model"}"'], tmp_path / "run")


def test_pickled_weights_are_refused(tmp_path: Path):
    model = architectures.build("llama")
    model.config.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        load_model(ModelConfig(name=str(tmp_path)))


def test_a_model_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="cannot load model"):
        load_model(ModelConfig(name=str(tmp_path)))


def test_a_head_that_is_no_plain_matrix_gets_the_answer_tokens_alone() -> None:
    """Whatever the forward makes of `logits_to_keep`: a head with a bias, rows of very different lengths, and one forward that is deaf."""
    model, encoder, seen = architectures.build("phi"), Encoder(byte_tokenizer()), []
    rows = [Row((1,) + (5,) * n, (9, 2)) for n in range(1, 40, 3)]
    alone = [answer_logprobs(model, encoder.batch([row]))[0] for row in rows]
    handle = model.get_output_embeddings().register_forward_hook(lambda _, given, __: seen.append(given[0].shape[:-1].numel()))
    assert torch.allclose(answer_logprobs(model, encoder.batch(rows)), torch.stack(alone), atol=1e-4)
    handle.remove()
    assert seen == [2 * len(rows)]
    with patch.object(type(model), "get_output_embeddings", return_value=None):
        assert torch.allclose(answer_logprobs(model, encoder.batch(rows)), torch.stack(alone), atol=1e-4)
