"""A pool of randomizers that are computed ahead, in the background.

A randomizer used twice shows the difference of two plaintexts. So a pool hands each randomizer out once. A child
process has none after a fork. A pool has no form in which it could be stored.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from concurrent.futures import Executor, Future, wait
from typing import Final, NoReturn

from gmpy2 import mpz

from secagg.errors import UsageError
from secagg.he.paillier.public_key import PublicKey
from secagg.he.paillier.residues import Digits
from secagg.he.paillier.workers import released


class RandomizerPool:
    """Randomizers of one public key, computed ahead in the background.

    `take` hands out what is there and computes in the calling thread what is missing, so that it never waits
    for the background. Safe to take from in several threads.

    Args:
      public_key: whose randomizers.
      executor: threads that compute them; they are not waited for.
      size: how many to have ready.

    Raises:
      UsageError: a size below 1.
    """

    __slots__ = ("__weakref__", "_executor", "_pending", "_ready", "public_key", "size")

    def __init__(self, public_key: PublicKey, executor: Executor, *, size: int = 1024) -> None:
        if size < 1:
            raise UsageError(f"a pool has room for at least 1 randomizer, not {size}")
        self.public_key, self.size = public_key, size
        self._executor: Executor | None = executor
        self._ready: deque[tuple[mpz, ...]] = deque()
        self._pending: deque[Future[None]] = deque()
        # The hook cannot be taken back; it holds no more than a weak reference.
        itself = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget(itself()))
        self._refill()

    def __repr__(self) -> str:
        return f"<RandomizerPool of {self.public_key!r}, {len(self)} of {self.size} ready>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a randomizer pool is not pickled or copied: a randomizer used twice shows what it hides"
        )

    def __len__(self) -> int:
        """Return how many randomizers are ready."""
        return len(self._ready)

    @property
    def key_id(self) -> bytes:
        """Whose randomizers they are: the id of the public key."""
        return self.public_key.key_id

    def take(self, count: int) -> Digits:
        """Return randomizers that nobody has had before, in digits.

        Raises:
          Exception: whatever stopped the background since the last call; randomizers that were ready stay so.
        """
        self._collect()
        taken: list[tuple[mpz, ...]] = []
        try:
            while len(taken) < count:
                # A deque's popleft is one step of the interpreter: no two threads get the same randomizer.
                taken.append(self._ready.popleft())
        except IndexError:
            fresh = self.public_key.draw_randomizers(count - len(taken))
            taken.extend(zip(*fresh, strict=True))
        self._refill()
        return tuple(list(column) for column in zip(*taken, strict=True))

    def fill(self) -> None:
        """Wait until the pool is full or the background has failed.

        Raises:
          Exception: what stopped the background.
        """
        while len(self) < self.size:
            self._refill()
            if not self._pending:
                return
            first = self._pending[0]
            if first.cancel():  # no thread has begun it, and perhaps none will: this may be the only one
                _compute(weakref.ref(self), _STEP)
            else:
                wait([first])
            self._collect()

    def close(self) -> None:
        """Forget all randomizers and compute no more ahead; `take` goes on working, without a background."""
        self._executor = None
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        self._ready.clear()

    def _collect(self) -> None:
        """Drop what the background has finished, and raise what stopped it."""
        while self._pending:
            try:
                future = self._pending.popleft()
            except IndexError:  # another thread was faster
                return
            if not future.done():
                self._pending.appendleft(future)
                return
            if not future.cancelled() and (error := future.exception()) is not None:
                raise error

    def _refill(self) -> None:
        if self._executor is None:
            return
        coming = _STEP * len(self._pending)
        for _ in range(0, self.size - len(self._ready) - coming, _STEP):
            self._pending.append(self._executor.submit(_compute, weakref.ref(self), _STEP))


_STEP: Final = 8  # randomizers that one task computes: tens of milliseconds


def _compute(reference: weakref.ref[RandomizerPool], count: int) -> None:
    # A weak reference, so that tasks that wait do not keep a pool alive that nobody will take from.
    pool = reference()
    if pool is None:
        return
    public_key = pool.public_key
    del pool
    columns = released(lambda start, stop: public_key.draw_randomizers(stop - start), 0, count)
    pool = reference()
    if pool is not None and pool._executor is not None:
        pool._ready.extend(zip(*columns, strict=True))


def _forget(pool: RandomizerPool | None) -> None:
    """Empty a pool in a child process: its randomizers are the parent's, and its executor's threads do not exist."""
    if pool is not None:
        pool._executor = None
        pool._ready.clear()
        pool._pending.clear()
