"""What an app's function replied, as one vector of integers, and sums of such vectors as weighted means.

The vector holds, of arrays and of metrics (each as `secagg.aggregation.coding.FixedPoint` writes them), the numbers
times the weight, and the weight; last, how many numbers were clipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from secagg.aggregation.coding import FixedPoint, Request
from secagg.aggregation.structure import Structure
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.party import PartyId
from secagg.protocols.masked import ring_for
from secagg.ring import Ring
from secagg.wire import Message

if TYPE_CHECKING:
    from secagg.integrations.flower.terms import Encoding

_DTYPES: Final = frozenset(
    ["float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
)
_ARRAY, _NUMBER, _LIST = "array", "number", "list"
_MAX_LENGTH: Final = 1 << 40


class Entry(Message, frozen=True):
    """One array or metric: the record it is in, its name, "array", "number" or "list", dtype and shape."""

    record: str
    name: str
    form: str
    dtype: str
    shape: tuple[int, ...]


class Layout(Message, frozen=True):
    """What replies hold, in order: arrays, then metrics without the weight.

    weight_record: the metric record that holds the weight.
    """

    arrays: tuple[Entry, ...]
    metrics: tuple[Entry, ...]
    weight_record: str

    def check(self) -> None:
        """Refuse what no reply looks like.

        Raises:
          ShapeError: unknown dtypes, impossible shapes, names that come twice, or no numbers at all.
        """
        entries = [*self.arrays, *self.metrics]
        numbers = 0
        for entry in entries:
            known = entry.dtype in _DTYPES and (entry.form == _ARRAY) == (entry in self.arrays)
            if not known or entry.form not in (_ARRAY, _NUMBER, _LIST) or any(n < 0 for n in entry.shape):
                raise ShapeError(f"impossible entry {entry.record!r:.80}, {entry.name!r:.80} in a layout")
            numbers += math.prod(entry.shape)
        if len({(e.record, e.name) for e in entries}) != len(entries) or not 0 < numbers < _MAX_LENGTH:
            raise ShapeError(
                f"expected a layout of distinct names and some numbers, got one of {numbers} numbers"
            )


class Update(NamedTuple):
    """A reply taken apart: arrays in the order of the layout's entries, and the weight."""

    layout: Layout
    values: list[NDArray[Any]]
    weight: int


class Means(NamedTuple):
    """What a sum of vectors stands for.

    error: bound on the error of the arrays' means, that of clipping aside.
    """

    records: RecordDict
    weight: int
    clipped: int
    error: float


def take_apart(content: RecordDict, weight_key: str) -> Update:
    """Return what a reply holds.

    Raises:
      UsageError: a record that cannot be averaged, no weight, several, or one that is no whole number.
    """
    arrays, metrics, weights = [], [], []
    for key, record in content.items():
        if isinstance(record, ArrayRecord):
            for name, array in record.items():
                value = _from_array(array, key, name)
                arrays.append((Entry(key, name, _ARRAY, str(value.dtype), value.shape), value))
        elif isinstance(record, MetricRecord):
            for name, number in record.items():
                if name == weight_key:
                    weights.append((key, number))
                    continue
                value = _from_metric(number, key, name)
                form = _LIST if isinstance(number, list) else _NUMBER
                metrics.append((Entry(key, name, form, str(value.dtype), value.shape), value))
        elif isinstance(record, ConfigRecord) and record:
            raise UsageError(
                f"the reply holds a ConfigRecord {key!r}, which cannot be averaged and would show the server single "
                "values; leave it out"
            )
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
    layout = Layout(tuple(e for e, _ in arrays), tuple(e for e, _ in metrics), weight_record)
    layout.check()
    return Update(layout, [value for _, value in (*arrays, *metrics)], int(weight))


class Coder:
    """Vectors of one layout for sums of so many clients.

    Attributes:
      length: of a vector.
      ring: the narrowest that holds every sum.

    Raises:
      PlanError: no ring of 64 bits holds the sums; the message says what would.
      UsageError: an array without clip.
    """

    def __init__(self, layout: Layout, encoding: Encoding, clients: int) -> None:
        self._layout = layout
        self._max_weight = encoding.max_weight
        metric_clips = {"": encoding.metric_clip}
        groups = (
            (layout.arrays, encoding.clips, encoding.precision),
            (layout.metrics, metric_clips, encoding.metric_precision),
        )
        self._codings = [
            FixedPoint(Request(_structure(entries), True, clips, precision, clients, encoding.max_weight))
            for entries, clips, precision in groups
            if _numbers(entries)
        ]
        self.length = sum(coding.length for coding in self._codings) + 1
        rings = [ring_for(coding.plan, clients).bits for coding in self._codings]
        self.ring = Ring(max(*rings, (clients * self.length).bit_length() + 1))

    def encode(self, update: Update) -> tuple[NDArray[np.int64], int]:
        """Return an update as a vector, and how many numbers were clipped.

        Raises:
          RangeError: NaN or infinity.
        """
        vector: NDArray[np.int64] = np.empty(self.length, np.int64)
        weight = min(update.weight, self._max_weight)
        clipped, start, taken = int(weight != update.weight), 0, 0
        values = self._present(update.values)
        for coding in self._codings:
            count = len(coding.parts)
            numbers, more = coding.encode(values[taken : taken + count], weight)
            vector[start : start + coding.length] = numbers
            clipped, start, taken = clipped + more, start + coding.length, taken + count
        vector[-1] = clipped
        return vector, clipped

    def decode(self, total: NDArray[np.int64], contributors: Sequence[PartyId], weight_key: str) -> Means:
        """Return the means that a sum of vectors stands for, in records of the replies' names.

        Raises:
          RangeError: the weights add up to nothing.
        """
        values, error, start, weight = [], 0.0, 0, 0
        for i, coding in enumerate(self._codings):
            part = total[start : start + coding.length]
            start += coding.length
            weight = int(part[-1])
            if weight <= 0:
                raise RangeError(
                    f"the weights {weight_key!r} of {len(contributors)} clients add up to {weight}; there is no mean"
                )
            decoded = coding.decode(part, len(contributors), 0.0)
            values += decoded.arrays
            if i == 0:
                error = max(decoded.errors.values())
        return Means(self._records(values, weight, weight_key), weight, int(total[-1]), error)

    def _present(self, values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Leave out what belongs to a group without numbers."""
        border = len(self._layout.arrays)
        groups = (values[:border], values[border:])
        return [value for group in groups if any(v.size for v in group) for value in group]

    def _records(self, values: Sequence[NDArray[Any]], weight: int, weight_key: str) -> RecordDict:
        arrays: dict[str, ArrayRecord] = {}
        metrics: dict[str, MetricRecord] = {}
        rest = iter(values)
        layout = self._layout
        for entries in (layout.arrays, layout.metrics):
            empty = not _numbers(entries)
            for entry in entries:
                value = np.zeros(entry.shape, entry.dtype) if empty else next(rest)
                if entry.form == _ARRAY:
                    array = np.ascontiguousarray(value).reshape(entry.shape)
                    arrays.setdefault(entry.record, ArrayRecord())[entry.name] = Array(array)
                else:
                    metrics.setdefault(entry.record, MetricRecord())[entry.name] = value.tolist()
        metrics.setdefault(layout.weight_record, MetricRecord())[weight_key] = weight
        records = RecordDict()
        records.update(arrays)
        records.update(metrics)
        return records


def _numbers(entries: Sequence[Entry]) -> int:
    return sum(math.prod(entry.shape) for entry in entries)


def _structure(entries: Sequence[Entry]) -> Structure:
    update: dict[str, dict[str, NDArray[Any]]] = {}
    for entry in entries:
        # One number shown in every place: the shape costs no memory.
        zeros = np.broadcast_to(np.zeros((), entry.dtype), entry.shape)
        update.setdefault(entry.record, {})[entry.name] = zeros
    return Structure(update, "the first client")


def _from_array(array: Array, key: str, name: str) -> NDArray[Any]:
    try:
        value: NDArray[Any] = array.numpy()
    except (TypeError, ValueError):
        raise UsageError(f"the array {name!r} in {key!r} is no numpy array") from None
    if str(value.dtype) not in _DTYPES:
        raise UsageError(f"the array {name!r} in {key!r} has dtype {value.dtype}, which cannot be averaged")
    return value


def _from_metric(number: Any, key: str, name: str) -> NDArray[Any]:
    try:
        integers = (
            all(isinstance(n, int) for n in number) if isinstance(number, list) else isinstance(number, int)
        )
        return np.asarray(number, np.int64 if integers and number != [] else np.float64)
    except OverflowError:
        raise UsageError(f"the metric {name!r} in {key!r} does not fit 64 bits") from None
