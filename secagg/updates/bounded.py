"""Updates in quantization levels of which every array has the same bound, for sums whose bounds are checked.

With S that bound, d the numbers of an update, W the largest weight and N the norm, if there is one:

  a float within +-c     S (x / c), rounded: within +-S just where x is within +-c; with a norm, c is min(c, N)
  an integer within +-c  x floor(S / c), exact; S is a multiple of the largest such c. In arrays with another c, numbers
                         of up to S / floor(S / c) pass; where six digits show the difference, `checked` says so
  with a norm            lengths are compared in one unit: all arrays have one clip, and all are floats, or all integers

A check that no wrap can fool needs d (W S)^2 < 2^63. Shares have 64 bits whatever S is, so with floats S is as large as
fits. A power of two is preferred if it is precise enough: most short numbers are then exact.

Floats are rounded to the nearest level, which moves a vector by up to sqrt(d) / 2 levels; so much more than N is allowed.
An update of integers that is scaled down is rounded towards zero, and N is all that is allowed. A client checks its
integers against the norm before it shares them, so rounding in float64 never gets an honest client refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import fixed_point
from secagg.errors import PlanError, UsageError
from secagg.mpc.numbers import RING64
from secagg.protocols.bounded_sum import Bounds, rounded_norm
from secagg.updates.coding import FLOAT_ERROR, Coding, Decoded, Request, check_precision, clip_numbers

_LARGEST: Final = (RING64.modulus >> 1) - 1
_MIN_LEVELS: Final = 1 << 7  # for an error of 2^-8 of the clip; who gave no precision does not expect more


class Quantized(Coding):
    """Integers within one bound, and within a norm if there is one; last the weight, by which nothing is multiplied yet.

    Args:
      request: with a max_weight that is None or an int.
      norm: largest Euclidean norm of an update before weights, or None; longer ones are scaled down, and all their
        numbers count as clipped.

    Attributes:
      bounds: what an update, its weight left out, keeps to.

    Raises:
      PlanError: too few levels for the precision fit a check in 64 bits; or sums do not fit the updates' own dtype.
      UsageError: weights that are no integers, an array without clip, or a norm over arrays in different units.
    """

    bounds: Bounds  # there are always some

    def __init__(self, request: Request, norm: float | None = None) -> None:
        super().__init__(request)
        if isinstance(request.max_weight, float):
            raise UsageError(
                f"bounds are checked under integer weights: give max_weight={math.ceil(request.max_weight)}, and weights "
                "that are integers"
            )
        self._norm = norm
        self._weight = int(request.max_weight or 1)
        self._size = request.structure.size
        self._whole = all(part.leaf.is_integer for part in self.parts)
        self._clips = [float(part.clip) for part in self.parts]
        self._number_bounds = self._largest_of()
        self._levels = self._levels_of()
        self._factors = [
            self._levels // int(bound) if part.leaf.is_integer else None
            for part, bound in zip(self.parts, self._number_bounds, strict=True)
        ]
        weight = self._weight if self.weighted else None
        self.bounds = Bounds(self._size, self._levels, self._squared_norm_of(), weight)
        most = float(self._weight * self.bounds.limit)
        self.plan = fixed_point.plan(clip=most, frac_bits=0, parties=request.clients, bits=RING64.bits)

    @property
    def about(self) -> str:
        levels = f"2^{self._levels.bit_length() - 1}" if self._levels.bit_count() == 1 else str(self._levels)
        bounds = set(self._float_bounds)
        bound = f"{max(bounds):g}" if len(bounds) == 1 else "the clip of each array"
        numbers = "integers" if self._whole else f"{levels} quantization levels up to {bound}"
        weights = f", integer weights up to {self._weight}" if self.weighted else ""
        scaled = f", longer updates scaled down to {self._norm:g}" if self._norm is not None else ""
        return f"{numbers}{weights}{scaled}"

    @property
    def checked(self) -> str:
        """What is checked, for people."""
        loose = ""
        for part, bound, factor in zip(self.parts, self._number_bounds, self._factors, strict=True):
            passing = f"{bound if factor is None else self._levels / factor:.6g}"
            if passing != f"{bound:.6g}":
                loose += f", at {part.leaf.path} within {passing}"
        clips = f"every number within its clip{loose}"
        if self._norm is None:
            return clips
        slack = math.sqrt(self._size) / 2 * self._number_bounds[0] / self._levels
        rounding = "" if self._whole else f" (rounding may add {slack:.1e})"
        return f"{clips}, all together within the norm {self._norm:g}{rounding}"

    def encode(self, arrays: Sequence[NDArray[Any]], weight: float) -> tuple[NDArray[np.int64], int]:
        values, clipped = np.empty(self._size), 0
        for part, clip, array in zip(self.parts, self._clips, arrays, strict=True):
            numbers = values[part.place]
            np.copyto(numbers, array.reshape(-1))
            clipped += clip_numbers(numbers, clip)[1]
        if self._norm is not None and scale_down(values, self._norm):
            clipped = int(np.count_nonzero(values))
        for part, bound, factor in zip(self.parts, self._number_bounds, self._factors, strict=True):
            numbers = values[part.place]
            if factor is None:
                numbers /= bound  # correctly rounded: within +-1 exactly where the number is within +-bound
                numbers *= self._levels
            else:
                numbers *= factor
        integers = self._rounded_to_levels(values)
        shrink = 2.0**-50
        while not self._allowed(integers):
            # float64 measured the length a hair too short, so the vector is still a hair too long.
            values *= 1 - shrink
            shrink *= 2
            integers = self._rounded_to_levels(values)
        return (np.append(integers, int(weight)) if self.weighted else integers), clipped

    def decode(self, total: NDArray[Any], contributors: int, error: float) -> Decoded:  # noqa: ARG002  # the protocol has none
        mean = self.request.mean
        weight = int(total[-1]) if self.weighted else contributors
        summands, divisor = (1, weight) if mean else (contributors, 1)
        arrays, errors = [], {}
        for part, bound, factor in zip(self.parts, self._number_bounds, self._factors, strict=True):
            leaf, part_total = part.leaf, total[part.place]
            if factor is not None and not mean:
                arrays.append(self._integers(leaf, part_total // factor))
                errors[leaf.path] = 0.0
                continue
            if factor is None:
                values, step = part_total / self._levels / divisor * bound, bound / self._levels
            else:
                values, step = part_total / factor / divisor, 0.0
            error_bound = summands * (step / 2 + bound * FLOAT_ERROR)
            array, errors[leaf.path] = self._rounded(part, values, error_bound)
            arrays.append(array)
        return Decoded(arrays, errors, float(weight) if self.weighted else None)

    @property
    def _float_bounds(self) -> list[float]:
        return [
            r for r, part in zip(self._number_bounds, self.parts, strict=True) if not part.leaf.is_integer
        ]

    def _largest_of(self) -> list[float]:
        """Return for each array what none of its numbers is above once clipped and scaled down; whole for integers."""
        clips = self._clips
        if self._norm is None:
            return clips
        if not self._whole and any(part.leaf.is_integer for part in self.parts):
            path = next(part.leaf.path for part in self.parts if part.leaf.is_integer)
            raise UsageError(
                f"a norm over floats and integers would scale integers down to fractions: convert {path!r:.80} to floats, "
                "or leave it out"
            )
        if len(set(clips)) > 1:
            raise UsageError(
                f"a norm compares all arrays in one unit, so that they have one clip, and there are {min(clips):g} to "
                f"{max(clips):g}; give one, such as clip={self._norm:g}: no number is larger than the norm"
            )
        if self._whole and self._norm < 1:
            raise UsageError(f"a norm of {self._norm} makes zeros of integers; give 1 or more, or floats")
        return [min(clip, float(math.floor(self._norm) if self._whole else self._norm)) for clip in clips]

    def _levels_of(self) -> int:
        """Return S: the largest integer where there are no floats, else the best that fits."""
        most = math.isqrt(_LARGEST // self._size) // self._weight
        room = f"{self._size} numbers{f' with weights up to {self._weight}' if self.weighted else ''}"
        whole = [
            int(r) for r, part in zip(self._number_bounds, self.parts, strict=True) if part.leaf.is_integer
        ]
        largest = max(whole, default=1)
        if whole and largest > most:
            raise PlanError(
                f"of {room} none may be above {most}, or a check in 64 bits could be fooled, and there are integers up to "
                f"{largest}; use smaller clips or weights, or sum parts of the updates one by one"
            )
        if self._whole:
            return largest
        fitting = most // largest * largest
        bound, precision = max(self._float_bounds), self.request.precision
        if precision is None:
            needed, asked = _MIN_LEVELS, "2^-8 of the clip"
        else:
            check_precision(precision)
            needed = math.ceil(Fraction(bound) / (2 * Fraction(float(precision))))
            asked = f"precision={precision:g}"
        if needed > fitting:
            # Rounded up, as what is said to fit has to.
            fits = f"precision={1.01 * bound / (2 * fitting):.3g} fits; else " if fitting else ""
            raise PlanError(
                f"of {room} each may have {fitting} quantization levels at most, or a check in 64 bits could be fooled, and "
                f"{asked} takes "
                f"{needed}; {fits}use smaller clips or weights, or sum parts of the updates one by one"
            )
        power = 1 << (fitting.bit_length() - 1)
        return power if needed <= power and not whole else fitting

    def _squared_norm_of(self) -> int:
        """Return the largest sum of squares of an update's levels."""
        if self._norm is None:
            return self._size * self._levels**2
        if self._whole:  # of one clip, S: each is its own level
            return math.floor(Fraction(self._norm) ** 2)
        return rounded_norm(
            Fraction(self._norm) / Fraction(self._number_bounds[0]) * self._levels, self._size
        )

    def _rounded_to_levels(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        return (np.trunc(values) if self._whole else np.rint(values)).astype(np.int64)

    def _allowed(self, integers: NDArray[np.int64]) -> bool:
        # Squares add up without wrapping where no coordinate is above the limit.
        within = int(np.max(np.abs(integers))) <= self.bounds.limit
        return within and int(np.vecdot(integers, integers)) <= self.bounds.norm_limit


def scale_down(values: NDArray[np.float64], norm: float) -> bool:
    """Scale a vector that is longer than the norm down to it, in place; return whether it was.

    `secagg.dp.clipping.clip_rows` does the same, and needs the packages for noise.
    """
    largest = float(np.max(np.abs(values)))
    if not largest:
        return False
    # Divided by the largest first: squares neither overflow nor vanish.
    length = float(np.linalg.norm(values / largest))
    excess = length * (largest / norm)
    if excess <= 1:
        return False
    if math.isfinite(excess):
        values /= excess
    else:
        values /= largest
        values *= norm / length
    return True
