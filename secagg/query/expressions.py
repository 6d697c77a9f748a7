"""Expressions of a plan on shares: each gives a column of integers, or of bits, with SQL's NULL.

Sizes are those of the domains, which the planner has checked: differences of two numbers fit 64 bits. What a column holds
where it is NULL is undefined, as in `mpc.tables`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from secagg import mpc
from secagg.errors import PlanError
from secagg.mpc.arrays import SharedArray
from secagg.mpc.arrays import comparison as compare
from secagg.mpc.arrays.arithmetic import absolute, is_negative, shifted_right
from secagg.mpc.tables import Column
from secagg.query.algebra import Call, Case, Domain, Expression, Literal, Ref
from secagg.query.date_parts import part
from secagg.query.quotients import quotient

Columns = Callable[[Ref], Column]

_COMPARISONS = {
    "eq": compare.equal,
    "ne": compare.not_equal,
    "lt": compare.less,
    "le": compare.less_equal,
    "gt": compare.greater,
    "ge": compare.greater_equal,
}


def bits_of(domain: Domain) -> int:
    """Return in how many bits the absolute value of a domain's numbers fits."""
    low, high = domain.bounds
    return max(abs(low), abs(high)).bit_length()


class Evaluator:
    """Works out expressions over the columns of one table.

    Args:
      columns: gives the column that a reference reads.
      like: any column of the table, which says how many rows there are.
    """

    def __init__(self, columns: Columns, like: SharedArray) -> None:
        self._columns = columns
        self._like = like

    def __call__(self, expression: Expression) -> Column:
        """Return an expression's column.

        Raises:
          PlanError: what is not computed on shares.
        """
        match expression:
            case Ref():
                return self._columns(expression)
            case Literal():
                return self._literal(expression)
            case Case():
                return self._case(expression)
            case Call():
                return self._call(expression)

    def _public(self, value: Any) -> SharedArray:
        rows = self._like.shape[0]
        kind = np.bool_ if isinstance(value, bool) else np.int64
        return self._like.engine.public(np.full(rows, value, kind))  # type: ignore[no-any-return]

    def _literal(self, literal: Literal) -> Column:
        value = public_value(literal)
        if value is None:
            none: int | bool = False if literal.domain.kind == "boolean" else 0
            return Column(self._public(none), self._public(True))
        return Column(self._public(value))

    def _call(self, call: Call) -> Column:
        op = call.op
        if op in ("and", "or"):
            return self._junction(op, [self(one) for one in call.args])
        if op == "coalesce":
            return reduce(_first_known, [self(one) for one in call.args])
        if op in ("least", "greatest"):
            return reduce(lambda a, b: _extreme(a, b, op), [self(one) for one in call.args])
        if op == "is_null":
            return Column(self(call.args[0]).is_null)
        first = self(call.args[0])
        if op == "on_shares":
            return first
        if op == "in":
            return Column(self._in(first, call.args[1:]), first.null)
        if op == "not":
            return Column(~first.values, first.null)
        others = [self._operand(one) for one in call.args[1:]]
        null = _either([first.null, *(null for _, null in others)])
        values = self._values(call, first.values, [value for value, _ in others])
        if op == "div":
            null = _either([null, values[1]])
            return Column(values[0], null)
        return Column(values, null)

    def _operand(self, expression: Expression) -> tuple[Any, SharedArray | None]:
        """Return a second operand: a public number where it is a constant."""
        if isinstance(expression, Literal) and (value := public_value(expression)) is not None:
            return value, None
        column = self(expression)
        return column.values, column.null

    def _values(self, call: Call, a: SharedArray, others: Sequence[Any]) -> Any:
        op, domain = call.op, call.domain
        first = call.args[0].domain
        b = others[0] if others else None
        if op in _COMPARISONS:
            return _COMPARISONS[op](a, np.asarray(b) if isinstance(b, int | bool) else b)
        match op:
            case "add":
                return a + b
            case "sub":
                return a - b
            case "mul" if first.kind == "real":
                return shifted_right(a * b, first.frac_bits)
            case "mul":
                return a * b
            case "neg":
                return -a
            case "abs":
                return absolute(a)
            case "rescale":
                return a * 10 ** (domain.decimals - first.decimals)
            case "to_real":
                return _to_real(a, first, domain)
            case "to_number":
                return a.astype(mpc.int64)
            case "recode":
                return _recoded(a, first, domain)
            case "div":
                return _quotient(call, a, b)
            case "intdiv" | "mod":
                divisor = _constant(call.args[1])
                whole = _by_constant(a, first, divisor)
                return whole if op == "intdiv" else a - whole * divisor
            case "floor" | "ceil" | "round":
                return _rounded(op, a, first, domain)
            case "year" | "quarter" | "month" | "day":
                return part(op, *_days(op, a, first))
            case "weekday":
                days, low, high = _days(op, a, first)
                # 1970-01-01 was a Thursday. Whole weeks more, so that nothing is below 0.
                since = days + (4 + 7 * (abs(low) // 7 + 1))
                weeks = quotient(
                    since, 7, bits=(high - low + 14).bit_length() + abs(low).bit_length(), denominator_bits=3
                )
                return since - weeks * 7
            case "date_of":
                return _days(op, a, first)[0]
            case "to_timestamp" if domain.zone == "UTC":
                return a * (86_400 * 10**domain.decimals)
        raise PlanError(
            f"{op} of a value that several tables or organisations make is not computed on shares; compute it from columns "
            "of one table, before they are joined or aggregated"
        )

    def _in(self, column: Column, options: Sequence[Expression]) -> SharedArray:
        if not options:
            return self._public(False)
        found = [
            column.values == np.asarray(public_value(one)) for one in options if isinstance(one, Literal)
        ]
        return reduce(lambda a, b: a | b, found)

    def _junction(self, op: str, columns: Sequence[Column]) -> Column:
        """Return AND or OR in three-valued logic."""
        if all(column.null is None for column in columns):
            values = [column.values for column in columns]
            return Column(reduce((lambda a, b: a & b) if op == "and" else (lambda a, b: a | b), values))
        true = [column.filled for column in columns]
        false = [
            ~column.values if c.null is None else ~(c.values | c.null) for c in columns for column in (c,)
        ]
        if op == "and":
            is_true = reduce(lambda a, b: a & b, true)
            is_false = reduce(lambda a, b: a | b, false)
        else:
            is_true = reduce(lambda a, b: a | b, true)
            is_false = reduce(lambda a, b: a & b, false)
        return Column(is_true, ~(is_true ^ is_false))

    def _case(self, case: Case) -> Column:
        result = self(case.otherwise)
        for condition, value in reversed(case.branches):
            holds, chosen = self(condition).filled, self(value)
            null: SharedArray | None = None
            if result.null is not None or chosen.null is not None:
                null = compare.where(holds, chosen.is_null, result.is_null)
            result = Column(compare.where(holds, chosen.values, result.values), null)
        return result


def public_value(literal: Literal) -> int | bool | None:
    """Return what a constant is on shares; None for NULL.

    Raises:
      PlanError: an identifier, which only owners can tell.
    """
    value, domain = literal.value, literal.domain
    if value is None:
        return None
    if domain.kind == "boolean":
        return bool(value)
    if domain.kind == "category" and isinstance(value, str):
        return domain.values.index(value)
    if isinstance(value, str):
        raise PlanError(
            "an identifier is compared with a constant by its owner alone, and here it comes out of several tables; compare "
            "it before they are joined"
        )
    return value


def _constant(expression: Expression) -> int:
    value = public_value(expression) if isinstance(expression, Literal) else None
    if value is None:
        raise PlanError("expected a constant to divide by")
    return int(value)


def _either(nulls: Sequence[SharedArray | None]) -> SharedArray | None:
    known = [null for null in nulls if null is not None]
    return reduce(lambda a, b: a | b, known) if known else None


def _first_known(a: Column, b: Column) -> Column:
    if a.null is None:
        return a
    return Column(compare.where(a.null, b.values, a.values), None if b.null is None else a.null & b.null)


def _extreme(a: Column, b: Column, op: str) -> Column:
    take_b = b.values < a.values if op == "least" else a.values < b.values
    if a.null is not None:
        take_b = take_b | a.null
    if b.null is not None:
        take_b = take_b & ~b.null
    null = None if a.null is None or b.null is None else a.null & b.null
    return Column(compare.where(take_b, b.values, a.values), null)


def ratio(call: Call) -> tuple[int, int]:
    """Return the integers by which numerator and denominator are to be multiplied before a division."""
    a, b = (one.domain for one in call.args)
    return (10 ** max(0, b.decimals - a.decimals), 10 ** max(0, a.decimals - b.decimals))


def _quotient(call: Call, a: SharedArray, b: Any) -> tuple[SharedArray, SharedArray | None]:
    """Return a quotient, and where it is NULL."""
    up, down = ratio(call)
    first, second = (one.domain for one in call.args)
    if bits_of(call.domain) > 62:
        raise PlanError(
            "a quotient with a denominator that may be next to 0 could overflow 64 bits where it is computed with; open it "
            "as it is, or compare a > c * b in place of a / b > c"
        )
    found = quotient(
        a * up,
        b * down,
        bits=bits_of(first) + up.bit_length(),
        denominator_bits=bits_of(second) + down.bit_length(),
        fraction_bits=call.domain.frac_bits,
    )
    return found, None if isinstance(b, int) else b == 0


def _by_constant(a: SharedArray, domain: Domain, divisor: int) -> SharedArray:
    return quotient(a, divisor, bits=bits_of(domain), denominator_bits=divisor.bit_length())


def _days(op: str, a: SharedArray, domain: Domain) -> tuple[SharedArray, int, int]:
    """Return the days of dates or timestamps, and their range.

    Raises:
      PlanError: of timestamps whose clocks change.
    """
    low, high = domain.bounds
    if domain.kind == "date":
        return a, low, high
    if domain.zone != "UTC":
        raise PlanError(
            f"{op} of a timestamp in {domain.zone} that several tables or organisations make is not computed on shares, as "
            "clocks change there; compute it from columns of one table, before they are joined or aggregated, or declare "
            "the zone UTC"
        )
    unit = 86_400 * 10**domain.decimals
    first, last = low // unit, high // unit
    since = a - first * unit
    days = quotient(since, unit, bits=(high - first * unit).bit_length(), denominator_bits=unit.bit_length())
    return days + first, first, last


def _to_real(a: SharedArray, domain: Domain, target: Domain) -> SharedArray:
    if not domain.decimals:
        return a * (1 << target.frac_bits)
    return quotient(
        a,
        10**domain.decimals,
        bits=bits_of(domain),
        denominator_bits=(10**domain.decimals).bit_length(),
        fraction_bits=target.frac_bits,
    )


def _rounded(op: str, a: SharedArray, domain: Domain, target: Domain) -> SharedArray:
    """Return a number or a real rounded to the target's decimals; round takes halves away from zero."""
    unit = 10 ** (domain.decimals - target.decimals) if domain.kind == "number" else 1 << domain.frac_bits
    bits = bits_of(domain)
    if domain.kind == "real":
        a, bits = a * 10**target.decimals, bits + (10**target.decimals).bit_length()
    if op == "round":
        away = (is_negative(a).astype(mpc.int64) * -2 + 1) * (unit // 2)
        return quotient(a + away, unit, bits=bits + 1, denominator_bits=unit.bit_length())
    whole = quotient(a, unit, bits=bits, denominator_bits=unit.bit_length())
    rest = a - whole * unit
    if op == "floor":
        return whole - is_negative(rest).astype(mpc.int64)
    return whole + is_negative(-rest).astype(mpc.int64)


def _recoded(a: SharedArray, domain: Domain, target: Domain) -> SharedArray:
    """Return places in one sorted list as places in another one that holds all of it."""
    low, high = domain.bounds
    places = [target.values.index(text) for text in domain.values[low : high + 1]]
    result = a * 0 + places[0]
    if all(place - places[0] == i for i, place in enumerate(places)):
        return result + (a - low)
    for i, (before, place) in enumerate(itertools.pairwise(places), 1):
        result = result + (a >= low + i).astype(mpc.int64) * (place - before)
    return result
