"""What is asked of groups, what goes in and what comes out, and the reference in the clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError, RangeError, ShapeError, UsageError
from secagg.mpc.bits import LANES
from secagg.mpc.buckets import LARGEST_TABLE
from secagg.mpc.engines import check_number
from secagg.party import PartyId
from secagg.protocols.row_counts import MAX_ROWS, padded
from secagg.ring import U64


def row_limit(max_rows: int, parties: int) -> int:
    """Return the largest row count that one input party may announce, for which a table of all parties' has room."""
    return min(max_rows, LARGEST_TABLE // parties)


@dataclass(frozen=True, slots=True)
class Field:
    """A number that every row carries and that is summed over its group.

    Args:
      name: what it is.
      max: the largest value in one row; an input party refuses to put in more.
      at_least: the group passes if the sum reaches this; None for any sum.
      below: the group passes if the sum stays below this; None for any sum.
      opened: whether the owners of a flagged group's rows learn the sum.
    """

    name: str
    max: int
    at_least: int | None = None
    below: int | None = None
    opened: bool = True


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of the groups; public and equal at all parties.

    Args:
      input_parties: who puts in rows, at least two.
      computing_parties: three, or four of which one may lie; input parties or others.
      fields: at least one with a positive `at_least`, so that padding is never flagged.
      pad_rows_to: row counts are announced as the next multiple of this.
      max_rows: the largest row count that one input party may announce; others hold memory for each row.
      widths, sum_widths: bits of each field in one row and in a sum; derived.

    Raises:
      UsageError: parties that are not distinct, too few or too many.
      PlanError: fields that cannot be computed with; the message says what would do.
    """

    input_parties: tuple[PartyId, ...]
    computing_parties: tuple[PartyId, ...]
    fields: tuple[Field, ...]
    pad_rows_to: int = 1
    max_rows: int = MAX_ROWS
    widths: tuple[int, ...] = field(init=False)
    sum_widths: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        parties = len(self.input_parties)
        if not 2 <= parties <= 255 or len(set(self.input_parties)) != parties:
            raise UsageError(f"expected 2 to 255 distinct input parties, got {self.input_parties}")
        check_number(self.computing_parties)  # refuses what no engine computes with
        if self.pad_rows_to < 1:
            raise UsageError(f"expected pad_rows_to of at least 1, got {self.pad_rows_to}")
        if self.row_limit < self.pad_rows_to:
            raise PlanError(
                f"expected max_rows of at least pad_rows_to, which is {self.pad_rows_to}, got {self.max_rows}; at most "
                f"{LARGEST_TABLE // parties} for {parties} input parties"
            )
        if not any((f.at_least or 0) > 0 for f in self.fields):
            raise PlanError(
                "expected a field with at_least of 1 or more: without one, padding rows would be flagged"
            )
        widths = []
        for f in self.fields:
            width = (f.max * parties).bit_length()
            if f.max < 1 or width > LANES:
                raise PlanError(
                    f"field {f.name}: expected a largest value of 1 to {((1 << LANES) - 1) // parties} for {parties} "
                    f"input parties, got {f.max}"
                )
            for bound in (f.at_least, f.below):
                if bound is not None and not 0 <= bound <= f.max * parties:
                    raise PlanError(
                        f"field {f.name}: a bound of {bound} is out of reach, because {parties} input parties put in at "
                        f"most {f.max} each; lower it to {f.max * parties} or less, or let more parties put in data"
                    )
            widths.append(width)
        object.__setattr__(self, "widths", tuple(f.max.bit_length() for f in self.fields))
        object.__setattr__(self, "sum_widths", tuple(widths))

    def announced(self, rows: int) -> int:
        """Return the row count that an input party with so many rows announces."""
        return padded(rows, self.pad_rows_to)

    @property
    def row_limit(self) -> int:
        """The largest row count that one input party may announce."""
        return row_limit(self.max_rows, len(self.input_parties))

    @property
    def value_planes(self) -> int:
        """Bits of all fields of one row."""
        return sum(self.widths)

    @property
    def origin_planes(self) -> int:
        return (len(self.input_parties) - 1).bit_length()

    @property
    def opened(self) -> tuple[int, ...]:
        """The positions of the fields whose sums are opened."""
        return tuple(i for i, f in enumerate(self.fields) if f.opened)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """An input party's rows.

    Args:
      identifiers: distinct, compared byte by byte.
      values: shape (n, fields), uint64, in the order of the query's fields.
    """

    identifiers: NDArray[np.object_]
    values: U64

    def __repr__(self) -> str:
        return f"<Rows {len(self.identifiers)}>"

    def check(self, query: Query) -> None:
        """Refuse rows that the query did not plan for.

        Raises:
          ShapeError: not one row of values an identifier, or not one column a field.
          UsageError: an identifier twice.
          RangeError: a value above its field's `max`, or more rows than `max_rows`.
        """
        n = len(self.identifiers)
        if query.announced(n) > query.row_limit:
            rounded = f", announced as {query.announced(n)}," if query.pad_rows_to > 1 else ""
            raise RangeError(
                f"{n} rows{rounded} are more than the agreed max_rows of {query.row_limit}; agree with the other parties "
                f"on a larger one, or put in fewer"
            )
        if self.values.shape != (n, len(query.fields)) or self.values.dtype != np.uint64:
            raise ShapeError(
                f"expected uint64 values of shape ({n}, {len(query.fields)}), "
                f"got {self.values.dtype} of shape {self.values.shape}"
            )
        for column, f in zip(self.values.T, query.fields, strict=True):
            if n and int(column.max()) > f.max:
                over = int(np.count_nonzero(column > np.uint64(f.max)))
                raise RangeError(
                    f"field {f.name}: {over} of {n} rows are above the agreed largest value of {f.max}; "
                    f"agree on a larger one with the other parties"
                )

    def by_identifier(self) -> Rows:
        """Return the rows in the order of their identifiers' code points, which is that of their UTF-8 bytes."""
        names = self.identifiers.tolist()
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        return Rows(self.identifiers[order], self.values[order])


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What an input party learns about its own rows.

    Attributes:
      flagged: shape (n,), in the order of its `Rows`.
      sums: the opened fields' joint sums, shape (n, opened fields), uint64; 0 where not flagged.
      log2_false_match: log2 of a bound on the probability that two identifiers were taken for one.
    """

    flagged: NDArray[np.bool_]
    sums: U64
    log2_false_match: float

    def __repr__(self) -> str:
        return f"<Findings about {len(self.flagged)} rows>"


def flagged_rows(rows: Rows, findings: Findings) -> list[tuple[str, *tuple[int, ...]]]:
    """Return (identifier, opened sums...) of an input party's flagged rows, largest last sum first."""
    sums = findings.sums[findings.flagged].tolist()
    return in_order(
        [(name, *row) for name, row in zip(rows.identifiers[findings.flagged].tolist(), sums, strict=True)]
    )


def in_order(rows: Sequence[tuple[str, *tuple[int, ...]]]) -> list[tuple[str, *tuple[int, ...]]]:
    """Return rows of an identifier and sums, largest last sum first."""
    return sorted(rows, key=lambda row: (*(-n for n in reversed(row[1:])), row[0]))


def reference(query: Query, tables: Sequence[Rows]) -> list[Findings]:
    """Compute in the clear, from everybody's rows, what `find_groups` tells every input party."""
    every = np.concatenate([t.identifiers for t in tables])
    _, group = np.unique(every.astype(str), return_inverse=True)
    sums = np.zeros((int(np.max(group, initial=-1)) + 1, len(query.fields)), np.uint64)
    np.add.at(sums, group, np.concatenate([t.values for t in tables]))
    passes = np.ones(len(sums), bool)
    for column, f in zip(sums.T, query.fields, strict=True):
        if f.at_least is not None:
            passes &= column >= np.uint64(f.at_least)
        if f.below is not None:
            passes &= column < np.uint64(f.below)
    findings = []
    for part in np.split(group, np.cumsum([len(t.identifiers) for t in tables])[:-1]):
        opened = sums[part][:, list(query.opened)] * passes[part, None].astype(np.uint64)
        findings.append(Findings(passes[part], opened, float("-inf")))
    return findings
