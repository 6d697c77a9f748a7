"""What nodes reply, apart from how it travels: entries and values, and the layout that the replies of a sum share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError
from secagg.ring import Ring, RingArray
from secagg.wire import Message

if TYPE_CHECKING:
    from secagg import dp

DTYPES: Final = frozenset(
    ["float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
)
ARRAY, NUMBER, LIST = "array", "number", "list"
_NDIM: Final = {NUMBER: 0, LIST: 1}
_MAX_NDIM: Final = 32
_MAX_LENGTH: Final = 1 << 40

Key: TypeAlias = tuple[str, str]  # record and name
Shapes: TypeAlias = Mapping[Key, tuple[int, ...]]  # of the arrays that came with a task


class Entry(Message, frozen=True):
    """One array or metric: the record it is in, its name, "array", "number" or "list", dtype and shape."""

    record: str
    name: str
    form: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def key(self) -> Key:
        """Record and name."""
        return self.record, self.name

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
            tuple(sorted(self.arrays, key=_key)),
            tuple(sorted(self.metrics, key=_key)),
            self.weight_record,
        )

    def check(self) -> None:
        """Refuse what no reply looks like.

        Raises:
          ShapeError: unknown dtypes, impossible shapes, names that come twice, print alike or do not print, or no numbers
            at all.
        """
        for entries, forms in ((self.arrays, (ARRAY,)), (self.metrics, (NUMBER, LIST))):
            for entry in entries:
                fits = len(entry.shape) <= _NDIM.get(entry.form, _MAX_NDIM) and all(
                    n >= 0 for n in entry.shape
                )
                known = entry.dtype in DTYPES and entry.form in forms
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


Item: TypeAlias = tuple[Entry, NDArray[Any]]
# The array that came with a task under an entry's record, name and shape, float64; None if there is none.
Baseline: TypeAlias = Callable[[Entry], NDArray[np.float64] | None]


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

    values: one for each of the layout's entries, of its shape.
    weight: sum of the weights; the number of nodes if there is noise.
    error: bound on the error of the arrays' means (of the metrics' where there are no arrays); infinite where there is
      noise.
    noise_std: standard deviation of the noise in each number of a mean.
    """

    values: list[NDArray[Any]]
    weight: int
    error: float
    noise_std: float = 0.0


class Coder(Protocol):
    """Vectors of one layout for sums of so many clients.

    Attributes:
      length: of a vector.
      ring: the narrowest that holds every sum.
    """

    length: int
    ring: Ring

    def fits(self, vector: NDArray[Any]) -> bool:
        """Whether a vector that a node kept can go into a sum as it is; the log says why not."""

    def contribution(self, vector: NDArray[Any]) -> RingArray:
        """Return what goes under the masks for a vector that a node kept; to be called once for it."""

    def decode(self, total: RingArray, clients: int, baseline: Baseline) -> Means:
        """Return the means that a sum of contributions stands for.

        Args:
          total: elements of the ring, shape (length,).
          clients: how many contributions are in it.
          baseline: the arrays that the task came with.

        Raises:
          RangeError: there is no mean.
        """

    def report(self, rounds: int) -> dp.Report | None:
        """Return what so many sums have told about a node that was in all of them; None without noise.

        Raises:
          RangeError: more than the budget is for.
        """


def update_of(arrays: Sequence[Item], metrics: Sequence[Item], weight_record: str, weight: int) -> Update:
    """Return a reply's items, in its order, as an update.

    Raises:
      ShapeError: no numbers, or what `Layout.check` refuses.
    """
    announced = Layout(tuple(e for e, _ in arrays), tuple(e for e, _ in metrics), weight_record)
    announced.check()
    values = [value for group in (arrays, metrics) for _, value in sorted(group, key=lambda i: i[0].key)]
    return Update(announced.canonical(), announced, values, weight)


def matches(path: str, pattern: str) -> bool:
    """Whether an array's path is, lies below, or fits a pattern with * and ?; all fit the empty one."""
    return not pattern or f"{path}/".startswith(f"{pattern}/") or fnmatchcase(path, pattern)


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


def _key(entry: Entry) -> Key:
    return entry.key
