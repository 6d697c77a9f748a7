"""Costs of the four-party engine, whose parties are P_0 to P_3 until `Cost.named` names them.

Tags, statements and seeds travel in message headers and do not count as payload: 16 bytes an item that is vouched for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from secagg.cost.operation import Cost
from secagg.mpc.four.broadcast import PARTIES
from secagg.mpc.four.known import HIGH, LOW
from secagg.mpc.four.products import plan
from secagg.mpc.four.shuffle import SHUFFLE_ROUNDS
from secagg.mpc.numbers import RING64
from secagg.ring import Ring

COMPUTING: Final = tuple(f"P_{i}" for i in range(PARTIES))


def four_cost(rounds: int, payload_bytes: Sequence[int]) -> Cost:
    """Return the cost of an operation in which P_i sends `payload_bytes[i]` bytes of arrays."""
    return Cost(rounds, dict(zip(COMPUTING, payload_bytes, strict=True)))


def set_up_cost() -> Cost:
    """Return the cost of agreeing on keys."""
    return four_cost(3, (0,) * PARTIES)


def check_cost() -> Cost:
    """Return the cost of a check that no opening follows."""
    return four_cost(2, (0,) * PARTIES)


def multiply_cost(n: int, *, ring: Ring = RING64) -> Cost:
    """Return the cost of n products: elementwise, or the elements of a matrix product."""
    return _product_cost(n, ring.dtype.itemsize)


def conjunction_cost(words: int) -> Cost:
    """Return the cost of the ANDs of so many words of 64 bits, over all pairs together."""
    return _product_cost(words, 8)


def _product_cost(n: int, itemsize: int) -> Cost:
    sent = [0] * PARTIES
    for (_, _, sender, _), where in plan(n):
        sent[sender] += itemsize * (where.stop - where.start)
    return four_cost(1, sent)


def input_cost(nbytes: int, owner: int | None) -> Cost:
    """Return what an input of `nbytes` costs the computing parties; owner: the index of one, None if outside."""
    return four_cost(2, [2 * nbytes * (owner == i) for i in range(PARTIES)])


def open_cost(nbytes: int, to: Sequence[int] = range(PARTIES), *, outside: int = 0) -> Cost:
    """Return what opening `nbytes` costs, with the check before it.

    Args:
      to: indices of the computing parties among the receivers.
      outside: how many receivers are not computing parties.
    """
    sent = [outside * nbytes] * PARTIES
    for receiver in to:
        sent[(receiver + 1) % PARTIES] += nbytes
    return four_cost(2, sent)


def truncate_cost(n: int, *, ring: Ring = RING64) -> Cost:
    """Return the cost of n truncations."""
    itemsize = ring.dtype.itemsize
    return four_cost(1, [n * itemsize] * PARTIES).then(multiply_cost(n, ring=ring))


def from_bits_cost(n: int, *, ring: Ring = RING64) -> Cost:
    """Return the cost of n bits as ring elements."""
    sent = [n * ring.dtype.itemsize * (i in (LOW.c, HIGH.c)) for i in range(PARTIES)]
    return four_cost(1, sent).then(multiply_cost(n, ring=ring))


def shuffle_cost(nbytes: int) -> Cost:
    """Return the cost of a shuffle of a shared array of `nbytes`."""
    return four_cost(SHUFFLE_ROUNDS, [3 * nbytes] * PARTIES)
