"""Sums over the time before and after, on shares: what else rows of the same key add up to within a window around each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from secagg.mpc import concat
from secagg.mpc.arrays import SharedArray
from secagg.mpc.arrays.reductions import cumulative_sum
from secagg.patterns.groups import Groups


class Asked(NamedTuple):
    """Windows: one a row, of a key, from a first to a last time, both included."""

    key: SharedArray
    first: SharedArray
    last: SharedArray


def window_sums(key: SharedArray, time: SharedArray, values: SharedArray, asked: Asked) -> SharedArray:
    """Return what the values of rows of the asked key within the asked time add up to, shape (asked, columns).

    Args:
      key, time: of each row; times within 2**53 of zero.
      values: int64, shape (rows, columns); zeros in rows that do not count.
    """
    n, m = key.shape[0], asked.key.shape[0]
    # An asked window begins before the rows of its first time, and ends behind those of its last.
    moments = concat([4 * time + 1, 4 * asked.first, 4 * asked.last + 2])
    groups = Groups([concat([key, asked.key, asked.key])], [moments])
    nothing = groups.engine.public(np.zeros((2 * m, values.shape[1]), np.int64))
    prefix = cumulative_sum(groups.sorted(concat([values, nothing])), axis=0)
    known = groups.unsorted(prefix)
    return known[n + m :] - known[n : n + m]
