"""Exact samples of a log-concave distribution over the integers, a table and a comparison each, by rejection.

The integers are cut into bins of m = 2^j numbers, counted from the mode. In a bin the weight f is largest at the edge
that looks at the mode. Bin b has the integer weight W_b >= S m f(edge); beyond the last bins, where f has fallen below
2^-64, lie two tails. All weights together are 2^64.

  1. A word chooses the bin, so that b comes with probability W_b / 2^64; j bits choose x in it.
  2. A second word v stands for the number (v + u) / 2^64, u uniform in [0, 1). x is kept if that number is below
     A(x) = S m f(x) / W_b, which is at most 1.

So x is the result of one attempt with probability (W_b / 2^64) (1 / m) A(x) = S f(x) / 2^64: proportional to f(x),
**exactly**, whatever the W_b and S are. In a tail, x = edge + T i + low with T numbers in a step, f(edge + T) <= f(edge)
/ 2, and i heads before the first tail of fair coins. As f is log-concave, f(x) <= f(edge) / 2^i. The same holds with
2^(i+1) T in place of m.

Step 2 is decided in integers for almost all x. Let P = 2^64 A(edge), t = low / m, r = ln f(edge) - ln f(next edge),
and d = ln f(edge) - ln f(the number beside the edge). By log-concavity ln f falls by at most t r and by at least
low d from the edge to x. With exp(-z) >= 1 - z, and exp(-z) <= 1 - z + z^2 / 2 <= 1 - z (1 - z' / 2) for z <= z',

    P - low P r / m  <=  2^64 A(x)  <=  P - low P d (1 - (m - 1) d / 2).

With integers rounded outwards, a word below the left side is kept and one above the right side is not. About one in 1,000
lies between. It is decided by evaluating f(x) to as many places as it takes; further digits of u are drawn where v alone
does not tell. No float64 is used at all.

What time reveals: the number of attempts is independent of the sample's value. The evaluation of f(x) is more frequent for
some values than for others, and takes a tenth of a millisecond. Whoever times the drawing of single samples learns
something about them (soundness-dp.md, section 2.4).
"""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg.dp.distributions import DIGITS, Distribution, context
from secagg.prg import Stream

__all__ = ["RejectionSampler"]

_WORD: Final = 1 << 64
_CHUNK: Final = 1 << 16  # samples per step: the passes of a step run in the second-level cache
_BINS_PER_SPREAD_BITS: Final = 5  # 16 to 31 bins a standard deviation
_LOG_CUT: Final = Decimal(-45)  # below -64 ln 2: bins end, tails begin
_LOG_HALF: Final = Decimal("-0.69314719")  # below ln(1/2)
_INFINITE: Final = Decimal("Infinity")
_UP: Final = Decimal(
    "1." + "0" * 24 + "1"
)  # covers the errors of ln f, below 10^-DIGITS, and of differences of it
_DOWN: Final = Decimal("0." + "9" * 25)
_PLACES: Final = 100  # of what is computed from f, so that only the error of ln f counts


class _Bin(NamedTuple):
    """A bin or a tail.

    Attributes:
      edge: the number nearest the mode.
      sign: of the direction away from it.
      log: ln f(edge).
      drop: ln f(edge) - ln f(next edge); infinite where the distribution ends within the bin, or for a tail.
      first_drop: ln f(edge) - ln f(edge + sign); 0 where that is not needed.
      step_bits: of a tail, log2 T; None for a bin.
    """

    edge: int
    sign: int
    log: Decimal
    drop: Decimal
    first_drop: Decimal
    step_bits: int | None = None


class RejectionSampler:
    """A sampler of one distribution; immutable, and may be used by several threads with a stream each.

    Args:
      distribution: log-concave, with |mode| + 10 spread below 2**62.
    """

    __slots__ = (
        "_bin_bits",
        "_bins",
        "_cumulative",
        "_distribution",
        "_edges",
        "_highs",
        "_lows",
        "_rises",
        "_scale",
        "_signs",
        "_slopes",
        "_weights",
    )

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution
        self._bin_bits = max(0, distribution.spread.bit_length() - _BINS_PER_SPREAD_BITS)
        self._bins = [*self._side(distribution.mode, 1), *self._side(distribution.mode - 1, -1)]
        ctx = context(_PLACES)
        sizes = [1 << self._bin_bits if b.step_bits is None else 2 << b.step_bits for b in self._bins]
        masses = [
            ctx.multiply(Decimal(size), ctx.exp(b.log)) for size, b in zip(sizes, self._bins, strict=True)
        ]
        # Rounding up costs each bin less than 2; what remains of 2^64 goes to the first, which is the mode's.
        spare = 4 * len(masses)
        total = ctx.multiply(functools.reduce(ctx.add, masses), _UP)
        self._scale = int(ctx.divide(Decimal(_WORD - spare), total))
        self._weights = [
            int(ctx.multiply(ctx.multiply(Decimal(self._scale), mass), _UP)) + 1 for mass in masses
        ]
        self._weights[0] += _WORD - sum(self._weights)
        bounds = [self._bounds(b, w) for b, w in zip(self._bins, self._weights, strict=True)]
        self._cumulative = np.add.accumulate(np.array(self._weights[:-1], np.uint64))
        self._edges = np.array([b.edge for b in self._bins], np.int64)
        self._signs = np.array([b.sign for b in self._bins], np.int64)
        self._lows, self._slopes, self._highs, self._rises = np.array(bounds, np.uint64).T.copy()

    def draw(self, count: int, rng: Stream) -> NDArray[np.int64]:
        """Return independent samples, shape (count,); one beyond int64 would be taken modulo 2**64."""
        out = np.empty(count, np.int64)
        done = 0
        while done < count:
            kept = self._attempt(min(_CHUNK, count - done), rng)
            out[done : done + kept.size] = kept
            done += kept.size
        return out

    def _attempt(self, n: int, rng: Stream) -> NDArray[np.int64]:
        bins = np.searchsorted(self._cumulative, rng.words(n), side="right")
        words = rng.words(n)
        x = self._edges[bins]
        if self._bin_bits:
            low = rng.ring(n, self._bin_bits).astype(np.uint64)
            x += self._signs[bins] * low.view(np.int64)
            # Neither difference wraps: `_bounds` sees to it.
            kept: NDArray[np.bool_] = words < self._lows[bins] - low * self._slopes[bins]
            unclear = ~kept & (words <= self._highs[bins] - low * self._rises[bins])
        else:
            kept = words < self._lows[bins]
            unclear = ~kept & (words <= self._highs[bins])
        for i in np.flatnonzero(unclear).tolist():
            value, kept[i] = self._decide(int(bins[i]), int(x[i]), int(words[i]), rng)
            x[i] = (value + (1 << 63)) % _WORD - (1 << 63)
        return x[kept]

    def _decide(self, number: int, x: int, word: int, rng: Stream) -> tuple[int, bool]:
        """Return the number that was chosen, and whether it is kept."""
        bin_ = self._bins[number]
        size = 1 << self._bin_bits
        if bin_.step_bits is not None:
            heads = 0
            while int(rng.words(1)[0]) & 1:
                heads += 1
            low = rng.below(1 << bin_.step_bits, 1)
            x = bin_.edge + bin_.sign * ((heads << bin_.step_bits) + int(low[0]))
            size = 2 << (bin_.step_bits + heads)
        bits, digits = 64, DIGITS
        while True:
            log = self._distribution.log_weight(x, digits)
            if log is None:
                return x, False
            ctx = context(digits + 8)
            factor = ctx.divide(Decimal(size * self._scale << bits), Decimal(self._weights[number]))
            threshold = ctx.multiply(factor, ctx.exp(log))
            # ln f errs by 10^-digits, so f by less than twice that, relatively; the few roundings by 10^-7 of it.
            error = ctx.multiply(threshold, Decimal(4).scaleb(-digits))
            if word >= ctx.add(threshold, error):
                return x, False
            if word + 1 <= ctx.subtract(threshold, error):
                return x, True
            word = word << 64 | int(rng.words(1)[0])
            bits, digits = bits + 64, digits + 20

    def _bounds(self, bin_: _Bin, weight: int) -> tuple[int, int, int, int]:
        """Return integers with low - x * slope <= 2**64 A <= high - x * rise, x from the bin's edge."""
        if bin_.step_bits is not None:
            return 0, 0, _WORD - 1, 0
        ctx = context(_PLACES)
        m = 1 << self._bin_bits
        p = ctx.divide(Decimal(_WORD * self._scale * m), Decimal(weight))
        p = ctx.multiply(p, ctx.exp(bin_.log))
        low, high = int(ctx.multiply(p, _DOWN)), min(_WORD - 1, int(ctx.multiply(p, _UP)) + 1)
        slope = rise = 0
        if m > 1:
            if bin_.drop.is_finite():
                slope = int(ctx.multiply(ctx.divide(ctx.multiply(p, bin_.drop), Decimal(m)), _UP)) + 1
            if not bin_.drop.is_finite() or (m - 1) * slope > low:
                low = slope = 0
            d = bin_.first_drop
            bend = ctx.subtract(Decimal(1), ctx.divide(ctx.multiply(Decimal(m - 1), d), Decimal(2)))
            rise = max(0, int(ctx.multiply(ctx.multiply(p, ctx.multiply(d, bend)), _DOWN)) - 1)
            rise = min(rise, high // (m - 1))
        return low, slope, high, rise

    def _side(self, start: int, sign: int) -> list[_Bin]:
        """Return the bins from one number on outwards, and the tail behind them where the distribution goes on."""
        distribution, m, ctx = self._distribution, 1 << self._bin_bits, context(_PLACES)
        bins: list[_Bin] = []
        edge, log = start, distribution.log_weight(start, DIGITS)
        while log is not None and log >= _LOG_CUT:
            after = distribution.log_weight(edge + sign * m, DIGITS)
            beside = distribution.log_weight(edge + sign, DIGITS) if m > 1 else None
            drop = _INFINITE if after is None else ctx.subtract(log, after)
            first_drop = Decimal(0) if beside is None else ctx.subtract(log, beside)
            bins.append(_Bin(edge, sign, log, drop, first_drop))
            edge, log = edge + sign * m, after
        if log is None:
            return bins
        step_bits = self._bin_bits
        while True:
            further = distribution.log_weight(edge + (sign << step_bits), DIGITS)
            if further is None or ctx.subtract(further, log) <= _LOG_HALF:
                return [*bins, _Bin(edge, sign, log, _INFINITE, Decimal(0), step_bits)]
            step_bits += 1
