"""A model spread over processes, seen from one: all ask it as often, and shares lie where accelerate was told to keep them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from transformers import PreTrainedModel

from tests.conftest import tiny_model
from tests.test_rejection import REJECTING, rows_of
from unsay.config import LoraConfig
from unsay.lm import sharded
from unsay.lm.adapters import Untouched, adapt
from unsay.lm.encode import Encoder
from unsay.store import ranks


@pytest.mark.parametrize(("reject", "passes"), [(0.0, 2), (0.5, 3)])
def test_every_batch_takes_as_many_passes_whatever_rows_it_has(
    model: PreTrainedModel, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, reject: float, passes: int
) -> None:
    """Each pass of a spread model is a meeting: one of its own, one of the untouched model for retain rows, and one for pairs."""
    monkeypatch.setattr(ranks, "_split", [False])
    adapt(model, LoraConfig(rank=2))
    method, untouched, rows = replace(REJECTING, reject=reject), Untouched(model), rows_of(encoder)
    method.loss(model, untouched, encoder.batch(rows))  # some things are found out by trying, once
    made: list[None] = []
    model.model.layers[0].register_forward_pre_hook(lambda *_: made.append(None))
    for name, some in {"pairs": rows[:2], "retain": rows[4:], "both": rows}.items():
        made.clear()
        method.loss(model, untouched, replace(encoder.batch(some), soft=True))
        assert len(made) == passes, name


@pytest.mark.parametrize("offloaded", [False, True])
def test_shares_lie_where_accelerate_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offloaded: bool) -> None:
    monkeypatch.setattr(ranks, "_split", [offloaded])
    asked: list[bool] = []

    def seen(part: torch.nn.Module, **options: object) -> None:
        asked.append(isinstance(options["offload_policy"], CPUOffloadPolicy))
        fully_shard(part, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sharded, "fully_shard", seen)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        sharded.shard(tiny_model())
    finally:
        torch.distributed.destroy_process_group()
    assert asked == [offloaded] * 3, "both layers, and the rest"


def test_small_gradients_are_summed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its own place and shape; a bundle is sent once it is full, and one that is larger than a bundle goes alone."""
    sent: list[int] = []

    def doubled(tensor: torch.Tensor, how: str) -> torch.Tensor:
        sent.append(tensor.numel())
        return 2 * tensor

    monkeypatch.setattr(ranks, "_place", [0, 2])
    monkeypatch.setattr(ranks, "_BUNDLE", 10)
    monkeypatch.setattr("accelerate.utils.reduce", doubled)
    tensors = [torch.full(shape, float(number)) for number, shape in enumerate([(0,), (2, 3), (4,), (1,), (3, 4), (2,)])]
    ranks.add_up(tensors)
    assert sent == [10, 1, 12, 2]
    assert all(torch.equal(tensor, torch.full_like(tensor, 2.0 * number)) for number, tensor in enumerate(tensors))
