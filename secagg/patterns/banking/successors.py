"""What follows a transfer: for each row, those rows that begin where it ends, up to a public number of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secagg.mpc import concat, stack
from secagg.mpc.arrays import SharedArray
from secagg.patterns.groups import Groups


def successors(
    ends: SharedArray,
    begins: SharedArray,
    valid: SharedArray,
    columns: Sequence[SharedArray],
    *,
    most: int,
) -> tuple[SharedArray, list[SharedArray]]:
    """Return which successors each row has, and columns of them, shape (rows, most); nothing of keys with more than `most`.

    Args:
      ends: the key at which each row ends, shape (rows,).
      begins: the key at which each following row begins, shape (following,).
      valid: which following rows count.
      columns: int64, of the following rows.
    """
    n, m = ends.shape[0], begins.shape[0]
    groups = Groups([concat([begins, ends])])
    counts = concat([valid, groups.engine.public(np.zeros(n, bool))])
    mark = groups.sorted(counts).astype(int)
    number = groups.sums(mark)
    few = (number > 0) & (number <= most)
    place = groups.place_in_group(mark)
    chosen = (place.reshape(-1, 1) == np.arange(1, most + 1)) & (mark > 0).reshape(-1, 1)
    nothing = groups.engine.public(np.zeros((n, len(columns)), np.int64))
    values = groups.sorted(concat([stack(list(columns), axis=1), nothing]))
    slots = [chosen.astype(int), *(chosen * values[:, i].reshape(-1, 1) for i in range(len(columns)))]
    of_group = groups.sums(concat(slots, axis=1)) * few.reshape(-1, 1)
    known = groups.unsorted(groups.spread(of_group))[m:]
    parts = [known[:, i * most : (i + 1) * most] for i in range(len(columns) + 1)]
    return parts[0] > 0, parts[1:]
