"""What an organisation counts in its own table before anything is shared; nothing secret leaves from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from secagg.ring import U64


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """Strings numbered in the order in which they first come.

    Attributes:
      names: the distinct strings.
      codes: int64, for each string its place in `names`.
    """

    names: NDArray[np.object_]
    codes: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"<Codes of {len(self.codes)} strings, {len(self.names)} distinct>"

    @classmethod
    def of(cls, strings: NDArray[Any]) -> Self:
        """Return the codes of an array of strings, shape (n,)."""
        listed = strings.tolist()
        number = {name: i for i, name in enumerate(dict.fromkeys(listed))}
        names = np.empty(len(number), object)
        names[:] = list(number)
        return cls(names, np.fromiter(map(number.__getitem__, listed), np.int64, len(listed)))


def totals(groups: Codes, amounts: NDArray[np.int64]) -> U64:
    """Return the exact sum of each group's amounts, which are not negative and stay below 2**64 in all."""
    sums = np.zeros(len(groups.names), np.uint64)
    np.add.at(sums, groups.codes, amounts.astype(np.uint64))
    return sums


def distinct_pairs(groups: Codes, members: Codes) -> U64:
    """Return for each group how many different members stand beside it."""
    pairs = np.unique(groups.codes * max(1, len(members.names)) + members.codes)
    return np.bincount(pairs // max(1, len(members.names)), minlength=len(groups.names)).astype(np.uint64)
