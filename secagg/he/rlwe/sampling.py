"""Secrets, noise and uniform words, all from the AES-256-CTR keystream of a `prg.Stream`."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.he.rlwe.parameters import Parameters
from secagg.he.rlwe.polynomials import Polynomials
from secagg.prg import Stream

ETA: Final = 21
VARIANCE: Final = ETA / 2  # the width, sqrt(10.5), is 3.24
_COIN_BITS: Final = np.uint64((1 << (2 * ETA)) - 1)


def ternary(out: NDArray[np.int8], rng: Stream) -> None:
    """Fill an array with -1, 0 and 1, uniform and independent.

    By rejection: of the 256 bytes, 0 is drawn anew, and the other 255 are three times 85. How many are drawn
    depends on the stream alone, and which are rejected is independent of what is kept.

    Args:
      out: int8, C-contiguous, any shape.
    """
    coins = out.view(np.uint8)
    rng.fill(coins)
    flat = coins.reshape(-1)
    rejected = np.flatnonzero(flat == 0)
    while rejected.size:
        drawn = rng.ring(rejected.size, 8)
        flat[rejected] = drawn
        rejected = rejected[drawn == 0]
    above = np.greater(coins, 170)  # 171..255: 85 bytes
    below = np.less(coins, 86)  # 1..85
    np.subtract(above.view(np.int8), below.view(np.int8), out=out)


def noise_counts(out: NDArray[np.uint64], words: NDArray[np.uint64], rng: Stream) -> None:
    """Write noise of width 3.24, plus 21, to the lowest byte of each word: the number of heads among 42 coins.

    The centred binomial distribution of parameter 21 is the difference of two counts of 21 coins. One count of 42
    coins less 21 has the same distribution.

    Args:
      out: uint64, each row without gaps; the upper bytes of each word stay what they are.
      words: uint64 of the same shape, C-contiguous, overwritten with keystream.
    """
    rng.fill(words)
    np.bitwise_and(words, _COIN_BITS, out=words)
    # Counts are bytes. Written to the lowest byte of each word, they need no conversion and no addition.
    np.bitwise_count(words, out=out.view(np.uint8)[..., ::8])


def noise(shape: tuple[int, ...], rng: Stream) -> NDArray[np.int8]:
    """Return noise of width 3.24, int8, within +-21."""
    counts = np.bitwise_count(np.bitwise_and(rng.words(shape), _COIN_BITS)).view(np.int8)
    return counts - np.int8(ETA)


def uniform(parameters: Parameters, blocks: int, rng: Stream) -> Polynomials:
    """Return polynomials with uniform coefficients."""
    out = Polynomials.empty(parameters, blocks)
    rng.fill(out.low)
    if out.high is not None:
        rng.fill(out.high)
    return out
