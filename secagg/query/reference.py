"""The plaintext twin of a query: DuckDB runs the SQL itself on the pooled tables, typed as they are declared.

Whoever runs it sees everything; it is for tests and demonstrations.

Where DuckDB's SQL and a plan differ, the plan's meaning holds: a division by 0 gives NULL, and a date plus an interval
stays a date.
"""

# ruff: noqa: S608  SQL is put together here from declared names, which are words, and quoted texts.

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp

from secagg.errors import UsageError
from secagg.query.algebra import Domain, Query
from secagg.query.declaration import ORG, Declaration, Table, domain_of
from secagg.query.evaluator import Row, Value
from secagg.query.values import in_units, of_units
from secagg.query.zones import in_zone, instant_sql, is_skipped_sql

__all__ = ["Pool"]

_WIDEST = 38  # digits of DuckDB's DECIMAL


class Pool:
    """All holders' rows of declared tables, in one DuckDB.

    Used as a context manager, or closed by `close`.
    """

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        self._connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        zones = {
            domain_of(kind).zone
            for table in declaration.values()
            for kind in table.columns.values()
            if domain_of(kind).kind == "timestamp"
        }
        if len(zones) > 1:
            raise UsageError(
                f"the pooled tables can be in one time zone, and they are in {', '.join(sorted(zones))}"
            )
        self._connection.execute(f"SET TimeZone = '{next(iter(zones), 'UTC')}'")
        for table in declaration.values():
            columns = ", ".join(f'"{name}" {_type(domain_of(kind))}' for name, kind in table.columns.items())
            self._connection.execute(f'CREATE TABLE "{table.name}" ({columns})')

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()

    def add(self, table: str, holder: str, rows: Sequence[Mapping[str, Any]] | Any) -> None:
        """Add a holder's rows of a table.

        Args:
          rows: mappings of the declared columns to values; or a DataFrame, an Arrow table or another object that DuckDB
            scans, with the declared columns. A str is the SQL of a relation, such as read_parquet('t.parquet').

        Raises:
          UsageError: there is no such table, or it has no such holder; or rows that are not as declared.
        """
        declared = self._declared(table, holder)
        domains = {name: domain_of(declared.columns[name]) for name in declared.schema}
        listed = ", ".join(f'"{name}"' for name in domains)
        org = [f"'{holder}'"] if declared.split else []
        target = f'INSERT INTO "{table}" ({", ".join([listed, *([ORG] if org else [])])})'
        try:
            if isinstance(rows, Sequence) and not isinstance(rows, str):
                values = ", ".join([*("?" for _ in domains), *org])
                given = [[_placed(row[name], domain) for name, domain in domains.items()] for row in rows]
                for batch in itertools.batched(given, 1000) if hasattr(itertools, "batched") else [given]:
                    if batch:
                        self._connection.executemany(f"{target} VALUES ({values})", list(batch))
            else:
                if not isinstance(rows, str):
                    self._connection.register("added", rows)
                skipped = self._add_relation(target, domains, org, rows if isinstance(rows, str) else "added")
                if skipped is not None:
                    raise UsageError(f"{table}: {holder} has a local time in {skipped} that clocks skip")
                self._connection.unregister("added")
        except KeyError as missing:
            raise UsageError(f"{table}: a row lacks the column {missing}") from None
        except duckdb.Error as error:  # its text may quote values
            raise UsageError(
                f"{table}: rows of {holder} are not as declared ({type(error).__name__})"
            ) from None

    def _add_relation(
        self, target: str, domains: Mapping[str, Domain], org: Sequence[str], source: str
    ) -> str | None:
        """Add a relation's rows, local times placed as owners place theirs; return a column with one that clocks skip."""
        described = self._connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        kinds = {name: kind for name, kind, *_ in described}
        (zone,) = self._connection.execute("SELECT current_setting('TimeZone')").fetchall()[0]
        self._connection.execute("SET TimeZone = 'UTC'")
        try:
            columns = []
            for name, domain in domains.items():
                local = domain.kind == "timestamp" and kinds.get(name, "").startswith("TIMESTAMP")
                if not local or kinds[name] == "TIMESTAMP WITH TIME ZONE":
                    columns.append(f'"{name}"')
                    continue
                moment = f'CAST("{name}" AS TIMESTAMP)'
                test = is_skipped_sql(moment, domain.zone)
                if self._connection.execute(f"SELECT count(*) FROM {source} WHERE {test}").fetchall()[0][0]:
                    return name
                columns.append(instant_sql(moment, domain.zone))
            self._connection.execute(f"{target} SELECT {', '.join([*columns, *org])} FROM {source}")
        finally:
            self._connection.execute(f"SET TimeZone = '{zone}'")
        return None

    def rows(self, table: str) -> list[Row]:
        """Return a table's rows in their domains' units, as `evaluator` takes them."""
        declared = self._declaration[table]
        domains = {name: domain_of(kind) for name, kind in declared.columns.items()}
        listed = ", ".join(f'"{name}"' for name in domains)
        found = self._connection.execute(f'SELECT {listed} FROM "{table}"').fetchall()
        return [
            {name: in_units(value, domains[name]) for name, value in zip(domains, row, strict=True)}
            for row in found
        ]

    def units(self, query: Query) -> list[tuple[Value, ...]]:
        """Return the rows of a query's result, in the result's domains' units."""
        domains = [column.domain for column in query.root.columns]
        found = self._connection.execute(_safe(query.sql)).fetchall()
        return [
            tuple(in_units(value, domain) for value, domain in zip(row, domains, strict=True))
            for row in found
        ]

    def run(self, query: Query) -> list[tuple[Any, ...]]:
        """Return the rows of a query's result as people read them."""
        domains = [column.domain for column in query.root.columns]
        return [
            tuple(of_units(value, domain) for value, domain in zip(row, domains, strict=True))
            for row in self.units(query)
        ]

    def _declared(self, table: str, holder: str) -> Table:
        if table not in self._declaration:
            raise UsageError(f"there is no table {table!r:.80}; there are {', '.join(self._declaration)}")
        declared = self._declaration[table]
        if holder not in declared.holders:
            raise UsageError(f"{table} is held by {', '.join(declared.holders)}, not by {holder!r:.80}")
        return declared


def _placed(value: Any, domain: Domain) -> Any:
    """Return a value whose local time is an instant, as owners place theirs."""
    if domain.kind == "timestamp" and isinstance(value, datetime.datetime | str):
        moment = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
        return in_zone(moment, domain.zone)
    return value


def _type(domain: Domain) -> str:
    """Return DuckDB's type for a declared column."""
    match domain.kind:
        case "number" if domain.decimals:
            digits = max(len(str(abs(bound))) for bound in domain.bounds)
            return f"DECIMAL({min(_WIDEST, max(digits, domain.decimals))}, {domain.decimals})"
        case "number":
            return "BIGINT"
        case "date":
            return "DATE"
        case "timestamp":
            return "TIMESTAMPTZ"
        case "boolean":
            return "BOOLEAN"
        case _:
            return "VARCHAR"


def _safe(sql: str) -> str:
    """Return a query whose divisions by 0 give NULL."""

    def guarded(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Div):
            node.set("expression", exp.Nullif(this=node.expression, expression=exp.Literal.number(0)))
        return node

    return sqlglot.parse_one(sql, read="duckdb").transform(guarded).sql("duckdb")
