"""Work for an executor's threads that never waits for a thread to become free.

A call with `executor=` may itself run in that executor, whose threads may all be taken by such calls. Who then waits for
a piece of work that no thread has begun waits for ever. `helping` returns an executor whose futures do not. Asked for its
result, a future whose work nobody has begun does it in the thread that asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from secagg.errors import UsageError

T = TypeVar("T")
P = ParamSpec("P")


class _Piece(Future[T]):
    """Work that is begun once, by a thread of the executor or by who asks for its result."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__()
        # `pop` is one step of the interpreter: of two threads one gets the work.
        self._work = [work]

    def begin(self) -> None:
        """Do the work, unless somebody has begun it or it was cancelled."""
        try:
            work = self._work.pop()
        except IndexError:
            return
        if not self.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # raised again by `result`
            self.set_exception(error)
        else:
            self.set_result(result)

    def result(self, timeout: float | None = None) -> T:
        self.begin()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.begin()
        return super().exception(timeout)


class _Helping(Executor):
    def __init__(self, threads: Executor) -> None:
        self._threads = threads

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        piece = _Piece(partial(fn, *args, **kwargs))
        self._threads.submit(piece.begin)
        return piece


def helping(executor: Executor) -> Executor:
    """Return an executor with the same threads, whose futures nobody waits for in vain.

    Args:
      executor: threads of this process. What they are given must not wait for more work in the same executor.

    Raises:
      UsageError: no executor, or one with processes: these work on copies of the arrays, so results would be lost.
    """
    if isinstance(executor, _Helping):
        return executor
    pools: Any = sys.modules.get("concurrent.futures.process")
    if not isinstance(executor, Executor) or (pools and isinstance(executor, pools.ProcessPoolExecutor)):
        raise UsageError(
            "expected an executor with threads of this process, such as concurrent.futures.ThreadPoolExecutor, got a "
            f"{type(executor).__name__}"
        )
    return _Helping(executor)
