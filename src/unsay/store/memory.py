"""Memory of the process: what the C library does with what is freed, how much there was at most, and how much is free."""

import ctypes
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_GROUP = "/sys/fs/cgroup"
_GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Of a control group, versions 2 and 1: its limit, what it uses, and how much of that is files (the kernel's documentation)."""


def keep_freed_pages() -> bool:
    """Ask glibc to keep freed memory for the next allocation instead of returning it to the system; whether it did (not elsewhere).

    Fetching the pages of the same large blocks anew took a third of a training step of Gemma 3 270M on two virtual cores (docs/lab-log.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 1 << 28))
    return all(mallopt(key, value) == 1 for key, value in settings)


def give_back() -> None:
    """Return what has been freed to the system after all, and measure the peak anew (`peak_memory`): for a process that goes on to
    another model, whose blocks do not fit the pieces that glibc has kept of the last one."""
    gc.collect()  # accelerate's wrappers hold a model in cycles
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trim()
    if sys.platform.startswith("linux"):
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak of the resident size is what it is now


def trim() -> None:
    """Return the pages of what has been freed to the system: the gaps that a long stage leaves would add up. Elsewhere nothing happens."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # only with glibc
            ctypes.CDLL(None).malloc_trim(0)


def peak_memory() -> dict[str, int]:
    """Bytes at most so far: `process`, its largest resident size (libraries included), and `gpu`, the most that torch held there; since
    the process last gave its memory back (`give_back`; on other systems than Linux since it began). Empty where the system does not say
    (Windows)."""
    try:
        import resource
    except ImportError:
        return {}
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes elsewhere
    # Where the system has it, its own figure: getrusage's also counts what the process that started this one had.
    kilobytes = _entry("/proc/self/status", "VmHWM:")
    found = {"process": kilobytes * 1024 if kilobytes else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated()
    return found


def free_memory() -> int | None:
    """Bytes that this process may still take: the system's, and the control group's limit where that is tighter."""
    kilobytes = _entry("/proc/meminfo", "MemAvailable:")
    system = None if kilobytes is None else 1024 * kilobytes
    if system is None and hasattr(os, "sysconf") and sys.platform != "win32":
        system = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # without a better figure, all there is
    free = [system] if system is not None else []
    for most, now, idle in _GROUPS:
        limit, used = _number(f"{_GROUP}/{most}"), _number(f"{_GROUP}/{now}")
        if limit is not None and used is not None:
            # What is used counts files that were read once and go when room is wanted: without them a group soon looks full.
            free.append(limit - used + (_entry(f"{_GROUP}/{Path(now).parent / 'memory.stat'}", idle) or 0))
    return min(free, default=None)


def _entry(path: str, key: str) -> int | None:
    """The number behind `key` in a file of names and numbers."""
    found = [line for line in _read(path).splitlines() if line.split()[:1] == [key]]
    return int(found[0].split()[1]) if found else None


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: str) -> str:
    """A file of the system; empty where this system has none. The name of a process in it may be any bytes."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
