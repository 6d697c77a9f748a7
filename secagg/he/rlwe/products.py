"""Exact products modulo X^N + 1 and 2^w of a polynomial by a small one, by float64 transforms of limbs.

One factor, a, has coefficients modulo 2^w and is cut into L signed limbs of l bits, |limb| <= 2^(l-1); the other,
s, is ternary. Each limb's product is one convolution of N/2 complex numbers [BPZ07 Theorem 5.1, Per03]; with
u = 2^-53, N = 2^(k+1), roots of unity inside the transform good to 9u and weights to 5u, its error is at most

    E = |limb|_2 |s|_2 ((1+u)^3k (1+sqrt5 u)^(3k+4) (1+9u)^3k (1+5u)^3 - 1),  |limb|_2 |s|_2 <= 2^(l-1) N

    limbs of    E at N = 4096    E at N = 8192
    32 bits     0.42             0.91
    26 bits     0.0065           0.014

So N = 4096 takes limbs of 32 bits and N = 8192 limbs of 26. **Every** product is checked as it is computed:
all results must lie within 1/4 of an integer, or `InexactError` is raised. Since E + 1/4 < 1, a result
that passes has been rounded to the right integer. With s the sum of two keys, E would be 0.84 for limbs of 32
bits and the check would prove nothing: keys are multiplied one by one.

The check costs one pass. Adding 1.5 * 2^51 rounds results to halves, and leaves twice the number in the low bits of the
sum. The lowest bit of all of them, or-ed together, is 0 if and only if each lies within 1/4 of an integer. Limbs and s
bound every result by 2^(l-1) N + 1 < 2^50. So the sum is exact to a half, and the lowest bit means what it should. NaN
and infinity show in the bits of the exponent.

Coefficients are in stored order (see `polynomials`), which is how complex numbers lie in memory.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import InexactError
from secagg.he.rlwe.fourier import ROWS, inverse, multiply_rows, transform, weights
from secagg.he.rlwe.parameters import Parameters
from secagg.he.rlwe.polynomials import Polynomials, Words
from secagg.threads import helping

Transformed = NDArray[np.complex128]
NOISE_OFFSET: Final = 21  # noise comes as 0..42, see `sampling.noise_counts`

_HALVES: Final = 1.5 * 2.0**51
_BITS: Final = int(np.array(_HALVES).view(np.uint64))
# What half the bits of 1.5 * 2^51 are as an integer: it comes out on top of every rounded number. Its lowest 48
# bits are zero and it is divisible by 2^50, which is why it vanishes from all upper limbs; see `_magic`.
_TOP: Final = _BITS >> 1


def batch_blocks(parameters: Parameters) -> int:
    """Return how many polynomials are worked on at a time: calls cost little, and the last-level cache holds them."""
    return (1 << 16) // parameters.degree


class Workspace:
    """Memory for products of up to `blocks` polynomials; holds secrets between uses.

    Not to be used by two threads at once. It is kept and used again, because the system takes as long to give out new
    memory as the products take. What is never written to takes none.

    Attributes:
      words: polynomials, for results that are not kept.
      ternary: int8, shape (blocks, N), for `sampling`.
      counts: uint64, shape (2, blocks, N), zeros at first. The second half stays zero but for the lowest byte of each word.
    """

    __slots__ = ("_coins", "_limbs", "_small", "blocks", "counts", "parameters", "ternary", "words")

    def __init__(self, parameters: Parameters, blocks: int) -> None:
        size = blocks * parameters.degree
        self.parameters, self.blocks = parameters, blocks
        self._small: Transformed = np.empty((blocks, parameters.degree // 2), np.complex128)
        self._limbs: Transformed = np.empty(parameters.limbs * size, np.complex128)
        self.words = Polynomials.empty(parameters, blocks)
        self.ternary = np.empty((blocks, parameters.degree), np.int8)
        self.counts = np.zeros((2, blocks, parameters.degree), np.uint64)
        self._coins = np.empty(2 * size, np.uint64)

    @classmethod
    def taken_from(cls, kept: list[Workspace], parameters: Parameters, blocks: int) -> Workspace:
        """Return one of the kept workspaces, now the caller's own, or a new one; to be put back after use."""
        try:
            work = kept.pop()  # atomic, as is adding to a list: no two threads get the same
        except IndexError:
            return cls(parameters, blocks)
        return work if work.blocks >= blocks else cls(parameters, blocks)

    def __repr__(self) -> str:
        return f"<workspace of {self.blocks} blocks of {self.parameters.name}>"

    def coins(self, *outer: int) -> NDArray[np.uint64]:
        """Return memory for up to two words a coefficient, shape (*outer, N), that holds anything."""
        shape = (*outer, self.parameters.degree)
        return self._coins[: math.prod(shape)].reshape(shape)

    def load_small(self, values: NDArray[np.int8]) -> Transformed:
        """Return the transforms of small polynomials; overwritten by the next call.

        Args:
          values: -1, 0 or 1, shape (rows, N), rows <= blocks.
        """
        z = self._small[: len(values)]
        _transform_small(values, z)
        return z

    def multiply_keys(
        self, keys: Transformed, small: Transformed, out: Words, noise: NDArray[np.uint64] | None = None
    ) -> None:
        """Write key * small + noise - 21 (without noise: key * small) for each key and small polynomial.

        Args:
          keys: from `transform_keys`, of at most two polynomials.
          small: from `load_small`, shape (rows, N/2).
          out: words of shape (keys, rows, N), the lowest first.
          noise: shape (keys, rows, N): 0..42 as `sampling.noise_counts` makes it, plus anything that is to be added.

        Raises:
          InexactError: see there.
        """
        limbs, count, _, half = keys.shape
        z = self._limbs[: limbs * count * small.size].reshape(limbs, count, len(small), half)
        multiply_rows(small, keys, z)
        _recombine(self._doubled(z, noise is not None), self.parameters, out, noise)

    def multiply(self, a: Polynomials, small: Transformed, out: Polynomials) -> None:
        """Write a * small for each polynomial of a.

        Args:
          a: up to `blocks` polynomials; not `words`.
          small: one polynomial, from `transform_secret`.
          out: as many polynomials; may be a, or `words`.

        Raises:
          InexactError: see there.
        """
        shape = (self.parameters.limbs, a.blocks, self.parameters.degree // 2)
        z = self._limbs[: math.prod(shape)].reshape(shape)
        _cut(a, list(z), self.words.rows(0, a.blocks))
        multiply_rows(z, weights(self.parameters.degree).forward, z)
        transform(z)
        multiply_rows(z, small, z)
        _recombine(self._doubled(z, False), self.parameters, out.words, None)

    def _doubled(self, z: Transformed, noisy: bool) -> NDArray[np.uint64]:
        """Transform back, round, check, and return twice the integers plus `_BITS` and an offset, in place; limbs first."""
        inverse(z)
        multiply_rows(z, weights(self.parameters.degree).backward, z)
        numbers = z.view(np.float64).reshape(len(z), -1)
        np.add(numbers, _magic(self.parameters, noisy), out=numbers)
        doubled = z.view(np.uint64)
        (seen,) = np.bitwise_or.reduce(doubled.reshape(-1), keepdims=True).tolist()
        if seen & 1 or seen >> 52 != _BITS >> 52:
            raise InexactError(
                f"a product modulo X^{self.parameters.degree} + 1 was not within 1/4 of integers; this machine's "
                "arithmetic or numpy's transform is faulty: nothing was encrypted or decrypted"
            )
        return doubled


def transform_secret(values: NDArray[np.int8], parameters: Parameters) -> Transformed:
    """Return what `multiply` takes of one ternary polynomial, shape (ROWS, N/2)."""
    z = np.empty((1, parameters.degree // 2), np.complex128)
    _transform_small(values.reshape(1, -1), z)
    # Divides by the length here, once, instead of in each inverse transform: exact, for it is a power of two.
    z *= 2.0 / parameters.degree
    return np.tile(z, (ROWS, 1))


def transform_keys(keys: Sequence[Polynomials]) -> Transformed:
    """Return what `multiply_keys` takes of polynomials, one each, shape (limbs, keys, ROWS, N/2)."""
    p = keys[0].parameters
    z = np.empty((p.limbs, len(keys), 1, p.degree // 2), np.complex128)
    for i, key in enumerate(keys):
        _cut(key, list(z[:, i]), Polynomials.empty(p, 1))
    multiply_rows(z, weights(p.degree).forward, z)
    transform(z)
    z *= 2.0 / p.degree
    return np.tile(z, (1, 1, ROWS, 1))


def _transform_small(values: NDArray[np.int8], out: Transformed) -> None:
    np.copyto(out.view(np.float64), values)
    multiply_rows(out, weights(values.shape[-1]).forward, out)
    transform(out)


@functools.cache  # one entry a set, and with and without noise
def _magic(parameters: Parameters, noisy: bool) -> NDArray[np.float64]:
    """Return, by limb, 1.5 * 2^51 plus what makes its own bits and the noise's offset vanish from the result.

    Rounded limb i, halved, is x_i + C + offset with C = `_TOP`. The lowest limb carries C >> l into the next; that one is
    given -(C >> l), so that it carries C >> l again, and so on. What is left in the result is multiplied by 2^l
    or more and by C, whose lowest 50 bits are zero: it vanishes modulo 2^64 for l = 26 and 32, in either word.
    """
    magic = np.full((parameters.limbs, 1), _HALVES - (_TOP >> parameters.limb_bits))
    magic[0] = _HALVES - (NOISE_OFFSET if noisy else 0)
    magic.setflags(write=False)
    return magic


def _cut(a: Polynomials, out: list[Transformed], scratch: Polynomials) -> None:
    """Write the signed limbs of each coefficient, as float64.

    With half of 2^l added at each limb but the top one, the digits of l bits are the limbs plus 2^(l-1). Flipping their
    upper bits then makes two's complement of them. The lowest 32 bits of a word are such a limb as they are.
    """
    bits, limbs = a.parameters.limb_bits, a.parameters.limbs
    halves = sum(1 << (bits * i + bits - 1) for i in range(limbs - 1))
    numbers = [z.view(np.float64) for z in out]
    under, low = np.uint64(halves & (2**64 - 1)), scratch.low
    np.add(a.low, under, out=low)
    if a.high is None or scratch.high is None:
        np.copyto(numbers[0], a.low.view(np.int32)[:, 0::2])
        np.copyto(numbers[1], low.view(np.int32)[:, 1::2])
        return
    above, high = scratch.high.dtype.type(halves >> 64), scratch.high
    np.add(a.high, above, out=high)
    np.add(high, np.less(low, under), out=high)
    np.bitwise_xor(high, above, out=high)
    np.bitwise_xor(low, under, out=low)
    if bits == 32:
        digits = low.view(np.int32)
        np.copyto(numbers[0], digits[:, 0::2])
        np.copyto(numbers[1], digits[:, 1::2])
        np.copyto(numbers[2], high.view(np.int32))
        return
    # A digit is moved to the top, and down again with its sign. The third lies across both words.
    signed = high.view(np.int64)
    integers = [z.view(np.int64) for z in out]
    for i, word, up in ((0, low, 38), (1, low, 12), (2, high, 50), (3, high, 24)):
        np.left_shift(word, up, out=integers[i].view(np.uint64))
        np.right_shift(integers[i], 38, out=integers[i])
    np.right_shift(low, 52, out=low)
    np.bitwise_or(integers[2], low.view(np.int64), out=integers[2])
    np.right_shift(signed, 40, out=integers[4])
    for number, integer in zip(numbers, integers, strict=True):
        np.copyto(number, integer)


def _recombine(
    x: NDArray[np.uint64], parameters: Parameters, out: Words, noise: NDArray[np.uint64] | None
) -> None:
    """Write the sum of the limbs x_i 2^(i l) and the noise, modulo 2^w, from twice the x_i; overwrites x.

    The low word is what the sum leaves modulo 2^64. What it carries into the high word comes from adding the
    upper part of each limb to the next, with sign. Left shifts and sums wrap, which is meant.
    """
    bits, low = parameters.limb_bits, out[0]
    np.right_shift(x[0], 1, out=x[0])
    if noise is not None:
        np.add(x[0], noise, out=x[0])
    np.left_shift(x[1], bits - 1, out=low)
    np.add(low, x[0], out=low)
    if len(out) == 1:
        return
    high = out[1]
    np.right_shift(x[1:3], 1, out=x[1:3])
    _carry(x[0], x[1], bits)
    if bits == 32:
        _carry(x[1], x[2], bits)
        np.copyto(high, x[2], casting="unsafe")
        return
    np.left_shift(x[2], 52, out=x[0])
    np.add(low, x[0], out=low)
    _carry(x[1], x[2], bits)
    np.right_shift(x[2].view(np.int64), 12, out=high.view(np.int64))
    for limb, shift in ((x[3], 13), (x[4], 39)):  # one less: they are still doubled
        np.left_shift(limb, shift, out=limb)
        np.add(high, limb, out=high)


def _carry(lower: NDArray[np.uint64], upper: NDArray[np.uint64], bits: int) -> None:
    carry = lower.view(np.int64)
    np.right_shift(carry, bits, out=carry)
    np.add(upper, lower, out=upper)


def multiply(a: Polynomials, small: Transformed, *, executor: Executor | None = None) -> Polynomials:
    """Return a * s for each polynomial of a, s being one ternary polynomial; see `transform_secret`.

    Args:
      a: blocks of polynomials.
      small: from `transform_secret`.
      executor: threads to share the work.

    Raises:
      InexactError: see there.
    """
    out = Polynomials.empty(a.parameters, a.blocks)
    step = batch_blocks(a.parameters)
    starts = range(0, a.blocks, step)

    def run(batches: range) -> None:
        work = Workspace(a.parameters, min(step, a.blocks))
        for start in batches:
            work.multiply(a.rows(start, start + step), small, out.rows(start, start + step))

    share(run, starts, executor)
    return out


def share(run: Callable[[range], None], batches: range, executor: Executor | None) -> None:
    """Do a range of batches, in this thread or as several parts on an executor's."""
    if executor is None or len(batches) < 2:
        run(batches)
        return
    parts = min(len(batches), 8)
    cuts = [len(batches) * i // parts for i in range(parts + 1)]
    for _ in helping(executor).map(run, [batches[a:b] for a, b in itertools.pairwise(cuts)]):
        pass
