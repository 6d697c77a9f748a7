"""Patients at several hospitals counted once: which shared rows count, and how many of these lie in each cell.

Rows are sorted by pseudonym. The sort is stable, so the first row of a patient is that of the first hospital in the job's
order that has it; of several in its table, the first.

Learns: nobody anything before the caller opens something; not who is at several hospitals, nor how many are. The announced
row counts, less what a caller tells, bound how many are: so they are rounded up (`ProgramPattern.hides_below`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError
from secagg.mpc import int32, searchsorted
from secagg.mpc.arrays import SharedArray
from secagg.party import PartyId
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import JointTable
from secagg.patterns.pattern import Tables


def first_rows(rows: JointTable, *keys: str) -> SharedArray:
    """Return which rows are the first of those that are equal in these columns, and no padding."""
    groups = Groups([rows[key] for key in keys])
    return groups.unsorted(groups.first) & rows.valid


def counts_once(rows: JointTable, cell: str, cells: int, *keys: str) -> SharedArray:
    """Return how many of the first rows lie in each cell, int64 of shape (cells,); one sort more, of rows and cells.

    Args:
      cell: the column that numbers a row's cell, from 0 on.
      keys: see `first_rows`.
    """
    place = rows[cell].astype(int32)
    counted: SharedArray = (place - cells) * first_rows(rows, *keys) + cells  # others lie behind all cells
    below: SharedArray = searchsorted(counted, rows.valid.engine.public(np.arange(cells + 1), dtype=int32))
    counts: SharedArray = below[1:] - below[:-1]
    return counts


def check_number(rows: int, most: int) -> None:
    """Raise `RangeError` for more patients of a hospital than were agreed on."""
    if rows > most:
        raise RangeError(
            f"{rows} patients are more than max_patients, which is {most}; agree with the other parties on a larger one"
        )


def first_of(tables: Mapping[PartyId, Tables], table: str) -> list[NDArray[np.bool_]]:
    """Return which rows of each hospital's table are the first of their patient, in the clear."""
    seen: set[str] = set()
    found = []
    for own in tables.values():
        mask = []
        for patient in own[table]["patient"]:
            mask.append(patient not in seen)
            seen.add(patient)
        found.append(np.array(mask, bool))
    return found
