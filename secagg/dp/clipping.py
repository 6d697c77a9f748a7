"""Vectors of bounded norm as integer vectors of bounded norm.

  clip     scale a vector whose Euclidean norm is above the clip down to it
  rotate   (optional) multiply by random signs, then by a Hadamard matrix; the norm stays, the largest element
           becomes about sqrt(2 ln d / d) of it, so that the sum fits a narrower ring
  round    to multiples of the unit 2^-frac_bits, up with the probability of the fraction; draw again while the
           integer vector is longer than the bound below, at most 64 times, then round towards zero

With c the clip in units and d the length, padded if vectors are rotated, the squared norm of the integers is at most the
floor of

  min{ (c + sqrt d)^2,  c^2 + d/4 + sqrt(2 ln(1/beta)) (c + sqrt(d)/2),  d ceil(c')^2 },   beta = exp(-1/2),

c' the bound on single elements; the first two are [KLS21, theorem 1], and a draw meets the second with probability
1 - beta or more. **The bound is checked in integers on what leaves here**, so sensitivity rests on no property of
floating point, rounding or rotation. Those may cost accuracy alone.

Threat model: a client that does not clip is not caught here. Cost: some passes over the vector, and d log2 d
additions for the rotation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.dp.accounting import Sensitivity
from secagg.errors import PlanError, RangeError, ShapeError, UsageError
from secagg.fixed_point import encode, plan
from secagg.prg import Stream, derive_key, system_stream

__all__ = ["Grid", "Rounded", "clip_rows", "rotate", "unrotate"]

_LABEL: Final = "secagg.dp.clipping/rotation"
_DRAWS: Final = 64
_MAX_UNITS: Final = 1 << 30  # squared norms within the bound stay below 2^62
# sqrt(2 ln(1/beta)) for beta = exp(-1/2).
_SPREAD: Final = 1.0
# An element of a rotated vector is moved to the bound in one vector of 2^20 at most.
_ROTATED_LOG: Final = math.log(2) * 21
_RADIX_BITS: Final = 5


@dataclass(frozen=True, slots=True)
class Rounded:
    """Integer vectors, one a row.

    Args:
      values: int64, shape (rows, dimension); secret.
      clipped: how many rows were scaled down; it tells about the data, and is for their owner.
    """

    values: NDArray[np.int64] = field(repr=False)
    clipped: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grid:
    """How vectors become integers; public, and the same at all clients.

    Args:
      clip: largest Euclidean norm of a contribution: of the vector already multiplied by its weight.
      frac_bits: the unit is 2**-frac_bits; may be negative.
      length: elements of a vector.
      random_rotation: whether vectors are rotated first.
      element_clip: largest absolute value of an element that is rounded. By default the clip; for rotated vectors, what
        nearly all of them keep to.

    Raises:
      UsageError: a clip that is not positive and finite, a length below 1.
      PlanError: a clip above 2**30 units less sqrt(length), or below one.
    """

    clip: float
    frac_bits: int
    length: int
    random_rotation: bool = False
    element_clip: float | None = None

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UsageError(f"a vector has 1 or more elements, not {self.length}")
        for name, bound in (("clip", self.clip), ("element_clip", self.element_clip)):
            if bound is not None and not 0 < bound < math.inf:
                raise UsageError(f"{name} is positive and finite, not {bound}")
        if abs(self.frac_bits) > 1000 or not 1 <= self.units <= _MAX_UNITS - math.sqrt(self.dimension):
            raise PlanError(
                f"clip={self.clip} with frac_bits={self.frac_bits} is not between 1 and 2**30 units;"
                f" use frac_bits={8 - math.frexp(self.clip)[1]} or more"
            )

    @property
    def units(self) -> Fraction:
        """The clip in units."""
        return Fraction(self.clip) * Fraction(2) ** self.frac_bits

    @property
    def unit(self) -> float:
        """The value of one unit."""
        return math.ldexp(1.0, -self.frac_bits)

    @property
    def dimension(self) -> int:
        """Elements of the integer vectors: the length, padded to a power of two by a rotation."""
        return 1 << (self.length - 1).bit_length() if self.random_rotation else self.length

    @property
    def element_units(self) -> int:
        """Largest absolute value of an integer."""
        bound = self.clip if self.element_clip is None else min(self.clip, self.element_clip)
        if self.random_rotation and self.element_clip is None:
            d = self.dimension
            bound = self.clip * min(1.0, math.sqrt(2 * (math.log(d) + _ROTATED_LOG) / d))
        return math.ceil(Fraction(bound) * Fraction(2) ** self.frac_bits)

    @property
    def norm_limit(self) -> int:
        """Largest squared norm of an integer vector."""
        c, d = float(self.units), self.dimension
        first = (c + math.sqrt(d)) ** 2
        second = c * c + d / 4 + _SPREAD * (c + math.sqrt(d) / 2)
        return min(math.floor(min(first, second)), d * self.element_units**2)

    @property
    def sensitivity(self) -> Sensitivity:
        """What one contribution can add to the sum, in units: |v|_1 <= |v|_2 min(sqrt d, |v|_2) for integers."""
        # Rounded up: sqrt is correctly rounded, the product errs by two more roundings.
        l2 = math.nextafter(math.sqrt(self.norm_limit), math.inf)
        return Sensitivity(l2 * min(math.sqrt(self.dimension), l2) * (1 + 2**-50), l2, self.dimension)

    def to_integers(self, x: ArrayLike, *, rng: Stream | None = None, seed: bytes | None = None) -> Rounded:
        """Return vectors as integer vectors within the norm limit.

        Args:
          x: floats or integers, shape (rows, length), or (length,) for one row.
          rng: where rounding draws from; from the operating system without one.
          seed: of the rotation, public, at least 16 bytes, one a round; for a random rotation, and only then.

        Raises:
          ShapeError: another shape or dtype.
          RangeError: NaN or infinity.
          UsageError: a seed missing or not needed.
        """
        numbers = np.asarray(x)
        if numbers.dtype.kind not in "iuf" or numbers.ndim not in (1, 2) or numbers.shape[-1] != self.length:
            raise ShapeError(
                f"expected numbers of shape (rows, {self.length}), got {numbers.dtype} {numbers.shape}"
            )
        rows = np.atleast_2d(numbers).astype(np.float64)
        bad = int(np.count_nonzero(~np.isfinite(rows)))
        if bad:
            raise RangeError(f"{bad} of {rows.size} numbers are NaN or infinite; mend the input")
        rng = rng or system_stream()
        clipped = clip_rows(rows, self.clip)
        if self._needs(seed):
            rows = rotate(rows, seed or b"")
        rows = np.ldexp(rows, self.frac_bits)
        values = self._round(rows, rng)
        todo = np.flatnonzero(~_within(values, self.norm_limit))
        for _ in range(_DRAWS):
            if not todo.size:
                break
            values[todo] = self._round(rows[todo], rng)
            todo = todo[~_within(values[todo], self.norm_limit)]
        # Towards zero each element, so the norm, becomes no larger than what was clipped.
        values[todo] = np.trunc(np.clip(rows[todo], -self.element_units, self.element_units)).astype(np.int64)
        if not _within(values[todo], self.norm_limit).all():
            raise RangeError(
                "a clipped vector is longer than the clip, which cannot be: is the machine sound?"
            )
        return Rounded(values, clipped)

    def to_numbers(self, total: NDArray[np.int64], *, seed: bytes | None = None) -> NDArray[np.float64]:
        """Return an integer vector, or a sum of them, as numbers, float64, shape (length,).

        Raises:
          ShapeError: another shape than (dimension,).
          UsageError: a seed missing or not needed.
        """
        if total.shape != (self.dimension,):
            raise ShapeError(f"expected a vector of {self.dimension} integers, got shape {total.shape}")
        numbers: NDArray[np.float64] = np.ldexp(total.astype(np.float64), -self.frac_bits)
        return unrotate(numbers, seed or b"", self.length) if self._needs(seed) else numbers

    def _needs(self, seed: bytes | None) -> bool:
        if self.random_rotation != (seed is not None):
            raise UsageError(
                f"a seed of the rotation goes with random_rotation=True; here random_rotation={self.random_rotation}"
            )
        return self.random_rotation

    def _round(self, rows: NDArray[np.float64], rng: Stream) -> NDArray[np.int64]:
        units = plan(clip=float(self.element_units), frac_bits=0, parties=1, bits=64)
        encoded = encode(rows, units, rounding="stochastic", out_of_range="clip", rng=rng)
        return encoded.values.view(np.int64)


def rotate(x: NDArray[np.float64], seed: bytes) -> NDArray[np.float64]:
    """Return vectors times random signs, padded with zeros to a power of two, times the Hadamard matrix.

    The matrix is scaled to keep norms. The signs are a function of seed and padded length.

    Args:
      x: shape (rows, d).
      seed: at least 16 bytes; public.

    Raises:
      UsageError: a shorter seed.
    """
    rows, d = x.shape
    padded = 1 << (d - 1).bit_length()
    out = np.zeros((rows, padded))
    np.multiply(x, _signs(seed, padded)[:d], out=out[:, :d])
    return _hadamard(out)


def unrotate(y: NDArray[np.float64], seed: bytes, length: int) -> NDArray[np.float64]:
    """Return the vector, shape (length,), that `rotate` made y of.

    Raises:
      UsageError: a short seed.
    """
    turned: NDArray[np.float64] = _hadamard(y.reshape(1, -1))[0, :length] * _signs(seed, y.size)[:length]
    return turned


def _signs(seed: bytes, padded: int) -> NDArray[np.float64]:
    words = np.empty(-(-padded // 64), np.uint64)
    Stream(derive_key(seed, label=_LABEL, context=padded.to_bytes(8, "big"))).fill(words)
    bits = np.unpackbits(words.view(np.uint8), count=padded, bitorder="little")
    signs: NDArray[np.float64] = np.where(bits, -1.0, 1.0)
    return signs


def _hadamard(x: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, d = x.shape
    bits = d.bit_length() - 1
    # The matrix is the Kronecker power of that of order 2. Each pass multiplies along the highest bits of the index
    # and leaves them as the lowest; when all bits have had their turn, they are in their old places.
    while bits:
        now = min(bits, _RADIX_BITS)
        order = 1 << now
        k = np.arange(order, dtype=np.uint8)
        matrix = (1.0 - 2.0 * (np.bitwise_count(k[:, None] & k) & 1)) / math.sqrt(order)
        x = np.matmul(x.reshape(rows, order, d // order).transpose(0, 2, 1), matrix).reshape(rows, d)
        bits -= now
    return x


def clip_rows(rows: NDArray[np.float64], clip: float) -> int:
    """Scale rows longer than the clip down to it, in place; return how many.

    Args:
      rows: finite, shape (rows, length).
      clip: largest Euclidean norm of a row, positive.
    """
    largest = np.max(np.abs(rows), axis=1, initial=0.0)
    scale = np.where(largest > 0, largest, 1.0)
    # Divided by the largest element first: squares neither overflow nor vanish.
    norms = np.sqrt(np.sum(np.square(rows / scale[:, None]), axis=1))
    with np.errstate(over="ignore"):  # a clip that is infinitely many times the largest element is no bound
        limits = clip / scale
    long: NDArray[np.bool_] = norms > limits
    rows[long] *= (limits[long] / norms[long])[:, None]
    return int(np.count_nonzero(long))


def _within(values: NDArray[np.int64], norm_limit: int) -> NDArray[np.bool_]:
    # Sums of squares are exact in int64 where the float64 sum, which errs by far less than a half, is below 2^62.
    rough = np.einsum("ij,ij->i", values, values, dtype=np.float64)
    exact = np.einsum("ij,ij->i", values, values)
    within: NDArray[np.bool_] = (rough < 2.0**62) & (exact <= norm_limit)
    return within
