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
    rest = np.array(x, order="C")
    for seed in seeds:
        _combine(np.subtract, rest, seed)
    return seeds, ring.reduce(rest, out=rest)


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
    total: RingArray = np.zeros(shape, ring.dtype)
    for one in shares:
        if isinstance(one, Seed):
            _combine(np.add, total, one)
        else:
            _check_shape(one, shape)
            if one.dtype != ring.dtype:
                raise ShapeError(f"expected a share of {ring.dtype}, got {one.dtype}")
            total += one  # wraps, which is meant
    return ring.reduce(total, out=total)


def _check_shape(values: RingArray, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ShapeError(f"expected a share of shape {shape}, got {values.shape}")


def _combine(operation: np.ufunc, total: RingArray, seed: Seed) -> None:
    """Add or subtract a seed's mask in place, modulo the dtype's own power of two, of which 2**bits is a divisor."""
    stream = Stream(derive_key(seed.key, label=_LABEL))
    flat = total.reshape(-1)
    step = _CHUNK_BYTES // total.itemsize
    buffer = np.empty(min(step, flat.size), total.dtype)
    for start in range(0, flat.size, step):
        part = flat[start : start + step]
        mask = buffer[: part.size]
        stream.fill(mask)
        operation(part, mask, out=part)
