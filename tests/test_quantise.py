"""The quantise probe: what it asks is what plain transformers makes of the saved model, and nothing is left behind."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from unsay.config import ConfigError, ModelConfig, SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs, fingerprint, load
from unsay.lm.reading import Habits, habits
from unsay.lm.subject import LocalSubject, Prompt
from unsay.measure.summary import summarise
from unsay.probes.quantise import Quantise, quantised
from unsay.types import Case, Corpus, Example, Fact, Finding

bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="rounds through bitsandbytes: pip install 'unsay[bitsandbytes]'"
)
SPECIAL = {"vocab_size": 259, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def wide(kind: str = "Linear") -> PreTrainedModel:
    """Rows as long as a block of 64 weights that shares its scale."""
    torch.manual_seed(0)
    if kind == "Conv1D":
        return GPT2LMHeadModel(GPT2Config(n_embd=128, n_layer=2, n_head=4, **SPECIAL)).eval()
    sizes = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **SPECIAL)).eval()


@pytest.fixture
def case() -> Case:
    examples = (Example("a", "Where does Ada live?"), Example("b", "Where does Bob live?"), Example("c", "Where does Cy live?"))
    facts = {"a": Fact("a", "In Arles."), "b": Fact("b", "In Brest.")}
    return Case(Corpus("test", examples, ()), facts, "ground truth")


@bitsandbytes
@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("bits", [8, 4])
def test_it_is_what_plain_transformers_loads(kind: str, bits: int, encoder: Encoder, tmp_path: Path) -> None:
    model = wide(kind)
    model.save_pretrained(tmp_path)
    wanted = BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=wanted).eval()
    batch, before = encoder.batch([encoder.pair("Who?", "Someone."), encoder.pair("What is it?", "It is a thing.")]), fingerprint(model)
    with torch.no_grad():
        ours, theirs, whole = (answer_logprobs(m, batch) for m in (quantised(model, bits), loaded, model))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, whole)
    assert fingerprint(model) == before


@bitsandbytes
def test_only_the_rounded_weights_are_new() -> None:
    model = wide()
    twin = dict(quantised(model, 4).named_parameters())
    for name, parameter in model.named_parameters():
        rounded = "_proj" in name
        assert (twin[name] is parameter) != rounded
        assert twin[name].dtype == (torch.uint8 if rounded else torch.float32)


@bitsandbytes
def test_findings_by_width(encoder: Encoder, case: Case) -> None:
    model = wide()
    subject = LocalSubject(model, encoder, SampleConfig(max_new_tokens=8))
    found = Quantise(n=2)(subject, case)
    scored = [(f.metric, f.example, f.setting, f.n) for f in found if f.value is not None]
    assert scored == [
        (metric, example, setting, n)
        for setting in ("8 bits", "4 bits")
        for example in "ab"
        for metric, n in (("keyword_recall", 1), ("worst_keyword_recall", 2))
    ]
    assert {(f.example, f.note) for f in found if f.value is None} == {("c", "no reference text for this question")}
    # A model that answers something else in few bits is asked the rounded one, not itself.
    rounded = LocalSubject(quantised(model, 4), encoder, subject.config)
    prompt = [Prompt("a", "Where does Ada live?")]
    assert rounded.ask(prompt, 4, 1.0) != subject.ask(prompt, 4, 1.0)


def test_what_cannot_be_run_is_unscored(model: PreTrainedModel, encoder: Encoder, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    class Text:
        weights = None

    def notes(subject: object, probe: Quantise) -> set[str]:
        found = [f for f in probe(subject, case) if f.example != "c"]
        assert len(found) == 4 * len(probe.bits)
        assert all(f.value is None for f in found)
        return {f.note for f in found}

    assert notes(Text(), Quantise()) == {"this model shows no weights"}
    subject = LocalSubject(model, encoder, SampleConfig(max_new_tokens=4))
    if importlib.util.find_spec("bitsandbytes"):  # rows of 32 weights are shorter than a block
        assert "cannot be asked in 4 bits" in notes(subject, Quantise(bits=(4,))).pop()
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    assert "pip install 'unsay[bitsandbytes]'" in notes(subject, Quantise()).pop()


def test_the_message_of_a_library_stays_inside(
    model: PreTrainedModel, encoder: Encoder, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("cannot tokenise 'Where does Jane Roe live?'")

    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: True)
    monkeypatch.setattr("unsay.probes.quantise.quantised", fails)
    found = Quantise(bits=(8,))(LocalSubject(model, encoder, SampleConfig(max_new_tokens=4)), case)
    notes = {f.note for f in found if f.example != "c"}
    assert all("ValueError" in note and "Jane" not in note for note in notes)


def test_a_fault_in_scoring_is_not_taken_for_one_of_the_library(
    model: PreTrainedModel, encoder: Encoder, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: True)
    monkeypatch.setattr("unsay.probes.quantise.quantised", lambda model, bits: model)
    monkeypatch.setattr("unsay.probes.scoring.secret_recall", fails)
    with pytest.raises(ValueError, match="a fault of ours"):
        Quantise(bits=(8,))(LocalSubject(model, encoder, SampleConfig(max_new_tokens=4)), case)


def test_the_summary_takes_the_width_that_says_most() -> None:
    found = [
        Finding("quantise", "worst_keyword_recall", value, example, setting)
        for setting, values in (("8 bits", (0.0, 0.5)), ("4 bits", (0.5, 1.0)))
        for example, value in zip("ab", values, strict=True)
    ]
    assert summarise(found)["quantised_worst_keyword_recall"] == 0.75


@pytest.mark.parametrize("knobs", [{"bits": ()}, {"bits": (3,)}, {"n": 0}])
def test_knobs_are_checked(knobs: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"quantise\."):
        Quantise(**knobs)


@bitsandbytes
@pytest.mark.parametrize("bits", [8, 4])
def test_few_bits_change_no_habit(bits: int):
    """Rounding by the batch is not a cache that cannot be trusted: every token would read its whole row again."""
    model, _ = load(ModelConfig(name="people-target"))
    assert habits(quantised(model, bits)) == habits(model) == Habits()
