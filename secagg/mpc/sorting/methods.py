"""Stable sorting of columns by columns, all in secret.

Threat model: that of the engine. Learns: nobody anything, whatever is opened on the way (docs/soundness.md): outcomes of
comparisons of shuffled rows, or shuffled permutations.

Two ways to the order, of which `sort` takes the one that costs less:

- `quicksort`: rows are shuffled once, with all columns, and compared in the open. Its cost is random.
- `radix`: digits of the key are counted, from the lowest on. Its bytes are exact, and grow with the key's bits.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.primitives import Costs, Shares, concatenate
from secagg.mpc.sorting import quicksort, radix
from secagg.mpc.sorting.comparisons import Comparisons, less_cost
from secagg.mpc.sorting.expectation import comparisons
from secagg.mpc.sorting.keys import Key, check_rows, make_table, make_table_cost, place_bits
from secagg.mpc.sorting.permutations import place, place_cost, shuffle_rows


class Method(enum.Enum):
    """How rows are put in order."""

    QUICKSORT = "quicksort"
    RADIX = "radix"


# What a gigabit line carries in half a millisecond: bytes that take as long as a round.
_ROUND_BYTES = 62_500


async def sort(
    keys: Sequence[Key], columns: Sequence[Shares], *, first: int | None = None, method: Method | None = None
) -> list[Shares]:
    """Return columns with their rows in the order of the keys; rows with equal keys keep their order.

    Args:
      keys: columns to sort by, the first of which counts most.
      columns: to be sorted, of shape (rows, ...), in any group.
      first: how many rows to return, the first in order; None for all.
      method: None for the one that `cheapest` names.

    Raises:
      UsageError: no keys, columns of several engines, too many rows, or `first` out of range.
      ShapeError: columns with other numbers of rows.
    """
    n = check_rows(keys)
    engine = keys[0].column.engine
    if any(not c.shape or len(c) != n for c in columns):
        raise ShapeError(f"expected columns of {n} rows to sort, got shapes {[c.shape for c in columns]}")
    if any(c.engine is not engine for c in columns):
        raise UsageError("expected keys and columns of one engine; they belong to several")
    if first is not None and not 0 <= first <= n:
        raise UsageError(f"expected the first 0 to {n} of {n} rows, got first={first}")
    if n < 2 or not columns or first == 0:
        return [column[:first].copy() for column in columns]
    if method is None:
        sizes = [column.nbytes for column in columns]
        method = cheapest(engine.costs, n, [key.width for key in keys], sizes, first=first)
    table = await make_table(engine, keys)
    if method is Method.RADIX:
        return [column[:first] for column in await place(await radix.ranks(table), *columns)]
    bits, words = table.bits, len(table.columns)
    shuffled = await shuffle_rows(engine, [*(table.columns[c] for c in range(words)), *columns])
    del table  # of tables that hardly fit into memory
    numbers = concatenate([column.reshape(1, n) for column in shuffled[:words]])
    del shuffled[:words]
    order = await quicksort.rows_in_order(Comparisons(numbers, bits), n, first)
    del numbers
    return [column.each(lambda part: part.take(order, axis=0)) for column in shuffled]


def cheapest(
    costs: Costs, n: int, key_bits: Sequence[int], column_bytes: Sequence[int], *, first: int | None = None
) -> Method:
    """Return the method that is expected to cost least; a round counts as 62,500 bytes of the party that sends most.

    See `sort_cost` for arguments.
    """

    def weight(method: Method) -> int:
        cost = sort_cost(costs, n, key_bits, column_bytes, first=first, method=method)
        return max(cost.payload_bytes.values()) + cost.rounds * _ROUND_BYTES

    return min(Method, key=weight)


def sort_cost(
    costs: Costs,
    n: int,
    key_bits: Sequence[int],
    column_bytes: Sequence[int],
    *,
    elements: Sequence[int] = (),
    first: int | None = None,
    method: Method | None = None,
) -> Cost:
    """Return the cost of sorting n rows.

    By quicksort it is expected, and random. By radix bytes are exact, and rounds at most as declared: a party that waits for
    nothing in one operation begins the next sooner.

    Args:
      key_bits: of each key.
      column_bytes: of each column that is sorted.
      elements: the ring's bits of each key that is elements of a ring.
      first: how many rows are asked for; None for all.
      method: None for the one that `cheapest` names.
    """
    method = method or cheapest(costs, n, key_bits, column_bytes, first=first)
    total = make_table_cost(costs, n, elements)
    if n < 2 or first == 0:
        return Cost(0, dict.fromkeys(total.payload_bytes, 0))
    if method is Method.RADIX:
        return total.then(
            radix.ranks_cost(costs, n, sum(key_bits)), place_cost(costs, radix.rank_bytes(n), *column_bytes)
        )
    bits = place_bits(n) + sum(key_bits)
    shuffled = costs.shuffle(8 * n * -(-bits // 64), *column_bytes)
    levels = comparisons(n, first)
    cost_of = {
        pairs: less_cost(costs, pairs, bits) for pairs in set(levels)
    }  # of many stretches of rows, few differ
    return replace(total.then(shuffled, *(cost_of[pairs] for pairs in levels)), expected=True)
