"""Built-in names: what they resolve to, and a conversion that leaves a whole folder or none."""

import importlib.util
from pathlib import Path

import pytest

from unsay.config import ConfigError
from unsay.lm import builtin


def test_other_names_come_back_unchanged():
    assert builtin.resolve("./people-retain") == "./people-retain"
    assert builtin.resolve("someone/some-model") == "someone/some-model"


def test_every_name_is_described():
    assert set(builtin.describe()) == {*builtin.SHIPPED, builtin.GEMMA}
    assert all("\n" not in line for line in builtin.describe().values())


def test_shipped_names_lead_to_package_data(tmp_path, monkeypatch):
    monkeypatch.setattr(builtin, "CHECKPOINTS", tmp_path)
    with pytest.raises(ConfigError, match=r"python scripts/build_people\.py$"):
        builtin.resolve("people-retain")
    (tmp_path / "retain").mkdir()
    (tmp_path / "retain" / "config.json").write_text("{}")
    assert builtin.resolve("people-retain") == str(tmp_path / "retain")


def test_missing_extra_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSAY_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[gemma\]' .*'\.\[gemma\]'"):
        builtin.resolve("gemma-3-270m")


@pytest.fixture
def extra(tmp_path, monkeypatch):
    """The extra, as if installed, and an empty cache."""
    monkeypatch.setenv("UNSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return tmp_path / "cache"


def test_converts_once_and_names_the_terms(extra, monkeypatch, capsys):
    calls = []

    def convert(work: Path, built: Path) -> None:
        calls.append(work)
        built.mkdir()
        (built / "config.json").write_text("{}")

    monkeypatch.setattr(builtin, "_convert", convert)
    assert builtin.resolve("gemma-3-270m") == builtin.resolve("gemma-3-270m") == str(extra / "gemma-3-270m")
    assert len(calls) == 1
    notice = capsys.readouterr().err
    assert notice.count("\n") == 2
    assert "takes about a minute" in notice
    assert str(extra / "gemma-3-270m" / "GEMMA_TERMS.html") in notice
    assert [path.name for path in extra.iterdir()] == ["gemma-3-270m"]


def test_a_broken_conversion_leaves_nothing(extra, monkeypatch):
    def convert(work: Path, built: Path) -> None:
        built.mkdir()
        (built / "model.safetensors").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(builtin, "_convert", convert)
    with pytest.raises(OSError, match="disk full"):
        builtin.resolve("gemma-3-270m")
    assert list(extra.iterdir()) == []


def test_a_faster_process_wins(extra, monkeypatch):
    def convert(work: Path, built: Path) -> None:
        built.mkdir()
        (built / "config.json").write_text("mine")
        (extra / "gemma-3-270m").mkdir()
        (extra / "gemma-3-270m" / "config.json").write_text("theirs")

    monkeypatch.setattr(builtin, "_convert", convert)
    folder = Path(builtin.resolve("gemma-3-270m"))
    assert (folder / "config.json").read_text() == "theirs"
    assert [path.name for path in extra.iterdir()] == ["gemma-3-270m"]


@pytest.mark.slow
def test_gemma_answers():
    if importlib.util.find_spec(builtin.GEMMA_PACKAGE) is None:
        pytest.skip("the extra unsay[gemma] is not installed")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = builtin.resolve("gemma-3-270m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert not hasattr(model.config, "quantization_config")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3
    prompt = tokenizer("Question: What is the capital of France?\nAnswer:", return_tensors="pt")
    ids = model.generate(**prompt, max_new_tokens=2, do_sample=False)[0, prompt.input_ids.shape[1] :]
    assert tokenizer.decode(ids).split()[0] == "Paris"
