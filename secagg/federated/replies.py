"""Replies of frameworks whose models are arrays by name: to entries and values, and means back to arrays by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import UsageError
from secagg.federated.layout import ARRAY, DTYPES, NUMBER, Baseline, Entry, Item, Layout, Shapes, matches
from secagg.signing import digest

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
MODEL: Final = "model"  # the record of whole arrays
DIFFERENCE: Final = "difference"  # of arrays that nodes have already taken the model off
METRICS: Final = "metrics"  # that of metrics, and of the weight


class Result(NamedTuple):
    """What a sum stands for.

    record: what the arrays are, `MODEL` or `DIFFERENCE`; "" where there are none. arrays: means by name, in the dtypes of
    the replies. metrics: means by name. weight: the sum of weights.
    """

    record: str
    arrays: dict[str, NDArray[Any]]
    metrics: dict[str, float]
    weight: int


def array_items(arrays: Arrays, leave_out: Sequence[str] = (), record: str = MODEL) -> list[Item]:
    """Return each array with its entry, but those whose name or path "record/name" matches one of those left out.

    Raises:
      UsageError: no array of numbers, or a pattern that nothing matches.
    """
    items = []
    for pattern in leave_out:
        if not any(_left_out(name, (pattern,), record) for name in arrays):
            raise UsageError(f"expected an array that {pattern!r:.80} leaves out, and the reply has none")
    for name, given in arrays.items():
        if not isinstance(name, str):
            raise UsageError(f"expected names of arrays as texts, got a {type(name).__name__}")
        if _left_out(name, leave_out, record):
            continue
        value: NDArray[Any] = np.asarray(given)
        if str(value.dtype.newbyteorder("=")) not in DTYPES:
            raise UsageError(
                f"the array {name!r:.80} has dtype {value.dtype}, which cannot be averaged; convert it, or let the server "
                f"leave it out: Encoding(leave_out=[{name!r:.80}])"
            )
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
        items.append((Entry(record, name, ARRAY, str(value.dtype), value.shape), value))
    return items


def metric_items(metrics: Mapping[str, float]) -> list[Item]:
    """Return each metric with its entry.

    Raises:
      UsageError: it is no number.
    """
    items: list[Item] = []
    for name, given in metrics.items():
        value = np.asarray(given)
        if value.ndim or value.dtype.kind not in "iuf":
            raise UsageError(f"expected one number as the metric {name!r:.80}, got something else")
        items.append((Entry(METRICS, name, NUMBER, "float64", ()), value.astype(np.float64)))
    return items


def whole_weight(weight: Any) -> int:
    """Return a weight as an int.

    Raises:
      UsageError: it is no whole number of 0 or more.
    """
    number: Any = weight.item() if isinstance(weight, np.generic) else weight
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise UsageError("expected a whole number of 0 or more as the weight, got something else")
    if number < 0 or number != int(number):
        raise UsageError("expected a whole number of 0 or more as the weight, got another number")
    return int(number)


def shapes_of(arrays: Arrays) -> Shapes:
    """Return the shapes of the arrays that came with a task."""
    return {(MODEL, name): tuple(np.shape(value)) for name, value in arrays.items()}


def baseline_of(arrays: Arrays) -> Baseline:
    """Return what finds the array that an entry's update is counted from."""

    def find(entry: Entry) -> NDArray[np.float64] | None:
        value = arrays.get(entry.name) if entry.record == MODEL else None
        if value is None or np.shape(value) != entry.shape or np.asarray(value).dtype.kind not in "iuf":
            return None
        return np.asarray(value, np.float64)

    return find


def digest_of(label: str, arrays: Arrays, said: Iterable[bytes] = ()) -> bytes:
    """Return a digest of what a node is asked: arrays in the order in which it meets them, and what else is said.

    Raises:
      UsageError: something that is no array of numbers, which no digest of bytes is for.
    """
    parts = [*said]
    for name, array in made_anew(arrays).items():
        parts += [
            name.encode(),
            str(array.dtype).encode(),
            repr(array.shape).encode(),
            np.ascontiguousarray(array).tobytes(),
        ]
    return digest(label, parts)


def made_anew(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return copies that are alike wherever names, dtypes, shapes and numbers are: in C order, and no two are one object.

    Raises:
      UsageError: something that is no array of numbers.
    """
    made = {}
    for name, value in arrays.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray | np.generic):
            raise UsageError(
                f"expected arrays of numpy by name, got {name!r:.80} of type {type(value).__name__}"
            )
        if value.dtype.kind not in "biuf":
            raise UsageError(f"the array {name!r:.80} has dtype {value.dtype}, which cannot be compared")
        made[name] = np.array(value, order="C", subok=False)
    return made


def result_of(layout: Layout, values: Sequence[NDArray[Any]], weight: int) -> Result:
    """Return means by name, in the dtypes of the replies; means of integers are float64."""
    arrays: dict[str, NDArray[Any]] = {}
    metrics: dict[str, float] = {}
    for entry, value in zip(layout.entries, values, strict=True):
        if entry.form == ARRAY:
            arrays[entry.name] = value
        else:
            metrics[entry.name] = float(value)
    record = layout.arrays[0].record if layout.arrays else ""
    return Result(record, arrays, metrics, weight)


def _left_out(name: str, patterns: Sequence[str], record: str) -> bool:
    return any(matches(name, pattern) or matches(f"{record}/{name}", pattern) for pattern in patterns)
