"""A dataframe's way to write a query: an ibis expression gives the same plan as its SQL.

    transfers = tables(declaration)["transfers"]
    query = plan_of(transfers.group_by("org").aggregate(total=transfers.amount.sum()), declaration)

ibis writes the SQL, by sqlglot; none of its engines is used. It comes with the extra `ibis`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secagg.query.algebra import Domain, Query
from secagg.query.declaration import Declaration, domain_of
from secagg.query.sql import plan

try:
    import ibis
except ImportError:
    raise ImportError('dataframe expressions need ibis: pip install "secagg[ibis]"') from None

__all__ = ["plan_of", "tables"]


def tables(declaration: Declaration) -> Mapping[str, Any]:
    """Return an ibis table without rows for each declared one, by name."""
    return {
        name: ibis.table(
            {column: _type(domain_of(kind)) for column, kind in table.columns.items()}, name=name
        )
        for name, table in declaration.items()
    }


def plan_of(expression: Any, declaration: Declaration) -> Query:
    """Return the plan of an ibis expression over `tables`.

    Raises:
      UsageError: it has what is not supported; lines and columns are those of the SQL that ibis writes.
    """
    return plan(str(ibis.to_sql(expression, dialect="duckdb")), declaration)


def _type(domain: Domain) -> str:
    match domain.kind:
        case "number" if domain.decimals:
            return f"decimal(38, {domain.decimals})"
        case "number":
            return "int64"
        case "timestamp":
            return f"timestamp('{domain.zone}')"
        case "date" | "boolean":
            return str(domain.kind)
        case _:
            return "string"
