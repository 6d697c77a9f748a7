"""Weighted sums of a few numbers of almost any size: each is several elements of the ring.

A number x is the integer v = round(x 2^32). A node with weight w gives V = w v in two's complement, as limbs of k bits. The
lowest limb is first, the last has the sign. No sum of limbs leaves the ring. So numbers within +-2^63 are added exactly, up
to rounding to 32 fractional bits. Metrics are written so: they are few, and of unknown size.

The sum of each limb is opened by itself, and would tell carries and how many numbers are negative. So a node draws an
integer r for every limb but the last, uniform in [-b, b]. It adds r 2^k to that limb and takes r off the next. V stays.

Learns: who sees the sums of limbs, the sum of V. For each number, their distribution is within a statistical distance of
2^-40 of one that depends on that sum alone; within 2^-30 in sums of thousands of nodes (docs/soundness-masked.md, M9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError
from secagg.prg import Stream, system_stream

LARGEST: Final = float(1 << 63)
_FRAC_BITS: Final = 32
ERROR: Final = 2.0 ** -(_FRAC_BITS + 1)
# Wished, and the least that is borne.
_HIDING_BITS: Final = (40, 30)


class Limbs:
    """How so many numbers are written.

    Args:
      count: of numbers.
      max_weight: largest weight of a node.
      nodes: in a sum at most.
      ring_bits: of the elements.

    Raises:
      PlanError: elements so narrow, or of so many nodes, that they cannot hide carries.

    Attributes:
      length: elements in all.
      bits: k.
      bound: b.
      hiding: the distance is at most 2^-hiding.
    """

    __slots__ = ("_count", "_each", "bits", "bound", "hiding", "length")

    def __init__(self, count: int, *, max_weight: int, nodes: int, ring_bits: int) -> None:
        width = (max_weight << (63 + _FRAC_BITS)).bit_length() + 1
        found = [
            (bits, bound, hiding)
            for hiding in _HIDING_BITS
            for bits in range(ring_bits - 1, 0, -1)
            # Encrypted sums bear elements to this, less 2^-52 of it; a limb is within b (2^k + 1) + 2^k.
            if (bound := ((1 << (ring_bits - 1)) - 1) // nodes // ((1 << bits) + 2) - 1) > 0
            and distance(-(-width // bits), nodes, bound) <= 2.0**-hiding
        ]
        if not found:
            raise PlanError(
                f"elements of {ring_bits} bits cannot hide how the metrics of {nodes} nodes carry; send metrics as an array"
            )
        self.bits, self.bound, self.hiding = found[0]
        self._each = -(-width // self.bits)
        self._count, self.length = count, count * self._each

    def encode(
        self, numbers: Sequence[float], weight: int, *, rng: Stream | None = None
    ) -> NDArray[np.int64]:
        """Return the elements of numbers within +-2^63, times a weight within the largest.

        Args:
          numbers, weight: of the node.
          rng: of the redundancy; by default the system's.
        """
        out = np.empty((self._count, self._each), np.int64)
        low = (1 << self.bits) - 1
        for row, number in zip(out, numbers, strict=True):
            rest = weight * round(math.ldexp(number, _FRAC_BITS))
            for i in range(self._each - 1):
                row[i] = rest & low
                rest >>= self.bits
            row[-1] = rest
        drawn = (rng or system_stream()).signed(self.bound, (self._count, self._each - 1))
        out[:, :-1] += drawn << self.bits
        out[:, 1:] -= drawn
        return out.reshape(-1)

    def decode(self, total: NDArray[np.int64], weight: int) -> list[float]:
        """Return the means that a sum of elements, signed, stands for; correctly rounded."""
        rows = total.reshape(self._count, self._each).tolist()
        sums = [sum(limb << (i * self.bits) for i, limb in enumerate(row)) for row in rows]
        return [value / (weight << _FRAC_BITS) for value in sums]


def shortest(count: int, others: int, *, max_weight: int, nodes: int, ring_bits: int) -> int:
    """Return the width of ring, from `ring_bits` to 64, in which so many numbers and other elements take the fewest bits.

    Only widths that hide as well as 64 bits do are taken.

    Args:
      others: elements beside the limbs.

    Raises:
      PlanError: as `Limbs`.
    """
    hiding = Limbs(count, max_weight=max_weight, nodes=nodes, ring_bits=64).hiding
    sizes: dict[int, int] = {}
    for bits in range(ring_bits, 65):
        try:
            limbs = Limbs(count, max_weight=max_weight, nodes=nodes, ring_bits=bits)
        except PlanError:
            continue
        if limbs.hiding == hiding:
            sizes[bits] = bits * (others + limbs.length)
    return min(sizes, key=lambda bits: sizes[bits])


def distance(each: int, nodes: int, bound: int) -> float:
    """Return how far, at most, the sums of one number's limbs are from what its total alone tells.

    Args:
      each: limbs of a number.
      nodes: in a sum at most.
      bound: of what a node draws.
    """
    return (each - 1) * math.sqrt(nodes / 2) / (2 * bound + 1)
