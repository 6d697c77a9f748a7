"""What Linux is asked besides: to measure a process's peak of memory anew, and how much of the processors other work had."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Final

_PROCESSORS: Final = Path("/proc/stat")
_FORGET: Final = Path("/proc/self/clear_refs")
OTHERS: Final = 0.10  # more of the processors for other work disturbs what is measured


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


class OtherWork:
    """How much of the processors others than this process and those that it started had, while it watched.

    Attributes:
      others_s: processor seconds of others.
      could_s: seconds of all processors.
    """

    def __init__(self) -> None:
        self.others_s = self.could_s = 0.0

    @property
    def share(self) -> float:
        """Part of the processors that others had; 0 where the system does not say."""
        return self.others_s / self.could_s if self.could_s else 0.0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch a block; processes that it starts have to end in it, or they count as others."""
        busy, own, begun = busy_s(), _own_s(), perf_counter()
        yield
        self.could_s += (os.cpu_count() or 1) * (perf_counter() - begun)
        self.others_s += max(0.0, busy_s() - busy - (_own_s() - own))


def _own_s() -> float:
    """Return the processor seconds of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
