"""Real numbers to ring elements and back, and the planner that sizes the ring.

A number x is encoded as v = round(x * 2**frac_bits), taken modulo 2**bits as two's complement. Sums of
encoded numbers, multiplied by public or hidden integer weights, are exact in the ring. The only error is the
rounding of each number. The only way to a wrong result is a sum that leaves the ring. `plan` chooses the ring
so that no sum of `parties` numbers with weights up to `max_weight` leaves it, or refuses.

Absolute error of one decoded number x, |x| <= clip:
  nearest:     at most 2**-(frac_bits + 1); ties go to the even neighbour.
  stochastic:  below 2**-frac_bits; zero on average (to within 2**-53 of the last place).
A weighted sum errs by at most the sum of the weights times that. Decoding a sum within 2**53 units of the last
place adds no error. Decoding a larger one gives the nearest float64.

Longer than most modules: encoding and decoding rest on what the planner proves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.errors import PlanError, RangeError, ShapeError, UsageError
from secagg.prg import Stream, system_stream
from secagg.ring import Ring, RingArray

__all__ = ["Encoded", "Plan", "Rounding", "decode", "encode", "plan"]

Rounding: TypeAlias = Literal["nearest", "stochastic"]

_RING_BITS = (8, 16, 32, 64)
_MAX_FRAC_BITS = 1000  # keeps 2**frac_bits and 2**-frac_bits normal float64 numbers
# Elements per step: 512 KiB of float64, so that the passes of a step run in the second-level cache and
# the calls cost little against them.
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Plan:
    """How numbers are encoded, and the proof that sums of them stay inside the ring.

    Args:
      bits: ring width, 8, 16, 32 or 64.
      frac_bits: fractional bits kept, 0..1000.
      clip: largest absolute value of a number, positive and finite.
      parties: most numbers in a sum.
      max_weight: largest integer weight of a number.

    Raises:
      UsageError: an argument out of range.
      PlanError: sums that do not fit; the message says what would.
    """

    bits: int
    frac_bits: int
    clip: float
    parties: int
    max_weight: int = 1

    def __post_init__(self) -> None:
        if self.bits not in _RING_BITS:
            raise UsageError(f"a planned ring has 8, 16, 32 or 64 bits, not {self.bits}")
        _check_arguments(self.frac_bits, self.clip, self.parties, self.max_weight)
        if self.sum_bits > self.bits:
            raise PlanError(_refusal(self))

    @property
    def ring(self) -> Ring:
        """The ring of the encoded numbers and their sums."""
        return Ring(self.bits)

    @property
    def limit(self) -> int:
        """The largest absolute value of an encoded number, under either rounding."""
        return _limit(self.clip, self.frac_bits)

    @property
    def sum_bits(self) -> int:
        """The least number of bits that holds every planned sum in two's complement."""
        return (self.parties * self.max_weight * self.limit).bit_length() + 1

    def sum_ring(self, parties: int) -> Ring:
        """Return the narrowest ring, of at least 8 bits, that holds every sum of so many numbers that the plan allows.

        Raises:
          PlanError: the plan is for fewer numbers in a sum.
        """
        if self.parties < parties:
            raise PlanError(
                f"the plan is for sums of {self.parties} vectors, not {parties}; plan for {parties}"
            )
        return self._sum_ring

    @property
    def _sum_ring(self) -> Ring:
        return Ring(max(_RING_BITS[0], self.sum_bits))

    def narrow(self, encoded: RingArray) -> RingArray:
        """Return encoded numbers, or sums of them, as elements of the ring of `sum_ring`, which sums need on the wire.

        Raises:
          ShapeError: another dtype than the plan's.
        """
        if encoded.dtype != self.ring.dtype:
            raise ShapeError(f"the plan's ring elements come in {self.ring.dtype}, not {encoded.dtype}")
        ring = self._sum_ring
        # 2**ring.bits divides 2**bits: the low bits are the number modulo the narrower ring.
        low: RingArray = encoded.astype(ring.dtype)
        return ring.reduce(low, out=low)

    def widen(self, total: RingArray) -> RingArray:
        """Return a sum in the ring of `sum_ring` as the element of the plan's ring that `decode` takes.

        Raises:
          ShapeError: another dtype than that ring's.
        """
        return self.ring.from_signed(self._sum_ring.to_signed(total))

    def error(self, rounding: Rounding = "nearest", *, summands: int = 1) -> float:
        """Return the bound on the absolute error of a sum of numbers whose weights add up to `summands`."""
        _check_rounding(rounding)
        return summands * math.ldexp(1.0, -self.frac_bits - (rounding == "nearest"))


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded numbers.

    Args:
      values: elements of the plan's ring, in the shape of the numbers; secret as long as those are.
      clipped: how many numbers were moved to the nearest end of the range.
    """

    values: RingArray = field(repr=False)
    clipped: int


def plan(
    *,
    clip: float,
    precision: float | None = None,
    frac_bits: int | None = None,
    parties: int,
    max_weight: int = 1,
    bits: int | None = None,
) -> Plan:
    """Choose the smallest ring in which no sum of the planned numbers can wrap.

    Args:
      clip: largest absolute value of a number.
      precision: largest absolute error of one number under nearest rounding; or
      frac_bits: fractional bits kept. Exactly one of the two is given.
      parties: most numbers in a sum.
      max_weight: largest integer weight of a number.
      bits: ring width, 8, 16, 32 or 64; without it the smallest that fits.

    Raises:
      UsageError: both or neither of precision and frac_bits, or an argument out of range.
      PlanError: nothing fits; the message says what would.
    """
    clip = float(clip)
    if precision is not None and frac_bits is None:
        if not (math.isfinite(precision) and precision > 0):
            raise UsageError(f"precision is a positive number, not {precision}")
        # precision = m * 2**e with 1/2 <= m < 1: the largest power of two not above it is 2**(e - 1), so
        # that 2**-(f + 1) <= precision holds from f = -e on.
        kept = max(0, -math.frexp(precision)[1])
    elif frac_bits is not None and precision is None:
        kept = frac_bits
    else:
        raise UsageError("give either precision or frac_bits: one of the two")
    _check_arguments(kept, clip, parties, max_weight)
    if bits is None:
        need = (parties * max_weight * _limit(clip, kept)).bit_length() + 1
        bits = next((b for b in _RING_BITS if need <= b), _RING_BITS[-1])
    return Plan(bits=bits, frac_bits=kept, clip=clip, parties=parties, max_weight=max_weight)


def encode(
    x: ArrayLike,
    plan: Plan,
    *,
    rounding: Rounding = "nearest",
    out_of_range: Literal["raise", "clip"] = "raise",
    rng: Stream | None = None,
    out: RingArray | None = None,
) -> Encoded:
    """Encode numbers as ring elements.

    Args:
      x: float16, float32, float64 or integers, any shape. Integers are encoded exactly.
      plan: range, fractional bits and ring.
      rounding: "nearest" (ties to even) or "stochastic" (up with the probability of the fraction).
      out_of_range: what happens to finite numbers beyond +-clip: "raise", or "clip" to the bound.
      rng: where stochastic rounding draws from, 8 bytes a number; without it, fresh randomness.
      out: C-contiguous array of the ring's dtype and x's shape to write to; without it a new array.

    Raises:
      UsageError: an unknown rounding or out_of_range.
      ShapeError: x of another dtype, or an out that does not match.
      RangeError: NaN or infinity; or numbers beyond +-clip when they are not to be clipped. What `out`
        then holds is undefined.
    """
    _check_rounding(rounding)
    if out_of_range not in ("raise", "clip"):
        raise UsageError(f'out_of_range is "raise" or "clip", not {out_of_range!r}')
    numbers = np.asarray(x)
    if numbers.dtype.kind not in "iuf" or numbers.dtype.itemsize > 8:
        raise ShapeError(f"encode takes integers, float16, float32 or float64, not {numbers.dtype}")
    values = _output(out, numbers.shape, plan.ring.dtype, "encode")
    source, target = numbers.reshape(-1), values.reshape(-1)
    if rounding == "stochastic" and rng is None and numbers.dtype.kind == "f":
        rng = system_stream()
    # The comparison with integers is exact for int64 and uint64 only if the bound is an integer too.
    bound = plan.clip if numbers.dtype.kind == "f" else math.floor(plan.clip)
    limit = plan.limit
    buffers = np.empty((2, min(_CHUNK, source.size)))
    clipped = 0
    for start in range(0, source.size, _CHUNK):
        part = source[start : start + _CHUNK]
        with np.errstate(invalid="ignore"):  # NaN is refused below, not warned about
            low, high = part.min().item(), part.max().item()
        # A NaN among the numbers makes both extremes NaN and the comparison false.
        if not (-bound <= low and high <= bound):
            if out_of_range == "raise" or not (math.isfinite(low) and math.isfinite(high)):
                raise _range_error(numbers, bound, out_of_range)
            part, moved = _clip(part, bound)
            clipped += moved
        target_part = target[start : start + _CHUNK]
        if part.dtype.kind != "f":
            # Casts between integers and shifts keep the low bits: arithmetic modulo 2**bits. With as
            # many fractional bits as bits, zero is the only integer within the range.
            np.copyto(target_part, part, casting="unsafe")
            if 0 < plan.frac_bits < plan.bits:
                target_part <<= target_part.dtype.type(plan.frac_bits)
        elif rounding == "stochastic" and rng is not None:
            _stochastic(part, plan, rng, buffers[:, : part.size], target_part)
        elif limit < 1 << 51:
            _nearest(part, plan, buffers[0, : part.size], target_part)
        else:
            _nearest_wide(part, plan, buffers[0, : part.size], target_part)
    return Encoded(values, clipped)


def decode(
    values: RingArray,
    plan: Plan,
    *,
    summands: int | None = None,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Decode ring elements, single numbers or sums, to float64.

    Args:
      values: elements of the plan's ring, any shape.
      plan: as they were encoded.
      summands: how many numbers, counted with their weights, went into each sum; without it, the most
        that the plan allows.
      out: C-contiguous float64 array of the same shape to write to; without it a new array.

    Raises:
      ShapeError: another dtype than the ring's, or an out that does not match.
      RangeError: summands beyond the plan, or elements that are no sum of so many numbers in range.
    """
    most = plan.parties * plan.max_weight
    if summands is None:
        summands = most
    elif not 0 <= summands <= most:
        raise RangeError(
            f"the plan holds sums of weight 0 to {most}, not {summands}; plan for more parties or weight"
        )
    ring = plan.ring
    if values.dtype != ring.dtype:
        raise ShapeError(f"the plan's ring elements come in {ring.dtype}, not {values.dtype}")
    numbers = _output(out, values.shape, np.dtype(np.float64), "decode")
    bound = summands * plan.limit
    unit = math.ldexp(1.0, -plan.frac_bits)
    signed = values.reshape(-1).view(f"i{ring.dtype.itemsize}")
    target = numbers.reshape(-1)
    for start in range(0, signed.size, _CHUNK):
        part = signed[start : start + _CHUNK]
        if int(part.max()) > bound or int(part.min()) < -bound:
            beyond = int(np.count_nonzero(signed > bound) + np.count_nonzero(signed < -bound))
            raise RangeError(
                f"{beyond} of {signed.size} elements are no sum of {summands} numbers within +-{plan.clip}:"
                " a summand was out of range, a mask is left in the sum, or the plans differ"
            )
        target_part = target[start : start + _CHUNK]
        np.copyto(target_part, part)
        target_part *= unit
    return numbers


def _nearest(x: NDArray[Any], plan: Plan, buffer: NDArray[np.float64], out: RingArray) -> None:
    # 1.5 * 2**(52 - f) + x lies in [2**(52 - f), 2**(53 - f)) for |x| * 2**f <= 2**51, where float64
    # numbers are 2**-f apart: the addition itself rounds x to f fractional bits, ties to even, and leaves
    # 2**51 + round(x * 2**f) in the low 52 bits.
    magic = np.float64(math.ldexp(1.5, 52 - plan.frac_bits))
    if x.dtype == np.float64:
        np.add(x, magic, out=buffer)
    else:
        np.copyto(buffer, x)
        buffer += magic
    if plan.bits == 64:
        np.subtract(buffer.view(np.uint64), magic.view(np.uint64), out=out)
    else:
        # 2**51 is zero modulo the ring: its elements are the low parts of the words.
        np.copyto(out, buffer.view(out.dtype)[:: 8 // out.itemsize])


def _nearest_wide(x: NDArray[Any], plan: Plan, buffer: NDArray[np.float64], out: RingArray) -> None:
    # Multiplying by a power of two is exact, and every |x| * 2**f is below 2**63 by the plan.
    np.copyto(buffer, x)
    buffer *= math.ldexp(1.0, plan.frac_bits)
    np.rint(buffer, out=buffer)
    np.copyto(out, buffer.astype(np.int64), casting="unsafe")


def _stochastic(
    x: NDArray[Any], plan: Plan, rng: Stream, buffers: NDArray[np.float64], out: RingArray
) -> None:
    # v = floor(y) + [u < y - floor(y)] with u uniform over the multiples of 2**-53 in [0, 1). Adding u
    # to y itself would round, and be biased for large y.
    fraction, lower = buffers
    np.copyto(fraction, x)
    fraction *= math.ldexp(1.0, plan.frac_bits)
    np.floor(fraction, out=lower)
    fraction -= lower
    words = rng.words(x.size)
    words >>= np.uint64(11)
    lower += words * 2.0**-53 < fraction
    np.copyto(out, lower.astype(np.int64), casting="unsafe")


def _clip(part: NDArray[Any], bound: float) -> tuple[NDArray[Any], int]:
    """Return the numbers moved into +-bound, and how many were."""
    if part.dtype.kind == "f":
        part = part.astype(np.float64)  # a shorter dtype need not hold the bound
    else:
        info = np.iinfo(part.dtype)
        bound = min(int(bound), int(info.max))
        if -bound < info.min:
            moved = int(np.count_nonzero(part > bound))
            return np.minimum(part, bound), moved
    moved = int(np.count_nonzero(part > bound) + np.count_nonzero(part < -bound))
    return np.clip(part, -bound, bound), moved


def _range_error(numbers: NDArray[Any], bound: float, out_of_range: str) -> RangeError:
    flat = numbers.reshape(-1)
    if flat.dtype.kind == "f":
        flat = flat.astype(np.float64, copy=False)
    bad = ~np.isfinite(flat)
    what, mend = "are NaN or infinite", "mend the input"
    if out_of_range == "raise" and not bad.any():
        bad = (flat > bound) | (flat < -bound)
        what = f"lie beyond +-{bound}"
        # Not every caller has `out_of_range` to pass; a shorter dtype need not hold the clip.
        mend = f"plan a larger clip, or move them to it, as by numpy.clip(x.astype(float), -{bound}, {bound})"
    where = np.unravel_index(int(np.argmax(bad)), numbers.shape)
    index = ", ".join(str(int(i)) for i in where)
    count = np.count_nonzero(bad)
    return RangeError(f"{count} of {flat.size} numbers {what}, the first at index [{index}]; {mend}")


def _output(out: NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any], who: str) -> NDArray[Any]:
    if out is None:
        new: NDArray[Any] = np.empty(shape, dtype)
        return new
    if out.dtype != dtype or out.shape != shape or not (out.flags.c_contiguous and out.flags.writeable):
        raise ShapeError(
            f"{who} writes to a C-contiguous {dtype} array of shape {shape}, not {out.dtype} {out.shape}"
        )
    return out


def _check_rounding(rounding: str) -> None:
    if rounding not in ("nearest", "stochastic"):
        raise UsageError(f'rounding is "nearest" or "stochastic", not {rounding!r}')


def _limit(clip: float, frac_bits: int) -> int:
    return math.ceil(Fraction(clip) * (1 << frac_bits))


def _check_arguments(frac_bits: int, clip: float, parties: int, max_weight: int) -> None:
    # numpy's integers are refused: products of theirs would wrap where the plan must be exact.
    for name, value in (("frac_bits", frac_bits), ("parties", parties), ("max_weight", max_weight)):
        if not isinstance(value, int):
            raise UsageError(f"{name} is a Python int, not a {type(value).__name__}")
    if not 0 <= frac_bits <= _MAX_FRAC_BITS:
        raise UsageError(f"frac_bits is 0 to {_MAX_FRAC_BITS}, not {frac_bits}")
    if not (isinstance(clip, float | int) and math.isfinite(clip) and clip > 0):
        raise UsageError(f"clip is a positive number, not {clip}")
    if parties < 1 or max_weight < 1:
        raise UsageError(f"parties and max_weight are at least 1, not {parties} and {max_weight}")


def _refusal(plan: Plan) -> str:
    most = (1 << (plan.bits - 1)) - 1
    weight = plan.parties * plan.max_weight
    each = plan.limit.bit_length() + 1
    who = f"{plan.parties} parties" + (
        f" with weights up to {plan.max_weight}" if plan.max_weight > 1 else ""
    )
    message = (
        f"frac_bits={plan.frac_bits} with clip={plan.clip} takes {each} bits a number and leaves"
        f" {max(0, plan.bits - each)} of {plan.bits} for {who}, who need {plan.sum_bits - each}"
    )
    fewer = range(plan.frac_bits - 1, -1, -1)
    fits = next((f for f in fewer if weight * _limit(plan.clip, f) <= most), None)
    options = []
    if fits is not None:
        options.append(f"use frac_bits <= {fits} (precision >= {math.ldexp(1.0, -fits - 1)})")
    largest = most // weight
    if largest:
        largest -= largest % (1 << max(0, largest.bit_length() - 53))  # round down to a float64
        options.append(f"clip <= {math.ldexp(largest, -plan.frac_bits)}")
    if not options:
        options.append("use fewer parties, smaller weights or a smaller clip")
    if plan.sum_bits <= 64:
        options.append(f"bits={next(b for b in _RING_BITS if plan.sum_bits <= b)}")
    return f"{message}; {' or '.join(options)}"
