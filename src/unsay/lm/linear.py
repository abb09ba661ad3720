"""Float32 matrix products on processors where torch's first choice of library is slow.

On a CPU torch multiplies float32 matrices with MKL, which on processors of other makers than Intel leaves the AVX-512 units
idle. oneDNN, which comes with torch too, uses them: on two cores of an AMD EPYC a product of 80 rows ran at 335 GFLOP/s
instead of 125, and a training step of Gemma 3 270M took 54 % of the time (docs/speed.md). torch calls it for half precision but not for
float32, so the linear layers of a model are told to.

Whether it is used depends on the processor and on nothing that is timed: the same machine computes the same bits every time.
"""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_LEAST = 1 << 14
"""Elements of a weight from which on the choice of library matters."""
_KERNELS = 24
"""Products whose code oneDNN keeps, and so many again torch's layer above it: about those of one step, for the next batch is of another
length. Of 1024 each, which are kept otherwise, training holds hundreds of megabytes. To make one anew takes half a millisecond; whole runs
took no longer (docs/lab-log.md)."""


def quicken(model: nn.Module) -> None:
    """Let the linear layers of `model` multiply through `linear`. Weights, names and results (up to rounding) stay."""
    if pays():
        for module in model.modules():
            if type(module) is nn.Linear and module.weight.numel() >= _LEAST:
                # A subclass without state of its own: whoever asks for an nn.Linear (peft, saving, copying) still finds one.
                module.__class__ = QuickLinear


@contextmanager
def stock(model: nn.Module) -> Iterator[None]:
    """The layers as torch has them, as long as the block lasts: what a model without this package runs on."""
    quick = [module for module in model.modules() if type(module) is QuickLinear]
    for module in quick:
        module.__class__ = nn.Linear  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in quick:
            module.__class__ = QuickLinear


class QuickLinear(nn.Linear):
    """A linear layer that multiplies through `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`[..., I]`, `[O, I]` → `[..., O]`: `torch.nn.functional.linear`, by whichever library is quick here."""
    # A compiler chooses the library itself, and fails on this operator with weights that may change (torch 2.13).
    if torch.compiler.is_compiling() or not _suits(input, weight):
        return nn.functional.linear(input, weight, bias)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (input, weight, bias)):
        found: Tensor = _Linear.apply(input, weight, bias)
        return found
    return _multiply(input, weight, bias)


def _suits(input: Tensor, weight: Tensor) -> bool:
    # Trap: a tensor with a dimension of 0 has no product there.
    both = input.dtype == weight.dtype == torch.float32 and input.device.type == weight.device.type == "cpu"
    return both and pays() and input.numel() > 0


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        return _multiply(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight = ctx.saved_tensors
        wants_input, wants_weight, wants_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        to_input = _multiply(gradient, weight.T) if wants_input else None
        to_weight = _multiply(rows.T, input.reshape(-1, input.shape[-1]).T) if wants_weight else None
        return to_input, to_weight, rows.sum(0) if wants_bias else None


@functools.cache
def pays() -> bool:
    """Whether oneDNN multiplies float32 matrices better than torch's default on this processor, and rightly."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512") or _maker() in ("GenuineIntel", ""):
        return False
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # read at the first product
        os.environ.setdefault(name, str(_KERNELS))
    try:
        return _right()
    except (RuntimeError, AttributeError, NotImplementedError):  # an operator of torch's compiler, which may be moved
        return False


def _maker() -> str:
    """The processor's maker as it names itself; empty where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def _right() -> bool:
    """Whether values and gradients are those of torch's own."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator) for shape in ((3, 5, 48), (40, 48), (40,), (3, 5, 40))]
    found = []
    for multiply in (_Linear.apply, nn.functional.linear):
        values = [tensor.clone().requires_grad_() for tensor in made[:3]]
        output = multiply(*values)
        found.append([output, *torch.autograd.grad((output * made[3]).sum(), values)])
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(*found, strict=True))
