"""The processes of one command. Each runs it from end to end, and at a few places they meet; one process alone meets nobody.

Random numbers are named, so every process decides alike: only work is shared (`gathered`), and the main process alone writes into the run
folder (`on_main`). An error of one is raised by all. Where processes do different things, the next meeting says so; where one has ended,
it raises `Lost`.
"""

import os
import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from unsay.config import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST = timedelta(hours=4)
"""How long one process waits for the others, which may write a checkpoint or attack the weights meanwhile."""
_BUNDLE = 1 << 24
"""Most numbers that small tensors are sent together in."""
_place = [0, 1]
"""The number of this process, and how many there are."""
_split: list[bool] = []
"""One entry where the model in training is to be spread over the processes: whether each keeps its share in the processor's memory."""
_apart: list[None] = []
"""One entry for every open block in which this process meets nobody."""


class Lost(RuntimeError):
    """Another process of this command has ended. The program that started them says which."""


def launched() -> bool:
    """Whether this process is one of several that were started together (torchrun, accelerate, `--processes`)."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE") or 1) > 1


def join() -> None:
    """Meet the other processes, each with a graphics card of its own, where there are any. Raises `ConfigError` at too few."""
    import torch
    from accelerate import PartialState

    cards, here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if 0 < cards < here:
        raise ConfigError(f"{here} processes need a graphics card each, and there are {cards} here; start {cards}, or say --device cpu")
    if not cards:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    spread, offloaded = (os.environ.get(name, "").lower() == "true" for name in ("ACCELERATE_USE_FSDP", "FSDP_OFFLOAD_PARAMS"))
    if offloaded and not spread:
        raise ConfigError("FSDP_OFFLOAD_PARAMS is for weights that are spread; set ACCELERATE_USE_FSDP=true too, or leave it out")
    _split[:] = [offloaded] * spread
    # accelerate reads both, too: to let cards' processes meet about what lies in memory. After that it would wrap the model itself.
    state = PartialState(cpu=not cards, timeout=_LONGEST)
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    _place[:] = state.process_index, state.num_processes


def leave() -> None:
    """All have come to the end."""
    if count() == 1:
        return
    from accelerate import PartialState

    _meet()
    PartialState().destroy_process_group()
    _place[:] = 0, 1


def rank() -> int:
    return 0 if _apart else _place[0]


def count() -> int:
    return 1 if _apart else _place[1]


def split() -> bool:
    """Whether each process is to keep a share of the model in training (`accelerate launch --use_fsdp`)."""
    return bool(_split)


def offloaded() -> bool:
    """Whether that share lies in the processor's memory, not on the card (`--fsdp_offload_params true`)."""
    return any(_split)


def is_main() -> bool:
    """Whether this process writes and speaks for all."""
    return _place[0] == 0


def mine(items: Sequence[T]) -> Sequence[T]:
    """The share of this process: every `count`-th. Neighbours in a sorted list cost about the same."""
    return items[rank() :: count()]


@contextmanager
def apart() -> Iterator[None]:
    """Meet nobody inside: where an error may be this process's own, and while a share is worked on."""
    _apart.append(None)
    try:
        yield
    finally:
        _apart.pop()


def part(most: int, total: int) -> int:
    """At most how many of `total` go together, so that no process is left without: `most`, as long as there are enough."""
    return max(1, min(most, -(-total // count()))) if count() > 1 else most


def gathered(work: str, share: Callable[[], T], about: object = None) -> list[T]:
    """What `share()` returned in each process, in order of rank. `work` and what `about` looks like are the same in all. An error of one
    is raised by all. Raises `Lost` where a process has ended, `RuntimeError` where they do different things."""
    if count() == 1:
        return [share()]
    found, error, what = None, None, f"{work} {zlib.crc32(repr(about).encode()):08x}"
    try:
        with apart():
            found = share()
    except Exception as raised:
        error = raised
    told = _meet((what, found, _sendable(error)))
    for other, _, one in told:
        if other != what:
            raise RuntimeError(f"the processes of this command have come apart: {what} here, {other} there")
        if one is not None:
            raise error or one
    return [one for _, one, _ in told]


def on_main(do: Callable[[], T]) -> T:
    """What the main process does while the others wait; all get what it returns, or its error. Inside of `apart` the others do
    nothing, and get nothing."""
    if count() > 1:
        _meet()  # nobody may still be reading what is written now
    found: list[Any] = gathered("on_main", lambda: do() if is_main() else None)
    return found[0]  # type: ignore[no-any-return]


def main_only(do: Callable[P, None]) -> Callable[P, None]:
    """A function that writes: `on_main`."""

    @wraps(do)
    def done(*args: P.args, **kwargs: P.kwargs) -> None:
        on_main(lambda: do(*args, **kwargs))

    return done


def add_up(tensors: "Sequence[Tensor]") -> None:
    """Put the sum over all processes in the place of each tensor, all on one device and of one type. Many small ones go together: to meet
    costs more than to send."""
    import torch
    from accelerate.utils import reduce

    if count() == 1:
        return
    bundles: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        if not bundles or size + tensor.numel() > _BUNDLE:
            bundles.append([])
            size = 0
        bundles[-1].append(tensor)
        size += tensor.numel()
    for bundle in bundles:
        flat = torch.cat([tensor.reshape(-1) for tensor in bundle]) if len(bundle) > 1 else bundle[0]
        with _raising_lost():
            total = reduce(flat, "sum")
        for tensor, found in zip(bundle, total.reshape(-1).split([tensor.numel() for tensor in bundle]), strict=True):
            tensor.copy_(found.view_as(tensor))


def first_to_say() -> bool:
    """Whether this process is the first to ask: of many that end, one says why."""
    if count() == 1:
        return True
    from torch.distributed.distributed_c10d import _get_default_store

    try:
        return bool(_get_default_store().add("unsay: said", 1) == 1)
    except RuntimeError:  # the main process holds it, and has ended
        return False


def _meet(told: Any = None) -> list[Any]:
    from accelerate.utils import gather_object

    with _raising_lost():
        return list(gather_object([told]))


@contextmanager
def _raising_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "memory" in str(error):  # torch raises the same type when memory runs out
            raise
        raise Lost("another process of this command has ended") from error


def _sendable(error: Exception | None) -> Exception | None:
    """An error as another process can raise it."""
    try:
        return pickle.loads(pickle.dumps(error)) and error
    except Exception:
        return RuntimeError(f"{type(error).__name__} in another process")
