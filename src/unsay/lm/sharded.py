"""A model in training whose weights are spread over the processes: FSDP2, `torch.distributed.fsdp.fully_shard` (arXiv 2304.11277).

Each process keeps a share of every weight, of its gradient and of its moments; a layer is put together for as long as it is used.
Two traps: only calls that FSDP knows put weights together, so decoder and head are reached through one such call; and putting together
is done by all processes at once, so all make the same calls, or the whole model is together meanwhile (`whole`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from unsay.config import ConfigError
from unsay.lm.layers import decoder_layers
from unsay.lm.model import plain_head, states_and_head
from unsay.store import ranks


def shard(model: PreTrainedModel) -> None:
    """Spread the weights, in place. Raises `ConfigError` where that cannot be done."""
    if not all(parameter.is_floating_point() for parameter in model.parameters()):
        raise ConfigError("quantised weights cannot be spread over processes; leave --use_fsdp out")
    try:
        layers = decoder_layers(model)
    except ConfigError as error:
        raise ConfigError(f"{error}, so it cannot be spread; leave --use_fsdp out") from error
    plain_head(model)  # found out by trying, while every call is open to it
    mesh = init_device_mesh(model.device.type, (ranks.count(),))
    where = CPUOffloadPolicy(pin_memory=mesh.device_type == "cuda") if ranks.offloaded() else OffloadPolicy()
    for part in (*layers, model):
        fully_shard(part, mesh=mesh, offload_policy=where)
        part.set_gradient_divide_factor(1.0)  # a loss is a share of the whole step's, so gradients are summed
        part.set_force_sum_reduction_for_comms(True)
    model.states_and_head = MethodType(states_and_head, model)
    register_fsdp_forward_method(model, "states_and_head")


@contextmanager
def whole(model: PreTrainedModel) -> Iterator[None]:
    """Every weight put together as long as the block lasts, in which no process waits for another; without gradients."""
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    yield
    for part in parts:  # after an error the processes end
        part.reshard()
        part.set_reshard_after_forward(part is not model, recurse=False)


def is_spread(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)


def gathered(tensor: Tensor) -> Tensor:
    """All of a tensor; on the processor where each process had a share of it, for a card has no room for all of many."""
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, value: Tensor) -> Tensor:
    """`value`, the same in all processes, spread as `tensor` is."""
    if not isinstance(tensor, DTensor) or isinstance(value, DTensor):
        return value
    # It is dealt out on the cards, also where shares lie in memory (`CPUOffloadPolicy`).
    return distribute_tensor(value.to(tensor.dtype), tensor.device_mesh, tensor.placements).to(tensor.device)


def all_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state as one process alone would have it."""
    state = optimizer.state_dict()
    whole = {key: {name: gathered(value) for name, value in one.items()} for key, one in state["state"].items()}
    return {**state, "state": whole}


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimizer the state of one process, spread as its weights are."""
    optimizer.load_state_dict(state)
    for weight, one in optimizer.state.items():
        one.update({name: like(weight, value) for name, value in one.items() if value.shape == weight.shape})
