"""Weighted sums of a few numbers of almost any size: each is several elements of the ring.

A number x is the integer v = round(x 2^32). A node with weight w gives V = w v in two's complement, as limbs of k bits. The
lowest limb is first, the last has the sign. No sum of limbs leaves the ring. So numbers within +-2^63 are added exactly, up
to rounding to 32 fractional bits. Metrics are written so: they are few, and of unknown size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LARGEST: Final = float(1 << 63)
_FRAC_BITS: Final = 32
ERROR: Final = 2.0 ** -(_FRAC_BITS + 1)


class Limbs:
    """How so many numbers are written.

    Args:
      count: of numbers.
      max_weight: largest weight of a node.
      nodes: in a sum at most.
      ring_bits: of the elements.

    Attributes:
      length: elements in all.
    """

    __slots__ = ("_bits", "_count", "_each", "length")

    def __init__(self, count: int, *, max_weight: int, nodes: int, ring_bits: int) -> None:
        # A sum of `nodes` limbs below 2^bits stays below half the ring.
        self._bits = ring_bits - 1 - nodes.bit_length()
        largest = (max_weight << (63 + _FRAC_BITS)).bit_length() + 1
        self._each = -(-largest // self._bits)
        self._count, self.length = count, count * self._each

    def encode(self, numbers: Sequence[float], weight: int) -> NDArray[np.int64]:
        """Return the elements of numbers within +-2^63, times a weight within the largest."""
        out = np.empty((self._count, self._each), np.int64)
        low = (1 << self._bits) - 1
        for row, number in zip(out, numbers, strict=True):
            rest = weight * round(math.ldexp(number, _FRAC_BITS))
            for i in range(self._each - 1):
                row[i] = rest & low
                rest >>= self._bits
            row[-1] = rest
        return out.reshape(-1)

    def decode(self, total: NDArray[np.int64], weight: int) -> list[float]:
        """Return the means that a sum of elements, signed, stands for; correctly rounded."""
        rows = total.reshape(self._count, self._each).tolist()
        sums = [sum(limb << (i * self._bits) for i, limb in enumerate(row)) for row in rows]
        return [value / (weight << _FRAC_BITS) for value in sums]
