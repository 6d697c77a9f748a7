"""What clients agree on to send less: few bits a number, or a part of the numbers that all draw alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import UsageError
from secagg.prg import KEY_BYTES, Stream, derive_key

MAX_BITS: Final = 24
_LABEL: Final = "secagg.updates.compression"


@dataclass(frozen=True, slots=True)
class Compression:
    """Fewer bits a number, and fewer numbers.

    A number within its clip becomes one of 2^bits - 1 levels, by stochastic rounding: up or down at random, so that it is
    itself on average. The numbers of a round are drawn by a seed that all clients share, so sums stay aligned. What was
    drawn is multiplied by total over drawn, and what was not is zero: the result is the exact one on average.

    The largest numbers of each client (top-k) cannot be taken: clients differ in which these are, and the places alone
    would tell about their data.

    Args:
      bits: of one number before sums, 2 to 24. Sums of n clients take the bits of n more.
      keep: fraction of the numbers that a round is of, above 0 and at most 1.
      seed: public, 32 bytes, the same at all clients and fresh in each round; without it a fresh one. Whoever
        chooses it chooses which numbers are summed up, and learns no more by that.
      error_feedback: whether each client adds what rounding and drawing cut off of its updates to its next one, for rounds
        of training. Then what was drawn is not multiplied, and a single result is not the exact one on average: what is
        missing comes later.

    Raises:
      UsageError: a number out of range, or a seed of another length.
    """

    bits: int = 8
    keep: float = 1.0
    seed: bytes | None = field(default=None, repr=False)
    error_feedback: bool = False

    def __post_init__(self) -> None:
        bits: Any = self.bits
        if not isinstance(bits, int) or isinstance(bits, bool) or not 2 <= bits <= MAX_BITS:
            raise UsageError(f"expected 2 to {MAX_BITS} bits of one number, got {bits!r:.40}")
        keep: Any = self.keep
        if not isinstance(keep, int | float) or isinstance(keep, bool) or not 0 < keep <= 1:
            raise UsageError(f"expected the fraction of numbers to keep, above 0 up to 1, got {keep!r:.40}")
        seed: Any = self.seed
        if seed is not None and (not isinstance(seed, bytes) or len(seed) != KEY_BYTES):
            raise UsageError(f"expected a seed of {KEY_BYTES} bytes that all clients share, got another")
        if not isinstance(self.error_feedback, bool):
            raise UsageError(f"expected True or False as error_feedback, got {self.error_feedback!r:.40}")

    @property
    def levels(self) -> int:
        """The level of a number at its clip; the lowest is minus this."""
        return (1 << (self.bits - 1)) - 1

    def count(self, size: int) -> int:
        """Return how many of so many numbers a round is of; at least one."""
        return min(size, max(1, math.ceil(self.keep * size)))

    def places(self, size: int, seed: bytes) -> NDArray[np.int64]:
        """Return which of so many numbers a round is of, in ascending order; each set is as likely as any other.

        Args:
          size: how many numbers there are.
          seed: as in `Compression`.
        """
        count = self.count(size)
        if count == size:
            return np.arange(size)
        stream = Stream(derive_key(seed, label=f"{_LABEL}/places", context=size.to_bytes(8, "big")))
        return np.sort(stream.permutation(size)[:count])
