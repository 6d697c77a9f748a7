"""What an app's function replied, taken apart into entries and values, and put together again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.integrations.flower.identities import SERVER
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

    @property
    def path(self) -> str:
        """The entry's path: record and name."""
        return f"{self.record}/{self.name}"

    def __str__(self) -> str:
        return f"{self.path!r:.120} ({self.form}, {self.dtype}, shape {self.shape})"


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

    def canonical(self) -> Layout:
        """Return the layout in the order of paths: nodes that reply the same in another order have one in common."""
        return Layout(
            tuple(sorted(self.arrays, key=_by_name)),
            tuple(sorted(self.metrics, key=_by_name)),
            self.weight_record,
        )

    def check(self) -> None:
        """Refuse what no reply looks like.

        Raises:
          ShapeError: unknown dtypes, impossible shapes, names that come twice, print alike or do not print, or no numbers
            at all.
        """
        for entries, forms in ((self.arrays, (_ARRAY,)), (self.metrics, (_NUMBER, _LIST))):
            for entry in entries:
                fits = len(entry.shape) <= _NDIM.get(entry.form, _MAX_NDIM) and all(
                    n >= 0 for n in entry.shape
                )
                known = entry.dtype in _DTYPES and entry.form in forms
                if not known or not fits or extent(entry.shape) > _MAX_LENGTH or not entry.path.isprintable():
                    raise ShapeError(f"impossible entry {entry.record!r:.80}, {entry.name!r:.80} in a layout")
        if not self.weight_record.isprintable():
            raise ShapeError(f"impossible name {self.weight_record!r:.80} of a record in a layout")
        names = {(entry.record, entry.name) for entry in self.entries}
        records = {entry.record for entry in self.arrays}
        paths = {entry.path for entry in self.arrays}
        if len(paths) != len({(entry.record, entry.name) for entry in self.arrays}) or paths & records:
            raise ShapeError(
                "two arrays, or an array and a record, have one path, record and name joined by /; rename one of them"
            )
        mixed = not records.isdisjoint({*(entry.record for entry in self.metrics), self.weight_record})
        if len(names) != len(self.entries) or mixed or not 0 < self.numbers < _MAX_LENGTH:
            raise ShapeError(
                f"expected a layout of distinct names and some numbers, got one of {self.numbers} numbers"
            )


@dataclass(frozen=True, slots=True)
class Update:
    """A reply taken apart: arrays in the order of the layout's entries, and the weight. Secret.

    layout: canonical. announced: in the order of the reply.
    """

    layout: Layout
    announced: Layout
    values: list[NDArray[Any]] = field(repr=False)
    weight: int = field(repr=False)


class Means(NamedTuple):
    """What a sum of vectors stands for.

    error: bound on the error of the arrays' means (of the metrics' where there are no arrays); infinite where there is
      noise.
    deviation: standard deviation of the noise in each number of a mean.
    """

    records: RecordDict
    weight: int
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


def matches(path: str, pattern: str) -> bool:
    """Whether an array's path is, lies below, or fits a pattern with * and ?; all fit the empty one."""
    return not pattern or f"{path}/".startswith(f"{pattern}/") or fnmatchcase(path, pattern)


def array_entries(content: RecordDict, leave_out: Sequence[str] = ()) -> Iterator[tuple[Entry, NDArray[Any]]]:
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
        if str(value.dtype) not in _DTYPES:
            raise UsageError(
                f"the array {name!r} in {key!r} has dtype {value.dtype}, which cannot be averaged; convert it, or let the "
                f"server leave it out: Encoding(leave_out=[{path!r}])"
            )
        yield Entry(key, name, _ARRAY, str(value.dtype), value.shape), value


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
    announced = Layout(tuple(e for e, _ in arrays), tuple(e for e, _ in metrics), weight_record)
    announced.check()
    values = [
        value for group in (arrays, metrics) for _, value in sorted(group, key=lambda item: _by_name(item[0]))
    ]
    return Update(announced.canonical(), announced, values, int(weight))


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


def differs(other: Layout, usual: Layout) -> str:
    """Return what is first in one of two canonical layouts and not in the other, for people."""
    mine, theirs = ({(e.record, e.name): str(e) for e in layout.entries} for layout in (other, usual))
    for key in (*theirs, *mine):
        one, two = mine.get(key, "nothing"), theirs.get(key, "nothing")
        if one != two:
            return f"{one} in place of {two}"
    return f"the weight in {other.weight_record!r:.80} in place of {usual.weight_record!r:.80}"


def extent(shape: Sequence[int]) -> int:
    """Return the product of all lengths but those of 0: an array of shape (0, 2**60) is more than numpy can write down."""
    return math.prod(length or 1 for length in shape)


def count_numbers(entries: Sequence[Entry]) -> int:
    """Return how many numbers entries hold."""
    return sum(math.prod(entry.shape) for entry in entries)


def _by_name(entry: Entry) -> tuple[str, str]:
    return entry.record, entry.name
