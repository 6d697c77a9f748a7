"""The arrays that hold ring elements: their types, their dtypes and their byte order."""

from __future__ import annotations

import functools
import sys
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import UsageError

if sys.byteorder != "little":
    raise ImportError("secagg needs a little-endian machine: arrays are sent as they lie in memory")

RingArray: TypeAlias = NDArray[np.unsignedinteger[Any]]
U64: TypeAlias = NDArray[np.uint64]


@functools.cache
def dtype_for(bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the smallest unsigned dtype that holds `bits` bits, 1..64."""
    width = next(w for w in (8, 16, 32, 64) if bits <= w)
    return np.dtype(f"u{width // 8}")


def check_width(width: int) -> None:
    """Refuse a width outside 1..64.

    Raises:
      UsageError: such a width.
    """
    if not 1 <= width <= 64:
        raise UsageError(f"a packed element has 1 to 64 bits, not {width}")
