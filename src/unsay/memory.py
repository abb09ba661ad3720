"""Memory of the process: what the C library does with what is freed."""

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
