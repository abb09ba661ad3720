"""What this machine has: versions, cores, memory, disk."""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from unsay.store.memory import free_memory

PACKAGES = ("unsay", "torch", "transformers", "accelerate", "peft", "bitsandbytes")


@dataclass(frozen=True)
class Machine:
    versions: dict[str, str]
    system: str
    cores: int
    threads: int
    """Threads that torch computes with."""
    load: float | None
    """Programs that wanted a core, on average over the last minute; `None` where the system does not say."""
    memory_free: int | None
    """Bytes that programs may still take, caches counted as free."""
    gpu: str = ""
    gpu_free: int = 0
    disk_free: int = 0

    @property
    def free(self) -> int | None:
        """Bytes free where the weights will lie."""
        return self.gpu_free if self.gpu else self.memory_free


def look(out: Path) -> Machine:
    """This machine now; `out` is where the run folder will lie."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return Machine(
        versions={package: version(package) for package in PACKAGES if find_spec(package)},
        system=f"Python {platform.python_version()}, {platform.platform(terse=True)}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        memory_free=free_memory(),
        gpu=gpu,
        gpu_free=torch.cuda.mem_get_info()[0] if gpu else 0,
        disk_free=shutil.disk_usage(place).free,
    )


def resident() -> int:
    """Bytes of this process in memory now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
