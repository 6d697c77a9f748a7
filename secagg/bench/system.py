"""What Linux says of a process, the most memory that it held, and of the machine, how long its processors were busy."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")
_PROCESSORS: Final = Path("/proc/stat")
_FORGET: Final = Path("/proc/self/clear_refs")


def forget_peak() -> bool:
    """Begin to measure anew; return whether the system allows it."""
    try:
        _FORGET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """Return the peak since `forget_peak`; where the system does not allow that, of the whole process."""
    try:
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def busy_s() -> float:
    """Return for how many seconds the processors have worked, all together; 0 where the system does not say.

    Time that a virtual machine's host took away counts as work. Interrupts do not: nobody says whose they were.
    """
    try:
        words = _PROCESSORS.read_text(encoding="ascii").split(maxsplit=9)
        user, nice, system, stolen = (int(words[i]) for i in (1, 2, 3, 8))
    except (OSError, IndexError, ValueError):
        return 0.0
    return (user + nice + system + stolen) / os.sysconf("SC_CLK_TCK")
