"""A plan computed over plain rows, one value at a time: what each node means, as executions are held against it.

A row is a mapping of names to values in their domains' units, with None for NULL.
"""

from __future__ import annotations

import datetime
import functools
import math
import zoneinfo
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, TypeAlias

from secagg.query.algebra import (
    Aggregate,
    Call,
    Case,
    Distinct,
    Expression,
    Filter,
    Join,
    Limit,
    Literal,
    Project,
    Ref,
    Relation,
    Scan,
    Sort,
    SortKey,
    Union,
    Window,
    WindowFunction,
)

Value: TypeAlias = int | str | None
Row: TypeAlias = Mapping[str, Value]

_EPOCH: Final = datetime.date(1970, 1, 1)
_EPOCH_UTC: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def evaluate(expression: Expression, row: Row) -> Value:
    """Return the value of an expression in a row."""
    match expression:
        case Ref(name=name):
            return row[name]
        case Literal(value=value):
            return value
        case Case(branches=branches, otherwise=otherwise):
            for condition, chosen in branches:
                if evaluate(condition, row):
                    return evaluate(chosen, row)
            return evaluate(otherwise, row)
        case Call(op=op, args=args):
            return _call(expression, op, [evaluate(arg, row) for arg in args])


def nearest(value: Fraction) -> int:
    """Return the nearest whole number; halves go away from zero."""
    whole = int(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


def _call(expression: Call, op: str, values: list[Any]) -> Value:
    if op == "is_null":
        return int(values[0] is None)
    if op in ("and", "or"):
        decisive = int(op == "or")
        if decisive in values:
            return decisive
        return None if None in values else 1 - decisive
    if op in ("coalesce", "least", "greatest"):
        known = [value for value in values if value is not None]
        return _CHOICES[op](known) if known else None
    if None in values:
        return None
    if op == "in":
        return int(values[0] in values[1:])
    if op == "like":
        return int(like(values[0], values[1]))
    if op in _COMPARISONS:
        return int(_COMPARISONS[op](*values))
    if op in _PARTS:
        return _PARTS[op](_date(expression.args[0], values[0]))
    return _arithmetic(expression, op, values)


_CHOICES: Final[Mapping[str, Callable[[list[Any]], Value]]] = {
    "coalesce": lambda known: known[0],
    "least": min,
    "greatest": max,
}
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
_PARTS: Final[Mapping[str, Callable[[datetime.date], int]]] = {
    "year": lambda day: day.year,
    "month": lambda day: day.month,
    "day": lambda day: day.day,
    "quarter": lambda day: (day.month + 2) // 3,
    "weekday": lambda day: day.isoweekday() % 7,
    "date_of": lambda day: (day - _EPOCH).days,
}


def like(text: str, pattern: str) -> bool:
    """Return whether a text is as a pattern of LIKE says; takes time of the product of their lengths, whatever they are."""
    first, *rest = pattern.split("%")
    if not rest:
        return len(text) == len(first) and _stands_at(text, first, 0)
    if not _stands_at(text, first, 0):
        return False
    place, last = len(first), rest.pop()
    for part in rest:
        while not _stands_at(text, part, place):
            place += 1
            if place + len(part) > len(text):
                return False
        place += len(part)
    return len(text) - len(last) >= place and _stands_at(text, last, len(text) - len(last))


def _stands_at(text: str, part: str, place: int) -> bool:
    return place + len(part) <= len(text) and all(one in ("_", text[place + i]) for i, one in enumerate(part))


def _date(expression: Expression, value: int) -> datetime.date:
    domain = expression.domain
    if domain.kind == "date":
        return _EPOCH + datetime.timedelta(days=value)
    seconds = value // 10**domain.decimals
    return (
        (_EPOCH_UTC + datetime.timedelta(seconds=seconds)).astimezone(zoneinfo.ZoneInfo(domain.zone)).date()
    )


def _arithmetic(expression: Call, op: str, values: list[Any]) -> Value:
    domain, first = expression.domain, expression.args[0].domain
    match op, values:
        case "add", [a, b]:
            return int(a + b)
        case "sub", [a, b]:
            return int(a - b)
        case "mul", [a, b]:
            return int(a * b) if domain.kind == "number" else nearest(Fraction(a * b, 2**domain.frac_bits))
        case "div", [a, b]:
            if b == 0:
                return None
            decimals = expression.args[1].domain.decimals - first.decimals
            return nearest(Fraction(a, b) * Fraction(10) ** decimals * 2**domain.frac_bits)
        case "on_shares", [a]:
            return int(a)
        case (("intdiv" | "mod"), [a, b]):
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            return int(quotient if op == "intdiv" else a - b * quotient)
        case "neg", [a]:
            return int(-a)
        case "abs", [a]:
            return int(abs(a))
        case (("floor" | "ceil" | "round"), [a]):
            unit = 2**first.frac_bits if first.kind == "real" else 10**first.decimals
            exact = Fraction(a, unit) * 10**domain.decimals
            return nearest(exact) if op == "round" else (math.floor if op == "floor" else math.ceil)(exact)
        case "rescale", [a]:
            return int(a * 10 ** (domain.decimals - first.decimals))
        case "to_real", [a]:
            exact = (
                Fraction(a, 10**first.decimals) if first.kind == "number" else Fraction(a, 2**first.frac_bits)
            )
            return nearest(exact * 2**domain.frac_bits)
        case "recode", [a]:
            return int(domain.values.index(first.values[a]))
        case "to_number", [a]:
            return int(a)
        case "not", [a]:
            return 1 - int(a)
        case "to_timestamp", [a]:
            day = _EPOCH + datetime.timedelta(days=a)
            midnight = datetime.datetime(day.year, day.month, day.day, tzinfo=zoneinfo.ZoneInfo(domain.zone))
            seconds = int((midnight - _EPOCH_UTC).total_seconds())
            return seconds * int(10**domain.decimals)
        case _:
            raise NotImplementedError(op)


def rows_of(relation: Relation, tables: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return the rows of a relation.

    Args:
      tables: for each declared table its rows, with `org` where the declaration has it.
    """
    match relation:
        case Scan():
            names = [(one.name, relation.column_of(one.name)) for one in relation.columns]
            return [{name: row[column] for name, column in names} for row in tables[relation.table]]
        case Join():
            return _joined(relation, rows_of(relation.left, tables), rows_of(relation.right, tables))
        case Union():
            return [row for below in relation.inputs for row in rows_of(below, tables)]
    (below,) = relation.inputs
    rows = rows_of(below, tables)
    match relation:
        case Filter(condition=condition):
            return [row for row in rows if evaluate(condition, row)]
        case Project(expressions=expressions):
            return [{name: evaluate(one, row) for name, one in expressions} for row in rows]
        case Aggregate():
            return _aggregated(relation, rows)
        case Distinct():
            return [dict(zip(relation.names, key, strict=True)) for key in _groups(rows, relation.names)]
        case Sort(keys=keys):
            return _sorted(rows, keys)
        case Limit(rows=most, offset=offset):
            return rows[offset : offset + most]
        case Window():
            return _windowed(relation, rows)
        case _:
            raise NotImplementedError(type(relation).__name__)


def _groups(rows: Iterable[Row], names: Iterable[str]) -> dict[tuple[Value, ...], list[Row]]:
    groups: dict[tuple[Value, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def _joined(join: Join, left: list[Row], right: list[Row]) -> list[Row]:
    partners = _groups(right, [name for _, name in join.on])
    joined: list[Row] = []
    for row in left:
        key = tuple(row[name] for name, _ in join.on)
        found = [] if None in key else partners.get(key, [])
        if join.how in ("semi", "anti"):
            joined += [row] if bool(found) == (join.how == "semi") else []
        elif found or join.how == "inner":
            joined += [{**row, **partner} for partner in found]
        else:
            joined.append({**row, **dict.fromkeys(join.right.names)})
    return joined


def _aggregated(aggregate: Aggregate, rows: list[Row]) -> list[Row]:
    groups = _groups(rows, aggregate.keys) if aggregate.keys else {(): rows}
    made: list[Row] = []
    for key, group in groups.items():
        row: dict[str, Value] = dict(zip(aggregate.keys, key, strict=True))
        for one in aggregate.aggregations:
            decimals = 0 if one.column is None else aggregate.input[one.column].domain.decimals
            row[one.name] = aggregated(
                one.function, _column(group, one.column), decimals, one.domain.frac_bits
            )
        made.append(row)
    return made


def _column(rows: Iterable[Row], name: str | None) -> list[Value]:
    return [0 if name is None else row[name] for row in rows]


def aggregated(function: str, values: Sequence[Value], decimals: int, frac_bits: int) -> Value:
    """Return what an aggregation makes of a group's values.

    Args:
      decimals: of the values.
      frac_bits: of a mean.
    """
    known: list[Any] = [value for value in values if value is not None]
    if function == "count":
        return len(known)
    if function == "count_distinct":
        return len(set(known))
    if not known:
        return None
    if function == "mean":
        return nearest(Fraction(sum(known) * 2**frac_bits, len(known) * 10**decimals))
    of: Mapping[str, Callable[[list[Any]], Any]] = {
        "sum": sum,
        "min": min,
        "max": max,
        "any": max,
        "all": min,
    }
    return of[function](known)  # type: ignore[no-any-return]


def _sorted(rows: Iterable[Row], keys: Sequence[SortKey]) -> list[Row]:
    ordered = list(rows)
    for key in reversed(keys):
        with_null = [row for row in ordered if row[key.name] is None]
        known = [row for row in ordered if row[key.name] is not None]
        known.sort(key=lambda row, name=key.name: row[name], reverse=key.descending)  # type: ignore[misc]
        ordered = with_null + known if key.nulls_first else known + with_null
    return ordered


def _windowed(window: Window, rows: list[Row]) -> list[Row]:
    made: list[Row] = []
    for group in _groups(rows, window.partition_by).values():
        ordered = _sorted(group, window.order_by)
        columns = [_over(window, one, ordered) for one in window.functions]
        names = [one.name for one in window.functions]
        made += [
            {**row, **dict(zip(names, values, strict=True))}
            for row, values in zip(ordered, zip(*columns, strict=True), strict=True)
        ]
    return made


def _over(window: Window, one: WindowFunction, rows: list[Row]) -> list[Value]:
    """Return the values of a function over the rows of one partition, in order."""
    keys = [tuple(row[key.name] for key in window.order_by) for row in rows]
    places = range(len(rows))
    if one.function == "row_number":
        return [place + 1 for place in places]
    if one.function == "rank":
        return [keys.index(key) + 1 for key in keys]
    if one.function == "dense_rank":
        distinct = list(dict.fromkeys(keys))
        return [distinct.index(key) + 1 for key in keys]
    values = _column(rows, one.column)
    if one.function in ("lag", "lead"):
        step = one.offset if one.function == "lead" else -one.offset
        return [values[place + step] if 0 <= place + step < len(rows) else None for place in places]
    decimals = 0 if one.column is None else window.input[one.column].domain.decimals
    total = functools.partial(aggregated, one.function, decimals=decimals, frac_bits=one.domain.frac_bits)
    if not window.order_by:
        return [total(values)] * len(rows)
    ends = places if not one.whole_peers else [len(keys) - 1 - keys[::-1].index(key) for key in keys]
    return [total(values[: end + 1]) for end in ends]
