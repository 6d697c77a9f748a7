"""Groups and items that a job names: their places, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import DataError, PlanError
from secagg.query.schema import Real

PROBABILITY: Final = Real(Decimal(0), Decimal(1), 9)
STATISTIC: Final = Real(Decimal(-(10**8)), Decimal(10**8), 9)
PROBABILITY_OR_NULL: Final = replace(PROBABILITY, nullable=True)
STATISTIC_OR_NULL: Final = replace(STATISTIC, nullable=True)


def check_names(what: str, names: Sequence[str], *, least: int = 1, most: int = 64) -> None:
    """Refuse a list of names that is too short, too long, or holds one twice.

    Raises:
      PlanError: it is.
    """
    if not least <= len(names) <= most or len(set(names)) != len(names) or "" in names:
        raise PlanError(
            f"expected {least} to {most} different names for {what}, got {len(names)}: {', '.join(names)!r:.80}"
        )


def places(values: Any, names: Sequence[str], what: str) -> NDArray[np.int64]:
    """Return for each of an owner's values its place among the agreed names.

    Raises:
      DataError: a value that is none of them.
    """
    place = {name: i for i, name in enumerate(names)}
    found = [place.get(value, -1) for value in values]
    missing = found.count(-1)
    if missing:
        raise DataError(
            f"{missing} of {len(found)} rows have a {what} that the job does not name; it names {', '.join(names)}. Correct "
            "them, or agree with the other parties on other names"
        )
    return np.array(found, np.int64)
