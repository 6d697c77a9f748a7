"""What an organisation counts in its own table before anything is shared; nothing secret leaves from here.

Counts and sums are exact or refused: a sum that 64 bits cannot hold never wraps.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import DataError, RangeError, ShapeError
from secagg.ring import U64

_HALF: Final = 32  # bits; sums of halves of fewer than 2**32 amounts fit 64
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
_MISSING: Final = np.array([None], object)


@dataclass(frozen=True, slots=True, eq=False)
class Categorical:
    """Strings numbered in the order in which they first come.

    Attributes:
      categories: the distinct strings.
      codes: int64, for each string its place in `categories`; -1 where it is missing.
    """

    categories: NDArray[np.object_]
    codes: NDArray[np.int64]

    @property
    def strings(self) -> NDArray[np.object_]:
        """Return the strings that are numbered, shape (n,); None where one is missing."""
        return np.concatenate([self.categories, _MISSING])[self.codes]  # the last place is that of -1

    def taken(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Categorical:
        """Return the strings of some rows, by a mask or their places; only strings that still occur are categories."""
        codes = self.codes[rows]
        there = codes >= 0  # the place -1 is a missing string
        found, first, inverse = np.unique(codes[there], return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty(len(found), np.int64)
        place[order] = np.arange(len(found))
        numbered = np.full(len(codes), -1, np.int64)
        numbered[there] = place[inverse]
        return Categorical(self.categories[found[order]], numbered)

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.strings.tolist())

    def __repr__(self) -> str:
        return f"<Categorical of {len(self.codes)} strings, {len(self.categories)} distinct>"


def factorize(strings: NDArray[Any] | Categorical) -> Categorical:
    """Number an array of strings, shape (n,); what is numbered already is returned as it is.

    Raises:
      DataError: an entry that is no string.
    """
    if isinstance(strings, Categorical):
        return strings
    number: defaultdict[Any, int] = defaultdict(itertools.count().__next__)
    listed = strings.tolist()
    codes = np.fromiter(map(number.__getitem__, listed), np.int64, len(listed))
    other = next((kind.__name__ for kind in set(map(type, number)) if not issubclass(kind, str)), None)
    if other is not None:
        raise DataError(f"identifiers are expected as strings; got one of type {other}")
    categories = np.empty(len(number), object)
    categories[:] = list(number)
    return Categorical(categories, codes)


def group_sum(groups: Categorical, amounts: NDArray[np.int64]) -> U64:
    """Return the exact sum of each group's amounts.

    Args:
      amounts: integers from 0, shape (n,), one for each of the groups' codes.

    Raises:
      ShapeError: amounts of another shape, or that are no integers.
      RangeError: a negative amount, or a sum of 2**64 or more.
    """
    if amounts.shape != groups.codes.shape or amounts.dtype.kind not in "iu":
        raise ShapeError(
            f"expected one whole amount for each of {len(groups.codes)} rows; "
            f"got {amounts.dtype} of shape {amounts.shape}"
        )
    negative = int(np.count_nonzero(amounts < 0))
    if negative:
        raise RangeError(
            f"{negative} of {len(amounts)} amounts are negative, and a sum of amounts from 0 is expected; "
            "net reversals against what they reverse, or leave them out in a query"
        )
    words = amounts.astype(np.uint64)
    low, high = (np.zeros(len(groups.categories), np.uint64) for _ in range(2))
    np.add.at(low, groups.codes, words & np.uint64((1 << _HALF) - 1))
    np.add.at(high, groups.codes, words >> np.uint64(_HALF))
    high += low >> np.uint64(_HALF)
    over = int(np.count_nonzero(high >> np.uint64(_HALF)))
    if over:
        raise RangeError(
            f"{over} of {len(groups.categories)} identifiers have amounts that add up to 2**64 or more, which no "
            "field of a job can hold; see that the amounts are in the right unit"
        )
    return (high << np.uint64(_HALF)) | (low & np.uint64((1 << _HALF) - 1))


def group_size(groups: Categorical) -> U64:
    """Return the number of rows of each group."""
    return np.bincount(groups.codes, minlength=len(groups.categories)).astype(np.uint64)


def nunique(groups: Categorical, members: Categorical) -> U64:
    """Return for each group how many different members stand beside it.

    Raises:
      ShapeError: not one member for each of the groups' codes.
    """
    if members.codes.shape != groups.codes.shape:
        raise ShapeError(
            f"expected one member for each of {len(groups.codes)} rows; got {len(members.codes)}"
        )
    pairs = np.sort(groups.codes * max(1, len(members.categories)) + members.codes)
    first = np.ones(len(pairs), bool)
    np.not_equal(pairs[1:], pairs[:-1], out=first[1:])
    of_group = pairs[first] // max(1, len(members.categories))
    return np.bincount(of_group, minlength=len(groups.categories)).astype(np.uint64)


def repeated_rows(columns: Mapping[str, Any]) -> int:
    """Return how many rows equal an earlier one in all columns.

    Args:
      columns: at least one; `Categorical`, numbers of shape (n,), or a masked array of them, all of one length.
    """
    keys: list[NDArray[Any]] = []
    for column in columns.values():
        if isinstance(column, Categorical):
            keys.append(column.codes)
        elif isinstance(column, np.ma.MaskedArray):
            keys += [np.asarray(column.filled(0)), np.ma.getmaskarray(column)]
        else:
            keys.append(np.asarray(column))
    mixed = np.zeros(len(keys[0]), np.uint64)
    for key in keys:  # equal rows are mixed alike; few others are, and those are told apart below
        words = (key + 0.0).view(np.uint64) if key.dtype == np.float64 else key.astype(np.uint64)
        mixed = (mixed ^ words ^ (words >> np.uint64(29))) * _ODD
        mixed ^= mixed >> np.uint64(32)
    order = np.argsort(mixed)
    alike = mixed[order[1:]] == mixed[order[:-1]]
    some = np.zeros(len(mixed), bool)
    some[order[1:][alike]] = some[order[:-1][alike]] = True
    keys = [key[some] for key in keys]
    order = np.lexsort(keys)
    same = np.ones(max(len(order) - 1, 0), bool)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    return int(np.count_nonzero(same))
