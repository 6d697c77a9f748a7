"""Randomizers: random n^s-th residues, from a table of powers of one base.

[DJN10]: h_s^a, with h_s = h^(n^s) modulo n^(s+1) and a random a of L bits, takes the place of r^(n^s). In windows of w
bits a = sum of a_i 2^(w i), and h_s^a is the product of entries T[i][a_i] = h_s^(a_i 2^(w i)): L / w products.

    |n| = 3072, s = 1, L = 1536     w = 10: 154 products, table 128 MB, built by 157,000 products
                                    w = 8:  192 products, table  40 MB, built by  49,000
                                    w = 6:  256 products, table  13 MB, built by  16,000

(s + 1) / 2 times as much memory for larger s. How large a table pays depends on the machine's memory, which `table_speed`
measures once. Which entries are read depends on a. A program that shares the caches of this
machine can learn of it; such programs are out of scope.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Protocol

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from secagg.errors import UsageError
from secagg.he.paillier import table_speed
from secagg.he.paillier.residues import Digits
from secagg.he.paillier.workers import in_parts
from secagg.prg import Stream

LARGEST_GROWN_WINDOW: Final = 10  # memory doubles with each bit, for less and less time saved
MAX_WINDOW: Final = 14


class RandomizerSource(Protocol):
    """Where the randomizers of one key come from; `pool.RandomizerPool` is one."""

    @property
    def key_id(self) -> bytes:
        """Whose randomizers they are: the id of the public key."""

    def take(self, count: int) -> Digits:
        """Return randomizers that nobody has had before, in digits."""


class FixedBase:
    """A table of powers of one base.

    Args:
      base: 0 < base < modulus.
      modulus: of all arithmetic.
      exponent_bits: the longest exponent.
      window: bits of an exponent that one entry stands for, 1 to 14.
      executor: threads to build the table with.

    Raises:
      UsageError: a window out of range.
    """

    __slots__ = ("_rows", "modulus", "window")

    def __init__(
        self,
        base: mpz,
        modulus: mpz,
        exponent_bits: int,
        window: int,
        *,
        executor: Executor | None = None,
    ) -> None:
        if not 1 <= window <= MAX_WINDOW:
            raise UsageError(f"a window has 1 to {MAX_WINDOW} bits, not {window}")
        self.modulus, self.window = modulus, window
        widths = [min(window, exponent_bits - start) for start in range(0, exponent_bits, window)]
        bases = [base]
        for width in widths[:-1]:
            power = bases[-1]
            for _ in range(width):
                power = power * power % modulus
            bases.append(power)

        def build(start: int, stop: int) -> list[list[mpz]]:
            return [self._row(bases[i], 1 << widths[i]) for i in range(start, stop)]

        self._rows = [row for part in in_parts(build, len(widths), executor) for row in part]

    def _row(self, base: mpz, entries: int) -> list[mpz]:
        modulus, power = self.modulus, mpz(1)
        row = [power]
        for _ in range(entries - 1):
            power = power * base % modulus
            row.append(power)
        return row

    def power(self, windows: list[int]) -> mpz:
        """Return base^a for an exponent cut by `cut`."""
        modulus = self.modulus
        entries = zip(self._rows, windows, strict=True)
        row, a = next(entries)
        power = row[a]
        for row, a in entries:
            power = power * row[a] % modulus
        return power

    def powers(self, windows: list[list[int]], executor: Executor | None) -> list[mpz]:
        """Return base^a for exponents cut by `cut`."""

        def part(start: int, stop: int) -> list[mpz]:
            return [self.power(w) for w in windows[start:stop]]

        return [power for powers in in_parts(part, len(windows), executor) for power in powers]


class GrowingBase:
    """A `FixedBase` whose table is as large as pays for the powers taken so far, and made anew when that is more.

    Args:
      base: returns 0 < base < modulus.
      modulus: of all arithmetic.
      exponent_bits: the longest exponent.
    """

    __slots__ = ("_base", "_drawn", "_exponent_bits", "_modulus", "_pinned", "_table")

    def __init__(self, base: Callable[[], mpz], modulus: mpz, exponent_bits: int) -> None:
        self._base, self._modulus, self._exponent_bits = base, modulus, exponent_bits
        self._table: FixedBase | None = None
        self._drawn, self._pinned = 0, False

    def prepare(self, window: int | None, executor: Executor | None) -> None:
        """Make the table with this window, or with the one that is fastest on this machine, and keep it."""
        window = self._best_window(math.inf) if window is None else window
        if self._table is None or self._table.window != window:
            self._table = self._made(window, executor)
        self._pinned = True

    def powers(self, exponents: NDArray[np.uint8], executor: Executor | None) -> list[mpz]:
        """Return base^a for exponents as `draw_exponents` draws them."""
        self._drawn += len(exponents)
        table, window = self._table, self._best_window(self._drawn)
        # Each growth makes a table at least 4 times as large: all together take a third more than the last one.
        if table is None or (window >= table.window + 2 and not self._pinned):
            table = self._table = self._made(window, executor)
        return table.powers(cut(exponents, self._exponent_bits, table.window), executor)

    def _made(self, window: int, executor: Executor | None) -> FixedBase:
        return FixedBase(self._base(), self._modulus, self._exponent_bits, window, executor=executor)

    def _best_window(self, drawn: float) -> int:
        """Return the window with which the table and so many powers take least time."""
        bits, modulus = self._exponent_bits, self._modulus
        windows = range(1, LARGEST_GROWN_WINDOW + 1)

        def products(window: int, entry: float = 1.0) -> float:
            return -(-bits // window) * (entry if math.isinf(drawn) else (1 << window) + drawn * entry)

        def size(window: int) -> int:
            return table_speed.table_bytes(bits, window, modulus)

        best = min(windows, key=products)
        if size(best) <= 1e6 * table_speed.FITS:  # then nothing need be measured
            return best
        return min(windows, key=lambda w: products(w, table_speed.slowdown(size(w), modulus)))


def draw_exponents(count: int, bits: int, rng: Stream) -> NDArray[np.uint8]:
    """Return numbers uniform in 0 .. 2^bits - 1, a row of little-endian bytes each; draws ceil(bits / 8) each."""
    exponents = np.empty((count, -(-bits // 8)), np.uint8)
    rng.fill(exponents)
    if bits % 8:
        exponents[:, -1] &= np.uint8((1 << bits % 8) - 1)
    return exponents


def cut(exponents: NDArray[np.uint8], bits: int, window: int) -> list[list[int]]:
    """Return exponents in windows, the lowest first."""
    digits = np.unpackbits(exponents, axis=1, bitorder="little", count=bits)
    digits = np.pad(digits, ((0, 0), (0, -bits % window)))
    weights = np.left_shift(1, np.arange(window, dtype=np.uint16), dtype=np.uint16)
    windows: list[list[int]] = (digits.reshape(len(exponents), -1, window) @ weights).tolist()
    return windows


def draw_below(n: mpz, count: int, rng: Stream) -> list[mpz]:
    """Return numbers uniform in 1 .. n - 1, by rejection."""
    bits = int(n.bit_length())
    found: list[mpz] = []
    while len(found) < count:
        rows = draw_exponents(count - len(found), bits, rng)
        drawn = (mpz.from_bytes(row.tobytes(), "little") for row in rows)
        found += [value for value in drawn if 0 < value < n]
    return found


def random_base(n: mpz, rng: Stream) -> mpz:
    """Return h = -x^2 modulo n for a random x coprime to n [DJN10]."""
    while True:
        x = draw_below(n, 1, rng)[0]
        if gmpy2.gcd(x, n) == 1:
            return -x * x % n
