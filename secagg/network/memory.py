"""Memory of this process: keep what large arrays free, and tell the most that there was."""

from __future__ import annotations

import ctypes
import platform
import resource
import sys
from pathlib import Path
from typing import Final

# From glibc's malloc.h. 32 MiB is the largest threshold that glibc accepts on 64-bit machines.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_THRESHOLD_BYTES: Final = 32 << 20
_TRIM_THRESHOLD_BYTES: Final = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc to keep up to 1 GiB of freed memory for this process; return whether it took effect.

    By default glibc returns arrays of some 100 KB and more to the system when they are freed. The next array of that size
    costs a page fault every 4 KB, which is dearer than most arithmetic on it. Nothing happens on other C libraries.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
    )


def peak_bytes() -> int:
    """Return the most memory that this process has had at once."""
    try:
        # `getrusage` tells of a process that was forked what its parent had.
        status = Path("/proc/self/status").read_text("ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
