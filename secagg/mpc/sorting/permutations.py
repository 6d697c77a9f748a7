"""Permutations in secret: applied to columns of any group, and inverted [CHI+19, algorithm 4; AHI+22].

A permutation of n rows is kept as n numbers in secret, in any group. Two forms of it are used:

- *ranks*: where each row goes. `place(ranks, x)` returns y with y[ranks[i]] = x[i].
- *order*: which row comes next. `take(order, x)` returns y with y[i] = x[order[i]]; numpy's argsort has this form.

`place` shuffles ranks and columns together, opens the shuffled ranks, and moves the columns to where these say.

What is opened: ranks in the order of the shuffle. This is a uniform permutation whatever the ranks are, as the shuffle's
order is uniform to each party (docs/soundness.md). Simulating it is drawing one. Numbers that are no permutation are opened
too, in a uniform order, and an error is raised at all parties alike. What this package returns as ranks or order is a
permutation.

Threat model: that of the engine. Learns: nobody anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.primitives import Costs, Primitives, Shares
from secagg.ring import RingArray


async def place(ranks: Shares, *columns: Shares) -> list[Shares]:
    """Return columns whose row i has gone to ranks[i].

    Args:
      ranks: a permutation of 0..n-1, shape (n,).
      columns: of n rows each, in any group.

    Raises:
      ShapeError: a column has not as many rows as the ranks.
      UsageError: the ranks are no permutation.
    """
    engine, n = ranks.engine, check_columns(ranks, columns)
    if n < 2:
        return [column.copy() for column in columns]
    shuffled_ranks, *shuffled = await shuffle_rows(engine, [ranks, *columns])
    opened = cast(RingArray, await engine.open(shuffled_ranks))  # to all computing parties, so to this one
    return _moved(shuffled, opened)


async def take(order: Shares, *columns: Shares) -> list[Shares]:
    """Return columns whose row i was row order[i]; see `place` for arguments and errors."""
    check_columns(order, columns)
    return await place(await invert(order), *columns)


async def invert(permutation: Shares) -> Shares:
    """Return the inverse permutation, in the same group: ranks for an order, and an order for ranks."""
    n = check_columns(permutation, ())
    numbers = np.arange(n, dtype=permutation.group.dtype)
    (inverse,) = await place(permutation, permutation.engine.public(permutation.group, numbers))
    return inverse


def check_columns(first: Shares, columns: Sequence[Shares]) -> int:
    """Return how many rows the columns have.

    Raises:
      ShapeError: another number than the first one, which has one dimension.
    """
    if len(first.shape) != 1 or any(len(c.shape) < 1 or len(c) != len(first) for c in columns):
        raise ShapeError(
            f"expected a permutation (rows,) and columns of as many rows, got {first.shape} and {[c.shape for c in columns]}"
        )
    return len(first)


async def shuffle_rows(engine: Primitives, columns: Sequence[Shares]) -> list[Shares]:
    """Return columns of one length in an order that nobody knows, the same for all."""
    shuffled = await engine.shuffle(*(column.reshape(1, *column.shape) for column in columns))
    return [column[0] for column in shuffled]


def _moved(columns: Sequence[Shares], ranks: RingArray) -> list[Shares]:
    """Return columns whose row i has gone to ranks[i], which are public."""
    n = ranks.size
    order = np.full(n, -1)
    inside = np.flatnonzero(ranks < n)
    order[ranks[inside].astype(np.int64)] = inside
    if (order < 0).any():
        raise UsageError(
            f"expected a permutation of 0 to {n - 1} in secret; some of these numbers are missing"
        )
    return [column.each(lambda part: part.take(order, axis=0)) for column in columns]


def place_cost(costs: Costs, rank_bytes: int, *column_bytes: int) -> Cost:
    """Return the cost of `place`, for ranks and columns of so many bytes."""
    return costs.shuffle(rank_bytes, *column_bytes).then(costs.open(rank_bytes, range(costs.computing)))
