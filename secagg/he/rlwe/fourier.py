"""Roots of unity and numpy's transform, checked before they are trusted.

A product modulo X^N + 1 is one cyclic convolution of N/2 complex numbers, weighted before by powers of a 2N-th root of
unity (the right-angle convolution). The proof that rounding its result is exact (see `products`) stands on two things.
The weights are right to a few units in the last place, and so are the roots that numpy's transform has inside. The
weights are computed here in integers, without the C library. The transform is compared once for each length with what it
should make of unit vectors, forwards and backwards. A replaced `numpy.fft` (mkl_fft and others offer that) is refused,
because nothing is proven about its rounding.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import InexactError

# What multiplies every polynomial is kept this often, for numpy multiplies long runs 1.4 times as fast.
ROWS: Final = 4
# Kept here, so that replacing numpy.fft.fft later replaces nothing.
_FORWARD: Final = np.fft.fft
_BACKWARD: Final = np.fft.ifft
_UNIT: Final = 2.0**-53
# Largest error of a unit vector's transform, in units of 2^-53: each output is a product of the roots on its
# path. Measured 6.6; the bound on products allows 9 for each root.
_TOLERANCE: Final = 12.0
_PRECISION: Final = 160  # bits after the point of the integers that the roots are computed in


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """exp(i pi j / N) for j below N/2 and its conjugates, complex128, shape (ROWS, N/2), all rows alike; read-only."""

    forward: NDArray[np.complex128]
    backward: NDArray[np.complex128]


@functools.cache  # one entry a degree
def weights(degree: int) -> Weights:
    """Return the weights of products modulo X^degree + 1, after checking numpy's transform of half that length.

    Raises:
      InexactError: numpy.fft was replaced, or is not exact enough.
    """
    for function, name in ((_FORWARD, "fft"), (_BACKWARD, "ifft")):
        if (
            getattr(function, "__module__", None) != "numpy.fft"
            or getattr(function, "__name__", None) != name
        ):
            raise InexactError(
                f"numpy.fft.{name} was replaced by {function!r:.80}, of which no error bound is known; "
                "start without mkl_fft or whatever replaces it"
            )
    high, low = _roots(degree)
    _check_transform(degree // 2, high, low)
    forward = np.tile(high[: degree // 2], (ROWS, 1))
    backward = np.conj(forward)
    forward.setflags(write=False)
    backward.setflags(write=False)
    return Weights(forward, backward)


def transform(values: NDArray[np.complex128]) -> None:
    """Transform each row in place."""
    _FORWARD(values, out=values)


def inverse(values: NDArray[np.complex128]) -> None:
    """Transform each row back, in place, without dividing by its length."""
    _BACKWARD(values, norm="forward", out=values)


def multiply_rows(
    values: NDArray[np.complex128], factor: NDArray[np.complex128], out: NDArray[np.complex128]
) -> None:
    """Write each row of values, entry by entry times a factor; out may be values.

    Args:
      values, out: shape (..., rows, N/2); what comes before the rows broadcasts with the factor's.
      factor: shape (..., ROWS, N/2), all of its rows alike; C-contiguous, as out is.
    """
    whole = out.shape[-2] - out.shape[-2] % ROWS
    if whole:
        long = (-1, ROWS * out.shape[-1])
        # Splitting off rows never copies: the rows behind one another stay so.
        at_once, target = (x[..., :whole, :].reshape(*x.shape[:-2], *long) for x in (values, out))
        np.multiply(at_once, factor.reshape(*factor.shape[:-2], *long), out=target)
    if whole < out.shape[-2]:
        np.multiply(values[..., whole:, :], factor[..., :1, :], out=out[..., whole:, :])


def _roots(degree: int) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return exp(i pi j / degree), j below 2 * degree, rounded correctly, and what the rounding left out."""
    one = 1 << _PRECISION
    cosine, sine = 0, one  # of pi / 2
    for _ in range(degree.bit_length() - 2):
        cosine, sine = _half_angle(cosine, one)
    x, y = one, 0
    real, imaginary = [], []
    for _ in range(degree // 2):
        real.append(x)
        imaginary.append(y)
        x, y = (x * cosine - y * sine) >> _PRECISION, (x * sine + y * cosine) >> _PRECISION
    real, imaginary = real + [-v for v in imaginary], imaginary + real  # a quarter turn further
    high = np.array([complex(_near(a), _near(b)) for a, b in zip(real, imaginary, strict=True)])
    rest = [(_rest(a), _rest(b)) for a, b in zip(real, imaginary, strict=True)]
    low = np.array([complex(a, b) for a, b in rest])
    return np.concatenate((high, -high)), np.concatenate((low, -low))


def _half_angle(cosine: int, one: int) -> tuple[int, int]:
    return math.isqrt((one + cosine) * one // 2), math.isqrt((one - cosine) * one // 2)


def _near(x: int) -> float:
    return x / (1 << _PRECISION)  # Python divides integers with correct rounding


def _rest(x: int) -> float:
    numerator, denominator = _near(x).as_integer_ratio()
    return (x - numerator * (1 << _PRECISION) // denominator) / (1 << _PRECISION)


def _check_transform(length: int, high: NDArray[np.complex128], low: NDArray[np.complex128]) -> None:
    """Compare transforms of unit vectors with the roots: entry j of the k-th is exp(-+2 pi i j k / length)."""
    at = [1, 2, 3, 5, 8, 17, 64, length // 4 + 1, length // 2 - 1, length // 2 + 1, length - 1]
    units = np.zeros((len(at), length), np.complex128)
    units[np.arange(len(at)), at] = 1
    turns = 4 * (np.outer(at, np.arange(length)) % length)
    for function, sign in ((transform, -1), (inverse, 1)):
        found = units.copy()
        function(found)
        expected = (sign * turns) % (4 * length)
        # Near numbers subtract exactly; what is left of the roots is subtracted after.
        error: NDArray[Any] = np.abs(found - high[expected] - low[expected])
        worst = float(np.max(error)) / _UNIT
        if not worst <= _TOLERANCE:
            raise InexactError(
                f"numpy's transform of length {length} is wrong by {worst:.3g} units of 2^-53, more than "
                f"{_TOLERANCE:g}; products would not be exact. Reinstall numpy from its own wheels"
            )
