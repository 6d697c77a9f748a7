"""What an engine offers to everything above it: secret arrays, and the operations that need its messages.

An engine keeps a secret as `Shares`. It says how many shares a secret has and which of them this party holds. Linear
functions act on each share by itself and cost nothing, so they are methods of `Shares`. All else is a method of the
engine. What stands above knows an engine by its face `Primitives` alone: arithmetic, circuits, merging, sorting, patterns.

Elements live in a `Group`: a ring, or bits packed 64 a word under XOR (`groups`).

Bits of n elements lie in ceil(n / 64) words, lowest lane first, as `secagg.ring.to_planes` packs them; lanes from n up
are not defined.

In each of its rounds an operation lets every computing party wait once. So operations that run side by side
(`Party.parallel`) move in lockstep, and share rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NoReturn, Protocol, Self

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.numbers import RingGroup
from secagg.party import Party, PartyId
from secagg.ring import Ring
from secagg.wire import Message

_ONES: Final = np.full((), 0xFFFFFFFFFFFFFFFF, np.uint64)


class Shares:
    """Shares of a secret array.

    `bool`, `float`, `int`, `iter` and conversion to numpy raise; `repr` shows the shape only.

    Args:
      engine: whose secret it is.
      group: that the secret lives in.
      parts: the shares that this party holds, in the engine's order, of one shape and the group's dtype.
    """

    __slots__ = ("engine", "group", "parts")
    __array_ufunc__ = None  # numpy operators defer to ours instead of treating a secret as an object

    def __init__(self, engine: Primitives, group: Group, parts: Sequence[Array]) -> None:
        dtype = group.dtype
        self.parts = tuple(parts)
        shape = self.parts[0].shape if self.parts else None
        for part in self.parts:
            if part.shape != shape or part.dtype != dtype:
                shape = None
        if shape is None:
            kinds = ", ".join(f"{part.shape} of {part.dtype}" for part in parts)
            raise ShapeError(f"expected shares of one shape and {dtype}, got {kinds}")
        self.engine = engine
        self.group = group

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parts[0].shape

    @property
    def size(self) -> int:
        return self.parts[0].size

    @property
    def nbytes(self) -> int:
        """Bytes of the secret, which are those of one share."""
        return self.parts[0].nbytes

    def __len__(self) -> int:
        return len(self.parts[0])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape}>"

    def each(self, linear: Callable[[Array], Array]) -> Self:
        """Return a linear function of the secret: what it does to one share it does to all."""
        return self._like([np.asarray(linear(part)) for part in self.parts])

    def with_each(self, other: Shares, linear: Callable[[Array, Array], Array]) -> Self:
        """Return a linear function of two secrets of one group and engine.

        Raises:
          UsageError: they live in different groups or engines.
          ShapeError: the function does not take their shapes.
        """
        self.check_same(other)
        try:
            parts = [np.asarray(linear(x, y)) for x, y in zip(self.parts, other.parts, strict=True)]
        except ValueError:
            raise ShapeError(f"shapes {self.shape} and {other.shape} do not broadcast together") from None
        return self._like(parts)

    def __getitem__(self, key: Any) -> Self:
        return self.each(lambda part: part[key])

    def __setitem__(self, key: Any, value: Shares) -> None:
        """Write a secret into a part of this one, in place."""
        self.check_same(value)
        for part, new in zip(self.parts, value.parts, strict=True):
            part[key] = new

    def reshape(self, *shape: int) -> Self:
        return self.each(lambda part: part.reshape(shape))

    def copy(self) -> Self:
        return self.each(np.copy)

    def __add__(self, other: Shares) -> Self:
        return self.with_each(other, self.group.add)

    def __sub__(self, other: Shares) -> Self:
        return self.with_each(other, self.group.subtract)

    # Of bits alone: exclusive or, in place or not, and not.

    def __xor__(self, other: Shares) -> Self:
        bits_of(self)
        return self + other

    def __ixor__(self, other: Shares) -> Self:
        bits_of(self).check_same(other)
        for part, new in zip(self.parts, other.parts, strict=True):
            part ^= new
        return self

    def __invert__(self) -> Self:
        return self ^ self.engine.public(XOR, _ONES)

    def into(self, group: Group, linear: Callable[[Array], Array]) -> Shares:
        """Return a linear function of the secret that leads into another group."""
        return Shares(self.engine, group, [np.asarray(linear(part)) for part in self.parts])

    def check_same(self, other: Shares) -> None:
        """Refuse a secret that lives in another group or engine."""
        if other.engine is not self.engine or (other.group is not self.group and other.group != self.group):
            raise UsageError(
                f"{self!r} and {other!r} live in different groups or engines; convert one of them"
            )

    def check_engine(self, engine: Primitives) -> None:
        """Refuse to be a secret of another engine."""
        if engine is not self.engine:
            raise UsageError(f"{self!r} is a secret of {self.engine!r}, not of {engine!r}")

    def _like(self, parts: Sequence[Array]) -> Self:
        return type(self)(self.engine, self.group, parts)

    def _refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        raise UsageError(
            f"{self!r} is secret and does not turn into a plain value; open it with the engine's `open`"
        )

    __bool__ = __int__ = __float__ = __index__ = __iter__ = __array__ = _refuse


def bits_of(x: Shares) -> Shares:
    """Return a secret that consists of bits.

    Raises:
      ShapeError: it does not.
    """
    if x.group is not XOR and x.group != XOR:
        raise ShapeError(f"expected bits, 64 a word, got {x!r} of {x.group.dtype}")
    return x


def ring_of(x: Shares) -> RingGroup:
    """Return the ring that a secret lives in.

    Raises:
      ShapeError: it consists of bits.
    """
    if not isinstance(x.group, RingGroup):
        raise ShapeError(f"expected elements of a ring, got {x!r} of bits")
    return x.group


def concatenate(parts: Sequence[Shares], axis: int = 0) -> Shares:
    """Join secrets of one group and engine along an axis.

    Raises:
      ShapeError: no secrets, or shapes that differ elsewhere.
      UsageError: they live in different groups or engines.
    """
    if not parts:
        raise ShapeError("expected at least one array to concatenate, got none")
    for part in parts[1:]:
        parts[0].check_same(part)
    try:
        joined = [np.concatenate(of_each, axis) for of_each in zip(*(p.parts for p in parts), strict=True)]
    except ValueError:
        raise ShapeError(f"shapes {[part.shape for part in parts]} do not join along axis {axis}") from None
    return type(parts[0])(parts[0].engine, parts[0].group, joined)


class Costs(Protocol):
    """What an engine's operations cost; parties are P_0, P_1, ... until `Cost.named` names them.

    n: elements; f: frac_bits; words: of 64 bits.
    """

    computing: int  # how many compute

    def set_up(self) -> Cost: ...
    def input(self, nbytes: int, owner: int | None) -> Cost:
        """Return the cost of an input; owner: the index of a computing party, None for one outside."""
        ...

    def open(self, nbytes: int, to: Sequence[int], *, outside: Sequence[int] = ()) -> Cost:
        """Return the cost of an opening with the check before it.

        Args:
          to: indices of the computing parties among the receivers.
          outside: for each other receiver, its place in the roster.
        """
        ...

    def check(self) -> Cost: ...
    def multiply(self, n: int, ring: Ring, frac_bits: int = 0) -> Cost:
        """Return the cost of n products: elementwise, or the elements of a matrix product."""
        ...

    def truncate(self, n: int, ring: Ring, frac_bits: int) -> Cost: ...
    def shift(self, n: int, ring: Ring, bits: int) -> Cost: ...
    def conjunction(self, words: int) -> Cost:
        """Return the cost of the ANDs of so many words, over all pairs together."""
        ...

    def open_conjunction(self, words: int) -> Cost: ...

    def exchange(self, words: int) -> Cost:
        """Return the cost of an exchange; words: of one of the two tables."""
        ...

    def negative(self, n: int, ring: Ring) -> Cost: ...
    def zero(self, n: int, ring: Ring) -> Cost: ...
    def to_bits(self, n: int, ring: Ring) -> Cost: ...
    def from_bits(self, n: int, ring: Ring) -> Cost: ...
    def shuffle(self, *nbytes: int) -> Cost:
        """Return the cost of a shuffle of arrays of so many bytes each."""
        ...


class Primitives(Protocol):
    """An engine, at one computing party."""

    @property
    def party(self) -> Party: ...
    @property
    def computing(self) -> tuple[PartyId, ...]: ...
    @property
    def costs(self) -> Costs: ...

    # Values in and out.

    def public(self, group: Group, value: Array) -> Shares:
        """Return public elements as a secret; all parties pass the same. No share shares memory with `value`."""
        ...

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
        """Return an input of `owner`, which passes `value` if it computes itself.

        Args:
          owner_sent_before: see `Party.gather`.
          name: what an owner that does not compute has to call it; see `terms`.
        """
        ...

    async def open(self, x: Shares, to: Sequence[PartyId] | None = None) -> Array | None:
        """Open a secret to `to` (default: the computing parties); return it there, None elsewhere."""
        ...

    async def open_each(
        self, values: Sequence[tuple[Shares, Sequence[PartyId]]], names: Sequence[bytes] = ()
    ) -> list[Array | None]:
        """Open several secrets, each to its receivers, after one check and in one round.

        Args:
          names: what receivers that do not compute have to call each; none where all are called b"". See `terms`.
        """
        ...

    async def check(self) -> None:
        """End the run for all alike if a lie was found; does nothing where no lie can be found."""
        ...

    # Arithmetic, on elements of a ring.

    async def multiply(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        """Return the elementwise product of two secrets of one shape, truncated by `frac_bits` as `truncate` does."""
        ...

    async def matmul(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        """Return the matrix product, truncated by `frac_bits` as `truncate` does."""
        ...

    async def truncate(self, x: Shares, frac_bits: int) -> Shares:
        """Return x / 2**frac_bits, rounded up or down, for x in `numbers.truncation_range`."""
        ...

    async def shift(self, x: Shares, bits: int) -> Shares:
        """Return floor(x / 2**bits), for x in `numbers.truncation_range`."""
        ...

    # Bits, and from and to them.

    async def conjunction(self, pairs: Sequence[tuple[Shares, Shares]]) -> list[Shares]:
        """Return the ANDs of pairs of arrays of bits, all in one round.

        Of a pair (x, y), y has shape (planes, words) or (words,), and x the same shape or (words,), which then goes
        with each plane. What is returned shares no memory with anything, so that it may be changed in place.
        """
        ...

    async def open_conjunction(self, x: Shares, y: Shares, z: Shares) -> Array:
        """Open (x AND y) XOR z, of one shape, to the computing parties, and nothing else."""
        ...

    async def exchange(self, swap: Shares, views: Sequence[tuple[Shares, Shares]]) -> None:
        """Exchange two tables of bits in place, column by column, where `swap` says so.

        Args:
          swap: bits of shape (columns of all views together,).
          views: pairs of views into arrays, each (planes, ...), whose columns stand one after the other in `swap`.
        """
        ...

    async def negative(self, x: Shares) -> Shares:
        """Return the bits x < 0 of signed elements, shape (n,), as (ceil(n / 64),)."""
        ...

    async def zero(self, x: Shares) -> Shares:
        """Return the bits x = 0 of elements, shape (n,), as (ceil(n / 64),)."""
        ...

    async def to_bits(self, x: Shares) -> Shares:
        """Return the bits of elements, shape (n,), lowest first: (ring.bits, ceil(n / 64))."""
        ...

    async def from_bits(self, bits: Shares, group: RingGroup, n: int) -> Shares:
        """Return n bits, (ceil(n / 64),), as elements 0 and 1 of a ring, shape (n,)."""
        ...

    # Order.

    async def shuffle(self, *arrays: Shares) -> list[Shares]:
        """Return the rows of arrays in an order that nobody knows, the same for all arrays.

        Args:
          arrays: of shapes (buckets, rows, ...), each of any group; every bucket is shuffled by itself.
        """
        ...
