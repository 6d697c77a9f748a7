"""What Linux is asked besides: to measure a process's peak of memory anew, and how long the processors were busy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PROCESSORS: Final = Path("/proc/stat")
_FORGET: Final = Path("/proc/self/clear_refs")


def forget_peak() -> bool:
    """Have `peak_bytes` tell the peak from now on; return whether the system allows it."""
    try:
        _FORGET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


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
