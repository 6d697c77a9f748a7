"""Ranks of rows by counting the digits of their keys, from the lowest digit on [HICT14; AHI+22].

Threat model: that of the engine. Learns: nobody anything; what is opened are shuffled permutations (`permutations`).

A digit of two bits b_1 b_0 sorts rows stably [AHI+22, protocol 4.1, for one bit; CHI+19, algorithm 11, for several]:

1. b_0, b_1 and b_0 b_1 become elements of a ring. Linear combinations of them say whether a row's digit is v.
2. Running counts say how many rows before have the digit v. With the totals of lower digits they give the rank t_v that
   the row has if its digit is v.
3. The rank is t_0 + b_0 (t_1 - t_0) + b_1 (t_2 - t_0) + b_0 b_1 (t_0 - t_1 - t_2 + t_3): one round of products.

Between digits, the rows that are left of the key, their places and their ranks are shuffled together, and the ranks opened
[HICT14]. Behind the last digit the places are: rank and place of a row, shuffled, give the rank of each place.

Cost: see `ranks_cost`. Its bytes are exact, and do not depend on the order of rows.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np

from secagg.cost.operation import Cost
from secagg.mpc.bits import LANES
from secagg.mpc.groups import Array
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Costs, Primitives, Shares, concatenate
from secagg.mpc.sorting.keys import Table, place_bits
from secagg.mpc.sorting.permutations import place, place_cost
from secagg.ring import U64, Ring, to_planes

POSITIONS: Final = RingGroup(Ring(32))  # ranks and counts: `keys.LARGEST` rows fit
DIGIT: Final = 2  # bits: the fewest bytes a bit; three would take 7 products in place of 3


async def ranks(table: Table) -> Shares:
    """Return the rank of each row: elements of `POSITIONS`, shape (rows,).

    Args:
      table: of at least two rows, with places below the keys.
    """
    engine, n = table.columns.engine, table.rows
    columns, done = table.columns, table.place_bits
    while True:
        width = min(DIGIT, table.bits - done)
        digit = columns.each(functools.partial(_digit, start=done, width=width))
        rank = await digit_ranks(engine, digit, n)
        done += width
        if done == table.bits:
            break
        # What is left of the key moves on; places and bits that are done stand in the same columns.
        (rows,) = await place(rank, columns.each(lambda part: np.ascontiguousarray(part.T)))
        columns = rows.each(lambda part: np.ascontiguousarray(part.T))
    if table.bits - table.place_bits <= DIGIT:
        return rank
    mask = np.uint64((1 << table.place_bits) - 1)
    (by_place,) = await place(columns[0].each(lambda part: part & mask), rank)
    return by_place


def ranks_cost(costs: Costs, n: int, bits: int) -> Cost:
    """Return the cost of the ranks of n rows by keys of so many bits."""
    words = -(-n // LANES)
    row_bytes = 8 * n * -(-(bits + place_bits(n)) // 64)
    total = digit_cost(costs, words, n, bits % DIGIT or DIGIT)
    for _ in range(-(-bits // DIGIT) - 1):
        total = total.then(digit_cost(costs, words, n, DIGIT), place_cost(costs, rank_bytes(n), row_bytes))
    return total if bits <= DIGIT else total.then(place_cost(costs, 8 * n, rank_bytes(n)))


def rank_bytes(n: int) -> int:
    """Return the bytes of n ranks."""
    return n * POSITIONS.dtype.itemsize


def digit_cost(costs: Costs, words: int, n: int, width: int) -> Cost:
    """Return the cost of `digit_ranks` of n rows by a digit of so many bits, each in so many words."""
    terms = (1 << width) - 1
    product = (costs.conjunction(words),) if width == DIGIT else ()
    counted = costs.from_bits(LANES * words * terms, POSITIONS.ring)
    return counted.then(*product, costs.multiply(n * terms, POSITIONS.ring))


def _digit(part: Array, start: int, width: int) -> U64:
    """Return the bit planes from `start` on of numbers in columns of 64 bits."""
    column, shift = divmod(start, 64)
    values = part[column] >> np.uint64(shift)
    if shift + width > 64:
        values |= part[column + 1] << np.uint64(64 - shift)
    return to_planes(values, width)


async def digit_ranks(engine: Primitives, bits: Shares, n: int) -> Shares:
    """Return each row's rank by one digit, rows of one digit in the order that they have.

    Args:
      bits: of the digit, lowest first, shape (1 or 2, ceil(n / 64)).
    """
    words = bits.shape[1]
    if len(bits) == DIGIT:
        (both,) = await engine.conjunction([(bits[0], bits[1])])
        bits = concatenate([bits, both.reshape(1, words)])
    terms = len(bits)
    # Whole words of each, so that all are converted at once; what stands in lanes from n up is thrown away.
    wide = await engine.from_bits(bits.reshape(terms * words), POSITIONS, terms * words * LANES)
    b = wide.reshape(terms, words * LANES)[:, :n]
    counts = b.each(lambda part: np.cumsum(part, axis=1, dtype=part.dtype))
    ahead = np.arange(n - 1, -1, -1, dtype=POSITIONS.dtype)  # rows behind each
    signs = (ahead, ahead, np.negative(ahead))[:terms]
    differences = counts.each(_differences) + engine.public(POSITIONS, np.stack(signs))
    products = await engine.multiply(b, differences)
    rank = counts.each(_rank_if_zero) + engine.public(POSITIONS, np.arange(n, dtype=POSITIONS.dtype))
    return rank + products.each(lambda part: part.sum(axis=0, dtype=part.dtype))


def _rank_if_zero(counts: Array) -> Array:
    """Return t_0 but for what is public in it, from running counts of b_0, b_1 and b_0 b_1, or of b_0 alone."""
    if len(counts) == 1:
        return np.asarray(np.negative(counts[0]))
    return np.asarray(counts[2] - counts[0] - counts[1])


def _differences(counts: Array) -> Array:
    """Return t_1 - t_0, t_2 - t_0 and t_0 - t_1 - t_2 + t_3, or t_1 - t_0, but for what is public in them.

    The counts modulo 2**32 wrap, as elements of the ring do.
    """
    two = counts.dtype.type(2)
    if len(counts) == 1:
        return np.asarray(two * counts - counts[:, -1:])
    low, high, both = counts
    all_low, all_high, all_both = counts[:, -1:]  # arrays: they wrap without a warning
    out = np.empty_like(counts)
    out[0] = two * (low - both) + high - all_low - all_high + all_both
    out[1] = two * (high - both) + low - all_high
    out[2] = two * (two * both - low - high) + all_low + two * (all_high - all_both)
    return np.asarray(out)
