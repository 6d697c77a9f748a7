"""What an app's function replied, taken apart into entries and values, and put together again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from secagg.errors import ShapeError, UsageError
from secagg.party import PartyId
from secagg.ring import Ring, RingArray
from secagg.wire import Message

if TYPE_CHECKING:
    from secagg import dp

_DTYPES: Final = frozenset(
    ["float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
)
_ARRAY, _NUMBER, _LIST = "array", "number", "list"
_NDIM: Final = {_NUMBER: 0, _LIST: 1}
_MAX_NDIM: Final = 32
_MAX_LENGTH: Final = 1 << 40

# Arrays that came with a task, by record and name.
Sent = Mapping[tuple[str, str], Array]


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

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, in order."""
        return (*self.arrays, *self.metrics)

    @property
    def numbers(self) -> int:
        """How many numbers there are."""
        return count_numbers(self.entries)

    def check(self) -> None:
        """Refuse what no reply looks like.

        Raises:
          ShapeError: unknown dtypes, impossible shapes, names that come twice, or no numbers at all.
        """
        for entries, forms in ((self.arrays, (_ARRAY,)), (self.metrics, (_NUMBER, _LIST))):
            for entry in entries:
                fits = len(entry.shape) <= _NDIM.get(entry.form, _MAX_NDIM) and all(
                    n >= 0 for n in entry.shape
                )
                known = entry.dtype in _DTYPES and entry.form in forms
                if not known or not fits or extent(entry.shape) > _MAX_LENGTH:
                    raise ShapeError(f"impossible entry {entry.record!r:.80}, {entry.name!r:.80} in a layout")
        names = {(entry.record, entry.name) for entry in self.entries}
        records = {entry.record for entry in self.arrays}
        mixed = not records.isdisjoint({*(entry.record for entry in self.metrics), self.weight_record})
        if len(names) != len(self.entries) or mixed or not 0 < self.numbers < _MAX_LENGTH:
            raise ShapeError(
                f"expected a layout of distinct names and some numbers, got one of {self.numbers} numbers"
            )


@dataclass(frozen=True, slots=True)
class Update:
    """A reply taken apart: arrays in the order of the layout's entries, and the weight. Secret."""

    layout: Layout
    values: list[NDArray[Any]] = field(repr=False)
    weight: int = field(repr=False)


class Means(NamedTuple):
    """What a sum of vectors stands for.

    error: bound on the error of the arrays' means, that of clipping aside; infinite where there is noise.
    deviation: standard deviation of the noise in each number of a mean.
    """

    records: RecordDict
    weight: int
    clipped: int
    error: float
    deviation: float = 0.0


class Coder(Protocol):
    """Vectors of one layout for sums of so many clients.

    Attributes:
      length: of a vector.
      ring: the narrowest that holds every sum.
    """

    length: int
    ring: Ring

    def contribution(self, vector: NDArray[Any]) -> RingArray:
        """Return what goes under the masks for a vector that a client kept; to be called once for it."""

    def decode(self, total: RingArray, contributors: Sequence[PartyId], weight_key: str, sent: Sent) -> Means:
        """Return the means that a sum of contributions stands for, in records of the replies' names.

        Args:
          total: elements of the ring, shape (length,).
          contributors: whose vectors are in it.
          weight_key: name of the weight in the result.
          sent: arrays that the task came with.

        Raises:
          RangeError: there is no mean.
        """

    def report(self, rounds: int) -> dp.Report | None:
        """Return what so many sums have told about a node that was in all of them; None without noise.

        Raises:
          RangeError: more than the budget is for.
        """


def arrays_in(content: RecordDict) -> dict[tuple[str, str], Array]:
    """Return the arrays of a message, not yet decoded, by record and name."""
    return {
        (key, name): array
        for key, record in content.items()
        if isinstance(record, ArrayRecord)
        for name, array in record.items()
    }


def array_entries(content: RecordDict) -> Iterator[tuple[Entry, NDArray[Any]]]:
    """Return each array of a reply with its entry.

    Raises:
      UsageError: no numpy array, or of a dtype that cannot be averaged.
    """
    for (key, name), array in arrays_in(content).items():
        try:
            value: NDArray[Any] = array.numpy()
        except (TypeError, ValueError):
            raise UsageError(f"the array {name!r} in {key!r} is no numpy array") from None
        if str(value.dtype) not in _DTYPES:
            raise UsageError(
                f"the array {name!r} in {key!r} has dtype {value.dtype}, which cannot be averaged"
            )
        yield Entry(key, name, _ARRAY, str(value.dtype), value.shape), value


def metric_entries(content: RecordDict, weight_key: str) -> Iterator[tuple[Entry, NDArray[Any]]]:
    """Return each metric of a reply but the weight with its entry.

    Raises:
      UsageError: a number that does not fit 64 bits.
    """
    for key, record in content.items():
        if isinstance(record, MetricRecord):
            for name, number in record.items():
                if name != weight_key:
                    value = _from_metric(number, key, name)
                    form = _LIST if isinstance(number, list) else _NUMBER
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


def take_apart(content: RecordDict, weight_key: str) -> Update:
    """Return what a reply holds.

    Raises:
      UsageError: a record that cannot be averaged, no weight, several, or one that is no whole number.
      ShapeError: no numbers.
    """
    refuse_config(content)
    arrays, metrics = list(array_entries(content)), list(metric_entries(content, weight_key))
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
    layout = Layout(tuple(e for e, _ in arrays), tuple(e for e, _ in metrics), weight_record)
    layout.check()
    return Update(layout, [value for _, value in (*arrays, *metrics)], int(weight))


def to_records(layout: Layout, values: Sequence[NDArray[Any]], weight: int, weight_key: str) -> RecordDict:
    """Return values, one for each of the layout's entries and of its shape, and the weight as a reply's records."""
    arrays: dict[str, ArrayRecord] = {}
    metrics: dict[str, MetricRecord] = {}
    for entry, value in zip(layout.entries, values, strict=True):
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


def extent(shape: Sequence[int]) -> int:
    """Return the product of all lengths but those of 0: an array of shape (0, 2**60) is more than numpy can write down."""
    return math.prod(length or 1 for length in shape)


def count_numbers(entries: Sequence[Entry]) -> int:
    """Return how many numbers entries hold."""
    return sum(math.prod(entry.shape) for entry in entries)


def _from_metric(number: Any, key: str, name: str) -> NDArray[Any]:
    try:
        integers = (
            all(isinstance(n, int) for n in number) if isinstance(number, list) else isinstance(number, int)
        )
        return np.asarray(number, np.int64 if integers and number != [] else np.float64)
    except OverflowError:
        raise UsageError(f"the metric {name!r} in {key!r} does not fit 64 bits") from None
