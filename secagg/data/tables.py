"""Read the tables that patterns compute on, by their schema.

A table is read in one scan by DuckDB (`sources`), which also checks each row (`checks`). What comes back are numpy
arrays and a report of what was left out. A row that cannot be used is named by file, line and column; its value is
never shown. A table of which no row counts is refused, unless the caller takes it.

Amounts become whole numbers of the currency's smallest unit, called cents here. A number with digits below it
is refused, except for the noise of a float's printing, as in 103.55000000000001. A floating-point column is
read as the shortest decimal that names the number. In text, an amount that could have decimals or thousands,
such as 3.000, is refused until the `Dialect` says which. Whole numbers have no separators, and lie in the schema's range.

Times become seconds as float64. Timestamps count from 1970-01-01 UTC: 2022-09-01, 2022/09/01 00:20,
2022-09-01T00:20:00.5+02:00, and with a window of timestamps 20220901 and 20220901002000. One that names no zone is in the
conventions' zone. A time that clocks show twice is the first; one that they skip is refused. Numbers stay as they are, such
as a simulator's steps, unless the `Dialect` says that they are epochs. Above 2**53 they are not told apart to the last
digit. A table holds one or the other, of the kind that the window has.

Identifiers are spelt as `query.identifier_rules` says, by the rule of the conventions; those of rows outside the window
are not looked at. A floating-point column is refused as identifier, because 12 would become 12.0 and meet
nobody else's 12; whole numbers and their texts are equal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import duckdb
import numpy as np
from numpy.typing import NDArray

from secagg.data.bad_rows import all_faults, mark, report_of, with_times
from secagg.data.checks import Fault, checked_rows, sampled_times
from secagg.data.columns import ColumnMap, resolve_columns
from secagg.data.conventions import Conventions
from secagg.data.date_formats import fitting_formats
from secagg.data.dialect import Dialect
from secagg.data.identifier_columns import Spelt, joined, spell, warnings
from secagg.data.reports import (
    IdentifierCount,
    ReadReport,
    Times,
    join_reports,
)
from secagg.data.sources import Place, find_sources, open_source
from secagg.data.times import TimeBound, Window, one_kind_of_time, place_in_zone, window_of
from secagg.errors import DataError, UsageError
from secagg.query.identifier_rules import Rule
from secagg.query.schema import Boolean, Columns, Identifier, Money, Schema, Time, Type

__all__ = ["BadRows", "Sources", "Table", "read_table"]

BadRows: TypeAlias = Literal["refuse", "skip"]
Sources: TypeAlias = Place | Sequence[Place]

_DAY_S = 86_400


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table that was read: for each field of its schema an array, in the table's order and all of one length.

    Attributes:
      columns: identifiers as `Categorical`, numbered in the order in which they first come, spelt by the agreed rule;
        -1 where one is missing.
        Amounts are int64 from 0, in the currency's smallest unit; whole numbers int64; times float64, finite; others as
        `schema` says at their types. A column that may be missing is a masked array.
      report: what was read and what was left out.
      own_spelling: by field, of each identifier that the table spells otherwise, how it does where it first comes.
    """

    columns: Columns = field(repr=False)
    report: ReadReport
    own_spelling: Mapping[str, Mapping[str, str]] = field(repr=False, default_factory=dict)

    def __getitem__(self, field: str) -> Any:
        return self.columns[field]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read_table(
    source: Sources,
    schema: Schema,
    *,
    mapping: ColumnMap | str | None = None,
    window: tuple[TimeBound, TimeBound] | None = None,
    bad_rows: BadRows = "refuse",
    conventions: Conventions | None = None,
    dialect: Dialect | None = None,
    allow_empty: bool = False,
) -> Table:
    """Read a table.

    Args:
      source: a path, a SELECT or a declared table, as `open_source` takes them, or several of these, which are read as one
        table. `*` and `?` in a path stand for any text.
      schema: the fields of its columns and their types.
      mapping: which column is which, or the name of a known format; recognised from the header by default.
      window: half-open [start, end) of times: numbers, timestamps, or None for no bound. Rows outside are
        dropped and counted. Beside a timestamp, a number is in seconds since 1970 UTC.
      bad_rows: what to do about rows that cannot be used.
      conventions: what the parties agreed on about their tables.
      dialect: how these files are written.
      allow_empty: take a table of which no row counts.

    Raises:
      DataError: there is no such table, a column is missing, or rows are bad and not to be skipped.
      EmptyTableError: no row counts.
      UsageError: a window that ends before it starts or is no time, or one for a table without times.
    """
    if bad_rows not in ("refuse", "skip"):
        raise UsageError(f'bad_rows is "refuse" or "skip"; got {bad_rows!r}')
    conventions, dialect = conventions or Conventions(), dialect or Dialect()
    bounds = window_of(window)
    if bounds.times is not None and schema.time is None:
        raise UsageError(f"a window is about times, and the columns are {', '.join(schema)}; leave it out")
    rows = _joined(
        [_read_one(one, mapping, schema, bounds, conventions, dialect) for one in find_sources(source)]
    )
    rows.report.check(bad_rows="skip" if bad_rows == "skip" else "refuse", allow_empty=allow_empty)
    columns: dict[str, Any] = {}
    for name in schema:
        columns[name] = rows.identifiers[name].codes if name in rows.identifiers else rows.numbers[name]
    return Table(columns, rows.report, {field: spelt.own for field, spelt in rows.identifiers.items()})


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """By field, the identifiers and everything else; and what was read."""

    identifiers: dict[str, Spelt]
    numbers: dict[str, NDArray[Any]]
    report: ReadReport


def _read_one(
    source: Place,
    mapping: ColumnMap | str | None,
    schema: Schema,
    window: Window,
    conventions: Conventions,
    dialect: Dialect,
) -> _Rows:
    with contextlib.ExitStack() as opened:
        table = opened.enter_context(contextlib.closing(open_source(source, dialect)))
        columns = resolve_columns(
            tuple(table.columns), mapping, schema, table=table.name, written=table.written_header
        )
        needed = [name for names in columns.values() for name in names]
        table = opened.enter_context(contextlib.closing(table.loaded(needed)))
        fields = {field: columns[field] for field in schema.identifiers}
        rules = {field: conventions.rule(field) for field in fields}
        for field, names in fields.items():
            if len(names) > 1 and rules[field].single:
                raise DataError(
                    f"{table.name}: the job's rule for {field} is {rules[field].name}, which is about one column; "
                    f"the mapping has {', '.join(names)}"
                )
        time = columns[schema.time][0] if schema.time is not None else None
        local = time is not None and conventions.time_zone != "UTC"
        # Zones lie up to a day from UTC; numpy decides on the window once instants are known.
        slack = _DAY_S if local else 0
        near = (window.start - slack, window.end + slack)
        query = checked_rows(table, columns, schema, near, conventions, dialect, window.times)
        faults, checked = list(query.faults), len(query.faults)
        try:
            scan: dict[str, NDArray[Any]] = table.connection.execute(query.rows).fetchnumpy()
        except duckdb.Error as error:
            if table.csv_file is not None:
                table.csv_file.check_whole()
            # What DuckDB says here may quote a row's values.
            raise DataError(
                f"{table.name}: DuckDB cannot read the table ({type(error).__name__}); see that the query runs by itself, "
                "or that a CSV file has one kind of line end and quotes as RFC 4180 has them"
            ) from None
        why, kinds, seconds = scan["why"], scan["kind"], scan["seconds"]
        times: Times | Literal["none"] = "none"
        if time is not None:
            times = one_kind_of_time(why, kinds, faults, time)
        if time is not None and local:
            place_in_zone(why, kinds, seconds, faults, time, conventions)
        keep = (why == 0) & (seconds >= window.start) & (seconds < window.end)
        identifiers = []
        for i, (field, names) in enumerate(fields.items()):
            parts = [scan[f"id{i}_{j}"] for j in range(len(names))]
            identifiers.append(_spell(parts, names, rules[field], why, keep, faults, schema[field]))
        # A row whose identifier of one field is refused is bad, and so is its other identifier not used.
        taken = keep & (why == 0)
        spelt = [found.taken(taken[rows]) for found, rows in identifiers]
        spelt_by = [(names, rules[field]) for field, names in fields.items()]
        report = report_of(
            table,
            why,
            faults,
            int(np.count_nonzero(taken)),
            lambda: all_faults(table, query, spelt_by),
            checked,
        )
        if schema.time is not None and time is not None:
            report = with_times(report, why, kinds, seconds, times)
            if window.times != "numbers" and any(fault.column == time for fault in report.faults):
                sample = sampled_times(table, columns[schema.time], dialect, window.times)
                report = dataclasses.replace(report, date_formats=fitting_formats(table.connection, sample))
        counts, doubts = [], []
        for (field, names), one in zip(fields.items(), spelt, strict=True):
            rule = rules[field]
            counts.append(_count(field, rule.name, one))
            whole = all(table.columns[name].type not in ("VARCHAR", "UUID") for name in names)
            repeated = isinstance(kind := schema[field], Identifier) and kind.repeated
            doubts += warnings(field, one, rule, whole_numbers=whole, repeated=repeated)
        report = dataclasses.replace(
            report,
            columns=tuple((field, columns[field]) for field in schema),
            amounts=tuple(columns[field][0] for field in schema.of_type(Money)),
            identifiers=tuple(counts),
            warnings=tuple(f"{table.name}: {text}" for text in doubts),
            window="" if time is None else window.shown(conventions.zone),
            zone=conventions.zone,
            files=(table.described(),),
        )
        counted = [field for field, kind in schema.items() if not isinstance(kind, Identifier | Time)]
        numbers = {
            field: _column(scan[f"number{i}"][taken], schema[field]) for i, field in enumerate(counted)
        }
        if schema.time is not None:
            numbers[schema.time] = seconds[taken]
        return _Rows(dict(zip(fields, spelt, strict=True)), numbers, report)


def _column(found: NDArray[Any], kind: Type) -> NDArray[Any]:
    """Return a column's numbers as the schema says; DuckDB gives a masked array only where it met a NULL."""
    kept = found.astype(np.bool_) if isinstance(kind, Boolean) else found.astype(np.int64, copy=False)
    if kind.nullable if not isinstance(kind, Time) else False:
        return np.ma.asarray(kept)
    return np.asarray(kept)


def _spell(
    parts: Sequence[NDArray[np.object_]],
    names: Sequence[str],
    rule: Rule,
    why: NDArray[np.uint16],
    keep: NDArray[np.bool_],
    faults: list[Fault],
    kind: Type,
) -> tuple[Spelt, NDArray[np.intp]]:
    """Spell the identifiers of the rows in the window and mark, in place, those that are refused; no text is spelt as NULL.

    Returns:
      The identifiers, and whose rows they are.
    """
    rows = np.flatnonzero(keep)
    there = np.ones(len(rows), bool)
    if not isinstance(kind, Time) and kind.nullable:
        there = np.asarray(parts[0][rows] != "", bool)  # of several columns all are missing, or none
    known = rows[there]
    found, refused = spell([part[known] for part in parts], rule)
    for name, by_reason in zip(names, refused, strict=True):
        for reason, places in by_reason.items():
            mask = np.zeros(len(why), bool)
            mask[known[places]] = True
            mark(why, mask, faults, Fault(name, reason))
    return found.among(there), rows


def _count(field: str, rule: str, spelt: Spelt) -> IdentifierCount:
    return IdentifierCount(field, rule, len(spelt.codes.categories), len(spelt.own), len(spelt.merged))


def _joined(several: Sequence[_Rows]) -> _Rows:
    """Return the rows of several files as those of one table."""
    if len(several) == 1:
        return several[0]
    kinds = {rows.report.times for rows in several} - {"none"}
    if len(kinds) > 1:
        raise DataError(
            "files of one table have one kind of times; "
            + ", ".join(f"{rows.report.source} has {rows.report.times}" for rows in several)
        )
    first = several[0]
    identifiers = {
        field: joined([rows.identifiers[field] for rows in several]) for field in first.identifiers
    }
    counts = [_count(one.field, one.rule, identifiers[one.field]) for one in first.report.identifiers]
    numbers = {}
    for name, column in first.numbers.items():
        join: Any = np.ma.concatenate if isinstance(column, np.ma.MaskedArray) else np.concatenate
        numbers[name] = join([rows.numbers[name] for rows in several])
    return _Rows(identifiers, numbers, join_reports([rows.report for rows in several], counts))
