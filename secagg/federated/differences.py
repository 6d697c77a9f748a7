"""What a node gives to a sum of bounded updates: how far its reply is from what came with the task.

Training: an *update* is what the app's function replied less the array of the same record, name and shape that came with
the task. An array that did not come with the task counts from zero. Evaluation: the metrics as they are. All numbers side
by side are one vector.

Whether a node answers must not depend on its data: an update with NaN or infinity counts as zeros.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.federated.layout import Baseline, Entry, Item, Layout


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """What a node keeps of a reply until it is known who takes part.

    Attributes:
      layout: of the reply without what is not sent, canonical.
      announced: the same in the order of the reply.
      vector: float64, without noise, not yet scaled down; secret.
      from_zero: arrays that did not come with the task.
      left_out: metrics that are not sent.
      finite: False if there was NaN or infinity, and the vector is zeros instead.
    """

    layout: Layout
    announced: Layout
    vector: NDArray[np.float64] = dataclasses.field(repr=False)
    from_zero: tuple[str, ...]
    left_out: tuple[str, ...]
    finite: bool = dataclasses.field(repr=False)


def difference(
    items: Sequence[Item],
    baseline: Baseline,
    *,
    training: bool,
    weight_record: str,
    left_out: Sequence[str] = (),
) -> Difference:
    """Return what a reply gives to a sum.

    Args:
      items: arrays of the reply in its order if training, else metrics.
      baseline: the arrays that the task came with.
      training: whether arrays are summed up.
      weight_record: the record that shall hold the number of nodes.
      left_out: metrics that are not sent.

    Raises:
      ShapeError: no numbers.
    """
    entries = tuple(entry for entry, _ in items)
    announced = Layout(entries if training else (), () if training else entries, weight_record)
    announced.check()
    vector, from_zero, start = np.empty(announced.numbers), list[str](), 0
    for entry, value in sorted(items, key=lambda item: item[0].key):
        part = vector[start : start + value.size].reshape(value.shape)
        part[...] = value
        before = baseline(entry)
        if before is not None:
            with np.errstate(all="ignore"):  # what is not finite is found below
                part -= before
        elif training:
            from_zero.append(entry.path)
        start += value.size
    finite = bool(np.isfinite(vector).all())
    if not finite:
        vector[:] = 0.0
    return Difference(announced.canonical(), announced, vector, tuple(from_zero), tuple(left_out), finite)


def cut(vector: NDArray[np.float64], entries: Iterable[Entry]) -> Iterator[NDArray[np.float64]]:
    """Yield the array of each entry out of all numbers side by side; views. What lies behind the last is left."""
    start = 0
    for entry in entries:
        count = math.prod(entry.shape)
        yield vector[start : start + count].reshape(entry.shape)
        start += count


def on_top(
    entries: Sequence[Entry],
    changes: Iterable[NDArray[np.float64]],
    baseline: Baseline,
    log: logging.Logger,
) -> tuple[list[NDArray[Any]], float]:
    """Return means in the arrays' dtypes, on top of what came with the task.

    Args:
      changes: the mean of what updates change, of each entry.
      log: where it says which numbers their dtype does not hold.

    Returns the arrays, and by how much adding and casting have moved a number at most.
    """
    values, moved = list[NDArray[Any]](), 0.0
    for entry, change in zip(entries, changes, strict=True):
        before = baseline(entry)
        exact = change if before is None else change + before
        values.append(cast_means(exact, entry.dtype, log))
        if exact.size:
            added = 2.0**-53 * float(np.max(np.abs(exact)))
            moved = max(moved, float(np.max(np.abs(values[-1] - exact))) + added)
    return values, moved


def cast_means(value: NDArray[np.float64], dtype: str, log: logging.Logger) -> NDArray[Any]:
    """Return means in the arrays' dtype, float64 for those of integers."""
    if not dtype.startswith("float"):
        return value
    most = float(np.finfo(dtype).max)
    beyond = int(np.count_nonzero(np.abs(value) > most))
    if beyond:
        log.warning("%d numbers of a mean are beyond what %s holds, and become its largest", beyond, dtype)
    return np.clip(value, -most, most).astype(dtype)
