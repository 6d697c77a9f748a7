"""Updates as integers of which every array has the same bound, for sums whose bounds are checked.

With S that bound, d the numbers of an update, W the largest weight and N the norm, if there is one:

  a float within +-c     x / c S, rounded: within +-S just where x is within +-c; with a norm, c is min(c, N)
  an integer within +-c  x floor(S / c), exact; S is a multiple of the largest such c. Of arrays with other c, numbers
                         of up to S / floor(S / c) pass; where six digits show the difference, `checked` says so
  with a norm            lengths are compared in one unit, so all arrays have one clip, and are floats, or integers, all

A check that no wrap can fool needs d (W S)^2 < 2^63. Shares have 64 bits whatever S is, so S is as large as fits: a
power of two if that is precise enough, in which most short numbers are exact.

Floats are rounded to the nearest step, which moves a vector by up to sqrt(d) / 2 steps: so much more than N is allowed. An
update of integers that is scaled down is rounded towards zero, and N is all that is allowed. Whether a vector
keeps to the norm is found out from its integers before it is shared, so no honest client is refused for float64's sake.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import fixed_point
from secagg.aggregation.coding import FLOAT_ERROR, Coding, Decoded, Request
from secagg.errors import PlanError, UsageError
from secagg.mpc.numbers import RING64
from secagg.protocols.bounded_sum import Bounds, rounded_norm

_LARGEST: Final = (RING64.modulus >> 1) - 1
_FEWEST: Final = 1 << 7  # steps for an error of 2^-8 of the clip; who gave no precision does not expect more


class Steps(Coding):
    """Integers within one bound, and within a norm if there is one; last the weight, by which nothing is multiplied yet.

    Args:
      request: with a max_weight that is None or an int.
      norm: largest Euclidean norm of an update before weights, or None; longer ones are scaled down, and all their
        numbers count as clipped.

    Attributes:
      bounds: what an update, its weight left out, keeps to.

    Raises:
      PlanError: too few steps for the precision fit a check in 64 bits; or sums do not fit the updates' own dtype.
      UsageError: weights that are no integers, an array without clip, or a norm over arrays in different units.
    """

    bounds: Bounds

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
        self._reaches = self._reaches_of()
        self._steps = self._steps_of()
        squared = self._size * self._steps**2
        if norm is not None and self._whole:
            squared = math.floor(Fraction(norm) ** 2)
        elif norm is not None:
            squared = rounded_norm(Fraction(norm) / Fraction(self._reaches[0]) * self._steps, self._size)
        self.bounds = Bounds(self._size, self._steps, squared, self._weight if self.weighted else None)
        most = float(self._weight * self.bounds.limit)
        self.plan = fixed_point.plan(clip=most, frac_bits=0, parties=request.clients, bits=RING64.bits)

    @property
    def about(self) -> str:
        steps = f"2^{self._steps.bit_length() - 1}" if self._steps.bit_count() == 1 else str(self._steps)
        borders = set(self._float_reaches)
        border = f"{borders.pop():g}" if len(borders) == 1 else "the clip of each array"
        places = "integers" if self._whole else f"{steps} steps up to {border}"
        weights = f", integer weights up to {self._weight}" if self.weighted else ""
        scaled = f", longer updates scaled down to {self._norm:g}" if self._norm is not None else ""
        return f"{places}{weights}{scaled}"

    @property
    def checked(self) -> str:
        """What is checked, for people."""
        loose = ""
        for part, reach in zip(self.parts, self._reaches, strict=True):
            most = f"{self._steps / (self._steps // int(reach)):.6g}" if part.leaf.is_integer else ""
            if most and most != f"{reach:.6g}":
                loose += f", at {part.leaf.path} within {most}"
        clips = f"every number within its clip{loose}"
        if self._norm is None:
            return clips
        slack = math.sqrt(self._size) / 2 * self._reaches[0] / self._steps
        rounding = "" if self._whole else f" (rounding may add {slack:.1e})"
        return f"{clips}, all together within the norm {self._norm:g}{rounding}"

    def split(self, vector: NDArray[Any]) -> tuple[NDArray[Any], int | None]:
        """Return the integers and the weight of an encoded update."""
        return (vector[:-1], int(vector[-1])) if self.weighted else (vector, None)

    def encode(self, arrays: Sequence[NDArray[Any]], weight: float) -> tuple[NDArray[np.int64], int]:
        values, clipped = np.empty(self._size), 0
        for part, array in zip(self.parts, arrays, strict=True):
            numbers = values[part.place]
            np.copyto(numbers, array.reshape(-1))
            clip = float(math.floor(part.clip) if part.leaf.is_integer else part.clip)
            clipped += int(np.count_nonzero(np.abs(numbers) > clip))
            np.clip(numbers, -clip, clip, out=numbers)
        if self._norm is not None and _scale_down(values, self._norm):
            clipped = int(np.count_nonzero(values))
        for part, reach in zip(self.parts, self._reaches, strict=True):
            numbers = values[part.place]
            if part.leaf.is_integer:
                numbers *= self._steps // int(reach)
            else:
                numbers /= reach  # correctly rounded: within +-1 exactly where the number is within +-reach
                numbers *= self._steps
        integers = self._rounded_to_steps(values)
        shrink = 2.0**-50
        while not self._allowed(integers):
            # float64 had the length a hair too short.
            values *= 1 - shrink
            shrink *= 2
            integers = self._rounded_to_steps(values)
        return (np.append(integers, int(weight)) if self.weighted else integers), clipped

    def decode(self, total: NDArray[Any], contributors: int, error: float) -> Decoded:  # noqa: ARG002  # the protocol has none
        mean = self.request.mean
        weight = int(total[-1]) if self.weighted else contributors
        summands, divisor = (1, weight) if mean else (contributors, 1)
        arrays, errors = [], {}
        for part, reach in zip(self.parts, self._reaches, strict=True):
            leaf, part_total = part.leaf, total[part.place]
            if leaf.is_integer and not mean:
                arrays.append(
                    (part_total // (self._steps // int(reach))).astype(leaf.dtype).reshape(leaf.shape)
                )
                errors[leaf.path] = 0.0
                continue
            if leaf.is_integer:
                values, step = part_total / (self._steps // int(reach)) / divisor, 0.0
            else:
                values, step = part_total / self._steps / divisor * reach, reach / self._steps
            bound = summands * (step / 2 + reach * FLOAT_ERROR)
            array, errors[leaf.path] = self._rounded(part, values, bound)
            arrays.append(array)
        return Decoded(arrays, errors, float(weight) if self.weighted else None)

    @property
    def _float_reaches(self) -> list[float]:
        return [r for r, part in zip(self._reaches, self.parts, strict=True) if not part.leaf.is_integer]

    def _reaches_of(self) -> list[float]:
        """Return for each array what its numbers cannot be larger than; whole numbers for integers."""
        clips = [float(math.floor(p.clip) if p.leaf.is_integer else p.clip) for p in self.parts]
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
            raise PlanError(f"a norm of {self._norm} makes zeros of integers; give 1 or more, or floats")
        return [min(clip, float(math.floor(self._norm) if self._whole else self._norm)) for clip in clips]

    def _steps_of(self) -> int:
        """Return S."""
        most = math.isqrt(_LARGEST // self._size) // self._weight
        room = f"{self._size} numbers{f' with weights up to {self._weight}' if self.weighted else ''}"
        whole = [int(r) for r, part in zip(self._reaches, self.parts, strict=True) if part.leaf.is_integer]
        largest = max(whole, default=1)
        if largest > most and whole:
            raise PlanError(
                f"of {room} none may be above {most}, or a check in 64 bits could be fooled, and there are integers up to "
                f"{largest}; use smaller clips or weights, or sum parts of the updates one by one"
            )
        if self._whole:
            return largest
        fitting = most // largest * largest
        best = fitting if whole else 1 << max(0, most.bit_length() - 1)
        needed, border, precision = _FEWEST, max(self._float_reaches), self.request.precision
        if precision is not None:
            if not (math.isfinite(precision) and precision > 0):
                raise PlanError(f"precision is a positive number, not {precision}")
            needed = math.ceil(Fraction(border) / (2 * Fraction(float(precision))))
        if needed <= fitting:
            return best if needed <= best else fitting
        asked = "2^-8 of the clip" if precision is None else f"precision={precision:g}"
        # Rounded up, as what is said to fit has to.
        fits = f"precision={1.01 * border / (2 * fitting):.3g} fits; else " if fitting else ""
        raise PlanError(
            f"of {room} each may have {fitting} steps at most, or a check in 64 bits could be fooled, and {asked} takes "
            f"{needed}; {fits}use smaller clips or weights, or sum parts of the updates one by one"
        )

    def _rounded_to_steps(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        return (np.trunc(values) if self._whole else np.rint(values)).astype(np.int64)

    def _allowed(self, integers: NDArray[np.int64]) -> bool:
        # Squares add up without wrapping where no coordinate is above the limit.
        within = int(np.max(np.abs(integers))) <= self.bounds.limit
        return within and int(np.vecdot(integers, integers)) <= self.bounds.norm_limit


def _scale_down(values: NDArray[np.float64], norm: float) -> bool:
    """Scale a vector that is longer than the norm down to it, in place; return whether it was."""
    largest = float(np.max(np.abs(values)))
    if not largest:
        return False
    # Divided by the largest first: squares neither overflow nor vanish.
    excess = float(np.linalg.norm(values / largest)) * (largest / norm)
    if excess <= 1:
        return False
    values /= excess
    return True
