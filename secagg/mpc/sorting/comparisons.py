"""Opened comparisons of rows, many in one go.

Both rows of each pair are gathered, cut into bit planes and compared (`bits.open_precedes`). One bit a pair is opened, up to
`PAIRS` of them in one opening. Who compares what has to be public, and the outcome has to be simulatable: see `quicksort`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.cost.operation import Cost
from secagg.mpc.bits import LANES, ands_by_round, open_precedes, plane_order
from secagg.mpc.groups import Array
from secagg.mpc.primitives import Costs, Shares
from secagg.ring import U64, to_planes

Rows: TypeAlias = NDArray[np.int64]
Verdicts: TypeAlias = NDArray[np.bool_]

# Rows gathered and cut at a time: fewer make each pass of a transposition too short to pay for its call.
_CHUNK: Final = 1 << 18
# Pairs compared at a time. Their planes take some 60 bytes a pair for numbers of 64 bits, and rounds no time beside them.
PAIRS: Final = 1 << 22


class Comparisons:
    """Opened comparisons of the rows of a table.

    Args:
      columns, bits: distinct numbers; see `Table`.
    """

    def __init__(self, columns: Shares, bits: int) -> None:
        self._columns = columns
        self._bits = bits

    async def less(self, left: Rows, right: Rows) -> Verdicts:
        """Open, for each pair of rows, whether the left one is less; the same at all computing parties.

        Args:
          left, right: rows of the table, shape (pairs,).
        """
        verdicts = np.empty(left.size, np.bool_)
        for start in range(0, left.size, PAIRS):
            here = slice(start, start + PAIRS)
            verdicts[here] = await self._less(left[here], right[here])
        return verdicts

    async def _less(self, left: Rows, right: Rows) -> Verdicts:
        both = self._columns.each(lambda part: _planes(part, self._bits, right, left))
        return await _opened(both[1], both[0], left.size)

    def cut(self, rows: Rows) -> Shares:
        """Return the bit planes of rows, for comparing them several times."""
        return self._columns.each(lambda part: _planes(part, self._bits, rows)[0])

    async def greater(self, planes: Shares, left: Rows) -> Verdicts:
        """Open, for each row that has been cut into planes, whether it is greater than another one.

        Args:
          left: the other rows, as many.
        """
        others = self.cut(left)
        others ^= planes
        return await _opened(others, planes, left.size)


async def _opened(apart: Shares, right: Shares, pairs: int) -> Verdicts:
    """Open left < right of pairs of numbers; apart: left XOR right."""
    opened = await open_precedes(apart, right)
    return np.unpackbits(opened.view(np.uint8), count=pairs, bitorder="little").view(np.bool_)


def less_cost(costs: Costs, pairs: int, bits: int) -> Cost:
    """Return the cost of opened comparisons of so many pairs of numbers."""
    operations = []
    for begin in range(0, max(pairs, 1), PAIRS):
        words = -(-min(PAIRS, pairs - begin) // LANES)
        operations += [costs.conjunction(words * ands) for ands in ands_by_round(bits)[:-1]]
        operations.append(costs.open_conjunction(words))
    return operations[0].then(*operations[1:])


def _planes(part: Array, bits: int, rows: Rows, others: Rows | None = None) -> U64:
    """Return the planes of rows in the order that `precedes` takes, and of rows XOR others; lanes behind them are zero.

    Args:
      part: shape (columns, rows).
    """
    place_of = np.argsort(plane_order(bits))  # where each bit of a number goes
    out = np.empty((1 if others is None else 2, bits, -(-rows.size // LANES)), np.uint64)
    for start in range(0, rows.size, _CHUNK):
        here = slice(start, start + _CHUNK)
        there = slice(start // LANES, (start + _CHUNK) // LANES)
        for c, column in enumerate(part):
            places = place_of[64 * c : 64 * (c + 1)]
            values = column.take(rows[here])
            out[0, places, there] = to_planes(values, places.size)
            if others is not None:
                values ^= column.take(others[here])
                out[1, places, there] = to_planes(values, places.size)
    return out
