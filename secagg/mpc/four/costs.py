"""Costs of the four-party engine, whose parties are P_0 to P_3 until `Cost.named` names them.

Tags, statements and seeds travel in message headers and do not count as payload: 16 bytes an item that is vouched for.
A round's items are rounded to whole words, so a circuit is counted round by round.
"""

from __future__ import annotations

import functools
from collections.abc import Coroutine, Sequence
from typing import Any, Final, cast

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import UsageError
from secagg.mpc.bits import FEW, add, any_plane, decide
from secagg.mpc.four.broadcast import PARTIES
from secagg.mpc.four.comparison import Digits
from secagg.mpc.four.known import plan_summands
from secagg.mpc.four.products import Plan, plan, plan_across
from secagg.mpc.four.shuffle import SHUFFLE_ROUNDS
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.primitives import Primitives, Shares
from secagg.ring import Ring

COMPUTING: Final = tuple(f"P_{i}" for i in range(PARTIES))


class FourCosts:
    """What the operations of `FourEngine` cost; see `primitives.Costs`."""

    computing = PARTIES

    def set_up(self) -> Cost:
        return _cost(3, (0,) * PARTIES)

    def input(self, nbytes: int, owner: int | None) -> Cost:
        return _cost(2, [2 * nbytes * (owner == i) for i in range(PARTIES)])

    def open(self, nbytes: int, to: Sequence[int], *, outside: Sequence[int] = ()) -> Cost:
        sent = [len(outside) * nbytes] * PARTIES
        for receiver in to:
            sent[(receiver + 1) % PARTIES] += nbytes
        return _cost(2, sent)

    def check(self) -> Cost:
        return _cost(2, (0,) * PARTIES)

    def multiply(self, n: int, ring: Ring, frac_bits: int = 0) -> Cost:
        if not frac_bits:
            return _items(plan(n), ring.dtype.itemsize)
        return _items(plan_across(n), ring.dtype.itemsize).then(self.truncate(n, ring, frac_bits))

    def truncate(self, n: int, ring: Ring, frac_bits: int) -> Cost:
        word = Ring(frac_bits).dtype.itemsize
        shared = plan_summands(n)
        return (
            _items(shared, ring.dtype.itemsize)
            .beside(_items(shared, word))
            .then(_items(plan_across(n), word))
        )

    def shift(self, n: int, ring: Ring, bits: int) -> Cost:
        return self._carry(n, bits).then(self.from_bits(n, ring), self.truncate(n, ring, bits))

    def conjunction(self, words: int) -> Cost:
        return _items(plan(words), 8)

    def open_conjunction(self, words: int) -> Cost:
        return self.conjunction(words).then(self.open(8 * words, range(PARTIES)))

    def exchange(self, words: int) -> Cost:
        return self.conjunction(words)

    def negative(self, n: int, ring: Ring) -> Cost:
        return self._carry(n, ring.bits - 1)

    def zero(self, n: int, ring: Ring) -> Cost:
        return _planes(n, ring.bits).then(*_rounds(n, _of_any_plane(ring.bits)))

    def to_bits(self, n: int, ring: Ring) -> Cost:
        return _planes(n, ring.bits).then(*_rounds(n, _of_add(ring.bits, n < FEW)))

    def from_bits(self, n: int, ring: Ring) -> Cost:
        itemsize = ring.dtype.itemsize
        return _items(plan_summands(n), itemsize).then(_items(plan_across(n), itemsize))

    def shuffle(self, *nbytes: int) -> Cost:
        return _cost(SHUFFLE_ROUNDS, [3 * sum(nbytes)] * PARTIES)

    def _carry(self, n: int, bits: int) -> Cost:
        if not bits:
            return _planes(n, 1)
        digits = Digits(n, bits)
        products = _items(plan_across(digits.products * -(-n // 64)), 8)
        return _planes(n, digits.shared + 1).then(products, *_rounds(n, _of_decide(digits.count)))


def _cost(rounds: int, payload_bytes: Sequence[int]) -> Cost:
    """Return the cost of an operation in which P_i sends `payload_bytes[i]` bytes of arrays."""
    return Cost(rounds, dict(zip(COMPUTING, payload_bytes, strict=True)))


def _items(items: Plan, itemsize: int) -> Cost:
    """Return the cost of passing on the items of a plan."""
    sent = [0] * PARTIES
    for (_, _, sender, _), where in items:
        sent[sender] += itemsize * (where.stop - where.start)
    return _cost(1, sent)


class _Counter:
    """Stands for an engine, to see how many ANDs a lane each round of a circuit has."""

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def planes(self, n: int) -> Shares:
        return Shares(cast(Primitives, self), XOR, (np.zeros((n, 1), np.uint64),))

    def public(self, _group: Group, value: Array) -> Shares:
        return Shares(cast(Primitives, self), XOR, (value.copy(),))

    async def conjunction(self, pairs: Sequence[tuple[Shares, Shares]]) -> list[Shares]:
        self.rounds.append(sum(y.size for _, y in pairs))
        return [y.copy() for _, y in pairs]

    def run(self, circuit: Coroutine[Any, Any, Any]) -> tuple[int, ...]:
        """Return the ANDs of each round of a circuit, which waits for nothing."""
        try:
            circuit.send(None)
        except StopIteration:
            return tuple(self.rounds)
        raise UsageError("a circuit waits for something else than ANDs")


@functools.cache
def _of_decide(bits: int) -> tuple[int, ...]:
    counter = _Counter()
    return counter.run(decide(counter.planes(bits), counter.planes(bits - 1)))


@functools.cache
def _of_any_plane(bits: int) -> tuple[int, ...]:
    counter = _Counter()
    return counter.run(any_plane(counter.planes(bits)))


@functools.cache
def _of_add(bits: int, shallow: bool) -> tuple[int, ...]:
    counter = _Counter()
    return counter.run(add([counter.planes(bits), counter.planes(bits)], shallow=shallow))


def _rounds(n: int, gates: Sequence[int]) -> list[Cost]:
    """Return the cost of rounds of so many ANDs a lane, for n lanes."""
    return [_items(plan(ands * -(-n // 64)), 8) for ands in gates]


def _planes(n: int, bits: int) -> Cost:
    """Return the cost of sharing so many bits of the two summands of n elements."""
    return _items(plan_summands(bits * -(-n // 64)), 8)
