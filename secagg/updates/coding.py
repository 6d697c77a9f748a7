"""Updates to vectors of numbers that a protocol adds up, and sums back: clipping, weights, fractional bits, errors.

Every client's update becomes one vector, its arrays side by side. In a weighted mean the weight is one more coordinate,
under the same protection as the others. Two ways:

*Fixed point* (`FixedPoint`), for sums, plain means, and means with integer weights. A number x is v = round(x 2^f),
an integer is v = x. A client sends w v and w, and their sums are opened exactly. f is the number of fractional bits, which
the planner (`secagg.fixed_point`) chooses for each array by its clip. A sum errs by at most contributors 2^-(f+1). A mean
errs by at most 2^-(f+1), whatever the weights.

*Units* (`Units`), for weights that are no integers, and for protocols that compute with real numbers. A number x within
+-clip is x / clip, a weight w is w / max_weight. A client sends multiples of 1/scale near the products w x / clip
max_weight, and near w / max_weight. With E the most that a sum of these may be off, and U, V the sums, |U| <= V but for E:

    |U'/V' - U/V| = |(U' - U) - (U/V) (V' - V)| / V' <= 2 E / V'

so a mean errs by clip 2 E / V'. The bound is computed when V' is known, and grows if weights are far below max_weight. No
bits are spent on weights.

Numbers far above or below one are scaled by a power of two at which v fits. So clips go from the smallest number of float64
to the largest.

`error` bounds the difference to the exact sum or mean of the clipped numbers. It includes rounding to the arrays' own dtype
and in float64 arithmetic.

Longer than most modules: encoders and the bounds of what they decode are one argument.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import fixed_point
from secagg.errors import PlanError, RangeError, UsageError
from secagg.fixed_point import Plan
from secagg.updates.rounding import half_spacing, rounded_down, rounded_up, to_floats, to_integers
from secagg.updates.structure import Leaf, Structure

if TYPE_CHECKING:
    from secagg.protocols.bounded_sum import Bounds

DEFAULT_FRAC_BITS: Final = 20  # a number errs by 2^-20 of the clip if no precision is given
_WIDEST: Final = 64
_ROOM: Final = (1 << (_WIDEST - 1)) - 1  # the largest sum
_FINEST: Final = 1074  # float64 has no more fractional bits
_FINEST_OF_PLAN: Final = 1000
_TINY: Final = 2.0**-1073  # that multiplying and rounding among the smallest numbers of float64 may be off
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
        for path in (leaf.path, *reversed(leaf.above), ""):
            if path in self.clips:
                return self.clips[path]
        raise UsageError(f'there is no clip for {leaf.path!r}; one under "" is for all others')


@dataclass(frozen=True, slots=True)
class Decoded:
    """A sum or mean as arrays.

    Attributes:
      arrays: in the order of the structure's leaves.
      errors: bounds on the absolute error, by path.
      weight: the sum of weights, which is opened; None without weights.
      noise_std: of the noise in each number, or of random rounding and drawing; 0 without.
    """

    arrays: list[NDArray[Any]] = field(repr=False)
    errors: dict[str, float]
    weight: float | None
    noise_std: float = 0.0


@dataclass(frozen=True, slots=True)
class _Part:
    """Where an array lies in the vector, and the largest absolute value of its numbers: whole for integers."""

    leaf: Leaf
    clip: float
    place: slice


class Coding(ABC):
    """How updates become vectors.

    Attributes:
      plan: of each coordinate, a number within +-plan.clip; `plan.sum_bits` holds every sum.
      length: of a vector.
      bounds: what the numbers of a vector, its weight left out, keep to; None if vectors are not made to be checked.
    """

    plan: Plan
    length: int
    bounds: Bounds | None = None

    def __init__(self, request: Request) -> None:
        self.request = request
        self.weighted = request.max_weight is not None
        self.length = request.structure.size + self.weighted
        self.parts: list[_Part] = []
        start = 0
        for leaf in request.structure.leaves:
            clip = request.clip_of(leaf)
            self._check(leaf, clip)
            self.parts.append(_Part(leaf, _largest_within(leaf, clip), slice(start, start + leaf.size)))
            start += leaf.size

    @property
    @abstractmethod
    def about(self) -> str:
        """How numbers are written, for people."""

    @property
    def checked(self) -> str:
        """What `bounds` means for the updates, for people; "" without bounds."""
        return ""

    def split(self, vector: NDArray[Any]) -> tuple[NDArray[Any], int | None]:
        """Return the numbers and the integer weight of an encoded update; None without weights."""
        return (vector[:-1], int(vector[-1])) if self.weighted else (vector, None)

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
        return leaf.form.mean_dtype if self.request.mean and leaf.is_integer else leaf.dtype

    def _check(self, leaf: Leaf, clip: float) -> None:
        where = f"at {leaf.path}: " if leaf.path else ""
        if not (isinstance(clip, int | float) and math.isfinite(clip) and clip > 0):
            raise UsageError(f"{where}a clip is a positive number, not {clip!r:.40}")
        if leaf.is_integer and clip < 1:
            raise UsageError(
                f"{where}a clip of {clip} makes zeros of integers; give them a clip of their own, by path"
            )
        if self.request.mean:
            return
        most, clients = leaf.largest, self.request.clients
        bound = min(_largest_within(leaf, clip), most)
        if Fraction(clients) * Fraction(bound) > Fraction(most):
            raise PlanError(
                f"{where}sums of {clients} numbers up to {bound} do not fit {leaf.dtype_name}; "
                f"{_ways_out(leaf, clients)}"
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
            return to_integers(shaped, dtype), 0.0 if error < 0.5 else error + 0.5
        short = leaf.form.bfloat16
        result = to_floats(shaped, dtype, bfloat16=short)
        if not leaf.is_integer:
            error += _TINY
        if dtype != np.float64:
            error += half_spacing(result, bfloat16=short)
        return result, error


def _largest_within(leaf: Leaf, clip: float) -> float:
    """Return the largest absolute value that a number within a clip has, as a number that its dtype may hold."""
    if not leaf.is_integer:
        return clip
    info = np.iinfo(leaf.dtype)
    # The most negative integer is one further from zero than the largest.
    return min(math.floor(clip), max(int(info.max), -int(info.min)))


def _ways_out(leaf: Leaf, clients: int) -> str:
    """Say what would do where sums do not fit a dtype."""
    options = []
    if leaf.dtype.itemsize < 8:
        options.append("convert the updates to a wider type")
    if not leaf.is_integer:
        options.append(f"clip at {rounded_down(leaf.largest / clients)}")
    elif (each := min(int(leaf.largest), _ROOM - (_ROOM >> 48)) // clients) >= 1:
        options.append(f"clip at {each}")
    options.append("take a mean" if options else "convert the updates to floats, or take a mean")
    return ", or ".join(options)


def check_precision(precision: float) -> None:
    """Refuse what is no precision.

    Raises:
      UsageError: it is not positive, or not finite.
    """
    if not (math.isfinite(precision) and precision > 0):
        raise UsageError(f"precision is a positive number, not {precision}")


def clip_numbers(numbers: NDArray[np.float64], clip: float) -> tuple[NDArray[np.float64], int]:
    """Move numbers within +-clip in place; return them, and how many were moved."""
    moved = int(np.count_nonzero(np.abs(numbers) > clip))
    return np.clip(numbers, -clip, clip, out=numbers), moved


@dataclass(frozen=True, slots=True)
class _Fixed:
    """How the numbers of an array become integers: x 2^-shift is encoded under a plan."""

    plan: Plan
    shift: int

    @property
    def frac_bits(self) -> int:
        """Fractional bits of x itself."""
        return self.plan.frac_bits - self.shift


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
        self._fixed = [self._fixed_of(part) for part in self.parts]
        most = self._weight * max(fixed.plan.limit for fixed in self._fixed)
        # float64 has no room for all integers above 2^53: the next one up.
        clip = float(most) if int(float(most)) >= most else math.nextafter(float(most), math.inf)
        if request.clients * int(clip) > _ROOM:
            raise PlanError(
                f"sums of {request.clients} parties' numbers take all of {_WIDEST} bits, and none is left; use a smaller "
                "clip, a larger precision or smaller weights"
            )
        self.plan = fixed_point.plan(clip=clip, frac_bits=0, parties=request.clients)

    @property
    def about(self) -> str:
        pairs = zip(self._fixed, self.parts, strict=True)
        floats = sorted(
            {fixed.frac_bits for fixed, part in pairs if not part.leaf.is_integer and fixed.frac_bits}
        )
        weights = f", integer weights up to {self._weight}" if self.weighted else ""
        numbers = "integers"
        if floats and floats[0] > 0:
            numbers = f"fixed point with {' or '.join(map(str, floats))} fractional bits"
        elif floats:
            numbers = f"multiples of {' or '.join(f'2^{-f}' for f in floats)}"
        return f"{numbers}{weights}: sums of {self.plan.sum_bits} bits"

    def encode(self, arrays: Sequence[NDArray[Any]], weight: float) -> tuple[NDArray[np.int64], int]:
        values, clipped = np.empty(self.length, np.uint64), 0
        for part, fixed, array in zip(self.parts, self._fixed, arrays, strict=True):
            out, numbers = values[part.place].reshape(part.leaf.shape), array
            if fixed.shift:
                # Clipped first: multiplied, a number beyond the clip could become infinite.
                numbers, moved = clip_numbers(array.astype(np.float64), part.clip)
                numbers = np.ldexp(numbers, -fixed.shift)
                clipped += moved
            clipped += fixed_point.encode(numbers, fixed.plan, out_of_range="clip", out=out).clipped
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
        for part, fixed in zip(self.parts, self._fixed, strict=True):
            leaf, part_total, plan = part.leaf, total[part.place], fixed.plan
            if leaf.is_integer and not mean:
                arrays.append(self._integers(leaf, part_total))
                errors[leaf.path] = 0.0
                continue
            # Divided first: a sum may be larger than float64 holds where the mean is not.
            values = part_total / weight if mean else part_total.astype(np.float64)
            if fixed.shift:
                with np.errstate(over="ignore"):  # by rounding, beyond the largest: `_rounded` moves it back
                    values = np.ldexp(values, -fixed.frac_bits)
            else:
                values *= math.ldexp(1.0, -fixed.frac_bits)
            bound = 0.0
            if not leaf.is_integer:
                bound = math.ldexp(plan.error(summands=1 if mean else contributors), fixed.shift)
            wide = plan.parties * plan.max_weight * plan.limit >= 1 << 53
            if leaf.size and (mean or wide):
                bound += min(float(np.max(np.abs(values))), leaf.largest) * FLOAT_ERROR
            array, errors[leaf.path] = self._rounded(part, values, bound)
            arrays.append(array)
        return Decoded(arrays, errors, float(weight) if self.weighted else None)

    def _fixed_of(self, part: _Part) -> _Fixed:
        frac_bits = 0 if part.leaf.is_integer else self._frac_bits(part)
        shift = min(max(frac_bits, 0), _FINEST_OF_PLAN) - frac_bits
        clip = float(part.clip) if part.leaf.is_integer else math.ldexp(part.clip, -shift)
        try:
            plan = fixed_point.plan(
                clip=clip, frac_bits=frac_bits + shift, parties=self.request.clients, max_weight=self._weight
            )
        except PlanError:
            raise PlanError(self._refusal(part, frac_bits)) from None
        return _Fixed(replace(plan, bits=_WIDEST), shift)

    def _frac_bits(self, part: _Part) -> int:
        """Return f, where a number is a multiple of 2^-f; negative for steps above 1."""
        # clip = m 2^e with 1/2 <= m < 1, and likewise the precision.
        exponent = math.frexp(part.clip)[1]
        if self.request.precision is None:
            frac_bits = DEFAULT_FRAC_BITS - exponent
        else:
            check_precision(self.request.precision)
            frac_bits = -math.frexp(self.request.precision)[1]
            if frac_bits < 0:  # one step at least within the clip
                frac_bits = max(frac_bits, 1 - exponent)
        return min(frac_bits, _FINEST)

    def _refusal(self, part: _Part, frac_bits: int) -> str:
        """Say what does not fit 64 bits, and what would."""
        clients = self.request.clients
        # A little less than there is: the plan of all arrays rounds up to float64.
        most = (_ROOM - (_ROOM >> 48)) // (clients * self._weight)
        cohort = f"{clients} parties" + (f" with weights up to {self._weight}" if self.weighted else "")
        options = []
        if part.leaf.is_integer:
            asked = "are integers"
            if most:
                options.append(f"clip <= {most - most % (1 << max(0, most.bit_length() - 53))}")
        else:
            asked = f"are multiples of 2^{-frac_bits}"
            fitting = frac_bits
            while most and math.ceil(Fraction(part.clip) * Fraction(2) ** fitting) > most:
                fitting -= 1
            if most and fitting > -math.frexp(part.clip)[1]:
                options.append(f"precision >= {rounded_up(math.ldexp(1.0, -fitting - 1))}")
                if self.request.precision is not None:
                    options.append(f"clip <= {rounded_down(float(most / Fraction(2) ** frac_bits))}")
        options.append("smaller weights" if self.weighted else "fewer clients")
        return (
            f"{part.leaf.path or 'the updates'}: numbers up to {part.clip:g} that {asked} do not fit {_WIDEST} bits in a "
            f"sum of {cohort}; use {' or '.join(options)}"
        )


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
        frac_bits = self._frac_bits()
        if scale is None and request.clients << frac_bits > _ROOM:
            raise PlanError(self._refusal())
        self._scale = math.ldexp(1.0, frac_bits) if scale is None else scale
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
            clipped += clip_numbers(numbers, part.clip)[1]
            numbers /= part.clip
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
            with np.errstate(over="ignore"):  # by rounding, beyond the largest: `_rounded` moves it back
                values = units[part.place] * part.clip
            array, errors[part.leaf.path] = self._rounded(part, values, part.clip * off)
            arrays.append(array)
        whole = weight * self.request.max_weight if self.request.max_weight is not None else None
        return Decoded(arrays, errors, whole)

    def _frac_bits(self) -> int:
        """Return the least g with clip 2^-(g+1) <= precision everywhere."""
        precision = self.request.precision
        if precision is None:
            return DEFAULT_FRAC_BITS - 1
        check_precision(precision)
        # clip / precision < 2^e, and so clip 2^-e < precision.
        return max(0, math.floor(Fraction(self._largest) / Fraction(precision)).bit_length() - 1)

    @property
    def _largest(self) -> float:
        return max(part.clip for part in self.parts)

    def _refusal(self) -> str:
        clients = self.request.clients
        frac_bits = (_ROOM // clients).bit_length() - 1
        fits = rounded_up(math.ldexp(self._largest, -frac_bits - 1))
        return (
            f"numbers up to {self._largest:g} to within precision={self.request.precision:g} do not fit {_WIDEST} bits in "
            f"a sum of {clients} parties; use precision >= {fits}"
        )


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
            first, labels = bad[0].tolist(), leaf.form.labels
            place = f"index [{', '.join(map(str, first))}]" if labels is None else labels.place(first)
            raise RangeError(
                f"{client}'s update{' at ' + leaf.path if leaf.path else ''}: {len(bad)} of {array.size} numbers are NaN "
                f"or infinite, the first at {place}"
            )
