"""The retain term held to the untouched model: equal to the divergence of two whole distributions, and nothing at first."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests import architectures
from tests.conftest import small_run
from tests.test_train import begin, interrupted
from unsay.config import ConfigError, LoraConfig, load
from unsay.lm import adapters
from unsay.lm.adapters import Untouched, adapt
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs, answer_states
from unsay.lm.rows import Batch
from unsay.methods import uses_retain_rows
from unsay.methods.retain_loss import TEMPERATURES, retain_logprobs
from unsay.store.files import read_jsonl
from unsay.tables import METHODS, lookup
from unsay.train import method_of, needs_untouched, train

PLAIN, BIASED, NO_PADDING = "llama", "phi", "rwkv"
"""A head that is a matrix, one with a bias, and a model that cannot read past padding."""


def batch(encoder: Encoder, roles: str = "frr") -> Batch:
    names = {"f": "forget", "r": "retain"}
    texts = ("Oslo, as ever.", "Rome.", "It is a long way to go.")
    rows = [encoder.pair("Where?" * (i + 1), text, names[role]) for i, (text, role) in enumerate(zip(texts, roles, strict=True))]
    return replace(encoder.batch(rows), soft=True)


def moved(model: PreTrainedModel) -> PreTrainedModel:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model


@torch.no_grad()
def alone(model: PreTrainedModel, encoder: Encoder, one: Batch, i: int) -> Tensor:
    """[T, A, V] log-probabilities at the answer of one row at the temperatures of the retain loss, read alone and without padding."""
    ids = one.ids[i][one.attention[i].bool()]
    n = int(one.mask[i].sum())
    logits = model(input_ids=ids[None]).logits[0, -n - 1 : -1].float()
    return torch.stack([(logits / t).log_softmax(-1) for t in TEMPERATURES])


def divergence(before: Tensor, now: Tensor) -> Tensor:
    """[A] minus the sum of T² times the divergences at the temperatures."""
    return -sum(t**2 * (b.exp() * (b - n)).sum(-1) for t, b, n in zip(TEMPERATURES, before, now, strict=True))


@pytest.mark.parametrize("name", [PLAIN, BIASED, NO_PADDING])
def test_it_is_the_divergence_of_whole_distributions(name: str, encoder: Encoder) -> None:
    model = architectures.build(name)
    untouched, one = Untouched(model), batch(encoder)
    before = [alone(model, encoder, one, i) for i in range(3)]
    found = retain_logprobs(moved(model), untouched, one)
    assert torch.allclose(found[0], answer_logprobs(model, one)[0], atol=1e-4), "what is to be forgotten is read as ever"
    for i in (1, 2):
        now = alone(model, encoder, one, i)
        wanted = divergence(before[i], now)
        assert wanted.abs().max() > 1e-3
        assert torch.allclose(found[i, : len(wanted)], wanted, atol=1e-4)
        assert (found[i, len(wanted) :] == 0).all()


@pytest.mark.parametrize("rank", [0, 2])
def test_rows_that_are_remembered_are_not_read_again(
    encoder: Encoder, model: PreTrainedModel, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank:
        adapt(model, LoraConfig(rank=rank), seed=0)
    untouched, read = Untouched(model), Untouched(model)
    rows = [encoder.pair("Where?" * (i + 1), "Rome, " * (i + 1)) for i in range(5)]
    untouched.remember(rows[:4], encoder)
    known, other = encoder.batch([rows[2], rows[0], rows[2]]), encoder.batch([rows[2], rows[4]])
    wanted, _ = read.answer_states(known)
    new, _ = read.answer_states(other)
    asked: list[int] = []
    monkeypatch.setattr(adapters, "answer_states", lambda model, batch: asked.append(len(batch.ids)) or answer_states(model, batch))
    found, head = untouched.answer_states(known)
    assert not asked
    assert head is not None
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(untouched.answer_states(other)[0], new, atol=1e-5)
    assert asked == [1], "of two rows the one that is not remembered"


@pytest.mark.parametrize(
    ("name", "most", "kept"), [(PLAIN, 1 << 28, True), (PLAIN, 100, False), (BIASED, 1 << 28, False), (NO_PADDING, 1 << 28, True)]
)
def test_what_would_take_much_memory_is_not_remembered(
    name: str, most: int, kept: bool, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither states of more bytes than may be kept, nor logits, which is what a head with a bias leaves."""
    monkeypatch.setattr(adapters, "_REMEMBERED", most)
    untouched, rows = Untouched(architectures.build(name)), [encoder.pair("Where?", "In Rome."), encoder.pair("Who?", "Bob.")]
    batch = encoder.batch(rows)
    wanted, _ = untouched.answer_states(batch)
    untouched.remember(rows, encoder)
    read: list[int] = []
    monkeypatch.setattr(adapters, "answer_states", lambda model, batch: read.append(1) or answer_states(model, batch))
    assert torch.allclose(untouched.answer_states(batch)[0], wanted, atol=1e-5)
    assert (not read) == kept


@pytest.mark.parametrize("name", [PLAIN, BIASED])
def test_where_nothing_has_moved_it_pulls_at_nothing(name: str, encoder: Encoder) -> None:
    model = architectures.build(name).train()
    one = batch(encoder, "rrr")
    values = retain_logprobs(model, Untouched(model), one)
    assert values.abs().max() < 1e-5
    values.sum().backward()
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-4
    assert model.training


def test_only_a_soft_batch_asks_the_untouched_model(encoder: Encoder, model: PreTrainedModel) -> None:
    one = batch(encoder)
    plain = answer_logprobs(model, one)
    assert torch.equal(retain_logprobs(model, None, replace(one, soft=False)), plain)
    assert torch.equal(retain_logprobs(model, None, batch(encoder, "fff")), answer_logprobs(model, batch(encoder, "fff")))
    with pytest.raises(ValueError, match="untouched"):
        retain_logprobs(model, None, one)


def test_adapters_off_is_the_teacher_without_their_dropout(encoder: Encoder, model: PreTrainedModel) -> None:
    one = batch(encoder, "rrr")
    before = [alone(model, encoder, one, i) for i in range(3)]
    adapt(model, LoraConfig(rank=2, dropout=0.5), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    now = [alone(model.eval(), encoder, one, i) for i in range(3)]
    found = retain_logprobs(model, Untouched(model), one)
    wanted = [divergence(b, n) for b, n in zip(before, now, strict=True)]
    assert min(float(values.abs().max()) for values in wanted) > 1e-3
    assert all(torch.allclose(found[i, : len(values)], values, atol=1e-4) for i, values in enumerate(wanted))
    retain_logprobs(model.train(), Untouched(model), one)
    assert model.training, "left as it was"


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    more = [
        "sample.max_new_tokens=8",
        "record.answers=2",
        "train.rounds=3",
        "train.learning_rate=1e-2",
        "pmc.preset=paper",
        "pmc.samples=2",
        "train.batch=5",
    ]
    return [*small_run(tiny_folder, tmp_path_factory.mktemp("rows"), forget=5, retain=8), *more]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "ga"])
def test_every_method_with_a_retain_term_takes_it(method: str, settings: list[str], tmp_path: Path) -> None:
    found = {}
    for kind in ("nll", "kl"):
        recipe, folder = begin(tmp_path / kind, settings, f"method={method}", f"train.retain_loss={kind}")
        train(recipe, folder)
        found[kind] = read_jsonl(folder.steps_file)
        assert needs_untouched(recipe, method_of(recipe)) or kind == "nll"
    first = {kind: lines[0] for kind, lines in found.items()}
    assert first["nll"]["retain"] > 1
    assert abs(first["kl"]["retain"]) < 1e-4
    if method not in ("retain-only",):
        assert first["kl"].get("forget") == first["nll"].get("forget")
        assert found["kl"][-1]["retain"] > 0, "it has moved"


def test_ga_has_nothing_to_hold(settings: list[str]) -> None:
    recipe = load(None, [*settings, "method=ga", "train.retain_loss=kl"])
    assert not needs_untouched(recipe, method_of(recipe))
    assert [name for name in METHODS if not uses_retain_rows(lookup("method", name))] == ["ga"]


def test_a_run_that_is_taken_up_again_still_knows_the_untouched_model(settings: list[str], tmp_path: Path) -> None:
    more = ("train.retain_loss=kl", "pmc.preset=paper", "train.rounds=4", "train.learning_rate=1e-3")
    recipe, folder = begin(tmp_path / "straight", settings, *more)
    train(recipe, folder)
    straight = folder.manifest().checkpoint.fingerprint
    assert interrupted(tmp_path / "resumed", settings, *more).manifest().checkpoint.fingerprint == straight


def test_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.retain_loss"):
        load(None, ["train.retain_loss=hard"])
