"""Blocks of polynomials modulo X^N + 1 and 2^w, as contiguous words; sums, shifts and roundings of them.

A coefficient modulo 2^64 is a uint64; modulo 2^96 a uint64 and a uint32 above it; modulo 2^128 two uint64. A block is N
coefficients **in stored order**: for j below N/2, word 2j is the coefficient of X^j and word 2j + 1 that of X^(j + N/2).
That is how the transform of a product reads and writes them (real and imaginary parts side by side), so that nothing is
ever rearranged. Whoever encrypts and whoever decrypts use the same order, and sums do not care; `exponents` translates.

Products are in `products`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from secagg import signing
from secagg.errors import ShapeError, UsageError, WireError
from secagg.he.rlwe.parameters import Parameters

Words = tuple[NDArray[np.unsignedinteger[Any]], ...]
_CHUNK: Final = 1 << 15  # coefficients a step: the passes of a step run in the second-level cache
_LOW: Final = (1 << 64) - 1


class Rounded(NamedTuple):
    """Coefficients divided by 2^shift and rounded, modulo 2^64, and the largest distance from the multiples."""

    values: NDArray[np.uint64]
    residual: int


class Polynomials:
    """Blocks of polynomials; the words may be changed in place.

    Args:
      parameters: N and w.
      low: uint64, shape (blocks, N), C-contiguous.
      high: the bits from 64 on, of dtype `parameters.high_dtype` and the same shape; None where w = 64.

    Raises:
      ShapeError: words that do not fit the parameters.
    """

    __slots__ = ("high", "low", "parameters")

    def __init__(
        self,
        parameters: Parameters,
        low: NDArray[np.uint64],
        high: NDArray[np.unsignedinteger[Any]] | None = None,
    ) -> None:
        words = (low,) if high is None else (low, high)
        if fault := _fault(parameters, words):
            raise ShapeError(fault)
        self.parameters, self.low, self.high = parameters, low, high

    @classmethod
    def zeros(cls, parameters: Parameters, blocks: int) -> Self:
        """Return `blocks` zero polynomials."""
        shape, dtype = (blocks, parameters.degree), parameters.high_dtype
        return cls(parameters, np.zeros(shape, np.uint64), None if dtype is None else np.zeros(shape, dtype))

    @classmethod
    def empty(cls, parameters: Parameters, blocks: int) -> Self:
        """Return `blocks` polynomials that hold anything."""
        shape, dtype = (blocks, parameters.degree), parameters.high_dtype
        return cls(parameters, np.empty(shape, np.uint64), None if dtype is None else np.empty(shape, dtype))

    @classmethod
    def from_words(cls, parameters: Parameters, words: Words, blocks: int, *, peer: str = "") -> Self:
        """Return the polynomials that came over the wire; shares memory with the words.

        Raises:
          WireError: not the words of `blocks` polynomials.
        """
        fault = _fault(parameters, words)
        if not fault and len(words[0]) != blocks:
            fault = f"expected {blocks} polynomials, got {len(words[0])}"
        if fault:
            raise WireError(f"{fault}, from {peer or 'the stored bytes'}", peer=peer)
        return cls(parameters, *words)

    def __repr__(self) -> str:
        return f"<{self.blocks} polynomials of {self.parameters.name}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # may be a secret key's or a share

    @property
    def blocks(self) -> int:
        """How many polynomials."""
        return int(self.low.shape[0])

    @property
    def words(self) -> Words:
        """The words as they go over the wire, the lowest first; they share memory with this object."""
        return (self.low,) if self.high is None else (self.low, self.high)

    def rows(self, start: int, stop: int) -> Self:
        """Return a view of some of the polynomials."""
        return type(self)(
            self.parameters, self.low[start:stop], None if self.high is None else self.high[start:stop]
        )

    def copy(self) -> Self:
        """Return the same polynomials in new memory."""
        return type(self)(self.parameters, self.low.copy(), None if self.high is None else self.high.copy())

    def digest(self) -> bytes:
        """Return SHA-256 over parameters, number of blocks and words."""
        parts = (np.ascontiguousarray(w).reshape(-1).view(np.uint8).data for w in self.words)
        blocks = self.blocks.to_bytes(8, "big")
        return signing.digest("secagg.he.rlwe/polynomials", [self.parameters.name.encode(), blocks, *parts])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Polynomials) or other.parameters != self.parameters:
            return False
        return all(np.array_equal(a, b) for a, b in zip(self.words, other.words, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __iadd__(self, other: Polynomials) -> Self:
        """Add coefficient by coefficient, modulo 2^w, in place.

        Raises:
          ShapeError: other parameters, or neither one polynomial nor as many.
        """
        self._check_same(other)
        other = self._apart(other)
        if self.high is None or other.high is None:
            np.add(self.low, other.low, out=self.low)
            return self
        for low, high, part, above in _chunks(self.low, self.high, other.low, other.high):
            np.add(low, part, out=low)
            np.add(high, above, out=high)
            np.add(high, np.less(low, part), out=high)  # the carry: a sum that wrapped is below its summands
        return self

    def __isub__(self, other: Polynomials) -> Self:
        """Subtract coefficient by coefficient, modulo 2^w, in place; raises as `+=` does."""
        self._check_same(other)
        other = self._apart(other)
        if self.high is None or other.high is None:
            np.subtract(self.low, other.low, out=self.low)
            return self
        for low, high, part, above in _chunks(self.low, self.high, other.low, other.high):
            borrow = np.less(low, part)
            np.subtract(low, part, out=low)
            np.subtract(high, above, out=high)
            np.subtract(high, borrow, out=high, dtype=high.dtype)
        return self

    def times(self, factor: int) -> Self:
        """Return the polynomials times an integer, modulo 2^w."""
        p = self.parameters
        k = factor % (1 << p.modulus_bits)
        product = type(self).empty(p, self.blocks)
        np.multiply(self.low, np.uint64(k & _LOW), out=product.low)
        if self.high is not None and product.high is not None:
            carry = _high_product(self.low, k & _LOW)
            top = product.high.dtype.type
            np.copyto(product.high, carry, casting="unsafe")
            mask = (1 << (p.modulus_bits - 64)) - 1
            product.high += self.high * top(k & mask)
            product.high += (self.low * np.uint64(k >> 64)).astype(product.high.dtype)
        return product

    def add_signed(self, values: NDArray[np.signedinteger[Any]]) -> None:
        """Add small integers in place.

        Args:
          values: signed integers of up to 64 bits, shape (blocks, N), in stored order.

        Raises:
          ShapeError: another shape or dtype.
        """
        if values.shape != self.low.shape or values.dtype.kind != "i":
            raise ShapeError(
                f"expected signed integers of shape {self.low.shape}, got {values.dtype} {values.shape}"
            )
        wide = values.astype(np.int64)
        part = wide.view(np.uint64)
        np.add(self.low, part, out=self.low)
        if self.high is not None:
            self.high += (wide >> 63).view(np.uint64).astype(self.high.dtype)  # the sign, extended upwards
            self.high += np.less(self.low, part)

    def add_shifted(
        self,
        values: NDArray[np.unsignedinteger[Any]],
        shift: int,
        scratch: NDArray[np.uint64] | None = None,
    ) -> None:
        """Add values * 2^shift in place.

        Args:
          values: unsigned, at most `blocks * N` of them in stored order, flat; the rest counts as zeros. Only
            their lowest w - shift bits matter.
          shift: below w.
          scratch: uint64, at least as many, overwritten; without it, new memory.

        Raises:
          ShapeError: too many values, or of another kind.
          UsageError: a shift out of range.
        """
        if values.ndim != 1 or values.size > self.low.size or values.dtype.kind != "u":
            raise ShapeError(
                f"expected up to {self.low.size} unsigned integers, got {values.dtype} {values.shape}"
            )
        _check_shift(self.parameters, shift)
        n = values.size
        low = self.low.reshape(-1)[:n]
        part = np.empty(n, np.uint64) if scratch is None else scratch.reshape(-1)[:n]
        if self.high is None:
            np.left_shift(values, shift, out=part, dtype=np.uint64)
            np.add(low, part, out=low)
            return
        high = self.high.reshape(-1)[:n]
        if shift >= 64:
            np.left_shift(values, shift - 64, out=part, dtype=np.uint64)
            np.add(high, part, out=high, casting="unsafe", dtype=high.dtype)
            return
        np.left_shift(values, shift, out=part, dtype=np.uint64)
        np.add(low, part, out=low)
        np.add(high, np.less(low, part), out=high)
        if shift:
            np.right_shift(values, 64 - shift, out=part, dtype=np.uint64)
            np.add(high, part, out=high, casting="unsafe", dtype=high.dtype)

    def round_off(self, shift: int) -> Rounded:
        """Return each coefficient divided by 2^shift and rounded, modulo 2^64, and the largest remainder.

        Coefficients are signed: round(x / 2^shift) as two's complement of w - shift bits, sign-extended to 64
        (or, where w - shift > 64, its lowest 64 bits). Halves are rounded up.

        Returns uint64, shape (blocks, N), in stored order, and max |x - 2^shift round(x / 2^shift)|.

        Raises:
          UsageError: a shift out of range.
        """
        values = np.empty_like(self.low)
        residual = 0
        step = max(1, _CHUNK // self.parameters.degree)
        for start in range(0, self.blocks, step):
            part = self.rows(start, start + step).copy()
            residual = max(residual, part.round_into(values[start : start + step], shift))
        return Rounded(values, residual)

    def round_into(self, out: NDArray[np.uint64], shift: int) -> int:
        """Write what `round_off` returns and return the largest remainder; the polynomials hold anything afterwards.

        Args:
          out: uint64, shape (blocks, N), C-contiguous.
          shift: below w.

        Raises:
          UsageError: a shift out of range.
        """
        _check_shift(self.parameters, shift)
        low, high = self.low, self.high
        if shift == 0:
            np.copyto(out, low)
            return 0
        # With 2^(shift - 1) added, dividing by 2^shift and rounding down gives what rounding to the nearest would
        # have given, and the lowest `shift` bits are the remainder plus 2^(shift - 1).
        half = 1 << (shift - 1)
        under = np.uint64(half & _LOW)
        np.add(low, under, out=low)
        if high is None:
            np.right_shift(low.view(np.int64), shift, out=out.view(np.int64))
        else:
            np.add(high, high.dtype.type(half >> 64), out=high)
            np.add(high, np.less(low, under), out=high)
            np.copyto(out.view(np.int64), high.view(f"i{high.itemsize}"))  # extends the sign
            if shift >= 64:
                np.right_shift(out.view(np.int64), shift - 64, out=out.view(np.int64))
                np.bitwise_and(high, high.dtype.type((1 << (shift - 64)) - 1), out=high)
                return _wide_distance(high, low, half)
            np.left_shift(out, 64 - shift, out=out)
            np.bitwise_or(out, low >> np.uint64(shift), out=out)
        np.bitwise_and(low, np.uint64((1 << shift) - 1), out=low)
        return _distance(int(np.min(low)), int(np.max(low)), half)

    def _apart(self, other: Polynomials) -> Polynomials:
        """Return other, or a copy if it shares memory: carries are found by comparing with what was added."""
        return other.copy() if np.may_share_memory(self.low, other.low) else other

    def _check_same(self, other: Polynomials) -> None:
        if other.parameters != self.parameters or other.blocks != self.blocks:
            raise ShapeError(f"cannot combine {self!r} with {other!r}")


def exponents(parameters: Parameters) -> NDArray[np.intp]:
    """Return which power of X each coefficient of a block belongs to, shape (N,)."""
    half = parameters.degree // 2
    return np.arange(parameters.degree).reshape(2, half).T.reshape(-1).astype(np.intp)


def _distance(least: int, most: int, half: int) -> int:
    return max(half - least, most - half)


def _wide_distance(upper: NDArray[np.unsignedinteger[Any]], lower: NDArray[np.uint64], half: int) -> int:
    """Return max |x - half| over x = upper * 2^64 + lower."""
    most, least = np.max(upper), np.min(upper)
    largest = (int(most) << 64) + int(np.max(lower[upper == most]))
    smallest = (int(least) << 64) + int(np.min(lower[upper == least]))
    return _distance(smallest, largest, half)


def _high_product(x: NDArray[np.uint64], k: int) -> NDArray[np.uint64]:
    """Return the upper 64 bits of x * k, for k below 2^64, from products of halves."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1 = x & mask, x >> half
    k0, k1 = np.uint64(k & 0xFFFFFFFF), np.uint64(k >> 32)
    middle = x1 * k0 + ((x0 * k0) >> half)  # below 2^64: (2^32 - 1)^2 + 2^32 - 1
    carry = x0 * k1 + (middle & mask)
    high: NDArray[np.uint64] = x1 * k1 + (middle >> half) + (carry >> half)
    return high


def _chunks(*arrays: NDArray[np.unsignedinteger[Any]]) -> Any:
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, flat[0].size, _CHUNK):
        yield tuple(a[start : start + _CHUNK] for a in flat)


def _fault(parameters: Parameters, words: Words) -> str:
    """Return what is wrong with words, "" if nothing is."""
    dtypes = [np.dtype(np.uint64), parameters.high_dtype][: 1 + (parameters.high_dtype is not None)]
    if [w.dtype for w in words] != dtypes:
        expected = " and ".join(str(d) for d in dtypes)
        got = " and ".join(str(w.dtype) for w in words) or "none"
        return f"expected words of {expected} for {parameters.name}, got {got}"
    for w in words:
        if w.ndim != 2 or w.shape[1] != parameters.degree or w.shape != words[0].shape or not len(w):
            return (
                f"expected words of shape (blocks, {parameters.degree}) for {parameters.name}, got {w.shape}"
            )
        if not w.flags.c_contiguous:
            return "expected words that lie in memory without gaps"
    return ""


def _check_shift(parameters: Parameters, shift: int) -> None:
    if not 0 <= shift < parameters.modulus_bits:
        raise UsageError(f"expected a shift of 0 to {parameters.modulus_bits - 1}, got {shift}")
