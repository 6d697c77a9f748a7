"""Records of Flower's messages to entries and values of `secagg.federated`, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias
from zipfile import BadZipFile

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, MetricRecord, RecordDict
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, UsageError
from secagg.federated import differences
from secagg.federated.differences import Difference
from secagg.federated.identities import SERVER
from secagg.federated.layout import (
    ARRAY,
    DTYPES,
    LIST,
    NUMBER,
    Baseline,
    Entry,
    Item,
    Key,
    Layout,
    Shapes,
    Update,
    matches,
    update_of,
)

_METRICS: Final = "metrics"

# Arrays that came with a task, not yet decoded.
Sent: TypeAlias = Mapping[Key, Array]


def arrays_in(content: RecordDict) -> dict[tuple[str, str], Array]:
    """Return the arrays of a message, not yet decoded, by record and name."""
    return {
        (key, name): array
        for key, record in content.items()
        if isinstance(record, ArrayRecord)
        for name, array in record.items()
    }


def shapes_of(sent: Sent) -> Shapes:
    """Return the shapes of arrays."""
    return {key: tuple(array.shape) for key, array in sent.items()}


def baseline_of(sent: Sent) -> Baseline:
    """Return what finds the array that an entry's update is counted from."""

    def find(entry: Entry) -> NDArray[np.float64] | None:
        array = sent.get(entry.key)
        if array is None:
            return None
        try:
            value: NDArray[Any] = array.numpy()
        except (TypeError, ValueError, EOFError, BadZipFile):
            return None  # whatever it was, it is no array of numbers
        fits = value.shape == entry.shape and value.dtype.kind in "iuf"
        return value.astype(np.float64) if fits else None

    return find


def array_entries(content: RecordDict, leave_out: Sequence[str] = ()) -> Iterator[Item]:
    """Return each array of a reply with its entry, but those whose path matches one of those left out.

    Raises:
      RemoteProtocolError: a path to be left out that no array matches.
      UsageError: no numpy array, or of a dtype that cannot be averaged.
    """
    arrays = {f"{key}/{name}": (key, name, array) for (key, name), array in arrays_in(content).items()}
    if len(arrays) != len(arrays_in(content)):
        raise UsageError(
            "two arrays of the reply have one path, record and name joined by /; rename one of them"
        )
    for pattern in leave_out:
        if arrays and not any(matches(path, pattern) for path in arrays):
            raise RemoteProtocolError(
                f"{SERVER} asks to leave out {pattern!r}, and no array of the reply is called so: it holds "
                f"{', '.join(map(repr, list(arrays)[:8]))}"
                + (f" and {len(arrays) - 8} more" if len(arrays) > 8 else ""),
                peer=SERVER,
            )
    for path, (key, name, array) in arrays.items():
        if any(matches(path, pattern) for pattern in leave_out):
            continue
        try:
            value: NDArray[Any] = array.numpy()
        except (TypeError, ValueError):
            raise UsageError(f"the array {name!r} in {key!r} is no numpy array") from None
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
        if str(value.dtype) not in DTYPES:
            raise UsageError(
                f"the array {name!r} in {key!r} has dtype {value.dtype}, which cannot be averaged; convert it, or let the "
                f"server leave it out: Encoding(leave_out=[{path!r}])"
            )
        yield Entry(key, name, ARRAY, str(value.dtype), value.shape), value


def metric_entries(content: RecordDict, weight_key: str) -> Iterator[tuple[Entry, NDArray[np.float64]]]:
    """Return each metric of a reply but the weight with its entry; whether it came out as a whole number is not told.

    Raises:
      UsageError: a number beyond those of float64.
    """
    for key, record in content.items():
        if isinstance(record, MetricRecord):
            for name, number in record.items():
                if name != weight_key:
                    try:
                        value = np.asarray(number, np.float64)
                    except OverflowError:
                        raise UsageError(f"the metric {name!r} in {key!r} does not fit 64 bits") from None
                    form = LIST if isinstance(number, list) else NUMBER
                    yield Entry(key, name, form, str(value.dtype), value.shape), value


def refuse_config(content: RecordDict) -> None:
    """Refuse a reply with a ConfigRecord.

    Raises:
      UsageError: there is one.
    """
    for key, record in content.items():
        if isinstance(record, ConfigRecord) and record:
            raise UsageError(
                f"the reply holds a ConfigRecord {key!r}, which cannot be averaged and would show the server single "
                "values; leave it out"
            )


def take_apart(content: RecordDict, weight_key: str, leave_out: Sequence[str] = ()) -> Update:
    """Return what a reply holds.

    Raises:
      RemoteProtocolError: as `array_entries`.
      UsageError: a record that cannot be averaged, no weight, several, or one that is no whole number.
      ShapeError: no numbers.
    """
    refuse_config(content)
    arrays, metrics = list(array_entries(content, leave_out)), list(metric_entries(content, weight_key))
    weights = [
        (key, record[weight_key])
        for key, record in content.items()
        if isinstance(record, MetricRecord) and weight_key in record
    ]
    if len(weights) != 1:
        raise UsageError(f"expected one metric {weight_key!r} in the reply, the weight, got {len(weights)}")
    ((weight_record, weight),) = weights
    if (
        not isinstance(weight, int | float)
        or not math.isfinite(weight)
        or weight < 0
        or weight != int(weight)
    ):
        raise UsageError(f"expected a whole number of 0 or more as weight {weight_key!r}, got another value")
    return update_of(arrays, metrics, weight_record, int(weight))


def difference(
    content: RecordDict, kind: str, sent: Sent, weight_key: str, leave_out: Sequence[str] = ()
) -> Difference:
    """Return what a reply gives to a sum with noise.

    Args:
      content: of the reply.
      kind: "train", of which arrays are summed up, or "evaluate", of which metrics are.
      sent: the arrays that the task came with.
      weight_key: the metric that other sums are weighted by; here it is neither needed nor sent.
      leave_out: paths of arrays that are not sent.

    Raises:
      RemoteProtocolError: a path to be left out that no array matches.
      UsageError: a ConfigRecord, or what cannot be averaged.
      ShapeError: no numbers.
    """
    refuse_config(content)
    training = kind == MessageType.TRAIN
    items = list(array_entries(content, leave_out) if training else metric_entries(content, weight_key))
    records = [key for key, record in content.items() if isinstance(record, MetricRecord)]
    weight_record = next(
        (key for key in records if weight_key in content[key]), next(iter(records), _METRICS)
    )
    return differences.difference(
        items,
        baseline_of(sent),
        training=training,
        weight_record=weight_record,
        left_out=[name for key in records for name in content[key]] if training else [],
    )


def to_records(layout: Layout, values: Sequence[NDArray[Any]], weight: int, weight_key: str) -> RecordDict:
    """Return values, one for each of the layout's entries and of its shape, and the weight as a reply's records."""
    arrays: dict[str, ArrayRecord] = {}
    metrics: dict[str, MetricRecord] = {}
    for entry, value in zip(layout.entries, values, strict=True):
        if entry.form == ARRAY:
            array = np.ascontiguousarray(value).reshape(entry.shape)
            arrays.setdefault(entry.record, ArrayRecord())[entry.name] = Array(array)
        else:
            metrics.setdefault(entry.record, MetricRecord())[entry.name] = value.tolist()
    metrics.setdefault(layout.weight_record, MetricRecord())[weight_key] = weight
    records = RecordDict()
    records.update(arrays)
    records.update(metrics)
    return records


def arrange(records: RecordDict, announced: Layout, sent: Sent, leave_out: Sequence[str]) -> RecordDict:
    """Return means in the order of what was sent, with what was left out as it was sent.

    Apps read arrays by position, too. What did not come with the task follows, in the order of the replies.

    Args:
      records: from `to_records`.
      announced: a layout of the replies, in their order.
      sent: with the task.
      leave_out: paths of arrays that nodes kept to themselves.
    """
    found = dict(arrays_in(records))
    if found:  # of an evaluation there are none
        left_out = [key for key in sent if any(matches("/".join(key), pattern) for pattern in leave_out)]
        found = {key: sent[key] for key in left_out} | found
    order = [*sent, *((entry.record, entry.name) for entry in announced.arrays)]
    arrays: dict[str, ArrayRecord] = {}
    for key in dict.fromkeys(order):
        if key in found:
            arrays.setdefault(key[0], ArrayRecord())[key[1]] = found[key]
    metrics: dict[str, MetricRecord] = {}
    values = {
        key: dict(record.items()) for key, record in records.items() if isinstance(record, MetricRecord)
    }
    for entry in announced.metrics:
        metrics.setdefault(entry.record, MetricRecord())[entry.name] = values[entry.record].pop(entry.name)
    for name, rest in values.items():  # the weight
        metrics.setdefault(name, MetricRecord()).update(rest)
    arranged = RecordDict()
    arranged.update(arrays)
    arranged.update(metrics)
    return arranged
