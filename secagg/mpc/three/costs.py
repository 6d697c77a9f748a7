"""Costs of the three-party engine, whose parties are P_0, P_1 and P_2 until `Cost.named` names them.

Seeds, digests and contributions to keys travel in message headers and do not count as payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from secagg.cost.operation import Cost
from secagg.mpc.bits import FEW, add_gates, any_plane_gates, decide_gates
from secagg.mpc.three.comparison import Layout
from secagg.mpc.three.shuffle import SHUFFLE_ROUNDS
from secagg.ring import Ring

COMPUTING: Final = ("P_0", "P_1", "P_2")


def computing_cost(rounds: int, payload_bytes: Sequence[int]) -> Cost:
    """Return the cost of an operation in which P_i sends `payload_bytes[i]` bytes of arrays."""
    return Cost(rounds, dict(zip(COMPUTING, payload_bytes, strict=True)))


def same_cost(rounds: int, payload_bytes: int) -> Cost:
    """Return the cost of an operation in which each computing party sends as many bytes."""
    return computing_cost(rounds, [payload_bytes] * len(COMPUTING))


def msb_cost(n: int, bits: int, *, digit_bits: int | None = None) -> Cost:
    """Return the cost of `comparison.msb` of n elements."""
    layout, words = Layout(n, bits, digit_bits), -(-n // 64)
    tree = decide_gates(layout.digits)
    p0, p12 = layout.thermometer + tree.ands, layout.output + tree.ands
    return computing_cost(2 + tree.rounds, (8 * words * p0, 8 * words * p12, 8 * words * p12))


def _summands_cost(n: int, ring: Ring) -> Cost:
    return computing_cost(1, (8 * -(-n // 64) * ring.bits, 0, 0))


class ThreeCosts:
    """What the operations of `ThreeEngine` cost; see `primitives.Costs`."""

    computing = len(COMPUTING)

    def set_up(self) -> Cost:
        return same_cost(1, 0)

    def input(self, nbytes: int, owner: int | None) -> Cost:
        return computing_cost(1 if owner is not None else 2, [nbytes * (owner == i) for i in range(3)])

    def open(self, nbytes: int, to: Sequence[int] = range(3), *, outside: Sequence[int] = ()) -> Cost:
        """Return the cost of an opening; by default to the computing parties.

        Args:
          to: indices of the computing parties among the receivers.
          outside: for each other receiver, its place in the roster.
        """
        sent = [0, 0, 0]
        for receiver in to:
            sent[(receiver + 2) % 3] += nbytes
        for place in outside:
            sent[place % 3] += 2 * nbytes
            sent[(place + 1) % 3] += nbytes
        return computing_cost(1, sent)

    def check(self) -> Cost:
        return same_cost(0, 0)

    def multiply(self, n: int, ring: Ring, frac_bits: int = 0) -> Cost:
        return self.truncate(n, ring, frac_bits) if frac_bits else same_cost(1, n * ring.dtype.itemsize)

    def truncate(self, n: int, ring: Ring, frac_bits: int) -> Cost:
        return same_cost(3, n * (ring.dtype.itemsize + Ring(frac_bits).dtype.itemsize))

    def shift(self, n: int, ring: Ring, bits: int) -> Cost:
        return msb_cost(n, bits + 1).then(self.from_bits(n, ring), self.truncate(n, ring, bits))

    def conjunction(self, words: int) -> Cost:
        return same_cost(1, 8 * words)

    def open_conjunction(self, words: int) -> Cost:
        return same_cost(1, 16 * words)

    def exchange(self, words: int) -> Cost:
        return same_cost(1, 8 * words)

    def negative(self, n: int, ring: Ring) -> Cost:
        return msb_cost(n, ring.bits)

    def zero(self, n: int, ring: Ring) -> Cost:
        tree = any_plane_gates(ring.bits)
        return _summands_cost(n, ring).then(same_cost(tree.rounds, 8 * -(-n // 64) * tree.ands))

    def to_bits(self, n: int, ring: Ring) -> Cost:
        gates = add_gates(ring.bits, 2, shallow=n < FEW)
        return _summands_cost(n, ring).then(same_cost(gates.rounds, 8 * -(-n // 64) * gates.ands))

    def from_bits(self, n: int, ring: Ring) -> Cost:
        return same_cost(2, n * ring.dtype.itemsize)

    def shuffle(self, *nbytes: int) -> Cost:
        """Return the cost of three hops, in each of which two parties send all arrays."""
        return same_cost(SHUFFLE_ROUNDS, 2 * sum(nbytes))


COSTS: Final = ThreeCosts()
