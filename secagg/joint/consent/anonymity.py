"""k-anonymity [Swe02] and l-diversity [MKGV07] of a table as it enters a run.

A table is k-anonymous where each combination of its quasi-identifiers is that of k persons or more. It is l-diverse where
the rows of each combination have l different values of each sensitive column. This is the distinct kind: it says nothing of
how often each value stands there. A missing value is a value like others.

What is too small does not enter, where the policy says so: whole rows, or the quasi-identifiers of these rows that may be
missing. Where that leaves them too small, the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import DataError
from secagg.joint.consent.policy import Anonymity
from secagg.patterns.counts import factorize
from secagg.query.schema import Columns, Schema

__all__ = ["Checked", "checked"]

_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check came to.

    Attributes:
      columns: the table, with cells that were suppressed missing, and all its rows.
      kept: which rows enter.
      cells: how many rows had cells suppressed.
    """

    columns: Columns
    kept: NDArray[np.bool_]
    cells: int


def checked(
    table: str, columns: Columns, schema: Schema, wanted: Anonymity, persons: NDArray[np.int64]
) -> Checked:
    """Return a table as the policy lets it enter.

    Args:
      persons: a number for the person of each row.

    Raises:
      DataError: combinations are too small, and more of them than may be suppressed. The message gives sizes, and no values.
    """
    rows = len(next(iter(columns.values())))
    small = _small(columns, wanted, persons)
    if not small.any():
        return Checked(columns, ~small, 0)
    if wanted.suppress == "nothing":
        raise DataError(
            f"{_told(table, columns, wanted, persons)}. Agree on a coarser recipe ([generalise.{table}] in the job), or let "
            'privacy.toml suppress rows or cells (suppress = "rows")'
        )
    touched = int(np.count_nonzero(small))
    if 100 * touched > wanted.at_most_percent * rows:
        raise DataError(
            f"{_told(table, columns, wanted, persons)}. These are more than the {wanted.at_most_percent} percent of rows "
            f"that privacy.toml lets be suppressed; agree on a coarser recipe ([generalise.{table}] in the job)"
        )
    cells = 0
    if wanted.suppress == "cells":
        blank = [name for name in wanted.quasi_identifiers if getattr(schema[name], "nullable", False)]
        columns = {
            name: _without(values, small) if name in blank else values for name, values in columns.items()
        }
        cells = touched if blank else 0
        small = _small(columns, wanted, persons)
    # Rows of a combination go together, so that none becomes small by it.
    return Checked(columns, ~small, cells)


def _small(columns: Columns, wanted: Anonymity, persons: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows have a combination that is too small, or not diverse enough."""
    groups, sizes, diversity = _measured(columns, wanted, persons)
    return np.asarray(((sizes < wanted.k) | (diversity < wanted.l))[groups], bool)


def _measured(
    columns: Columns, wanted: Anonymity, persons: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each row's combination, and of each combination its persons and its least number of sensitive values."""
    rows = len(next(iter(columns.values())))
    if not rows:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    coded = np.stack([_codes(columns[name]) for name in wanted.quasi_identifiers], axis=1)
    _, groups = np.unique(coded, axis=0, return_inverse=True)
    groups = groups.reshape(-1)
    count = int(groups.max()) + 1
    sizes = _different(groups, persons, count)
    diversity = np.full(count, wanted.l)
    for name in wanted.sensitive:
        diversity = np.minimum(diversity, _different(groups, _codes(columns[name]), count))
    return groups, sizes, diversity


def _different(groups: NDArray[np.int64], values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return how many different values stand in each group."""
    pairs = np.unique(np.stack([groups, values], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=count)


def _codes(values: Any) -> NDArray[np.int64]:
    if not hasattr(values, "dtype") or values.dtype.kind == "O":
        return factorize(values).codes
    _, codes = np.unique(np.ma.getdata(values), return_inverse=True)
    return np.where(np.ma.getmaskarray(values), -1, codes.reshape(-1))


def _without(values: Any, rows: NDArray[np.bool_]) -> Any:
    return np.ma.array(np.ma.getdata(values), mask=np.ma.getmaskarray(values) | rows)


def _told(table: str, columns: Columns, wanted: Anonymity, persons: NDArray[np.int64]) -> str:
    """Return what is too small, by sizes alone."""
    _, sizes, diversity = _measured(columns, wanted, persons)
    names = ", ".join(wanted.quasi_identifiers)
    whom = "rows" if wanted.persons is None else "persons"
    said = []
    if (few := sorted(sizes[sizes < wanted.k].tolist())) != []:
        said.append(
            f"{len(few)} of {len(sizes)} combinations of {names} are those of fewer than {wanted.k} {whom} ({_list(few)})"
        )
    if (flat := sorted(diversity[diversity < wanted.l].tolist())) != []:
        said.append(
            f"{len(flat)} have fewer than {wanted.l} values of {', '.join(wanted.sensitive)} ({_list(flat)})"
        )
    return f"{table}: {'; '.join(said)}"


def _list(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    return f"{shown}, ..." if len(numbers) > _SHOWN else shown
