"""Updates to vectors of numbers that a protocol adds up, and sums back: clipping, weights, places, errors.

Every client's update becomes one vector, its arrays side by side. In a weighted mean the weight is one more coordinate,
under the same protection as the others. Two ways:

*Fixed point* (`FixedPoint`), for sums, plain means, and means with integer weights. A number x is v = round(x 2^f),
integers are themselves; a client sends w v and w, and what is opened is exact in these. f is the planner's
(`secagg.fixed_point`), for each array by its clip. So a sum errs by at most contributors 2^-(f+1), a mean by
2^-(f+1), whatever the weights.

*Units* (`Units`), for weights that are no integers, and for protocols that compute with real numbers. A number x
within +-clip is x / clip, a weight w is w / max_weight; a client sends multiples of 1/scale near the products w x / clip
max_weight, and near w / max_weight. With E the most that a sum of these may be off, and U, V the sums, |U| <= V but for E:

    |U'/V' - U/V| = |(U' - U) - (U/V) (V' - V)| / V' <= 2 E / V'

so a mean errs by clip 2 E / V', which is worked out when V' is known: it grows where weights are far below
max_weight. No bits are spent on weights.

`error` is a bound on the difference to the exact sum or mean of the clipped numbers, rounding to the arrays' own
dtype and of float64 arithmetic included.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import fixed_point
from secagg.aggregation.structure import Leaf, Structure
from secagg.errors import PlanError, RangeError, UsageError
from secagg.fixed_point import Plan

DEFAULT_PLACES: Final = 20  # a number errs by 2^-20 of the clip if no precision is given
_WIDEST: Final = 64
FLOAT_ERROR: Final = 2.0**-50  # of a few float64 operations, relative


@dataclass(frozen=True, slots=True)
class Request:
    """What is computed of which arrays.

    Args:
      structure: of every update.
      mean: a mean, not a sum.
      clips: by path, "" for all others; a path stands for all below it.
      precision: largest error of one number, or None.
      clients: how many there are.
      max_weight: None without weights; an integer, or a float if weights need not be integers.
    """

    structure: Structure
    mean: bool
    clips: Mapping[str, float]
    precision: float | None
    clients: int
    max_weight: float | None

    def clip_of(self, leaf: Leaf) -> float:
        """Return the clip of an array.

        Raises:
          UsageError: none is given for it.
        """
        keys = [key for key in self.clips if not key or f"{leaf.path}/".startswith(f"{key}/")]
        if not keys:
            raise UsageError(f'there is no clip for {leaf.path!r}; one under "" is for all others')
        return self.clips[max(keys, key=len)]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A sum or mean as arrays.

    Attributes:
      arrays: in the order of the structure's leaves.
      errors: bounds on the absolute error, by path.
      weight: the sum of weights, which is opened; None without weights.
      deviation: of the noise in each number; 0 without.
    """

    arrays: list[NDArray[Any]] = field(repr=False)
    errors: dict[str, float]
    weight: float | None
    deviation: float = 0.0


@dataclass(frozen=True, slots=True)
class _Part:
    """Where an array lies in the vector."""

    leaf: Leaf
    clip: float
    place: slice


class Coding(ABC):
    """How updates become vectors.

    Attributes:
      plan: what each coordinate is: a number within +-plan.clip, of all places; `plan.sum_bits` holds every sum.
      length: of a vector.
    """

    plan: Plan
    length: int

    def __init__(self, request: Request) -> None:
        self.request = request
        self.weighted = request.max_weight is not None
        self.length = request.structure.size + self.weighted
        self.parts: list[_Part] = []
        start = 0
        for leaf in request.structure.leaves:
            clip = request.clip_of(leaf)
            self._check(leaf, clip)
            self.parts.append(_Part(leaf, clip, slice(start, start + leaf.size)))
            start += leaf.size

    @property
    @abstractmethod
    def about(self) -> str:
        """How numbers are written, for people."""

    @abstractmethod
    def encode(self, arrays: Sequence[NDArray[Any]], weight: float) -> tuple[NDArray[Any], int]:
        """Return an update as a vector, int64 or float64, shape (length,), and how many numbers were clipped.

        Args:
          arrays: without NaN or infinity.
          weight: 1 without weights.
        """

    @abstractmethod
    def decode(self, total: NDArray[Any], contributors: int, error: float) -> Decoded:
        """Return what the sum of vectors stands for.

        Args:
          total: int64 or float64, shape (length,).
          contributors: how many vectors are in it.
          error: bound on the error that the protocol adds to each coordinate; 0 for exact ones.
        """

    def result_dtype(self, leaf: Leaf) -> np.dtype[Any]:
        """Return the dtype of an array of the result: the updates', but float64 for means of integers."""
        return np.dtype(np.float64) if self.request.mean and leaf.is_integer else leaf.dtype

    def _check(self, leaf: Leaf, clip: float) -> None:
        where = f"at {leaf.path}: " if leaf.path else ""
        if not (isinstance(clip, int | float) and math.isfinite(clip) and clip > 0):
            raise PlanError(f"{where}a clip is a positive number, not {clip!r:.40}")
        if leaf.is_integer and clip < 1:
            raise PlanError(
                f"{where}a clip of {clip} makes zeros of integers; give them a clip of their own, by path"
            )
        if self.request.mean:
            return
        most: float = int(np.iinfo(leaf.dtype).max) if leaf.is_integer else float(np.finfo(leaf.dtype).max)
        border = min(math.floor(clip) if leaf.is_integer else clip, most)
        if self.request.clients * border > most:
            raise PlanError(
                f"{where}sums of {self.request.clients} numbers up to {border} do not fit {leaf.dtype}; convert the updates "
                f"to a wider type, or clip at {most / self.request.clients:.6g}"
            )

    def _integers(self, leaf: Leaf, totals: NDArray[np.int64]) -> NDArray[Any]:
        """Return exact sums in the array's dtype and shape; what only a client that lies can add up to does not wrap."""
        info = np.iinfo(leaf.dtype)
        most = min(int(info.max), int(np.iinfo(np.int64).max))
        return np.clip(totals, int(info.min), most).astype(leaf.dtype).reshape(leaf.shape)

    def _rounded(self, part: _Part, values: NDArray[np.float64], error: float) -> tuple[NDArray[Any], float]:
        """Return float64 values in the result's dtype and shape, and the error with that of the last step."""
        leaf, dtype = part.leaf, self.result_dtype(part.leaf)
        shaped = values.reshape(leaf.shape)
        if dtype.kind in "iu":
            # Where the error is below a half, the nearest integer is the right one.
            return np.rint(shaped).astype(dtype), 0.0 if error < 0.5 else error + 0.5
        result = shaped.astype(dtype)
        if dtype != np.float64 and leaf.size:
            # Of the very largest number numpy has no spacing; it is that of the one below.
            largest = min(np.max(np.abs(result)), np.nextafter(np.finfo(dtype).max, dtype.type(0)))
            error += float(np.spacing(largest)) / 2
        return result, error


def _default_precision(clip: float) -> float:
    # Of the tiniest numbers fewer places are kept: a plan has at most 1000.
    return max(math.ldexp(clip, -DEFAULT_PLACES), math.ldexp(1.0, -1000))


class FixedPoint(Coding):
    """Exact sums of fixed-point numbers, with integer weights if any.

    Args:
      request: with a max_weight that is None or an int.

    Raises:
      PlanError: sums that fit no ring of 64 bits, or not the updates' own dtype.
      UsageError: an array without clip.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._weight = int(request.max_weight or 1)
        self._plans = [self._plan_of(part) for part in self.parts]
        most = self._weight * max(plan.limit for plan in self._plans)
        # float64 has no room for all integers above 2^53: the next one up.
        clip = float(most) if most < 1 << 53 else math.nextafter(float(most), math.inf)
        self.plan = fixed_point.plan(clip=clip, frac_bits=0, parties=request.clients)

    @property
    def about(self) -> str:
        floats = sorted({p.frac_bits for p, part in zip(self._plans, self.parts, strict=True) if p.frac_bits})
        weights = f", integer weights up to {self._weight}" if self.weighted else ""
        places = f"fixed point with {' or '.join(map(str, floats))} places" if floats else "integers"
        return f"{places}{weights}: sums of {self.plan.sum_bits} bits"

    def encode(self, arrays: Sequence[NDArray[Any]], weight: float) -> tuple[NDArray[np.int64], int]:
        values, clipped = np.empty(self.length, np.uint64), 0
        for part, plan, array in zip(self.parts, self._plans, arrays, strict=True):
            out = values[part.place].reshape(part.leaf.shape)
            clipped += fixed_point.encode(array, plan, out_of_range="clip", out=out).clipped
        signed = values.view(np.int64)
        if self.weighted:
            # Within 64 bits by the plan.
            signed *= np.int64(int(weight))
            signed[-1] = int(weight)
        return signed, clipped

    def decode(self, total: NDArray[Any], contributors: int, error: float) -> Decoded:  # noqa: ARG002  # exact protocols have none
        mean = self.request.mean
        weight = int(total[-1]) if self.weighted else contributors
        arrays, errors = [], {}
        for part, plan in zip(self.parts, self._plans, strict=True):
            leaf, part_total = part.leaf, total[part.place]
            if leaf.is_integer and not mean:
                arrays.append(self._integers(leaf, part_total))
                errors[leaf.path] = 0.0
                continue
            values = part_total * math.ldexp(1.0, -plan.frac_bits)
            bound = 0.0 if leaf.is_integer else plan.error(summands=1 if mean else contributors)
            if mean:
                values /= weight
            wide = plan.parties * plan.max_weight * plan.limit >= 1 << 53
            if leaf.size and (mean or wide):
                bound += float(np.max(np.abs(values))) * FLOAT_ERROR
            array, errors[leaf.path] = self._rounded(part, values, bound)
            arrays.append(array)
        return Decoded(arrays, errors, float(weight) if self.weighted else None)

    def _plan_of(self, part: _Part) -> Plan:
        precision = self.request.precision
        try:
            plan = fixed_point.plan(
                clip=part.clip,
                precision=None
                if part.leaf.is_integer
                else (_default_precision(part.clip) if precision is None else precision),
                frac_bits=0 if part.leaf.is_integer else None,
                parties=self.request.clients,
                max_weight=self._weight,
            )
        except PlanError as error:
            raise PlanError(f"{part.leaf.path or 'the updates'}: {error}") from None
        return replace(plan, bits=_WIDEST)


class Units(Coding):
    """Sums of numbers and weights in units of their largest.

    Args:
      request: what to compute.
      scale: what 1 becomes, a power of two; without it the least that gives the precision.
      rounded: to integers; otherwise they stay real numbers.

    Raises:
      PlanError: sums that fit no ring of 64 bits, or not the updates' own dtype.
      UsageError: an array without clip.
    """

    def __init__(self, request: Request, *, scale: float | None = None, rounded: bool = True) -> None:
        super().__init__(request)
        self._rounded_to_integers = rounded
        self._scale = math.ldexp(1.0, self._places()) if scale is None else scale
        self.plan = fixed_point.plan(clip=self._scale, frac_bits=0, parties=request.clients)

    @property
    def about(self) -> str:
        weights = f", weights in units of {self.request.max_weight}" if self.weighted else ""
        step = "steps" if self._rounded_to_integers else "real numbers"
        return f"{step} of 2^-{round(math.log2(self._scale))} of the clip{weights}"

    def encode(self, arrays: Sequence[NDArray[Any]], weight: float) -> tuple[NDArray[Any], int]:
        values, clipped = np.empty(self.length), 0
        ratio = 1.0 if self.request.max_weight is None else weight / self.request.max_weight
        for part, array in zip(self.parts, arrays, strict=True):
            numbers = values[part.place]
            np.copyto(numbers, array.reshape(-1))
            numbers /= part.clip  # correctly rounded: within +-1 exactly where the number is within +-clip
            clipped += int(np.count_nonzero(np.abs(numbers) > 1))
            np.clip(numbers, -1, 1, out=numbers)
        values *= ratio
        if self.weighted:
            values[-1] = ratio
        values *= self._scale
        return (np.rint(values).astype(np.int64) if self._rounded_to_integers else values), clipped

    def decode(self, total: NDArray[Any], contributors: int, error: float) -> Decoded:
        units = total / self._scale
        off = (
            error + 0.5 * contributors * self._rounded_to_integers
        ) / self._scale + contributors * FLOAT_ERROR
        weight = float(units[-1]) if self.weighted else float(contributors)
        if self.request.mean:
            if weight <= off:
                raise RangeError(
                    f"the weights are lost in rounding: their sum is below {off:.3g} of max_weight="
                    f"{self.request.max_weight}; give a smaller max_weight or precision"
                )
            units /= weight
            off = (2 if self.weighted else 1) * off / weight + FLOAT_ERROR
        arrays, errors = [], {}
        for part in self.parts:
            values = units[part.place] * part.clip
            array, errors[part.leaf.path] = self._rounded(part, values, part.clip * off)
            arrays.append(array)
        whole = weight * self.request.max_weight if self.request.max_weight is not None else None
        return Decoded(arrays, errors, whole)

    def _places(self) -> int:
        """Return the least g with clip 2^-(g+1) <= precision everywhere."""
        precision = self.request.precision
        if precision is None:
            return DEFAULT_PLACES - 1
        if not (math.isfinite(precision) and precision > 0):
            raise PlanError(f"precision is a positive number, not {precision}")
        largest = max(part.clip for part in self.parts)
        # largest / precision = m 2^e with m < 1: largest 2^-e <= precision.
        return max(0, math.frexp(largest / precision)[1] - 1)


def check_numbers(structure: Structure, arrays: Sequence[NDArray[Any]], client: str) -> None:
    """Refuse NaN and infinity.

    Raises:
      RangeError: there is some; names the client, the path and the place.
    """
    for leaf, array in zip(structure.leaves, arrays, strict=True):
        if array.dtype.kind != "f":
            continue
        finite = np.isfinite(array)
        if not finite.all():
            bad = np.argwhere(~finite)
            place = ", ".join(map(str, bad[0].tolist()))
            raise RangeError(
                f"{client}'s update{' at ' + leaf.path if leaf.path else ''}: {len(bad)} of {array.size} numbers are NaN "
                f"or infinite, the first at index [{place}]"
            )
