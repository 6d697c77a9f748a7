"""The three-party engine: replicated secret sharing, semi-honest [AFLNO16; MR18], behind `mpc.primitives.Primitives`.

A secret x is split into x = x_0 + x_1 + x_2 in a group; party P_i holds (x_i, x_{i+1}), indices modulo 3.

Threat model: all three computing parties follow the protocol, and at most one of them analyses what it holds and
receives. Any number of input and result parties stand around them and may collude with that one. A computing party
that lies is not caught (see docs/soundness.md).

Who learns what: an opening shows its value to the parties named and to nobody else. Everything else that a computing party
receives is masked by a stream whose key it does not hold.

Costs are declared in `costs`; protocols and proofs stand in the modules that are called here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Self

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Shares, bits_of, ring_of
from secagg.mpc.three import (
    comparison,
    conjunction,
    conversion,
    inputs,
    opening,
    products,
    refresh,
    shuffle,
    truncation,
)
from secagg.mpc.three.channel import Channel, Held, held
from secagg.mpc.three.costs import COSTS, ThreeCosts
from secagg.party import Party, PartyId
from secagg.ring import Ring
from secagg.wire import Message


class ThreeEngine:
    """One computing party's end of the three-party engine; its methods are those of `Primitives`.

    Args:
      channel: its end of what the three share.
    """

    costs: Final[ThreeCosts] = COSTS

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.party = channel.party
        self.computing = channel.computing

    def __repr__(self) -> str:
        return f"{type(self).__name__}(P{self.channel.index} = {self.party.me!r})"

    @classmethod
    async def set_up(cls, party: Party, computing: Sequence[PartyId], *, label: str = "") -> Self:
        """Agree on the pair secrets and return the engine; see `Channel.set_up` for arguments and errors."""
        return cls(await Channel.set_up(party, computing, label=label))

    def public(self, group: Group, value: Array) -> Shares:
        """Return public elements as a secret; all parties pass the same."""
        return Shares(self, group, inputs.public_shares(self.channel.index, value))

    async def input(
        self,
        group: Group,
        owner: PartyId,
        shape: tuple[int, ...],
        value: Array | None = None,
        *,
        owner_sent_before: Collection[type[Message]] = (),
        name: bytes = b"",
    ) -> Shares:
        """Return an input of `owner`; see `inputs.receive_input`. An outside owner calls `share_input`."""
        parts = await inputs.receive_input(
            self.channel, group, owner, shape, value, owner_sent_before=owner_sent_before, name=name
        )
        return Shares(self, group, parts)

    async def open(self, x: Shares, to: Sequence[PartyId] | None = None) -> Array | None:
        """Open a secret to `to` (default: the computing parties); others among them call `receive_opening`."""
        return (await self.open_each([(x, opening.receivers_of(self.channel, to))]))[0]

    async def open_each(
        self, values: Sequence[tuple[Shares, Sequence[PartyId]]], names: Sequence[bytes] = ()
    ) -> list[Array | None]:
        """Open several secrets, each to its receivers, in one round; see `opening.open_each`."""
        opened = [
            opening.Opened(x.group, self._held(x), opening.receivers_of(self.channel, to), name)
            for (x, to), name in zip(values, names or [b""] * len(values), strict=True)
        ]
        return await opening.open_each(self.channel, opened)

    async def check(self) -> None:
        """Do nothing: a lie is not found."""

    async def multiply(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        """Return the elementwise product, truncated by `frac_bits` as `truncate` does.

        Raises:
          ShapeError: two shapes, or bits.
          UsageError: two groups or engines, or frac_bits out of range.
        """
        group = _ring_of_both(x, y)
        if x.shape != y.shape:
            raise ShapeError(f"expected two arrays of one shape, got {x.shape} and {y.shape}")
        z = products.multiply_locally(self.channel.index, group.ring, self._held(x), self._held(y))
        return Shares(self, group, await products.replicate(self.channel, group.ring, z, frac_bits))

    async def matmul(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        """Return the matrix product, truncated by `frac_bits` as `truncate` does. Operands have one or two dimensions.

        Raises:
          ShapeError: shapes of which there is no product, or bits.
          UsageError: two groups or engines, or frac_bits out of range.
        """
        group = _ring_of_both(x, y)
        z = products.matmul_locally(self.channel.index, group.ring, self._held(x), self._held(y))
        return Shares(self, group, await products.replicate(self.channel, group.ring, z, frac_bits))

    async def truncate(self, x: Shares, frac_bits: int) -> Shares:
        """Return x / 2**frac_bits, rounded up or down at random; see `truncation.truncate` for range and errors."""
        group = ring_of(x)
        z = np.array(self._held(x)[0], order="C")  # overwritten
        return Shares(self, group, await truncation.truncate(self.channel, group.ring, z, frac_bits))

    async def shift(self, x: Shares, bits: int) -> Shares:
        """Return floor(x / 2**bits), a function of x alone; see `truncation.shift` for range and errors."""
        group = ring_of(x)
        return Shares(
            self, group, await truncation.shift(self.channel, self, group.ring, self._held(x), bits)
        )

    async def conjunction(self, pairs: Sequence[tuple[Shares, Shares]]) -> list[Shares]:
        """Return the ANDs of pairs of arrays of bits, all in one round; see `Primitives.conjunction`."""
        for x, y in pairs:
            bits_of(x).check_same(y)
        results = await conjunction.conjunction(
            self.channel, [(self._held(x), self._held(y)) for x, y in pairs]
        )
        return [Shares(self, XOR, z) for z in results]

    async def open_conjunction(self, x: Shares, y: Shares, z: Shares) -> Array:
        """Open (x AND y) XOR z to the computing parties, in one round; see `opening.open_summands`."""
        if not x.shape == y.shape == z.shape:
            raise ShapeError(f"expected bits of one shape, got {x.shape}, {y.shape} and {z.shape}")
        for other in (y, z):
            bits_of(x).check_same(other)
        summand = conjunction.summand(self.channel, self._held(x), self._held(y))
        summand ^= self._held(z)[0]
        return await opening.open_summands(self.channel, XOR, summand)

    async def exchange(self, swap: Shares, views: Sequence[tuple[Shares, Shares]]) -> None:
        """Exchange two tables of bits in place where `swap` says so; see `Primitives.exchange`."""
        for earlier, later in views:
            bits_of(swap).check_same(earlier)
            earlier.check_same(later)
        await conjunction.exchange(
            self.channel, self._held(swap), [(self._held(a), self._held(b)) for a, b in views]
        )

    async def negative(self, x: Shares) -> Shares:
        """Return the bits x < 0 of signed elements; see `comparison`."""
        return await comparison.negative(self.channel, self, *self._flat(x))

    async def zero(self, x: Shares) -> Shares:
        """Return the bits x = 0; see `comparison`."""
        return await comparison.zero(self.channel, self, *self._flat(x))

    async def to_bits(self, x: Shares) -> Shares:
        """Return the bits of elements in slices, lowest first; see `conversion`."""
        return await conversion.to_bits(self.channel, self, *self._flat(x))

    async def from_bits(self, bits: Shares, group: RingGroup, n: int) -> Shares:
        """Return n bits, 64 a word, as ring elements 0 and 1; see `conversion`."""
        parts = await conversion.from_bits(self.channel, group.ring, self._held(bits_of(bits)), n)
        return Shares(self, group, parts)

    async def shuffle(self, *arrays: Shares) -> list[Shares]:
        """Return the rows of each bucket in an order that nobody knows, the same for all arrays; see `shuffle`."""
        moved = await shuffle.shuffle(self.channel, [(x.group, self._held(x)) for x in arrays])
        return [Shares(self, x.group, parts) for x, parts in zip(arrays, moved, strict=True)]

    async def refresh(self, kept: Sequence[tuple[Group, Sequence[Array]]]) -> list[Shares]:
        """Return secrets of which this party kept its shares, freshly shared; see `refresh`."""
        fresh = await refresh.refresh(self.channel, [(group, (own, other)) for group, (own, other) in kept])
        return [Shares(self, group, parts) for (group, _), parts in zip(kept, fresh, strict=True)]

    def _held(self, x: Shares) -> Held:
        x.check_engine(self)
        return held(x)

    def _flat(self, x: Shares) -> tuple[Ring, Held]:
        """Return the ring and the shares of elements of one dimension.

        Raises:
          ShapeError: bits, or another number of dimensions.
        """
        ring = ring_of(x).ring
        if len(x.shape) != 1:
            raise ShapeError(f"expected elements of one dimension, got {x.shape}")
        return ring, self._held(x)


def _ring_of_both(x: Shares, y: Shares) -> RingGroup:
    x.check_same(y)
    return ring_of(x)
