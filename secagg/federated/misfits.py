"""How many nodes' updates do not fit an encoding, and where: counts at the end of a vector.

For each array, for the weight, and for each metric there are five counts, of nodes that are beyond what the encoding holds,
by how far. Whoever does not fit puts uniform elements before its counts, so that nothing else can be read.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, UsageError
from secagg.federated.layout import Entry, matches

# Powers of two beyond the clip that bound the classes of misfits; the last class is of all beyond.
_CLASS_BITS: Final = (4, 8, 12, 16)
_CLASSES: Final = len(_CLASS_BITS) + 1


class Misfits:
    """The counts of one encoding.

    Args:
      paths: of what is bounded; "" stands for the weight.
      mosts: the largest absolute value of each.
      weight_key: what messages call the weight.
      log: where a node reads what did not fit.

    Attributes:
      length: how many counts there are.
    """

    __slots__ = ("_log", "_mosts", "_paths", "_weight_key", "length")

    def __init__(
        self, paths: Sequence[str], mosts: Sequence[float], weight_key: str, log: logging.Logger
    ) -> None:
        self._paths, self._mosts, self._weight_key, self._log = tuple(paths), tuple(mosts), weight_key, log
        self.length = _CLASSES * len(self._paths)

    def of(self, sizes: Sequence[float]) -> NDArray[np.int64]:
        """Return a node's counts, shape (length,), for the largest absolute value of each; the log says what is beyond."""
        counts = np.zeros((len(self._paths), _CLASSES), np.int64)
        for row, path, size, most in zip(counts, self._paths, sizes, self._mosts, strict=True):
            if size > most:
                row[_class(size, most)] = 1
                self._log.error(
                    "%s of this node's reply is beyond %.10g, and %.10g would hold it: its update stays out of the sum, "
                    "and the sum cannot be read; the server's Encoding says what fits",
                    repr(path) if path else "the weight",
                    most,
                    2.0 ** math.ceil(math.log2(size)),
                )
        return counts.reshape(-1)

    def check(self, counts: NDArray[np.int64], clients: int) -> None:
        """Refuse a sum with updates that did not fit.

        Raises:
          RangeError: there are some.
        """
        if not counts.any():
            return
        found = []
        for row, path, most in self._beyond(counts.reshape(-1, _CLASSES)):
            nodes = int(row.sum())
            (last,) = np.flatnonzero(row)[-1:]
            holds = f"{most * 2.0 ** _CLASS_BITS[min(last, len(_CLASS_BITS) - 1)]:.10g}"
            needed = f"{holds} holds all" if last < len(_CLASS_BITS) else f"more than {holds} is needed"
            what = f"{path!r:.80}" if path else f"the weight {self._weight_key!r}"
            found.append(f"{what} is beyond {most:.10g} at {nodes} of {clients} nodes ({needed})")
        more = f"; and {len(found) - 10} more" if len(found) > 10 else ""
        raise RangeError(
            f"nothing of the sum can be read, as updates do not fit: {'; '.join(found[:10])}{more}. Give Encoding larger "
            "clips, another max_weight or a larger precision, or leave arrays out with leave_out; each node's own log says "
            "what it needs"
        )

    def _beyond(self, counts: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], str, float]]:
        for row, path, most in zip(counts, self._paths, self._mosts, strict=True):
            if row.any():
                yield row, path, most


def clips_of(
    entries: Sequence[Entry], given: Mapping[str, float], widest: Callable[[Entry], float]
) -> list[float]:
    """Return the clip of each array: that of the longest path or pattern that it matches, or the widest.

    Raises:
      UsageError: a clip for an array that is not there.
    """
    paths = [entry.path for entry in entries]
    strange = [key for key in given if paths and not any(matches(path, key) for path in paths)]
    if strange:
        raise UsageError(
            f"Encoding has a clip for {strange[0]!r:.80}, and no array is called so: there are "
            + ", ".join(f"{path!r:.80}" for path in paths[:8])
            + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
        )
    clips = []
    for entry in entries:
        keys = [key for key in given if matches(entry.path, key)]
        clips.append(given[max(keys, key=len)] if keys else widest(entry))
    return clips


def largest(value: NDArray[Any]) -> float | int:
    """Return the largest absolute value, exactly."""
    return max(abs(value.min().item()), abs(value.max().item())) if value.size else 0


def _class(size: float, most: float) -> int:
    for number, bits in enumerate(_CLASS_BITS):
        if size <= most * 2.0**bits:
            return number
    return len(_CLASS_BITS)
