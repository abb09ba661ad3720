"""Memory of the process: what the C library does with what is freed, and how much there was at most."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_pages() -> bool:
    """Ask glibc to keep freed memory for the next allocation instead of returning it to the system; whether it did.

    A step allocates and frees the same large blocks again and again; fetching their pages anew each time took a third of a
    training step of Gemma 3 270M on two virtual cores (docs/lab-log.md). Elsewhere than on Linux with glibc: nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 1 << 28))
    return all(mallopt(key, value) == 1 for key, value in settings)


def peak_memory() -> dict[str, int]:
    """Bytes at most so far: `process`, its largest resident size (libraries included), and `gpu`, the most that torch held there.

    Both are of the whole process and never fall: in a run of many stages a later stage shows at least what an earlier one
    needed. Empty where the system does not say (Windows).
    """
    try:
        import resource
    except ImportError:
        return {}
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes elsewhere
    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated()
    return found
