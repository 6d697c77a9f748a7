"""The plaintext twin of an engine: `Primitives` in the clear, for tests and for debug mode.

NOTHING IS SECRET HERE. A "secret" has one part, which is its value, and no operation sends a message. The one computing
party is the party itself, so an engine in the clear sees what its own party puts in and nothing else. `secagg.mpc` does
not show this module, and no job leads to it.

Arithmetic is exactly the ring's: sums and products wrap. Truncation is rounded down, which the other engines do or exceed
by one unit in the last place. Lanes of bits that are not defined are set, so that who reads them is found.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, cast

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Shares
from secagg.party import Party, PartyId
from secagg.prg import Stream, derive_key
from secagg.ring import Ring, RingArray, from_planes, to_planes
from secagg.wire import Message

_ONES: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


class ClearCosts:
    """What an engine in the clear sends: nothing."""

    computing = 1

    def _free(self, *_args: Any, **_options: Any) -> Cost:
        return Cost(0, {"P_0": 0})

    set_up = input = open = check = multiply = truncate = shift = conjunction = open_conjunction = (
        exchange
    ) = _free
    negative = zero = to_bits = from_bits = shuffle = _free


class ClearEngine:
    """An engine in the clear, at one party; see the module's docstring.

    Args:
      party: whose engine it is.
    """

    def __init__(self, party: Party) -> None:
        self.party = party
        self.computing: tuple[PartyId, ...] = (party.me,)
        self.costs = ClearCosts()
        # The same at all parties of a session, so that their twins shuffle alike.
        self._order = Stream(derive_key(party.session, label="secagg.mpc.clear/order"))

    def __repr__(self) -> str:
        return f"ClearEngine({self.party.me!r})"

    def _shares(self, group: Group, value: Array) -> Shares:
        return Shares(self, group, (np.asarray(value, order="C"),))

    # Values in and out.

    def public(self, group: Group, value: Array) -> Shares:
        """Return elements as a "secret"."""
        return self._shares(group, value.copy())

    async def input(
        self,
        group: Group,
        owner: PartyId,
        shape: tuple[int, ...],
        value: Array | None = None,
        *,
        owner_sent_before: Collection[type[Message]] = (),  # noqa: ARG002  # nobody is waited for
        name: bytes = b"",  # noqa: ARG002  # nobody else names it
    ) -> Shares:
        """Return what this party puts in."""
        if value is None or owner != self.party.me:
            raise UsageError(f"an engine in the clear takes inputs of {self.party.me}, not of {owner}")
        if value.shape != shape or value.dtype != group.dtype:
            raise ShapeError(
                f"expected an input {shape} of {group.dtype}, got {value.shape} of {value.dtype}"
            )
        return self.public(group, value)

    async def open(self, x: Shares, to: Sequence[PartyId] | None = None) -> Array | None:
        """Return the value if this party is among the receivers."""
        return x.parts[0].copy() if to is None or self.party.me in to else None

    async def open_each(
        self,
        values: Sequence[tuple[Shares, Sequence[PartyId]]],
        names: Sequence[bytes] = (),  # noqa: ARG002  # as above
    ) -> list[Array | None]:
        """Return each value that this party is to receive."""
        return [await self.open(x, to) for x, to in values]

    async def check(self) -> None:
        """Do nothing: there is nobody who could lie."""

    # Arithmetic.

    async def multiply(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        """Return the elementwise product modulo the ring, truncated."""
        x.check_same(y)
        if x.shape != y.shape:
            raise ShapeError(f"expected two arrays of one shape, got {x.shape} and {y.shape}")
        return self._shifted(x.group, np.multiply(x.parts[0], y.parts[0]), frac_bits)

    async def matmul(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        """Return the matrix product modulo the ring, truncated."""
        x.check_same(y)
        a, b = x.parts[0], y.parts[0]
        if a.ndim not in (1, 2) or b.ndim not in (1, 2) or a.shape[-1] != b.shape[0]:
            raise ShapeError(f"matmul of shapes {a.shape} and {b.shape} is not defined")
        return self._shifted(x.group, np.asarray(_ring(x.group).matmul(a, b)), frac_bits)

    async def truncate(self, x: Shares, frac_bits: int) -> Shares:
        """Return floor(x / 2**frac_bits)."""
        return self._shifted(x.group, x.parts[0], frac_bits)

    async def shift(self, x: Shares, bits: int) -> Shares:
        """Return floor(x / 2**bits)."""
        return self._shifted(x.group, x.parts[0], bits)

    def _shifted(self, group: Group, value: Array, bits: int) -> Shares:
        ring = _ring(group)
        reduced = ring.reduce(np.asarray(value))
        if not bits:
            return self._shares(group, reduced)
        return self._shares(group, ring.from_signed(ring.to_signed(reduced) >> np.int64(bits)))

    # Bits.

    async def conjunction(self, pairs: Sequence[tuple[Shares, Shares]]) -> list[Shares]:
        """Return the ANDs of pairs of arrays of bits."""
        for x, y in pairs:
            if x.shape not in (y.shape, y.shape[-1:]):
                raise ShapeError(f"expected bits of shape {y.shape} or {y.shape[-1:]}, got {x.shape}")
        return [self._shares(XOR, x.parts[0] & y.parts[0]) for x, y in pairs]

    async def open_conjunction(self, x: Shares, y: Shares, z: Shares) -> Array:
        """Return (x AND y) XOR z."""
        return cast(Array, await self.open(self._shares(XOR, x.parts[0] & y.parts[0] ^ z.parts[0])))

    async def exchange(self, swap: Shares, views: Sequence[tuple[Shares, Shares]]) -> None:
        """Exchange two tables of bits in place where `swap` says so."""
        columns = sum(earlier[0].size for earlier, _ in views)
        if swap.shape != (columns,):
            raise ShapeError(f"expected {columns} words that say where to exchange, got {swap.shape}")
        done = 0
        for earlier, later in views:
            a, b = earlier.parts[0], later.parts[0]
            chosen = swap.parts[0][done : done + a[0].size].reshape(a.shape[1:])
            done += a[0].size
            both = chosen & (a ^ b)
            a ^= both
            b ^= both

    async def negative(self, x: Shares) -> Shares:
        """Return the bits x < 0."""
        return self._packed(_ring(x.group).to_signed(x.parts[0]) < 0)

    async def zero(self, x: Shares) -> Shares:
        """Return the bits x = 0."""
        return self._packed(x.parts[0] == 0)

    def _packed(self, bits: Array) -> Shares:
        return self._shares(XOR, _with_unused_lanes_set(to_planes(bits.astype(np.uint64), 1), bits.size)[0])

    async def to_bits(self, x: Shares) -> Shares:
        """Return the bits of elements, lowest first."""
        planes = to_planes(x.parts[0].astype(np.uint64), _ring(x.group).bits)
        return self._shares(XOR, _with_unused_lanes_set(planes, x.size))

    async def from_bits(self, bits: Shares, group: RingGroup, n: int) -> Shares:
        """Return n bits as elements 0 and 1."""
        return self._shares(group, from_planes(bits.parts[0].reshape(1, -1), n).astype(group.dtype))

    # Order.

    async def shuffle(self, *arrays: Shares) -> list[Shares]:
        """Return the rows of arrays in an order that is drawn, the same for all arrays."""
        if not arrays or any(a.shape[:2] != arrays[0].shape[:2] or len(a.shape) < 2 for a in arrays):
            raise ShapeError(f"expected arrays (buckets, rows, ...), got {[a.shape for a in arrays]}")
        buckets, rows = arrays[0].shape[:2]
        order = np.asarray(self._order.permutations(buckets, rows))
        at = np.arange(buckets)[:, None]
        return [self._shares(a.group, a.parts[0][at, order]) for a in arrays]


def _ring(group: Group) -> Ring:
    if not isinstance(group, RingGroup):
        raise UsageError("expected elements of a ring, got bits; convert them with `from_bits`")
    return group.ring


def _with_unused_lanes_set(planes: RingArray, n: int) -> Array:
    if n % 64:
        planes[:, -1] |= _ONES << np.uint64(n % 64)
    return planes
