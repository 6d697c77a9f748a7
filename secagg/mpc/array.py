"""Shared arrays of integers and fixed-point numbers, to be used like numpy's.

    z = await (x * y)            # of shared arrays: operations that need messages are awaited
    w = 2 * z + 1 - x.sum()      # of public numbers, sums, differences: at once, free
    small = await (w < 100)      # SharedBits, 64 a word
    y = await where(small, w, z)
    print(await y.open())        # nothing opens but what says so

A number v is the ring element v * 2**frac_bits modulo 2**bits, in two's complement. Products of fixed-point
numbers are truncated. The error of a truncation is below one unit in the last place, and zero on average.
`secagg.mpc.three.truncation` says which range products must keep to, and what an opened product shows beyond its value.

The protocols are in `products`, `truncation`, `comparison` and `conversion`; costs of n elements are given by the
functions `*_cost` here and there.

Longer than most modules: numpy's operators are many, each of a few lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.bits import SharedBits
from secagg.mpc.groups import Array
from secagg.mpc.numbers import RING64, Numbers, Public, RingGroup, decode, encode_public, matmul_shape
from secagg.mpc.shared import Shared
from secagg.mpc.three.comparison import eqz, eqz_cost, ltz, ltz_cost
from secagg.mpc.three.conversion import a2b, a2b_cost, b2a, b2a_cost
from secagg.mpc.three.costs import FREE
from secagg.mpc.three.engine import ThreeEngine, receive_opening, share_input
from secagg.mpc.three.products import matmul_locally, multiply_cost, multiply_locally, replicate
from secagg.mpc.three.truncation import truncate_exact, truncate_exact_cost
from secagg.party import Computation, Party, PartyId
from secagg.ring import Ring, RingArray


class SharedArray(Shared):
    """Secret numbers, of which this party holds two of three shares.

    Share arrays are never changed in place: they may be on their way to a peer.

    Args:
      engine: this party's end of the engine.
      share_0, share_1: x_i and x_{i+1}: elements of the ring, of the same shape.
      ring: the ring; 64 bits but for tests.
      frac_bits: fractional bits; 0 for integers.

    Raises:
      ShapeError: shares of another dtype than the ring's, or that differ in shape.
    """

    __slots__ = ("frac_bits", "ring")
    __hash__ = None  # type: ignore[assignment]  # == compares the secrets

    def __init__(
        self, engine: ThreeEngine, share_0: Array, share_1: Array, *, ring: Ring = RING64, frac_bits: int = 0
    ) -> None:
        # numpy makes scalars of results without dimensions; shares are always arrays.
        super().__init__(engine, np.asarray(share_0), np.asarray(share_1))
        if self.share_0.dtype != ring.dtype:
            raise ShapeError(
                f"shares of a ring of {ring.bits} bits are {ring.dtype}, not {self.share_0.dtype}"
            )
        self.ring = ring
        self.frac_bits = frac_bits

    def __repr__(self) -> str:
        kind = f"{self.frac_bits} frac_bits" if self.frac_bits else "integers"
        return f"<SharedArray {self.shape} of {self.ring.bits} bits, {kind}>"

    def _like(self, share_0: Array, share_1: Array) -> Self:
        return type(self)(self.engine, share_0, share_1, ring=self.ring, frac_bits=self.frac_bits)

    # Shape: numpy's own, on both shares.

    @property
    def ndim(self) -> int:
        return self.share_0.ndim

    @property
    def T(self) -> Self:  # noqa: N802  # numpy's name
        return self._like(self.share_0.T, self.share_1.T)

    def broadcast_to(self, shape: tuple[int, ...]) -> Self:
        """Return the array broadcast to a shape, as numpy does."""
        if self.shape == shape:
            return self
        return self._like(_broadcast(self.share_0, shape), _broadcast(self.share_1, shape))

    def sum(self, axis: int | tuple[int, ...] | None = None) -> Self:
        """Return the sum along an axis, or of all elements, modulo the ring. Free."""
        return self._reduced(
            np.asarray(np.sum(self.share_0, axis=axis, dtype=self.ring.dtype)),
            np.asarray(np.sum(self.share_1, axis=axis, dtype=self.ring.dtype)),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[SharedArray], axis: int = 0) -> SharedArray:
        """Join arrays of equal ring and frac_bits along an axis."""
        if not parts:
            raise ShapeError("expected at least one array to concatenate, got none")
        for part in parts[1:]:
            parts[0]._check_same(part)
        return parts[0]._like(
            np.concatenate([part.share_0 for part in parts], axis),
            np.concatenate([part.share_1 for part in parts], axis),
        )

    # Linear operations: free. Numpy's arrays leave operators with a shared array to us, by `__array_ufunc__`
    # of None; mypy does not know that and finds the reflected ones unsafe.

    def __neg__(self) -> Self:
        return self._reduced(np.negative(self.share_0), np.negative(self.share_1))

    def __pos__(self) -> Self:
        return self

    def __add__(self, other: SharedArray | Public) -> Self:
        y = self._lift(other)
        return self._reduced(_apply(np.add, self.share_0, y.share_0), _apply(np.add, self.share_1, y.share_1))

    __radd__ = __add__

    def __sub__(self, other: SharedArray | Public) -> Self:
        y = self._lift(other)
        return self._reduced(
            _apply(np.subtract, self.share_0, y.share_0), _apply(np.subtract, self.share_1, y.share_1)
        )

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
        return self._reduced(
            _apply(np.multiply, self.share_0, factor), _apply(np.multiply, self.share_1, factor)
        )

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
        return self._like(self.ring.matmul(self.share_0, factor), self.ring.matmul(self.share_1, factor))

    def __rmatmul__(self, other: Public) -> Self:
        factor = self._public_integers(other)
        matmul_shape(factor.shape, self.shape)
        return self._like(self.ring.matmul(factor, self.share_0), self.ring.matmul(factor, self.share_1))

    async def scale(self, factor: float | NDArray[np.floating[Any]]) -> SharedArray:
        """Return the product with public real numbers, encoded with this array's frac_bits and truncated.

        Costs what a product of two shared arrays does.
        """
        public = encode_public(factor, self.ring, self.frac_bits)
        shape = _broadcast_shape(self.shape, public.shape)
        z = np.multiply(_broadcast(self.share_0, shape), _broadcast(public, shape), order="C")
        return await _finish(self, np.asarray(z), self.frac_bits, self.frac_bits)

    def __rshift__(self, bits: int) -> Computation[SharedArray]:
        """Return an awaitable for floor(x / 2**bits) in units of the last place: an exact shift to the right."""
        return _shift(self, bits)

    # Comparisons: awaitables for bits, 64 a word, in C order of the elements.

    def __lt__(self, other: SharedArray | Public) -> Computation[SharedBits]:  # type: ignore[misc]
        """Return an awaitable for x < y, right where the ring holds x - y as a signed number."""
        return _negative(self - other)

    def __gt__(self, other: SharedArray | Public) -> Computation[SharedBits]:  # type: ignore[misc]
        return _negative(-self + other)

    def __ge__(self, other: SharedArray | Public) -> Computation[SharedBits]:  # type: ignore[misc]
        return _not(self < other)

    def __le__(self, other: SharedArray | Public) -> Computation[SharedBits]:  # type: ignore[misc]
        return _not(self > other)

    def __eq__(self, other: SharedArray | Public) -> Computation[SharedBits]:  # type: ignore[override]
        return _zero(self - other)

    def __ne__(self, other: SharedArray | Public) -> Computation[SharedBits]:  # type: ignore[override]
        return _not(self == other)

    async def bits(self) -> SharedBits:
        """Return the bits of the elements in C order, in slices: (ring.bits, ceil(size / 64)), lowest first."""
        return await a2b(self.engine, self.ring, *self._flat())

    # Opening.

    async def open(self, to: Sequence[PartyId] | None = None) -> Numbers | None:
        """Open to `to` (default: the computing parties); return the numbers there, None elsewhere.

        Others than computing parties among `to` call `receive_array`. int64 where frac_bits is 0, else float64.
        """
        opened = await self.engine.open(RingGroup(self.ring), self.share_0, self.share_1, to)
        return None if opened is None else decode(opened, self.ring, self.frac_bits)

    # What the above stands on.

    def _flat(self) -> tuple[RingArray, RingArray]:
        return self.share_0.reshape(-1), self.share_1.reshape(-1)

    def _reduced(self, share_0: Array, share_1: Array) -> Self:
        return self._like(self.ring.reduce(np.asarray(share_0)), self.ring.reduce(np.asarray(share_1)))

    def _check_same(self, other: SharedArray) -> None:
        if other.ring != self.ring or other.frac_bits != self.frac_bits or other.engine is not self.engine:
            raise UsageError(
                f"{self!r} and {other!r} differ in ring, frac_bits or engine; convert one of them"
            )

    def _lift(self, other: SharedArray | Public) -> SharedArray:
        if isinstance(other, SharedArray):
            self._check_same(other)
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
    engine: ThreeEngine, values: Public, *, ring: Ring = RING64, frac_bits: int = 0
) -> SharedArray:
    """Return public numbers as shares: x_0 is the number, x_1 = x_2 = 0. All parties pass the same."""
    encoded = encode_public(values, ring, frac_bits)
    nothing = np.zeros_like(encoded)
    return SharedArray(
        engine,
        encoded if engine.index == 0 else nothing,
        encoded if engine.index == 2 else nothing,
        ring=ring,
        frac_bits=frac_bits,
    )


async def input_array(
    engine: ThreeEngine,
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
    share_0, share_1 = await engine.input(RingGroup(ring), owner, shape, encoded)
    return SharedArray(engine, share_0, share_1, ring=ring, frac_bits=frac_bits)


async def share_array(
    party: Party, computing: Sequence[PartyId], values: Public, *, ring: Ring = RING64, frac_bits: int = 0
) -> None:
    """Share an input with the computing parties, as a party that is not one of them."""
    await share_input(party, computing, RingGroup(ring), encode_public(values, ring, frac_bits))


async def receive_array(
    party: Party,
    computing: Sequence[PartyId],
    shape: tuple[int, ...],
    *,
    ring: Ring = RING64,
    frac_bits: int = 0,
) -> Numbers:
    """Return the numbers that the computing parties open to this party, which is not one of them."""
    opened = await receive_opening(party, computing, RingGroup(ring), shape)
    return decode(opened, ring, frac_bits)


def from_bits(
    bits: SharedBits, shape: int | tuple[int, ...], *, ring: Ring = RING64
) -> Computation[SharedArray]:
    """Return an awaitable for bits, 64 a word, as an array of integers 0 and 1 of a shape."""
    return _from_bits(bits, (shape,) if isinstance(shape, int) else shape, ring)


async def _from_bits(bits: SharedBits, shape: tuple[int, ...], ring: Ring) -> SharedArray:
    n = int(np.prod(shape, dtype=np.int64))
    share_0, share_1 = await b2a(bits.engine, ring, bits, n)
    return SharedArray(bits.engine, share_0.reshape(shape), share_1.reshape(shape), ring=ring)


async def where(bit: SharedBits | SharedArray, x: SharedArray, y: SharedArray | Public) -> SharedArray:
    """Return x where the bit is set and y elsewhere: y + bit (x - y).

    Args:
      bit: integers 0 and 1 that broadcast with x and y, or bits, 64 a word, in C order of their elements.
    """
    difference = x - y
    if isinstance(bit, SharedBits):
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


async def _negative(x: SharedArray) -> SharedBits:
    return await ltz(x.engine, x.ring, *x._flat())


async def _zero(x: SharedArray) -> SharedBits:
    return await eqz(x.engine, x.ring, *x._flat())


async def _not(bits: Computation[SharedBits]) -> SharedBits:
    return ~(await bits)


async def _multiply(x: SharedArray, y: SharedArray) -> SharedArray:
    _check_factors(x, y)
    if x.shape != y.shape:
        shape = _broadcast_shape(x.shape, y.shape)
        x, y = x.broadcast_to(shape), y.broadcast_to(shape)
    z = multiply_locally(x.engine.index, x.ring, (x.share_0, x.share_1), (y.share_0, y.share_1))
    return await _finish(x, z, x.frac_bits, y.frac_bits)


async def _matmul(x: SharedArray, y: SharedArray) -> SharedArray:
    _check_factors(x, y)
    z = matmul_locally(x.engine.index, x.ring, (x.share_0, x.share_1), (y.share_0, y.share_1))
    return await _finish(x, z, x.frac_bits, y.frac_bits)


async def _shift(x: SharedArray, bits: int) -> SharedArray:
    share_0, share_1 = await truncate_exact(x.engine, x.ring, x.share_0, x.share_1, bits)
    return x._like(share_0, share_1)


def _check_factors(x: SharedArray, y: SharedArray) -> None:
    if x.ring != y.ring or x.engine is not y.engine:
        raise UsageError(f"{x!r} and {y!r} differ in ring or engine")


async def _finish(x: SharedArray, z: RingArray, frac_bits: int, other_frac_bits: int) -> SharedArray:
    """Turn additive shares of a product into a shared array with the larger frac_bits. Overwrites z."""
    share_0, share_1 = await replicate(x.engine, x.ring, z, min(frac_bits, other_frac_bits))
    return SharedArray(x.engine, share_0, share_1, ring=x.ring, frac_bits=max(frac_bits, other_frac_bits))


def less_than_cost(n: int, *, ring: Ring = RING64) -> Cost:
    """Return the cost of n comparisons by order."""
    return ltz_cost(n, ring)


def equal_cost(n: int, *, ring: Ring = RING64) -> Cost:
    """Return the cost of n comparisons for equality."""
    return eqz_cost(n, ring)


def from_bits_cost(n: int, *, ring: Ring = RING64) -> Cost:
    """Return the cost of turning n bits into integers."""
    return b2a_cost(n, ring)


def bits_cost(n: int, *, ring: Ring = RING64) -> Cost:
    """Return the cost of the bits of n numbers."""
    return a2b_cost(n, ring)


def where_cost(n: int, *, ring: Ring = RING64, from_packed_bits: bool = True) -> Cost:
    """Return the cost of n selections."""
    convert = b2a_cost(n, ring) if from_packed_bits else FREE
    return convert.then(multiply_cost(n, ring=ring))


def rshift_cost(n: int, bits: int, *, ring: Ring = RING64) -> Cost:
    """Return the cost of n exact shifts."""
    return truncate_exact_cost(n, ring, bits)
