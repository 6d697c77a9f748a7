"""A test double of shared arrays: each operator is one call of the engine, made when it is written and awaited.

    z = await (x * y)
    small = await (w < 100)      # bits, 64 a word

Tests of engines look at single calls with it. Programs use `secagg.mpc.arrays`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError, UsageError
from secagg.mpc.engines import share_input
from secagg.mpc.groups import Array, Group
from secagg.mpc.numbers import RING64, Numbers, Public, RingGroup, decode, encode_public, matmul_shape
from secagg.mpc.primitives import Primitives, Shares, concatenate, ring_of
from secagg.party import Computation, Party, PartyId
from secagg.ring import Ring, RingArray


class SharedArray(Shares):
    """Secret numbers.

    Share arrays are never changed in place: they may be on their way to a peer.

    Args:
      engine: this party's end of the engine.
      group: the ring; of 64 bits but for tests.
      parts: the shares that this party holds.
      frac_bits: fractional bits; 0 for integers.
    """

    __slots__ = ("frac_bits",)
    __hash__ = None  # type: ignore[assignment]  # == compares the secrets

    def __init__(
        self, engine: Primitives, group: Group, parts: Sequence[Array], *, frac_bits: int = 0
    ) -> None:
        super().__init__(engine, group, parts)
        self.frac_bits = frac_bits

    @classmethod
    def of(cls, shares: Shares, frac_bits: int = 0) -> Self:
        """Return elements of a ring as numbers."""
        return cls(shares.engine, ring_of(shares), shares.parts, frac_bits=frac_bits)

    @property
    def ring(self) -> Ring:
        return ring_of(self).ring

    def __repr__(self) -> str:
        kind = f"{self.frac_bits} frac_bits" if self.frac_bits else "integers"
        return f"<SharedArray {self.shape} of {self.ring.bits} bits, {kind}>"

    def _like(self, parts: Sequence[Array]) -> Self:
        return type(self)(self.engine, self.group, parts, frac_bits=self.frac_bits)

    # Shape: numpy's own, on each share.

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def T(self) -> Self:  # noqa: N802  # numpy's name
        return self.each(np.transpose)

    def broadcast_to(self, shape: tuple[int, ...]) -> Self:
        """Return the array broadcast to a shape, as numpy does."""
        return self if self.shape == shape else self.each(lambda share: _broadcast(share, shape))

    def sum(self, axis: int | tuple[int, ...] | None = None) -> Self:
        """Return the sum along an axis, or of all elements, modulo the ring. Free."""
        dtype, reduce = self.ring.dtype, self.ring.reduce
        return self.each(lambda share: reduce(np.asarray(np.sum(share, axis=axis, dtype=dtype))))

    @classmethod
    def concatenate(cls, parts: Sequence[SharedArray], axis: int = 0) -> SharedArray:
        """Join arrays of equal ring and frac_bits along an axis."""
        for part in parts[1:]:
            parts[0].check_same(part)
        return cls.of(
            concatenate([Shares(p.engine, p.group, p.parts) for p in parts], axis), parts[0].frac_bits
        )

    # Linear operations: free. Numpy's arrays leave operators with a shared array to us, by `__array_ufunc__`
    # of None; mypy does not know that and finds the reflected ones unsafe.

    def __neg__(self) -> Self:
        return self.each(lambda share: self.ring.reduce(np.asarray(np.negative(share))))

    def __pos__(self) -> Self:
        return self

    def __add__(self, other: Shares | Public) -> Self:
        return self.with_each(self._lift(other), self.group.add)

    __radd__ = __add__

    def __sub__(self, other: Shares | Public) -> Self:
        return self.with_each(self._lift(other), self.group.subtract)

    def __rsub__(self, other: Public) -> Self:  # type: ignore[misc]
        return -self + other

    # Products.

    @overload
    def __mul__(self, other: SharedArray) -> Computation[SharedArray]: ...
    @overload
    def __mul__(self, other: Public) -> Self: ...
    def __mul__(self, other: SharedArray | Public) -> Self | Computation[SharedArray]:
        """Return an awaitable for the product with a shared array, elementwise; with public integers, the product.

        The product has the larger frac_bits of the two; the smaller are truncated away.
        """
        if isinstance(other, SharedArray):
            return _multiply(self, other)
        factor = self._public_integers(other)
        return self.each(lambda share: self.ring.reduce(_apply(np.multiply, share, factor)))

    def __rmul__(self, other: Public) -> Self:  # type: ignore[misc]
        return self * other

    @overload
    def __matmul__(self, other: SharedArray) -> Computation[SharedArray]: ...
    @overload
    def __matmul__(self, other: Public) -> Self: ...
    def __matmul__(self, other: SharedArray | Public) -> Self | Computation[SharedArray]:
        """Return an awaitable for the matrix product with a shared array; with public integers, the product.

        Operands have one or two dimensions.
        """
        if isinstance(other, SharedArray):
            return _matmul(self, other)
        factor = self._public_integers(other)
        matmul_shape(self.shape, factor.shape)
        return self.each(lambda share: self.ring.matmul(share, factor))

    def __rmatmul__(self, other: Public) -> Self:
        factor = self._public_integers(other)
        matmul_shape(factor.shape, self.shape)
        return self.each(lambda share: self.ring.matmul(factor, share))

    async def scale(self, factor: float | NDArray[np.floating[Any]]) -> SharedArray:
        """Return the product with public real numbers, encoded with this array's frac_bits and truncated.

        Costs what a product of two shared arrays does.
        """
        public = encode_public(factor, self.ring, self.frac_bits)
        scaled = self.each(lambda share: self.ring.reduce(_apply(np.multiply, share, public)))
        return (
            scaled
            if not self.frac_bits
            else scaled._like((await self.engine.truncate(scaled, self.frac_bits)).parts)
        )

    def __rshift__(self, bits: int) -> Computation[SharedArray]:
        """Return an awaitable for floor(x / 2**bits) in units of the last place: an exact shift to the right."""
        return _shift(self, bits)

    # Comparisons: awaitables for bits, 64 a word, in C order of the elements.

    def __lt__(self, other: SharedArray | Public) -> Computation[Shares]:  # type: ignore[misc]
        """Return an awaitable for x < y, right where the ring holds x - y as a signed number."""
        return _negative(self - other)

    def __gt__(self, other: SharedArray | Public) -> Computation[Shares]:  # type: ignore[misc]
        return _negative(-self + other)

    def __ge__(self, other: SharedArray | Public) -> Computation[Shares]:  # type: ignore[misc]
        return _not(self < other)

    def __le__(self, other: SharedArray | Public) -> Computation[Shares]:  # type: ignore[misc]
        return _not(self > other)

    def __eq__(self, other: SharedArray | Public) -> Computation[Shares]:  # type: ignore[override]
        return _zero(self - other)

    def __ne__(self, other: SharedArray | Public) -> Computation[Shares]:  # type: ignore[override]
        return _not(self == other)

    async def bits(self) -> Shares:
        """Return the bits of the elements in C order, in slices: (ring.bits, ceil(size / 64)), lowest first."""
        return await self.engine.to_bits(self.reshape(self.size))

    # Opening.

    async def open(self, to: Sequence[PartyId] | None = None) -> Numbers | None:
        """Open to `to` (default: the computing parties); return the numbers there, None elsewhere.

        Others than computing parties among `to` call `receive_array`. int64 where frac_bits is 0, else float64.
        """
        opened = await self.engine.open(self, to)
        return None if opened is None else decode(opened, self.ring, self.frac_bits)

    # What the above stands on.

    def check_same(self, other: Shares) -> None:
        """Refuse an array of another ring, frac_bits or engine."""
        frac_bits = other.frac_bits if isinstance(other, SharedArray) else -1
        if other.group != self.group or frac_bits != self.frac_bits or other.engine is not self.engine:
            raise UsageError(
                f"{self!r} and {other!r} differ in ring, frac_bits or engine; convert one of them"
            )

    def _lift(self, other: Shares | Public) -> Shares:
        if isinstance(other, Shares):
            return other
        return public_array(self.engine, other, ring=self.ring, frac_bits=self.frac_bits)

    def _public_integers(self, other: Public) -> RingArray:
        values = np.asarray(other)
        if values.dtype.kind not in "iu":
            raise UsageError(
                f"expected a shared array or public integers as a factor, got {values.dtype}; "
                f"use `await x.scale(factor)` for real numbers"
            )
        return encode_public(values, self.ring, 0)


def public_array(
    engine: Primitives, values: Public, *, ring: Ring = RING64, frac_bits: int = 0
) -> SharedArray:
    """Return public numbers as shares. All parties pass the same."""
    return SharedArray.of(engine.public(RingGroup(ring), encode_public(values, ring, frac_bits)), frac_bits)


async def input_array(
    engine: Primitives,
    owner: PartyId,
    shape: tuple[int, ...],
    values: Public | None = None,
    *,
    ring: Ring = RING64,
    frac_bits: int = 0,
) -> SharedArray:
    """Return an input of `owner` as shares.

    Args:
      owner: a computing party, which passes `values`; or another, which calls `share_array`.
      shape: the public shape of the input.
      values: at the owner, numbers as `encode_public` takes them; nowhere else.
    """
    encoded = None if values is None else encode_public(values, ring, frac_bits)
    return SharedArray.of(await engine.input(RingGroup(ring), owner, shape, encoded), frac_bits)


async def share_array(
    party: Party, computing: Sequence[PartyId], values: Public, *, ring: Ring = RING64, frac_bits: int = 0
) -> None:
    """Share an input with the computing parties, as a party that is not one of them."""
    await share_input(party, computing, RingGroup(ring), encode_public(values, ring, frac_bits))


def from_bits(bits: Shares, shape: int | tuple[int, ...], *, ring: Ring = RING64) -> Computation[SharedArray]:
    """Return an awaitable for bits, 64 a word, as an array of integers 0 and 1 of a shape."""
    return _from_bits(bits, (shape,) if isinstance(shape, int) else shape, ring)


async def _from_bits(bits: Shares, shape: tuple[int, ...], ring: Ring) -> SharedArray:
    n = int(np.prod(shape, dtype=np.int64))
    return SharedArray.of(await bits.engine.from_bits(bits, RingGroup(ring), n)).reshape(*shape)


async def where(bit: Shares, x: SharedArray, y: SharedArray | Public) -> SharedArray:
    """Return x where the bit is set and y elsewhere: y + bit (x - y).

    Args:
      bit: integers 0 and 1 that broadcast with x and y, or bits, 64 a word, in C order of their elements.
    """
    difference = x - y
    if not isinstance(bit, SharedArray):
        bit = await from_bits(bit, difference.shape, ring=x.ring)
    return await (bit * difference) + y


def _apply(operation: np.ufunc, x: Array, y: Array) -> Array:
    try:
        return np.asarray(operation(x, y))
    except ValueError:
        raise ShapeError(f"shapes {x.shape} and {y.shape} do not broadcast together") from None


def _broadcast_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        raise ShapeError(f"shapes {a} and {b} do not broadcast together") from None


def _broadcast(x: Array, shape: tuple[int, ...]) -> Array:
    try:
        return np.broadcast_to(x, shape)
    except ValueError:
        raise ShapeError(f"shape {x.shape} does not broadcast to {shape}") from None


async def _negative(x: SharedArray) -> Shares:
    return await x.engine.negative(x.reshape(x.size))


async def _zero(x: SharedArray) -> Shares:
    return await x.engine.zero(x.reshape(x.size))


async def _not(bits: Computation[Shares]) -> Shares:
    return ~(await bits)


async def _multiply(x: SharedArray, y: SharedArray) -> SharedArray:
    shape = _broadcast_shape(x.shape, y.shape)
    return await _product(x.broadcast_to(shape), y.broadcast_to(shape), x.engine.multiply)


async def _matmul(x: SharedArray, y: SharedArray) -> SharedArray:
    return await _product(x, y, x.engine.matmul)


async def _product(
    x: SharedArray, y: SharedArray, operation: Callable[[Shares, Shares, int], Awaitable[Shares]]
) -> SharedArray:
    """Return a product with the larger frac_bits."""
    if x.ring != y.ring or x.engine is not y.engine:
        raise UsageError(f"{x!r} and {y!r} differ in ring or engine")
    a, b = (Shares(f.engine, f.group, f.parts) for f in (x, y))
    low, high = sorted((x.frac_bits, y.frac_bits))
    return SharedArray.of(await operation(a, b, low), high)


async def _shift(x: SharedArray, bits: int) -> SharedArray:
    return SharedArray.of(await x.engine.shift(x, bits), x.frac_bits)
