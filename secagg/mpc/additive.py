"""Additive secret sharing among n parties modulo 2**k, all shares but one compressed to seeds.

x = x_0 + ... + x_{n-1} modulo 2**k. All shares but the last are what a 32-byte seed expands to by AES-256-CTR, so they cost
32 bytes whatever their length. The last is the difference [CB17 compresses shares so].

Privacy: without one of the seeds the other n - 1 shares are independent of x as long as AES-256-CTR is a pseudorandom
generator. Without the difference they do not depend on x at all. Seeds are drawn afresh for every
secret, and a seed expands to one mask alone: no mask is used twice.
Adding shares element by element adds the secrets; so does multiplying them by public numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from secagg.errors import ShapeError, UsageError
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.ring import Ring, RingArray

SEED_BYTES: Final = KEY_BYTES
_LABEL: Final = "secagg.mpc.additive/share"
_CHUNK_BYTES: Final = 1 << 17  # masks are expanded and added in the second-level cache
_TOGETHER: Final = 64  # seeds whose streams are open at the same time


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Seed:
    """A share of any shape, as the 32 secret bytes that it expands from.

    Raises:
      ShapeError: another length.
    """

    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) != SEED_BYTES:
            raise ShapeError(f"expected a seed of {SEED_BYTES} bytes, got {len(self.key)}")

    def __repr__(self) -> str:
        return "<Seed>"


Share: TypeAlias = Seed | RingArray


def share(x: RingArray, n: int, ring: Ring, rng: Stream) -> tuple[list[Seed], RingArray]:
    """Return the n shares of x: n - 1 seeds, and the difference that makes the sum x.

    Args:
      x: dtype of the ring, any shape, elements below 2**bits; not changed.
      n: number of shares, at least 2.
      rng: where the seeds come from; draws 32 * (n - 1) bytes.

    Returns the seeds and an array of x's shape, elements below 2**bits.

    Raises:
      UsageError: fewer than 2 shares.
      ShapeError, RangeError: x does not hold elements of the ring.
    """
    if n < 2:
        raise UsageError(f"expected at least 2 shares, got {n}; a single share is the secret itself")
    ring.check(x)
    seeds = [Seed(rng.bytes(SEED_BYTES)) for _ in range(n - 1)]
    rest: RingArray = np.empty(x.shape, ring.dtype)
    _combine(np.subtract, np.ascontiguousarray(x), seeds, ring, rest)
    return seeds, rest


def expand(share: Share, shape: tuple[int, ...], ring: Ring) -> RingArray:
    """Return a share as an array: what the seed stands for, or the array itself.

    Raises:
      ShapeError, RangeError: an array of another shape, or that does not hold elements of the ring.
    """
    if isinstance(share, Seed):
        return reconstruct([share], shape, ring)
    _check_shape(share, shape)
    ring.check(share)
    return share


def reconstruct(shares: Sequence[Share], shape: tuple[int, ...], ring: Ring) -> RingArray:
    """Return the sum of shares, as a new array of the given shape, elements below 2**bits.

    Of all shares of a secret, or of a sum of secrets, that is the secret; of some of them, one share that
    stands for them.

    Raises:
      ShapeError: an array of another shape or dtype.
    """
    seeds, arrays = [], []
    for one in shares:
        if isinstance(one, Seed):
            seeds.append(one)
            continue
        _check_shape(one, shape)
        if one.dtype != ring.dtype:
            raise ShapeError(f"expected a share of {ring.dtype}, got {one.dtype}")
        arrays.append(one)
    if len(arrays) == 1 and seeds:
        total: RingArray = np.empty(shape, ring.dtype)
        _combine(np.add, np.ascontiguousarray(arrays[0]), seeds, ring, total)
        return total
    total = np.zeros(shape, ring.dtype)
    for one in arrays:
        total += one  # wraps, which is meant
    _combine(np.add, total, seeds, ring, total)
    return ring.reduce(total, out=total)


def _check_shape(values: RingArray, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ShapeError(f"expected a share of shape {shape}, got {values.shape}")


def _combine(operation: np.ufunc, x: RingArray, seeds: Sequence[Seed], ring: Ring, out: RingArray) -> None:
    """Write x with the seeds' masks added or subtracted, reduced; out may be x, and both are C-contiguous.

    Sums wrap at the dtype's own power of two, of which 2**bits is a divisor. The masks of up to `_TOGETHER` seeds cost one
    pass over the arrays, for a chunk stays in the cache until it has all of them.
    """
    source, target = x.reshape(-1), out.reshape(-1)
    step = _CHUNK_BYTES // out.itemsize
    buffer = np.empty(min(step, target.size), out.dtype)
    for first in range(0, len(seeds), _TOGETHER):
        streams = [Stream(derive_key(s.key, label=_LABEL)) for s in seeds[first : first + _TOGETHER]]
        for start in range(0, target.size, step):
            before, part = source[start : start + step], target[start : start + step]
            mask = buffer[: part.size]
            for stream in streams:
                stream.fill(mask)
                operation(before, mask, out=part)
                before = part
            ring.reduce(part, out=part)
        source = target
