"""Weights, configs, tokenizers and templates that do not do."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import architectures
from tests.bad_input.conftest import SECRET, damaged
from tests.conftest import byte_tokenizer
from unsay.config import ConfigError, ModelConfig
from unsay.lm import encode
from unsay.lm.encode import Encoder
from unsay.lm.files import look_at
from unsay.lm.model import load as load_model


def changed(name: str, folder: Path, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pickled(folder: Path, name: str = "pytorch_model.bin") -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / name)
    (folder / "model.safetensors").unlink()


def elsewhere(folder: Path) -> None:
    """As in a copy of the hub's cache without its blobs."""
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../../blobs/0123")


def indexed(folder: Path, file: str) -> None:
    """The weights outside of the folder, and an index that leads there."""
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, file)}))


def with_code(folder: Path, name: str, **values: object) -> None:
    changed(name, folder, **values)
    (folder / "evil.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w').close()\n")


UP = "model.layers.1.mlp.up_proj.weight"
AUTO = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a tensor missing": (lambda f: damaged(lambda t: t.pop(UP), f), f"its weights lack {UP}, which would be random"),
    "its head missing": (lambda f: damaged(lambda t: t.pop("lm_head.weight"), f), "its weights lack lm_head.weight"),
    "many missing": (lambda f: damaged(lambda t: [t.pop(k) for k in list(t)[:9]], f), "and 4 more, which would be random"),
    "a tensor too many": (
        lambda f: damaged(lambda t: t.update({"model.layers.2.mlp.up_proj.weight": torch.zeros(2)}), f),
        "its weights hold model.layers.2.mlp.up_proj.weight, for which config.json has no place",
    ),
    "a layer too few in its config": (lambda f: changed("config.json", f, num_hidden_layers=1, layer_types=None), "and 4 more, for which"),
    "a tensor of another shape": (
        lambda f: damaged(lambda t: t.update({UP: torch.zeros(2, 2)}), f),
        f"config.json wants another shape of {UP} ([2, 2] instead of [48, 32])",
    ),
    "a weight that is NaN": (lambda f: damaged(lambda t: t[UP].view(-1)[3].fill_(torch.nan), f), f"{UP} holds NaN or infinity"),
    "a weight that is infinite": (lambda f: damaged(lambda t: t[UP].view(-1)[3].fill_(-torch.inf), f), f"{UP} holds NaN or infinity"),
    "half a file of weights": (lambda f: os.truncate(f / "model.safetensors", 20_000), "SafetensorError"),
    "an empty file of weights": (lambda f: os.truncate(f / "model.safetensors", 0), "SafetensorError"),
    "no config": (lambda f: (f / "config.json").unlink(), "it has no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "it has no .safetensors file"),
    "weights that are a link to nothing": (elsewhere, "it has no .safetensors file"),
    "weights that are hidden": (lambda f: (f / "model.safetensors").rename(f / "._model.safetensors"), "it has no .safetensors file"),
    "some of its parts, and no index": (
        lambda f: (f / "model.safetensors").rename(f / "model-00001-of-00002.safetensors"),
        "its weights are parts without model.safetensors.index.json",
    ),
    "pickled weights": (pickled, "its weights stand in pytorch_model.bin, and pickled files can run code"),
    "pickled weights of another name": (lambda f: pickled(f, "model.pt"), "its weights stand in model.pt"),
    "adapters": (lambda f: (f / "adapter_config.json").write_text("{}"), "the folder holds adapters"),
    "an index that leaves the folder": (lambda f: indexed(f, "../outside.safetensors"), "index.json names '../outside.safetensors'"),
    "an index with a whole path": (lambda f: indexed(f, str(f.parent / "outside.safetensors")), "of the same folder alone"),
    "an index of pickles": (lambda f: indexed(f, "pytorch_model.bin"), "names 'pytorch_model.bin': weights are read from .safetensors"),
    "an index of what is not there": (lambda f: indexed(f, "gone.safetensors"), "names gone.safetensors, which is not there"),
    "an index that is none": (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "is no index of weights (TypeError)"),
    "a config that is no JSON": (lambda f: (f / "config.json").write_text("{"), "its config.json is no JSON object (JSONDecodeError)"),
    "a config that is a list": (lambda f: (f / "config.json").write_text("[]"), "its config.json is no JSON object"),
    "a config of odd sizes": (lambda f: changed("config.json", f, hidden_size="x"), "expected int, got str"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "a damaged tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "its files are damaged or do not belong together"),
    "a tokenizer larger than its embedding": (
        lambda f: architectures.build("llama", vocab_size=200).save_pretrained(f),
        "ids up to 258, but the model's embedding has 200 rows",
    ),
    "code of its own": (lambda f: with_code(f, "config.json", model_type="evil", auto_map=AUTO), "--set model.trust_remote_code=true"),
    "a tokenizer with code of its own": (
        lambda f: with_code(f, "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", None]}),
        "--set model.trust_remote_code=true",
    ),
}  # fmt: skip


@pytest.fixture
def folder(here: Path) -> Path:
    return architectures.write("llama", here / "model")


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_with(kind: str, folder: Path) -> None:
    damage, said = MODELS[kind]
    damage(folder)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        load_model(ModelConfig(name=str(folder)))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert sorted(folder.parent.rglob("*")) == before  # nor has code that came along left its file
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["./gone", "/nowhere/model", "~/gone", "gone\0", "x" * 5000, "model/config.json"])
def test_a_model_that_is_not_there(name: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot load model"):
        load_model(ModelConfig(name=name))


def test_a_message_begins_with_what_names_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"^model\.retain_model '.*model': model\.safetensors\.index\.json is no index"):
        look_at(str(folder), "model.retain_model")

    def locked(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", locked)
    with pytest.raises(ConfigError, match=r"^model\.retain_model '.*model': it cannot be read \(Permission denied\)"):
        look_at(str(folder), "model.retain_model")


def test_code_of_a_model_that_is_known_anyway_never_runs(folder: Path) -> None:
    with_code(folder, "config.json", auto_map=AUTO)
    load_model(ModelConfig(name=str(folder)))
    assert not Path("ran").exists()


def test_extra_tensors_can_be_ignored(folder: Path) -> None:
    expected = load_model(ModelConfig(name=str(folder)))[0].state_dict()
    damaged(lambda t: t.update({"score.weight": torch.zeros(2)}), folder)
    found = load_model(ModelConfig(name=str(folder), extra_tensors="ignore"))[0].state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_links_within_a_model_are_followed(folder: Path) -> None:
    """As in the hub's cache, where every file is a link out of the folder."""
    (folder.parent / "blobs").mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder.parent / "blobs" / str(number))
        path.symlink_to(f"../blobs/{number}")
    assert load_model(ModelConfig(name=str(folder)))


@pytest.mark.parametrize("tied", [True, False])
def test_a_head(tied: bool, here: Path) -> None:
    model = architectures.build("llama", tie_word_embeddings=tied)
    model.save_pretrained("model")
    byte_tokenizer().save_pretrained("model")
    found = load_model(ModelConfig(name="./model"))[0]
    assert (found.get_output_embeddings().weight is found.get_input_embeddings().weight) == tied
    assert torch.equal(found.get_output_embeddings().weight, model.get_output_embeddings().weight)


@pytest.mark.parametrize("missing", ["pad_token", "eos_token", "bos_token"])
def test_a_tokenizer_without(missing: str) -> None:
    tokenizer = byte_tokenizer()
    setattr(tokenizer, missing, None)
    encoder = Encoder(tokenizer)
    line_end = tokenizer.encode("\n", add_special_tokens=False)[0]
    assert encoder.end == (line_end if missing == "eos_token" else 2)
    assert encoder.pad == (2 if missing == "pad_token" else 0)
    assert encoder.prompt(None) == ((2,) if missing == "bos_token" else (1,))
    assert encoder.decode(encoder.answer("Ada.")) == "Ada."


CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT
SILENT = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}"
NEEDS_SYSTEM = "{% if messages[0].role != 'system' %}{{ raise_exception('a system message comes first') }}{% endif %}" + CHAT


@pytest.mark.parametrize("template", [NO_SYSTEM, SILENT], ids=["rejects", "leaves out"])
def test_a_chat_template_that_does_so_with_a_system_message(template: str, caplog: pytest.LogCaptureFixture) -> None:
    encode._warn_once.cache_clear()
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    for _ in range(2):
        encoder = Encoder(tokenizer, system_prompt="Be kind.")
    assert "<user>Be kind.\n\nWho?" in tokenizer.decode(encoder.prompt("Who?"))
    assert [record.message for record in caplog.records] == [
        "the tokenizer's chat template takes no system message: model.system_prompt is put before each question"
    ]
    assert tokenizer.decode(Encoder(tokenizer).prompt("Who?")).startswith("<user>Who?")


def test_a_chat_template_that_needs_a_system_message() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = NEEDS_SYSTEM
    assert tokenizer.decode(Encoder(tokenizer, system_prompt="Be kind.").prompt("Who?")).startswith("<system>Be kind.<eos>\n<user>Who?")
    with pytest.raises(ConfigError, match="a system message comes first; give it the variables"):
        Encoder(tokenizer)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "OverflowError"),
        ("{{ ''.__class__.__mro__ }}", "template fails"),
        ("{% for m in messages %}", "template fails"),
        ("hello", "leaves the question out; use --set model.template=plain"),
    ],
    ids=["divides by zero", "adds a number", "runs on", "reaches for Python", "is broken", "leaves the question out"],
)  # fmt: skip
def test_a_chat_template_that(template: str, said: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match=said):
        Encoder(tokenizer)


def test_a_chat_template_that_fails_on_one_question_does_not_quote_it() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% if 'bird' in messages[0].content %}{{ raise_exception('bad: ' + messages[0].content) }}{% endif %}" + CHAT
    encoder = Encoder(tokenizer)
    with pytest.raises(ConfigError, match="fails: on this text") as caught:
        encoder.prompt(f"Which bird is a {SECRET}?")
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None
