"""Expressions of SQL, as sqlglot has parsed them, to expressions of the plan."""

from __future__ import annotations

import calendar
import datetime
import decimal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from sqlglot import exp

from secagg.errors import UsageError
from secagg.query.algebra import Domain, Expression, Literal
from secagg.query.inference import boolean, call, case, literal, moved_by_units, null, text
from secagg.query.places import Text

_BINARY: Final[Mapping[type[exp.Expr], str]] = {
    exp.Add: "add", exp.Sub: "sub", exp.Mul: "mul", exp.Div: "div", exp.IntDiv: "intdiv", exp.Mod: "mod",
    exp.EQ: "eq", exp.NEQ: "ne", exp.LT: "lt", exp.LTE: "le", exp.GT: "gt", exp.GTE: "ge", exp.And: "and", exp.Or: "or",
}  # fmt: skip
_UNARY: Final[Mapping[type[exp.Expr], str]] = {
    exp.Not: "not", exp.Neg: "neg", exp.Abs: "abs", exp.Floor: "floor", exp.Ceil: "ceil",
    exp.Year: "year", exp.Month: "month", exp.Day: "day", exp.DayOfMonth: "day", exp.Quarter: "quarter",
    exp.DayOfWeek: "weekday",
    exp.TsOrDsToDate: "date_of", exp.Date: "date_of",
}  # fmt: skip
_PARTS: Final = {
    "YEAR": "year", "MONTH": "month", "DAY": "day", "QUARTER": "quarter", "DOW": "weekday", "DAYOFWEEK": "weekday",
}  # fmt: skip
# What sqlglot keeps beside the operands, by the type of a part. Anything else may change what the part means: refused.
_OPERANDS: Final = ("this", "expression", "expressions")
_OPTIONS: Final[Mapping[type[exp.Expr], tuple[str, ...]]] = {
    exp.Column: ("table",), exp.Literal: ("is_string",), exp.Alias: ("alias",), exp.Cast: ("to",), exp.Interval: ("unit",),
    exp.Like: ("negate",), exp.Between: ("low", "high"), exp.In: ("query",), exp.Case: ("ifs", "default"),
    exp.If: ("true", "false"), exp.Round: ("decimals",), exp.DateTrunc: ("unit", "zone"),
    exp.DateFromParts: ("year", "month", "day"),
    exp.DateDiff: ("unit", "date_part_boundary"), exp.TimestampTrunc: ("unit",), exp.Count: ("big_int",),
    exp.Lag: ("offset",), exp.Lead: ("offset",), exp.Div: ("typed", "safe"), exp.Coalesce: ("is_nvl",),
    exp.Greatest: ("ignore_nulls",), exp.Least: ("ignore_nulls",),
}  # fmt: skip
_SECONDS: Final = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400, "WEEK": 604_800}
_MONTHS: Final = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
_WHOLE: Final = (
    exp.DataType.Type.INT, exp.DataType.Type.BIGINT, exp.DataType.Type.SMALLINT, exp.DataType.Type.TINYINT,
    exp.DataType.Type.INT128,
)  # fmt: skip
_REAL: Final = (exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT)
_STAMPS: Final = (
    exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPTZ, exp.DataType.Type.TIMESTAMPNTZ,
)  # fmt: skip
_TEXTS: Final = (exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT)


@dataclass(frozen=True)
class Scalars:
    """What expressions mean at one point of a query.

    Attributes:
      query: the query's text.
      column: gives the expression of a column.
      known: expressions that are columns already, such as aggregated ones, by their SQL.
    """

    query: Text
    column: Callable[[exp.Column], Expression]
    known: Mapping[str, Expression] = field(default_factory=dict)

    def lowered(self, node: exp.Expr) -> Expression:
        """Return the plan's expression.

        Raises:
          PlacedError: it is not supported, or its types do not fit.
        """
        known = self.known.get(node.sql("duckdb"))
        if known is not None:
            return known
        self.check(node)
        with self.query.at(node):
            return self._lowered(node)

    def check(self, node: exp.Expr) -> None:
        """Refuse a part with options that are not supported."""
        if isinstance(node, exp.Func | exp.Binary | exp.Unary | exp.Condition):
            self.query.only(node, (*_OPERANDS, *_OPTIONS.get(type(node), ())))

    def _lowered(self, node: exp.Expr) -> Expression:
        kind = type(node)
        if kind in (exp.Add, exp.Sub) and (node.find(exp.Interval) is not None):
            moved = self._moved(node)
            if moved is not None:
                return moved
        if kind in _BINARY:
            return call(_BINARY[kind], self.lowered(node.this), self.lowered(node.expression))
        if kind in _UNARY:
            return call(_UNARY[kind], self.lowered(node.this))
        match node:
            case exp.Column():
                return self.column(node)
            case exp.Paren() | exp.Alias():
                return self.lowered(node.this)
            case exp.Literal():
                return self._literal(node)
            case exp.Boolean():
                return boolean(bool(node.this))
            case exp.Null():
                return null()
            case exp.Between():
                value = self.lowered(node.this)
                low, high = (self.lowered(node.args[name]) for name in ("low", "high"))
                return call("and", call("ge", value, low), call("le", value, high))
            case exp.In():
                if node.args.get("query") is not None or node.args.get("unnest") is not None:
                    raise self.query.unsupported(
                        node, "IN with a subquery below OR, NOT or CASE", "join it, or write it beside AND"
                    )
                return call("in", self.lowered(node.this), *map(self.lowered, node.expressions))
            case exp.Is():
                return self._is(node)
            case exp.NullSafeEQ() | exp.NullSafeNEQ():
                return self._distinct_from(node)
            case exp.Like():
                like = call("like", self.lowered(node.this), self.lowered(node.expression))
                return call("not", like) if node.args.get("negate") else like
            case exp.Case() | exp.If():
                return self._case(node)
            case exp.Nullif():
                value = self.lowered(node.this)
                return case([(call("eq", value, self.lowered(node.expression)), null())], value)
            case exp.Coalesce():
                return call("coalesce", *map(self.lowered, (node.this, *node.expressions)))
            case exp.Least() | exp.Greatest():
                return call(node.key, *map(self.lowered, (node.this, *node.expressions)))
            case exp.Round():
                return self._round(node)
            case exp.Extract():
                part = str(node.this.name).upper()
                if part not in _PARTS:
                    raise self.query.unsupported(
                        node, f"EXTRACT of {part[:20]}", f"supported are {', '.join(_PARTS)}"
                    )
                return call(_PARTS[part], self.lowered(node.expression))
            case exp.Cast():
                return self._cast(node)
            case exp.DateDiff():
                if str(node.text("unit")).upper() not in ("DAY", "DAYS"):
                    raise self.query.unsupported(node, "DATE_DIFF of other units than days")
                return call(
                    "sub",
                    call("date_of", self.lowered(node.this)),
                    call("date_of", self.lowered(node.expression)),
                )
            case exp.DateTrunc() | exp.TimestampTrunc():
                return self._truncated(node)
            case exp.DateFromParts():
                return self._date(node)
            case exp.CurrentDate() | exp.CurrentTimestamp():
                raise self.query.unsupported(
                    node, "the current time", "write a date, so that all parties compute the same"
                )
            case exp.Window():
                raise self.query.unsupported(
                    node, "a window function here", "compute it in SELECT or a subquery"
                )
            case exp.AggFunc() | exp.Filter():
                raise self.query.unsupported(
                    node, f"{_name(node)} here", "an aggregate stands in SELECT, HAVING or ORDER BY"
                )
            case exp.Exists():
                raise self.query.unsupported(node, "EXISTS below OR or CASE", "write it beside AND, in WHERE")
            case exp.Subquery() | exp.Select():
                raise self.query.unsupported(node, "a subquery as a value", "join it")
            case exp.Star():
                raise self.query.unsupported(node, "* here")
            case _:
                raise self.query.unsupported(node)

    def _literal(self, node: exp.Literal) -> Expression:
        if node.is_string:
            return literal(str(node.this))
        try:
            number = Decimal(str(node.this))
        except decimal.InvalidOperation:
            raise self.query.refusal(node, f"expected a number, got {str(node.this)!r:.40}") from None
        return literal(number)

    def _is(self, node: exp.Is) -> Expression:
        value, what = self.lowered(node.this), node.expression
        if isinstance(what, exp.Null):
            return call("is_null", value)
        if isinstance(what, exp.Boolean):
            return call("coalesce", call("eq", value, boolean(bool(what.this))), boolean(False))
        raise self.query.unsupported(node)

    def _distinct_from(self, node: exp.Expr) -> Expression:
        left, right = self.lowered(node.this), self.lowered(node.expression)
        both = call("and", call("is_null", left), call("is_null", right))
        same = call("or", both, call("coalesce", call("eq", left, right), boolean(False)))
        return same if isinstance(node, exp.NullSafeEQ) else call("not", same)

    def _case(self, node: exp.Expr) -> Expression:
        if isinstance(node, exp.If):
            otherwise = node.args.get("false")
            branches = [(self.lowered(node.this), self.lowered(node.args["true"]))]
            return case(branches, None if otherwise is None else self.lowered(otherwise))
        operand = None if node.this is None else self.lowered(node.this)
        branches = []
        for branch in node.args["ifs"]:
            condition = self.lowered(branch.this)
            if operand is not None:
                condition = call("eq", operand, condition)
            branches.append((condition, self.lowered(branch.args["true"])))
        default = node.args.get("default")
        return case(branches, None if default is None else self.lowered(default))

    def _round(self, node: exp.Round) -> Expression:
        places = node.args.get("decimals")
        decimals = Literal(0, Domain("number", 0, 0)) if places is None else self.lowered(places)
        if (
            not isinstance(decimals, Literal)
            or not isinstance(decimals.value, int)
            or not 0 <= decimals.value <= 15
        ):
            raise self.query.refusal(node, "ROUND takes a constant number of decimals, 0 to 15")
        return call("round", self.lowered(node.this), decimals=decimals.value)

    def _cast(self, node: exp.Cast) -> Expression:
        value, to = self.lowered(node.this), node.to
        kind, written = to.this, text(value)
        if kind == exp.DataType.Type.DATE:
            return call("date_of", value)
        if kind in _STAMPS and (written is not None or value.domain.kind == "timestamp"):
            return value if written is None else _stamp(written)
        if kind in _TEXTS and value.domain.kind in ("category", "identifier"):
            return value
        if kind == exp.DataType.Type.BOOLEAN and value.domain.kind == "boolean":
            return value
        if value.domain.kind == "boolean" and kind in _WHOLE:
            return call("to_number", value)
        if value.domain.kind == "real" and kind not in _REAL:
            raise self.query.unsupported(node, "CAST of a quotient or a mean", "write ROUND")
        if kind in _WHOLE and value.domain.kind == "number":
            return call("round", value)
        if kind in _REAL and value.domain.kind in ("number", "real"):
            return value
        if kind == exp.DataType.Type.DECIMAL and value.domain.kind == "number":
            sizes = [int(one.name) for one in to.expressions]
            return call("round", value, decimals=sizes[1] if len(sizes) > 1 else 0 if sizes else 3)
        raise self.query.unsupported(node, f"CAST of {value.domain.noun} to {to.sql('duckdb')[:30]}")

    def _date(self, node: exp.DateFromParts) -> Expression:
        parts = [self.lowered(node.args[name]) for name in ("year", "month", "day")]
        year, month, day = (one.value if isinstance(one, Literal) else None for one in parts)
        if not (isinstance(year, int) and isinstance(month, int) and isinstance(day, int)):
            raise self.query.unsupported(node, "MAKE_DATE of columns")
        try:
            return literal(datetime.date(year, month, day))
        except ValueError:
            raise UsageError(f"there is no date {year}-{month}-{day}") from None

    def _truncated(self, node: exp.Expr) -> Expression:
        unit = str(node.text("unit")).upper()
        day = call("date_of", self.lowered(node.this))
        if unit == "DAY":
            return day
        if unit == "MONTH":
            return call("sub", day, call("sub", call("day", day), literal(1)))
        raise self.query.unsupported(
            node, f"DATE_TRUNC to {unit[:20]}", "supported are month and day; EXTRACT gives year and quarter"
        )

    def _moved(self, node: exp.Expr) -> Expression | None:
        """Return a date or timestamp plus or minus an interval, if that is what it is."""
        this, by = node.this, node.expression
        if isinstance(node, exp.Add) and isinstance(this, exp.Interval):
            this, by = by, this
        if not isinstance(by, exp.Interval):
            return None
        moment = self.lowered(this)
        unit = str(by.text("unit")).upper().removesuffix("S")
        try:
            count = int(str(by.this.name)) * (-1 if isinstance(node, exp.Sub) else 1)
        except (AttributeError, ValueError):
            raise self.query.refusal(
                by, "expected an INTERVAL of a whole number, such as INTERVAL 30 DAY"
            ) from None
        if text(moment) is not None:
            moment = call("date_of", moment)
        if moment.domain.kind not in ("date", "timestamp"):
            raise UsageError(
                f"an INTERVAL is added to a date or a timestamp, and this is {moment.domain.noun}"
            )
        if unit in _MONTHS:
            if (
                not isinstance(moment, Literal)
                or not isinstance(moment.value, int)
                or moment.domain.kind != "date"
            ):
                raise self.query.unsupported(
                    by, "an INTERVAL of months added to a column", "add days, or compare with a date"
                )
            return _months_later(moment.value, count * _MONTHS[unit])
        if unit not in _SECONDS:
            raise self.query.unsupported(by, f"an INTERVAL of {unit[:20] or 'no unit'}")
        seconds = count * _SECONDS[unit]
        if moment.domain.kind == "timestamp":
            return moved_by_units("add", moment, seconds * int(10**moment.domain.decimals))
        if seconds % 86_400:
            raise UsageError("an INTERVAL below a day is added to a timestamp, and this is a date")
        return moved_by_units("add", moment, seconds // 86_400)


def _name(node: exp.Expr) -> str:
    return (
        _name(node.this)
        if isinstance(node, exp.Filter)
        else f"{getattr(node, 'sql_name', lambda: 'an aggregate')()}"
    )


def _stamp(written: str) -> Literal:
    """Return a timestamp's text, which takes the zone of what it meets unless it names one."""
    try:
        datetime.datetime.fromisoformat(written)
    except ValueError:
        raise UsageError(f"expected a timestamp such as 2026-01-31 12:00:00, got {written!r:.60}") from None
    return literal(written)


def _months_later(days: int, months: int) -> Expression:
    day = datetime.date(1970, 1, 1) + datetime.timedelta(days=days)
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise UsageError(f"expected a date in the years 1 to 9999, got one in {year}")
    return literal(datetime.date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1])))
