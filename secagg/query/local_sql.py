"""An owner's own part of a plan as SQL for DuckDB, over its own table of typed columns.

Numbers are DuckDB's decimals, so that all arithmetic is exact, as on shares. Nothing here divides: quotients and means are
made on shares, of sums that are exact.
"""

# ruff: noqa: S608  names and texts are quoted by `quote_name` and `quote_text`, which double what ends them

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Final

from secagg.errors import PlanError
from secagg.query.algebra import (
    Aggregate,
    Call,
    Case,
    Distinct,
    Domain,
    Expression,
    Filter,
    Literal,
    Project,
    Ref,
    Relation,
    Scan,
    walk,
)
from secagg.query.declaration import ORG
from secagg.query.encoding import as_decimal, quote_name, quote_text
from secagg.query.zones import instant_sql

TableName = Callable[[str], str]  # of a declared table, as SQL names the owner's typed copy

_INFIX: Final[Mapping[str, str]] = {
    "mul": "*", "eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "AND", "or": "OR",
}  # fmt: skip
_CALLS: Final[Mapping[str, str]] = {
    "abs": "abs", "floor": "floor", "ceil": "ceil", "least": "least", "greatest": "greatest", "coalesce": "coalesce",
}  # fmt: skip
_PARTS: Final[Mapping[str, str]] = {
    "year": "year", "month": "month", "day": "day", "quarter": "quarter", "weekday": "dayofweek",
}  # fmt: skip
PARTIAL: Final = frozenset({"sum", "count", "min", "max", "any", "all"})
LOCAL: Final = PARTIAL | {"count_distinct"}
_AGGREGATES: Final[Mapping[str, str]] = {
    "sum": "sum(", "count": "count(", "min": "min(", "max": "max(", "any": "bool_or(", "all": "bool_and(",
    "count_distinct": "count(DISTINCT ",
}  # fmt: skip


def is_local(expression: Expression) -> bool:
    """Return whether an owner can compute the expression exactly, and is to; reals are left to shares."""
    return all(
        one.domain.kind != "real"
        and not (isinstance(one, Call) and one.op in ("div", "to_real", "on_shares"))
        for one in walk(expression)
    )


def scalar(expression: Expression) -> str:
    """Return an expression as SQL."""
    match expression:
        case Ref(name=name):
            return quote_name(name)
        case Literal():
            return _literal(expression)
        case Case(branches=branches, otherwise=otherwise):
            whens = " ".join(f"WHEN {scalar(c)} THEN {scalar(v)}" for c, v in branches)
            return f"CASE {whens} ELSE {scalar(otherwise)} END"
        case Call():
            return _call(expression)


def _literal(literal: Literal) -> str:
    value, domain = literal.value, literal.domain
    if value is None:
        return f"CAST(NULL AS {_type(domain)})"
    match domain.kind:
        case "number":
            return f"CAST({as_decimal(int(value), domain.decimals)} AS {_type(domain)})"
        case "boolean":
            return "true" if value else "false"
        case "date":
            return f"DATE '{datetime.date(1970, 1, 1) + datetime.timedelta(days=int(value))}'"
        case "timestamp":
            return f"make_timestamp({int(value) * 10 ** (6 - domain.decimals)})"
        case "category":
            return quote_text(domain.values[value] if isinstance(value, int) else value)
        case _:
            return quote_text(str(value))


def _type(domain: Domain) -> str:
    if domain.kind == "number":
        return f"DECIMAL(38, {domain.decimals})" if domain.decimals else "HUGEINT"
    return {"boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP"}.get(domain.kind, "VARCHAR")


def _call(call: Call) -> str:
    first = call.args[0]
    a, *rest = texts = [scalar(one) for one in call.args]
    op, domain = call.op, call.domain
    if op in _INFIX:
        return f"({f' {_INFIX[op]} '.join(texts)})"
    if op in _CALLS:
        return f"{_CALLS[op]}({', '.join(texts)})"
    if op in ("add", "sub"):
        return _sum(call, a, rest[0])
    if op in _PARTS:
        return f"{_PARTS[op]}({_in_zone(first, a)})"
    match op:
        case "round":
            return f"round({a}, {domain.decimals})"
        case "intdiv":
            return f"({a} // nullif({rest[0]}, 0))"
        case "mod":
            return f"({a} % nullif({rest[0]}, 0))"
        case "neg":
            return f"(-{a})"
        case "not":
            return f"(NOT {a})"
        case "in":
            return f"({a} IN ({', '.join(rest)}))" if rest else f"({a} IS NULL AND NULL)"
        case "like":
            return f"({a} LIKE {rest[0]})"
        case "is_null":
            return f"({a} IS NULL)"
        case "rescale" | "to_number":
            return f"CAST({a} AS {_type(domain)})"
        case "recode":
            return a
        case "date_of":
            return f"CAST({_in_zone(first, a)} AS DATE)"
        case "to_timestamp":
            return f"timezone('UTC', {instant_sql(f'CAST({a} AS TIMESTAMP)', domain.zone)})"
    raise PlanError(f"an owner cannot compute {op} alone")


def _sum(call: Call, a: str, b: str) -> str:
    sign = "+" if call.op == "add" else "-"
    kinds = [one.domain.kind for one in call.args]
    if kinds == ["timestamp", "timestamp"]:
        return f"CAST((epoch_us({a}) - epoch_us({b})) / 1000000 AS {_type(call.domain)})"
    if kinds == ["timestamp", "number"]:
        unit = 10 ** (6 - call.args[0].domain.decimals)
        return f"({a} {sign} to_microseconds(CAST({b} * {unit} AS BIGINT)))"
    if kinds == ["date", "number"]:
        return f"({a} {sign} CAST({b} AS INTEGER))"
    return f"({a} {sign} {b})"


def _in_zone(argument: Expression, text: str) -> str:
    if argument.domain.kind != "timestamp":
        return text
    return f"timezone({quote_text(argument.domain.zone)}, timezone('UTC', {text}))"


def select(relation: Relation, table: TableName, *, org: str) -> str:
    """Return an owner's own part as a SELECT.

    Args:
      org: the owner's name, for the column `org`.
    """
    match relation:
        case Scan():
            own = {column.name: relation.column_of(column.name) for column in relation.columns}
            columns = [
                f"{quote_text(org) if of == ORG else quote_name(of)} AS {quote_name(name)}"
                for name, of in own.items()
            ]
            return f"SELECT {', '.join(columns) or '1 AS no_column'} FROM {table(relation.table)}"
        case Filter(input=below, condition=condition):
            return f"SELECT * FROM ({select(below, table, org=org)}) WHERE {scalar(condition)}"
        case Project(input=below, expressions=expressions):
            columns = [f"{scalar(one)} AS {quote_name(name)}" for name, one in expressions]
            return f"SELECT {', '.join(columns) or '1 AS no_column'} FROM ({select(below, table, org=org)})"
        case Distinct(input=below):
            return f"SELECT DISTINCT * FROM ({select(below, table, org=org)})"
        case Aggregate(input=below, keys=keys, aggregations=aggregations):
            names = [quote_name(key) for key in keys]
            columns = names + [
                f"{_AGGREGATES[one.function]}{'*' if one.column is None else quote_name(one.column)}) AS "
                f"{quote_name(one.name)}"
                for one in aggregations
            ]
            grouped = f" GROUP BY {', '.join(names)}" if names else ""
            return f"SELECT {', '.join(columns)} FROM ({select(below, table, org=org)}){grouped}"
        case _:
            raise PlanError(f"{type(relation).__name__} is no part that an owner computes alone")
