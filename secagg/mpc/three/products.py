"""Products of replicated shares: additive shares of them, computed locally, and resharing.

[MR18, section 3.2.2, after AFLNO16], for elements and matrices alike. The nine products of shares of x and y
are computed where both factors are:

  P_0: z_0 = (x_0 + x_1)(y_0 + y_1)     P_1: z_1 = x_1 y_2 + x_2 (y_1 + y_2)     P_2: z_2 = x_2 y_0 + x_0 y_2

which leaves five matrix products to the three parties, where three equal parts of the sum would take six. Integer
products are masked by a share of zero, F(k_i) - F(k_{i+1}), and reshared: P_i receives z_{i+1}, masked by
F(k_{i+2}), which it does not hold. Fixed-point ones are masked in truncation.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from secagg.mpc.numbers import matmul_shape
from secagg.mpc.three.channel import Channel, Held
from secagg.mpc.three.streams import Purpose
from secagg.mpc.three.truncation import truncate
from secagg.ring import Ring, RingArray

# Elements worked on at a time: a product's operands and masks stay in the second-level cache.
_CHUNK: Final = 1 << 14


def multiply_locally(index: int, ring: Ring, x: Held, y: Held) -> RingArray:
    """Return P_index's additive share of the elementwise product; bits above the ring's are left as they come.

    Args:
      x, y: shares x_i and x_{i+1}, of one shape.
    """
    z = np.empty(x[0].shape, ring.dtype)
    products = z.reshape(-1)
    x0, x1, y0, y1 = (share.reshape(-1) for share in (*x, *y))
    scratch = np.empty(min(_CHUNK, products.size), products.dtype)
    for start in range(0, products.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        p = products[part]
        t = scratch[: p.size]
        if index == 0:
            np.add(x0[part], x1[part], out=p)
            p *= np.add(y0[part], y1[part], out=t)
            continue
        if index == 1:
            np.multiply(x1[part], np.add(y0[part], y1[part], out=t), out=p)
        else:
            np.multiply(x1[part], y0[part], out=p)
        p += np.multiply(x0[part], y1[part], out=t)
    return z


def matmul_locally(index: int, ring: Ring, x: Held, y: Held) -> RingArray:
    """Return P_index's additive share of the matrix product.

    Args:
      x, y: shares x_i and x_{i+1}; of one or two dimensions, as `matmul_shape` takes them.
    """
    shape = matmul_shape(x[0].shape, y[0].shape)
    both = ring.reduce(y[0] + y[1]) if index != 2 else y[0]
    if index:
        z = ring.matmul(x[0], y[1]) + ring.matmul(x[1], both)
    elif y[0].ndim == 1:  # adding matrices would take longer than a second product with a vector
        z = ring.matmul(x[0], both) + ring.matmul(x[1], both)
    else:
        z = ring.matmul(ring.reduce(x[0] + x[1]), both)
    return np.ascontiguousarray(z).reshape(shape)


async def replicate(channel: Channel, ring: Ring, z: RingArray, frac_bits: int) -> Held:
    """Return this party's two shares of z / 2**frac_bits from its additive share of z.

    Args:
      z: any shape, C-contiguous, not masked; overwritten.
      frac_bits: how many bits to truncate; 0 for none. `truncate` says what range and rounding it has.
    """
    if frac_bits:
        return await truncate(channel, ring, z, frac_bits)
    k_own, k_next = channel.k_own[Purpose.MUL], channel.k_next[Purpose.MUL]
    flat = z.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        p = flat[start : start + _CHUNK]
        p += k_own.ring(p.size, ring.bits)
        p -= k_next.ring(p.size, ring.bits)
    ring.reduce(z, z)
    return z, await channel.reshare(z)
