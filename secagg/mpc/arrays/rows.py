"""Columns as rows that move together: numbers as they are, and the bits of up to 64 columns of bools in one word a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from secagg.mpc.arrays.dtypes import BoolType
from secagg.mpc.arrays.graph import Node, Shape
from secagg.mpc.arrays.lanes import LANES, pack, unpack
from secagg.mpc.groups import XOR, Array
from secagg.mpc.primitives import Shares


def as_rows(values: Sequence[Shares], nodes: Sequence[Node]) -> list[Shares]:
    """Return the elements of columns one a row.

    Args:
      nodes: of the columns, of one shape.
    """
    n = math.prod(nodes[0].shape)
    each = list(zip(values, nodes, strict=True))
    rows = [v.reshape(n) for v, node in each if not isinstance(node.dtype, BoolType)]
    bits = [v for v, node in each if isinstance(node.dtype, BoolType)]
    for at in range(0, len(bits), LANES):
        some = bits[at : at + LANES]
        parts = [_joined(of_each, n) for of_each in zip(*(b.parts for b in some), strict=True)]
        rows.append(Shares(some[0].engine, XOR, parts))
    return rows


def _joined(columns: Sequence[Array], n: int) -> Array:
    words = np.zeros(n, np.uint64)
    for k, column in enumerate(columns):
        words |= unpack(column, n).astype(np.uint64) << np.uint64(k)
    return words


def as_columns(rows: Sequence[Shares], nodes: Sequence[Node], shape: Shape) -> list[Shares]:
    """Return the columns, of this shape, of which `as_rows` would make these rows."""
    numbers = sum(not isinstance(node.dtype, BoolType) for node in nodes)
    of_numbers, of_bits = iter(rows[:numbers]), rows[numbers:]
    columns, bit = [], 0
    for node in nodes:
        if isinstance(node.dtype, BoolType):
            columns.append(of_bits[bit // LANES].each(partial(_lane, np.uint64(bit % LANES))))
            bit += 1
        else:
            columns.append(next(of_numbers).reshape(*shape))
    return columns


def _lane(lane: np.uint64, words: Array) -> Array:
    return pack(((words >> lane) & np.uint64(1)).astype(np.uint8))


def row_bytes(nodes: Sequence[Node]) -> list[int]:
    """Return the bytes of each array that `as_rows` makes."""
    n = math.prod(nodes[0].shape) if nodes else 0
    bits = sum(isinstance(node.dtype, BoolType) for node in nodes)
    numbers = [n * node.dtype.bits // 8 for node in nodes if not isinstance(node.dtype, BoolType)]
    return numbers + [8 * n] * -(-bits // LANES)
