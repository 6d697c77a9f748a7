"""What an engine offers to everything above it: arrays in secret, and the operations that need its messages.

An engine keeps a secret as shares of some kind; what stands above knows the kind by this face alone. Sums, differences,
slices and other linear functions act on each share by itself and cost nothing. Everything else is a method of the
engine that is awaited.

Elements live in a `Group`: a ring, or bits packed 64 a word under XOR. docs/adr has the reasons, and what of the
three-party engine does not stand behind this face yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, TypeVar

from secagg.mpc.groups import Array, Group
from secagg.party import Party, PartyId


class Secret(Protocol):
    """A secret array, as one party holds it."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def size(self) -> int: ...
    def __add__(self, other: Any, /) -> Self: ...
    def __sub__(self, other: Any, /) -> Self: ...
    def __getitem__(self, key: Any, /) -> Self: ...
    def reshape(self, *shape: int) -> Self: ...
    def each(self, linear: Callable[[Array], Array]) -> Self:
        """Return a linear function of the secret: what it does to one share it does to all."""
        ...


S = TypeVar("S", bound=Secret)


class Primitives(Protocol[S]):
    """An engine, at one computing party."""

    party: Party
    computing: tuple[PartyId, ...]

    def public(self, group: Group, value: Array) -> S:
        """Return public elements as a secret; all parties pass the same."""
        ...

    async def input(
        self, group: Group, owner: PartyId, shape: tuple[int, ...], value: Array | None = None
    ) -> S:
        """Return an input of `owner`, which passes `value` if it computes itself."""
        ...

    async def open(self, x: S, to: Sequence[PartyId] | None = None) -> Array | None:
        """Open a secret to `to` (default: the computing parties); return it there, None elsewhere."""
        ...

    async def check(self) -> None:
        """End the run for all alike if a lie was found; does nothing where no lie can be found."""
        ...

    async def multiply(self, x: S, y: S) -> S:
        """Return the elementwise product modulo the ring."""
        ...

    async def matmul(self, x: S, y: S) -> S:
        """Return the matrix product modulo the ring."""
        ...

    async def conjunction(self, pairs: Sequence[tuple[S, S]]) -> list[S]:
        """Return the ANDs of pairs of arrays of bits, all in one round."""
        ...
