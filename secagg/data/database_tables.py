"""A table or a query of a database, as an owner's source file declares it.

Its columns are known when it is opened. Its rows come when they are asked for, those of the needed columns alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb

from secagg.data.databases import Database, Rows, Selection, Snapshots
from secagg.data.sources import Column, Source, connect, only_select, quote_name, quote_text, typed_columns
from secagg.data.staged import copied, staged
from secagg.errors import DataError

__all__ = ["DuckDbTable", "SqlTable"]

_ATTACHED, _VIEW = "source_file", "temp.main.source"


@dataclass(frozen=True, slots=True)
class SqlTable:
    """A table or a query of a SQL database; a `sources.Declared`.

    Attributes:
      name: what messages call it.
      key: the columns by whose values a row is named in messages.
      snapshots: which hold the transaction in which it is read; without them it has one of its own.
    """

    name: str
    database: Database
    selection: Selection
    key: tuple[str, ...] = ()
    snapshots: Snapshots | None = field(repr=False, compare=False, default=None)

    @property
    def files(self) -> tuple[Path, ...]:
        """Return no file."""
        return ()

    @property
    def described(self) -> str:
        """Return what a run record says: no address and no query."""
        return f"{self.name}: SQL"

    def within(self, snapshots: Snapshots) -> SqlTable:
        """Return the same table, to be read in these transactions."""
        return replace(self, snapshots=snapshots)

    def open(self) -> Source:
        """Return the table with its columns.

        Raises:
          DataError: there is no such table, a column is missing, or two have one name.
          UsageError: the database cannot be used; see `Database.connect`.
        """
        with Snapshots() as snapshots:
            rows = snapshots.select(self.database, self.selection, limit=1)
            names = rows.names
            rows.close()
        _check(self.name, names, self.key)
        columns = {name: Column("NULL", "VARCHAR") for name in names}
        return Source(self.name, connect(), "", columns, load=self._loaded)

    def first(self, names: Sequence[str], limit: int) -> Source:
        """Return so many rows of these columns, in whatever order they come."""
        with Snapshots() as snapshots:
            return self._read(snapshots, names, limit)

    def _loaded(self, names: Sequence[str]) -> Source:
        if self.snapshots is not None:
            return self._read(self.snapshots, names, None)
        with Snapshots() as snapshots:
            return self._read(snapshots, names, None)

    def _read(self, snapshots: Snapshots, names: Sequence[str], limit: int | None) -> Source:
        wanted = list(dict.fromkeys([*names, *self.key]))
        rows = snapshots.select(self.database, self.selection, wanted, limit=limit)
        try:
            places = [_place(self.name, rows.names, one) for one in wanted]
            batches = _picked(rows, places, limit)
            return staged(self.name, wanted, batches, key=self.key)
        finally:
            rows.close()


def _place(table: str, names: Sequence[str], wanted: str) -> int:
    if wanted not in names:
        raise DataError(f"{table}: the column {wanted!r} was there before and is gone; start again")
    return names.index(wanted)


def _picked(rows: Rows, places: Sequence[int], limit: int | None) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield batches of the columns at these places."""
    everything = list(places) == list(range(len(rows.names)))
    pick = itemgetter(*places) if len(places) > 1 else lambda row: (row[places[0]],)
    for batch in rows.batches():
        taken = batch if limit is None else batch[:limit]
        yield taken if everything else list(map(pick, taken))
        if limit is not None:
            return


@dataclass(frozen=True, slots=True)
class DuckDbTable:
    """A table or a query of a DuckDB file, which is opened for reading alone; a `sources.Declared`.

    Attributes:
      name, key: as at `SqlTable`.
      path: the file.
    """

    name: str
    path: Path
    selection: Selection
    key: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the file."""
        return (self.path,)

    @property
    def described(self) -> str:
        """Return what a run record says."""
        return f"{self.name}: DuckDB"

    def within(self, snapshots: Snapshots) -> DuckDbTable:  # noqa: ARG002  # nobody writes a file that is open here
        """Return the table itself."""
        return self

    def open(self) -> Source:
        """Return the table with its columns; errors as `SqlTable.open`."""
        source = self._attached()
        _check(self.name, list(source.columns), self.key)
        return replace(source, load=lambda names: copied(source, names, key=self.key))

    def first(self, names: Sequence[str], limit: int) -> Source:
        """Return so many rows of these columns, in whatever order they come."""
        source = self._attached()
        return copied(
            replace(source, relation=f"(FROM {source.relation} LIMIT {limit})"), names, key=self.key
        )

    def _attached(self) -> Source:
        if not self.path.is_file():
            raise DataError(f"{self.name}: there is no DuckDB file {self.path}")
        connection = connect()
        try:
            connection.execute(f"ATTACH {quote_text(str(self.path.resolve()))} AS {_ATTACHED} (READ_ONLY)")
            # From here on the file alone can be read; a view in it that reads others fails.
            connection.execute("SET enable_external_access = false")
            connection.execute(f"USE {_ATTACHED}")
            if self.selection.query:
                only_select(connection, self.selection.query, name=self.name)
                # As it stands, with whatever comment ends it; one statement it is.
                connection.execute(f"CREATE TEMP VIEW {_VIEW} AS {self.selection.query}")
                relation = _VIEW
            else:
                relation = ".".join(map(quote_name, self.selection.table.split(".")))
            columns = typed_columns(connection, relation)
        except DataError:
            connection.close()
            raise
        except duckdb.Error as error:
            connection.close()
            raise DataError(f"{self.name}: {_fault(error)}") from None
        return Source(self.name, connection, relation, columns)


def _fault(error: duckdb.Error) -> str:
    if isinstance(error, duckdb.CatalogException):
        return "the DuckDB file has no such table; see table or query in the source file"
    if isinstance(error, duckdb.PermissionException):
        return "the table reads other files; declare these, or copy their rows into the DuckDB file"
    if isinstance(error, duckdb.IOException):
        return "the DuckDB file cannot be opened: another program has it open for writing, or it is of another version"
    return f"DuckDB refuses it ({type(error).__name__}); see table or query in the source file"


def _check(table: str, names: Sequence[str], key: Sequence[str]) -> None:
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{table}: two columns are called {twice!r}; rename one in the query (AS)")
    missing = [name for name in key if name not in names]
    if missing:
        raise DataError(
            f"{table}: there is no column {missing[0]!r}, which the source file names as primary_key; the columns are "
            f"{', '.join(names)}"
        )
