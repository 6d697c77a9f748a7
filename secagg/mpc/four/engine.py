"""The four-party engine: what it offers stands behind `mpc.primitives.Primitives` [DEK21].

Threat model: at most one of the four computing parties does what it likes, with any number of input and result parties
outside. The others follow the protocol. A lie ends the run before anything is opened that depends on it, and names two
parties of which one lied, or the one. There is no fairness and no guaranteed end: the liar may have its result before it
ends the run for others.

Who learns what: an opening shows its value to the parties named and to nobody else. All else that a computing party
receives is masked by a stream whose key it does not hold. Or it is a tag, a statement or evidence, which the party can make
up by itself.

Costs are declared in `costs`, proofs stand in docs/soundness-four.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Self, cast

from secagg.mpc.four import (
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
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.costs import FourCosts
from secagg.mpc.four.known import summands
from secagg.mpc.four.shares import Held, held, held_by, shares
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.numbers import RingGroup, truncation_range
from secagg.mpc.primitives import Shares, bits_of, ring_of
from secagg.party import Party, PartyId
from secagg.wire import Message


class FourEngine:
    """One computing party of four; its methods are those of `Primitives`.

    Args:
      channel: its end of what the four exchange.
    """

    costs = FourCosts()

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.party = channel.party
        self.computing = channel.computing

    @classmethod
    async def set_up(cls, party: Party, computing: Sequence[PartyId], *, label: str = "") -> Self:
        """Agree on keys and return the engine; see `agree_keys` for arguments and errors."""
        return cls(await Channel.set_up(party, computing, label=label))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(P{self.channel.index} = {self.party.me!r})"

    def public(self, group: Group, value: Array) -> Shares:
        """Return public elements as a secret; all parties pass the same."""
        return self._shares(group, inputs.public_shares(self.channel, value))

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
        """Return an input of `owner`; see `receive_input`. An outside owner calls `share_input`."""
        parts = await inputs.receive_input(
            self.channel, group, owner, shape, value, owner_sent_before=owner_sent_before, name=name
        )
        return self._shares(group, parts)

    async def open(self, x: Shares, to: Sequence[PartyId] | None = None) -> Array | None:
        """Open a value after a check; see `opening`. Outside receivers call `receive_opening`."""
        receivers = opening.receivers_of(self.channel, to)
        return (await self.open_each([(x, receivers)]))[0]

    async def open_each(
        self, values: Sequence[tuple[Shares, Sequence[PartyId]]], names: Sequence[bytes] = ()
    ) -> list[Array | None]:
        """Open several values, each to its receivers, after one check; see `opening`."""
        opened = [
            opening.Opened(x.group, self._held(x), opening.receivers_of(self.channel, to), name)
            for (x, to), name in zip(values, names or [b""] * len(values), strict=True)
        ]
        return await opening.open_each(self.channel, opened)

    async def check(self) -> None:
        """End the run for all alike if a lie was found; see `Channel.check`."""
        await self.channel.check()

    async def multiply(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        """Return the elementwise product; with `frac_bits` as `truncate` does.

        Raises:
          ShapeError: two shapes, or bits.
          UsageError: two groups or engines, or frac_bits out of range.
        """
        x.check_same(y)
        group = ring_of(x)
        products.check_shapes(x.shape, y.shape)
        factors = self._held(x), self._held(y)
        if not frac_bits:
            return self._shares(group, await products.multiply(self.channel, group, *factors))
        truncation_range(group.ring, frac_bits)
        z = await products.multiply_summands(self.channel, group, *factors)
        return self._shares(group, await truncation.truncate(self.channel, group, x.shape, z, frac_bits))

    async def matmul(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        """Return the matrix product; with `frac_bits` as `truncate` does. Operands have one or two dimensions.

        Raises:
          ShapeError: shapes of which there is no product, or bits.
          UsageError: two groups or engines, or frac_bits out of range.
        """
        x.check_same(y)
        group = ring_of(x)
        factors = self._held(x), self._held(y)
        shape = products.shape_of_matmul(self.channel, *factors)
        if not frac_bits:
            return self._shares(group, await products.matmul(self.channel, group, *factors))
        truncation_range(group.ring, frac_bits)
        z = await products.matmul_summands(self.channel, group, *factors)
        return self._shares(group, await truncation.truncate(self.channel, group, shape, z, frac_bits))

    async def truncate(self, x: Shares, frac_bits: int) -> Shares:
        """Return x / 2**frac_bits, rounded down or up; see `truncation.truncate` for the range.

        Raises:
          ShapeError: bits.
          UsageError: frac_bits out of range.
        """
        group = ring_of(x)
        z = summands(self.channel, group, self._held(x.reshape(x.size)))
        return self._shares(group, await truncation.truncate(self.channel, group, x.shape, z, frac_bits))

    async def shift(self, x: Shares, bits: int) -> Shares:
        """Return floor(x / 2**bits), for x in `truncation_range`; errors are those of `truncate`."""
        group = ring_of(x)
        truncation_range(group.ring, bits)
        flat = self._held(x.reshape(x.size))
        carry = await comparison.carry_of(self, self.channel, group, flat, bits)
        ones = await self.from_bits(carry, group, x.size)
        z = summands(self.channel, group, flat)
        parts = await truncation.quotient(self.channel, group, x.shape, z, bits, 0)
        return self._shares(group, parts) + ones.reshape(*x.shape)

    async def conjunction(self, pairs: Sequence[tuple[Shares, Shares]]) -> list[Shares]:
        """Return the ANDs of pairs of arrays of bits, all in one round; see `Primitives.conjunction`."""
        for x, y in pairs:
            bits_of(x).check_same(y)
        if not pairs:
            return []
        parts = await conjunction.conjunction(
            self.channel, [(self._held(x), self._held(y)) for x, y in pairs]
        )
        return [self._shares(XOR, z) for z in parts]

    async def open_conjunction(self, x: Shares, y: Shares, z: Shares) -> Array:
        """Open (x AND y) XOR z to the computing parties, after a check."""
        (both,) = await self.conjunction([(x, y)])
        both ^= z
        return cast(Array, await self.open(both))

    async def exchange(self, swap: Shares, views: Sequence[tuple[Shares, Shares]]) -> None:
        """Exchange two tables of bits in place where `swap` says so; see `Primitives.exchange`."""
        for earlier, later in views:
            bits_of(swap).check_same(earlier)
            earlier.check_same(later)
        await conjunction.exchange(
            self.channel,
            self._held(swap),
            [(self._held(earlier), self._held(later)) for earlier, later in views],
        )

    async def negative(self, x: Shares) -> Shares:
        """Return the bits x < 0 of signed elements; see `comparison`."""
        return await comparison.negative(self, self.channel, x)

    async def zero(self, x: Shares) -> Shares:
        """Return the bits x = 0; see `comparison`."""
        return await comparison.zero(self, self.channel, x)

    async def to_bits(self, x: Shares) -> Shares:
        """Return the bits of elements in slices, lowest first; see `comparison`."""
        return await comparison.to_bits(self, self.channel, x)

    async def from_bits(self, bits: Shares, group: RingGroup, n: int) -> Shares:
        """Return n bits, 64 a word, as ring elements 0 and 1."""
        return self._shares(group, await conversion.from_bits(self.channel, bits, group, n))

    async def shuffle(self, *arrays: Shares) -> list[Shares]:
        """Return the rows of each bucket in an order that nobody knows, the same for all arrays."""
        parts = await shuffle.shuffle(self.channel, [(x.group, self._held(x)) for x in arrays])
        return [self._shares(x.group, moved) for x, moved in zip(arrays, parts, strict=True)]

    async def refresh(self, kept: Sequence[tuple[Group, Sequence[Array]]]) -> list[Shares]:
        """Return secrets of which this party kept its shares, freshly shared; see `refresh`."""
        mine = held_by(self.channel.index)
        fresh = await refresh.refresh(
            self.channel, [(group, dict(zip(mine, parts, strict=True))) for group, parts in kept]
        )
        return [self._shares(group, parts) for (group, _), parts in zip(kept, fresh, strict=True)]

    def _held(self, x: Shares) -> Held:
        x.check_engine(self)
        return held(self.channel.index, x)

    def _shares(self, group: Group, parts: Held) -> Shares:
        return shares(self, group, parts)
