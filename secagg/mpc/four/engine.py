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

from collections.abc import Sequence
from typing import Self

from secagg.mpc.four import conversion, inputs, opening, products, shuffle, truncation
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.shares import FourShares
from secagg.mpc.groups import Array, Group
from secagg.mpc.numbers import RingGroup
from secagg.party import Party, PartyId


class FourEngine:
    """One computing party of four.

    Args:
      channel: its end of what the four exchange.
    """

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

    def public(self, group: Group, value: Array) -> FourShares:
        """Return public elements as shares; all parties pass the same."""
        return inputs.public_shares(self.channel, group, value)

    async def input(
        self, group: Group, owner: PartyId, shape: tuple[int, ...], value: Array | None = None
    ) -> FourShares:
        """Return an input of `owner` as shares; see `receive_input`. An outside owner calls `share_input`."""
        return await inputs.receive_input(self.channel, group, owner, shape, value)

    async def open(self, x: FourShares, to: Sequence[PartyId] | None = None) -> Array | None:
        """Open a value after a check; see `open_shares`. Outside receivers call `receive_opening`."""
        return await opening.open_shares(self.channel, x, to)

    async def check(self) -> None:
        """End the run for all alike if a lie was found; see `Channel.check`."""
        await self.channel.check()

    async def multiply(self, x: FourShares, y: FourShares) -> FourShares:
        """Return the elementwise product modulo the ring."""
        return await products.multiply(self.channel, x, y)

    async def matmul(self, x: FourShares, y: FourShares) -> FourShares:
        """Return the matrix product modulo the ring."""
        return await products.matmul(self.channel, x, y)

    async def conjunction(self, pairs: Sequence[tuple[FourShares, FourShares]]) -> list[FourShares]:
        """Return the ANDs of pairs of arrays of bits, all in one round."""
        return await products.conjunction(self.channel, pairs)

    async def truncate(self, z: FourShares, frac_bits: int) -> FourShares:
        """Return z / 2**frac_bits, rounded down or up; see `truncation.truncate` for the range."""
        return await truncation.truncate(self.channel, z, frac_bits)

    async def from_bits(self, bits: FourShares, group: RingGroup, n: int) -> FourShares:
        """Return n bits, 64 a word, as ring elements 0 and 1."""
        return await conversion.from_bits(self.channel, bits, group, n)

    async def shuffle(self, x: FourShares) -> FourShares:
        """Return the rows of each bucket in an order that nobody knows."""
        return await shuffle.shuffle(self.channel, x)
