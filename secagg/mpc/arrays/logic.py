"""Bits of shared arrays: &, |, ^, ~, comparisons with zero, and selection by a bit."""

from __future__ import annotations

import numpy as np

from secagg.errors import UsageError
from secagg.mpc.arrays.dtypes import BoolType, boolean
from secagg.mpc.arrays.graph import Kernel, Local
from secagg.mpc.arrays.handle import (
    H,
    Public,
    broadcast_shape,
    broadcast_to,
    is_shared,
    number,
    public_values,
)
from secagg.mpc.arrays.kernels import CONJUNCTION, ZERO
from secagg.mpc.arrays.lanes import pack
from secagg.mpc.arrays.local import AND_PUBLIC, XOR_BITS, XOR_PUBLIC
from secagg.mpc.groups import Array


def _bits(x: H) -> H:
    if not isinstance(x.dtype, BoolType):
        raise UsageError(f"&, |, ^ and ~ take bools, got {x!r}; compare it first, as in (x != 0)")
    return x


def _public_bits(values: Public) -> Array:
    bits = public_values(values)
    if bits.dtype.kind != "b":
        raise UsageError(
            f"&, |, ^ and ~ take bools, got public {bits.dtype}; compare them first, as in (v != 0)"
        )
    return bits


def _together(x: H, y: H) -> tuple[H, H]:
    shape = broadcast_shape(x.shape, y.shape)
    return broadcast_to(_bits(x), shape), broadcast_to(_bits(y), shape)


def _packed(bits: Array, shape: tuple[int, ...]) -> Array:
    return pack(np.broadcast_to(bits, shape))


def _joined(x: H, y: H | Public, shared: Local | Kernel, public: Local) -> H:
    """Return x and y joined bit by bit, by the kernel for a shared or for a public y."""
    if is_shared(y):
        a, b = _together(x, y)
        return a.derive(shared, b, shape=a.shape, dtype=boolean)
    bits = _public_bits(y)
    a = broadcast_to(_bits(x), broadcast_shape(x.shape, bits.shape))
    return a.derive(public, shape=a.shape, dtype=boolean, params=(_packed(bits, a.shape),))


def conjunction(x: H, y: H | Public) -> H:
    """Return x & y."""
    return _joined(x, y, CONJUNCTION, AND_PUBLIC)


def exclusive_or(x: H, y: H | Public) -> H:
    """Return x ^ y. Free."""
    return _joined(x, y, XOR_BITS, XOR_PUBLIC)


def disjunction(x: H, y: H | Public) -> H:
    """Return x | y."""
    return exclusive_or(exclusive_or(x, y), conjunction(x, y))


def invert(x: H) -> H:
    """Return ~x. Free."""
    return exclusive_or(x, np.True_)


def zero(x: H) -> H:
    """Return the bits x == 0 of numbers."""
    return x.derive(ZERO, shape=x.shape, dtype=boolean, params=(number(x).bits,))
