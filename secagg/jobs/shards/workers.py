"""How an organisation starts workers: four methods, which its own cluster may have in place of local processes.

What a worker runs is the function `run` of a module, from bytes to bytes. So a cluster needs to be told a name and bytes.
Nothing of ours is pickled.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

from secagg.errors import UsageError
from secagg.jobs.job import Address
from secagg.printable import printable
from secagg.release import RELEASE

_CALL: Final = """
import importlib, sys
out = sys.stdout.buffer
sys.stdout = sys.stderr
out.write(importlib.import_module(sys.argv[1]).run(sys.stdin.buffer.read()))
"""


def check_release(told: object) -> None:
    """Refuse a task of another release: clusters bring their own machines, and with them what is installed there.

    Raises:
      UsageError: the release that the task names is another than this worker's.
    """
    if told != RELEASE:
        main = f"secagg {printable(told, 40)}" if isinstance(told, str) else "another secagg"
        raise UsageError(
            f"the worker runs secagg {RELEASE}, and its main process {main}; install the same release on all machines"
        )


class Workers(Protocol):
    """An organisation's own workers."""

    def address(self, place: int, told: Address) -> Address:
        """Return where a worker listens.

        Args:
          place: of the worker among those that work at the same time, from 0.
          told: where the job says that others reach it.
        """

    def start(self, place: int, told: Address, module: str, task: bytes) -> Any:
        """Have `module.run(task)` done on the machine of a place, and return without waiting for what comes of it.

        A worker that was lost a moment ago may be waited for. `gather` may be what hands over the task.
        """

    def gather(self, started: Sequence[Any]) -> list[bytes | None]:
        """Wait for what `start` returned, and return what each worker returned; None for one that was lost.

        Workers are waited for one by one, each in a thread of its own.
        """

    def end(self, started: Sequence[Any]) -> None:
        """Let nobody wait any more for what `start` returned: `gather`, in other threads, returns None for it soon.

        What a worker still does is of no use. Where a cluster cannot end it, it goes on until its peers have left.
        """


class LocalWorkers:
    """Workers that are processes on this machine.

    Args:
      python: the interpreter.
    """

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python

    def address(self, place: int, told: Address) -> Address:  # noqa: ARG002  # as of all workers
        """Return the address that the job says."""
        return told

    def start(
        self,
        place: int,  # noqa: ARG002
        told: Address,  # noqa: ARG002
        module: str,
        task: bytes,
    ) -> tuple[subprocess.Popen[bytes], bytes]:
        """Start a process; `gather` hands it its task through a pipe, and reads what comes of it from another."""
        process = subprocess.Popen(  # noqa: S603  # this program itself
            [self._python, "-P", "-c", _CALL, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return process, task

    def gather(self, started: Sequence[tuple[subprocess.Popen[bytes], bytes]]) -> list[bytes | None]:
        """Wait for processes; None for each that was killed or failed. None of them is left."""
        try:
            with ThreadPoolExecutor(max(1, len(started))) as pool:
                return list(pool.map(_answer, started))
        finally:
            for process, _ in started:
                process.kill()
                process.wait()

    def end(self, started: Sequence[tuple[subprocess.Popen[bytes], bytes]]) -> None:
        """Kill processes."""
        for process, _ in started:
            process.kill()


def _answer(started: tuple[subprocess.Popen[bytes], bytes]) -> bytes | None:
    process, task = started
    out, _ = process.communicate(task)
    return out if process.returncode == 0 else None
