"""Hidden states put into the model before: what it reads from them, on models whose state is known."""

import math
from dataclasses import replace

import pytest
import torch

from tests import architectures
from tests.conftest import byte_tokenizer, tiny_model
from tests.test_prompt_variants import CASE, FACT, HOME, Fake
from unsay.config import ModelConfig, SampleConfig
from unsay.corpora.people import People
from unsay.lm.encode import Encoder
from unsay.lm.model import load
from unsay.lm.subject import LocalSubject
from unsay.measure.summary import summarise
from unsay.probes.classes import ReferenceJudge
from unsay.probes.depth import Depth
from unsay.types import Case, Finding

ENCODER = Encoder(byte_tokenizer())


def subject(seed: int) -> LocalSubject:
    return LocalSubject(tiny_model(seed), ENCODER, SampleConfig())


def looked(model: LocalSubject | Fake, before: LocalSubject | None, knew: bool = True) -> list[Finding]:
    judge = None if before is None else ReferenceJudge(before, knew)
    return Depth()(model, replace(CASE, judge=judge))


def test_the_model_before_reads_all_of_its_own_states() -> None:
    same = subject(0)
    assert {(f.setting, f.value) for f in looked(same, same)} == {("layer 1", 1.0), ("layer 2", 1.0)}


@pytest.mark.parametrize("name", ["gemma3-multimodal", "gpt2", "phi"])
def test_any_kind_of_model_reads_its_own_states(name: str) -> None:
    same = LocalSubject(architectures.build(name), ENCODER, SampleConfig())
    assert [f.value for f in looked(same, same)] == [1.0, 1.0]


def test_another_model_is_measured_where_the_secret_is_predicted() -> None:
    model, before = subject(1), subject(0)
    row = ENCODER.pair(HOME.question, FACT.answer)
    ids = torch.tensor([[*row.context, *row.answer]])
    start = len(row.context) + len(" Anna Kovač lives in".encode())  # one token a byte
    secret = torch.arange(start, start + len(" Turin Harbour"))
    secret = secret[(ids[0, secret] != ids[0, start])]  # the blanks are no part of the words
    with torch.no_grad():
        theirs = model.model(ids, output_hidden_states=True).hidden_states[1]  # after the first layer
        whole = before.model(ids).logits.log_softmax(-1)
        hook = before.model.model.layers[0].register_forward_hook(
            lambda module, inputs, output: torch.cat(
                [theirs[:, i : i + 1] if i + 1 in secret else output[:, i : i + 1] for i in range(output.shape[1])], 1
            )
        )
        patched = before.model(ids).logits.log_softmax(-1)
        hook.remove()
    drops = [whole[0, i - 1, ids[0, i]] - patched[0, i - 1, ids[0, i]] for i in secret]
    expected = min(1.0, math.exp(-float(torch.stack(drops).mean())))
    (first, _) = looked(model, before)
    assert first.setting == "layer 1"
    assert first.value == pytest.approx(expected, abs=1e-5)
    assert not before.model.model.layers[0]._forward_hooks


def test_the_score_is_the_share_of_what_the_retain_model_lacks() -> None:
    def kept(*values: float) -> list[Finding]:
        return [Finding("depth", "kept", value, "a", f"layer {i}") for i, value in enumerate(values, 1)]

    retain_model = kept(0.99, math.exp(-1), math.exp(-3))  # the first layer does not hold the secret
    for found, depth in (
        (kept(1.0, 1.0, 1.0), 0.0),
        (retain_model, 1.0),
        (kept(0.2, 1.0, math.exp(-9)), 0.75),  # more than the retain model lacks counts as much
        (kept(1.0, math.exp(-0.5), 1.0), 0.125),
    ):
        assert summarise(found, (), retain_model)["unlearning_depth"] == pytest.approx(depth)
    assert summarise(retain_model)["unlearning_depth"] is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (looked(Fake(), subject(0)), "no weights"),
        (looked(subject(0), None), "not at hand"),
        (looked(subject(0), subject(0), knew=False), "not at hand"),
    ],
)
def test_what_cannot_be_read_is_unscored(found: list[Finding], why: str) -> None:
    (finding,) = found
    assert finding.value is None
    assert why in finding.note


def test_a_model_of_another_kind_is_unscored() -> None:
    other = LocalSubject(tiny_model(0), Encoder(byte_tokenizer(), system_prompt="x", template="plain"), SampleConfig())
    other.encoder._lead = lambda text: text  # type: ignore[method-assign]
    (finding,) = looked(subject(1), other)
    assert "one kind" in finding.note


def test_it_tells_a_model_that_knows_from_one_that_never_knew() -> None:
    people = People(only=(4,))
    case = Case(people.corpus(), people.truth(), "ground truth")
    target, retain_model = (LocalSubject(*load(ModelConfig(), f"people-{name}"), SampleConfig()) for name in ("target", "retain"))
    case = replace(case, judge=ReferenceJudge(target, knew=True))
    numbers = [summarise(Depth()(one, case))["hidden_states_kept"] for one in (target, retain_model)]
    assert numbers[0] == pytest.approx(1.0)
    assert numbers[1] is not None
    assert numbers[1] < 0.4


def test_states_that_are_no_numbers_are_no_result() -> None:
    broken = subject(1)
    with torch.no_grad():
        broken.model.model.layers[1].mlp.down_proj.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        looked(broken, subject(0))
