"""Expressions with their domains: types that fit, ranges by interval arithmetic, NULL, and lineage.

`call`, `case` and `literal` build every expression. They bring arguments to one domain (`rescale`, `to_real`, `recode`),
fold constants, and refuse what does not fit. An error says what is wrong; `sql` adds where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from secagg.errors import UsageError
from secagg.query.algebra import (
    Aggregate,
    Aggregation,
    Case,
    Column,
    Domain,
    Expression,
    Filter,
    Literal,
    Project,
    Ref,
    Relation,
    after,
)
from secagg.query.constants import BOOLEAN, MOST_DECIMALS, boolean, is_null, literal, near, null, text
from secagg.query.dates import PARTS, date_arithmetic, dated, moved_by_units
from secagg.query.evaluator import evaluate, like
from secagg.query.fitting import (
    any_null,
    as_kind,
    fold,
    hull,
    in_one_domain,
    ordered,
    sign,
    together,
)

__all__ = [
    "FRAC_BITS",
    "aggregation",
    "boolean",
    "call",
    "case",
    "in_one_domain",
    "literal",
    "moved_by_units",
    "near",
    "null",
    "text",
]

FRAC_BITS: Final = 20  # of quotients and means: about six decimals

_ADDITIVE: Final = ("sum", "count", "count_distinct")  # over groups they add up to at most what all rows give
_COMPARISONS: Final = ("eq", "ne", "lt", "le", "gt", "ge")
_SWAPPED: Final = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def call(op: str, *args: Expression, decimals: int = 0) -> Expression:
    """Return an operation on arguments that may need bringing to one domain.

    Args:
      op: as `algebra` names it.
      decimals: of what `round` and `rescale` give.

    Raises:
      UsageError: the operation does not take what the arguments are.
    """
    if op in _COMPARISONS:
        return _comparison(op, *args)
    if op == "in":
        return _in(args[0], args[1:])
    if op == "like":
        return _like(args[0], args[1])
    if op in ("and", "or", "not"):
        args = tuple(as_kind(arg, "boolean", op.upper()) for arg in args)
        return fold(op, args, BOOLEAN.with_null(any_null(args)))
    if op == "is_null":
        if not args[0].domain.nullable:
            return boolean(False)
        return fold(op, args, BOOLEAN, "compare")
    if op in ("coalesce", "least", "greatest"):
        args = in_one_domain(args, op)
        if op != "coalesce":
            ordered(args, op.upper())
        kept = args
        if op == "coalesce":  # what follows one that is never NULL is never used
            never = next((i for i, arg in enumerate(args) if not arg.domain.nullable), len(args) - 1)
            kept = args[: never + 1]
            if len(kept) == 1:
                return kept[0]
        nullable = all(arg.domain.nullable for arg in kept)
        domain = hull([arg.domain for arg in kept]).with_null(nullable)
        return fold(op, kept, domain, None if op == "coalesce" else "compute")
    if op in ("year", *PARTS, "date_of"):
        return dated(op, args[0])
    return _arithmetic(op, args, decimals)


def case(branches: Sequence[tuple[Expression, Expression]], otherwise: Expression | None) -> Expression:
    """Return a CASE.

    Raises:
      UsageError: a condition that is no boolean, or values of domains that do not fit together.
    """
    conditions = [as_kind(condition, "boolean", "CASE WHEN") for condition, _ in branches]
    values = in_one_domain([*(value for _, value in branches), otherwise or null()], "CASE")
    if all(map(is_null, values)):
        return null()
    domain = hull([value.domain for value in values]).with_null(any_null(values))
    lineage = together(values).union(*(after(one.lineage, "compare") for one in conditions))
    built = Case(tuple(zip(conditions, values[:-1], strict=True)), values[-1], domain, lineage)
    if all(isinstance(one, Literal) for one in (*conditions, *values)):
        return Literal(evaluate(built, {}), domain)
    return built


def aggregation(
    name: str, function: str, column: Column | None, below: Relation, *, grouped: bool
) -> Aggregation:
    """Return an aggregated column.

    Args:
      below: the relation whose rows are aggregated.
      grouped: whether there are keys, so that no group is without rows.

    Raises:
      UsageError: the function does not take the column's domain.
    """
    rows = below.max_rows
    shown = {"mean": "AVG", "any": "BOOL_OR", "all": "BOOL_AND"}.get(function, function.upper())
    if column is None:
        return Aggregation(name, "count", None, Domain("number", int(grouped), max(rows, 1)))
    if function in ("count", "count_distinct"):
        return Aggregation(name, function, column.name, Domain("number", 0, rows))
    domain = column.domain
    nullable = domain.nullable or not grouped
    low, high = domain.bounds
    if function in ("any", "all"):
        as_kind(column.ref, "boolean", shown)
    elif function in ("min", "max"):
        ordered((column.ref,), shown)
    elif domain.kind not in ("number", "real"):
        raise UsageError(f"{shown} takes numbers, and this is {domain.noun}")
    elif function == "sum" and _is_sum_of_group(column.name, below):
        # Groups have no row in common, so their sums add up to a sum over rows.
        domain = replace(domain, lowest=min(low, 0), highest=max(high, 0))
    elif function == "sum":
        domain = replace(domain, lowest=min(low, low * rows), highest=max(high, high * rows))
    else:
        unit = Fraction(2**FRAC_BITS, 10**domain.decimals) if domain.kind == "number" else Fraction(1)
        bits = FRAC_BITS if domain.kind == "number" else domain.frac_bits
        domain = Domain("real", math.floor(low * unit), math.ceil(high * unit), frac_bits=bits)
    return Aggregation(name, function, column.name, domain.with_null(nullable))


def _is_sum_of_group(name: str, relation: Relation) -> bool:
    """Return whether each row's value is the sum or count of a group of its own."""
    match relation:
        case Filter(input=below):
            return _is_sum_of_group(name, below)
        case Project(input=below, expressions=expressions):
            of = dict(expressions)[name]
            return isinstance(of, Ref) and _is_sum_of_group(of.name, below)
        case Aggregate(aggregations=aggregations):
            return any(one.name == name and one.function in _ADDITIVE for one in aggregations)
        case _:
            return False


def _comparison(op: str, left: Expression, right: Expression) -> Expression:
    for this, other, sense in ((left, right, op), (right, left, _SWAPPED[op])):
        written = text(other)
        if written is not None and text(this) is None and this.domain.kind == "category":
            return _with_text(sense, this, written)
    left, right = in_one_domain((left, right), op)
    if op not in ("eq", "ne"):
        ordered((left, right), op)
    nullable = any_null((left, right))
    return fold(op, (left, right), BOOLEAN.with_null(nullable), "compare")


def _with_text(op: str, category: Expression, written: str) -> Expression:
    """Return the comparison of a category with a text, decided over its public list."""
    values = category.domain.values
    if op in ("eq", "ne"):
        if written not in values:
            raise UsageError(f"the category has no value {written!r:.60}; {near(written, values)}")
        return fold(
            op,
            (category, _place(category.domain, written)),
            BOOLEAN.with_null(category.domain.nullable),
            "compare",
        )
    holds = {"lt": str.__lt__, "le": str.__le__, "gt": str.__gt__, "ge": str.__ge__}[op]
    return _one_of(category, [one for one in values if holds(one, written)])


def _place(domain: Domain, written: str) -> Literal:
    place = domain.values.index(written)
    return Literal(place, replace(domain, lowest=place, highest=place, nullable=False))


def _one_of(category: Expression, chosen: Sequence[str]) -> Expression:
    """Return whether a category's value is one of those chosen from its list."""
    domain = category.domain
    if len(chosen) in (0, len(domain.values)) and not domain.nullable:
        return boolean(bool(chosen))
    args = (category, *(_place(domain, one) for one in chosen))
    return fold("in", args, BOOLEAN.with_null(domain.nullable), "compare")


def _in(value: Expression, options: Sequence[Expression]) -> Expression:
    given = [one for one in options if not is_null(one)]
    for one in given:
        if not isinstance(one, Literal):
            raise UsageError("IN takes a list of constants; write OR for expressions")
    if (
        value.domain.kind == "category"
        and text(value) is None
        and all(text(one) is not None for one in given)
    ):
        for one in given:
            if text(one) not in value.domain.values:
                raise UsageError(
                    f"the category has no value {text(one)!r:.60}; {near(text(one) or '', value.domain.values)}"
                )
        chosen = {text(one) for one in given}
        found = _one_of(value, [one for one in value.domain.values if one in chosen])
    else:
        value, *given = in_one_domain((value, *given), "IN")
        found = fold("in", (value, *given), BOOLEAN.with_null(value.domain.nullable), "compare")
    return found if len(given) == len(options) else call("or", found, null())


def _like(value: Expression, pattern: Expression) -> Expression:
    written = text(pattern)
    if written is None:
        raise UsageError("LIKE takes a constant pattern")
    if is_null(value):
        return null()
    if value.domain.kind == "category":
        chosen = [one for one in value.domain.values if like(one, written)]
        return _one_of(value, chosen)
    if value.domain.kind != "identifier":
        raise UsageError(f"LIKE takes texts, and this is {value.domain.noun}")
    return fold(
        "like",
        (value, Literal(written, Domain("identifier"))),
        BOOLEAN.with_null(value.domain.nullable),
        "compare",
    )


def _arithmetic(op: str, args: Sequence[Expression], decimals: int) -> Expression:
    nullable = any_null(args)
    if op in ("add", "sub") and {arg.domain.kind for arg in args} & {"date", "timestamp"}:
        return date_arithmetic(op, *args)
    if op == "to_number":
        return fold(op, (as_kind(args[0], "boolean", "CAST"),), Domain("number", 0, 1, nullable=nullable))
    if any(is_null(arg) for arg in args):
        args = [literal(0) if is_null(arg) else arg for arg in args]
        # Whatever is computed with NULL is NULL; what else is there must fit all the same.
        return null(_arithmetic(op, args, decimals).domain)
    for arg in args:
        if arg.domain.kind not in ("number", "real"):
            raise UsageError(f"{sign(op)} takes numbers, and this is {arg.domain.noun}")
    if op == "mul":
        args = tuple(map(_without_zeros, args))
    if op in ("add", "sub") or (op in ("mul", "div") and any(arg.domain.kind == "real" for arg in args)):
        args = in_one_domain(args, op)
    first = args[0].domain
    (low, high), *others = (arg.domain.bounds for arg in args)
    match op:
        case "add":
            domain = replace(first, lowest=low + others[0][0], highest=high + others[0][1])
        case "sub":
            domain = replace(first, lowest=low - others[0][1], highest=high - others[0][0])
        case "mul":
            domain = _product(first, args[1].domain)
        case "div":
            domain = _quotient(first, args[1].domain)
            nullable = nullable or domain.nullable
        case "intdiv" | "mod":
            domain = _whole_division(op, args)
        case "neg":
            domain = replace(first, lowest=-high, highest=-low)
        case "abs":
            least = 0 if low <= 0 <= high else min(abs(low), abs(high))
            domain = replace(first, lowest=least, highest=max(abs(low), abs(high)))
        case "floor" | "ceil" | "round":
            if op == "round" and first.kind == "number" and decimals >= first.decimals:
                return args[0]
            unit = Fraction(10**decimals, 2**first.frac_bits if first.kind == "real" else 10**first.decimals)
            domain = Domain("number", math.floor(low * unit), math.ceil(high * unit), decimals=decimals)
        case _:
            raise UsageError(f"there is no operation {op!r:.40}")
    if domain.decimals > MOST_DECIMALS:
        raise UsageError(
            f"{sign(op)} gives {domain.decimals} decimals, and at most {MOST_DECIMALS} are kept; ROUND the arguments"
        )
    return fold(op, args, domain.with_null(nullable), "compute")


def _without_zeros(arg: Expression) -> Expression:
    """Return a constant without the zeros at the end of its decimals, which would make a product larger for nothing."""
    if not isinstance(arg, Literal) or arg.domain.kind != "number" or not isinstance(arg.value, int):
        return arg
    unit, decimals = arg.value, arg.domain.decimals
    while decimals and unit % 10 == 0:
        unit, decimals = unit // 10, decimals - 1
    return Literal(unit, replace(arg.domain, lowest=unit, highest=unit, decimals=decimals))


def _product(left: Domain, right: Domain) -> Domain:
    corners = [a * b for a in left.bounds for b in right.bounds]
    if left.kind == "number":
        return replace(
            left, lowest=min(corners), highest=max(corners), decimals=left.decimals + right.decimals
        )
    unit = 2**left.frac_bits
    return replace(left, lowest=min(corners) // unit, highest=-(-max(corners) // unit))


def _quotient(left: Domain, right: Domain) -> Domain:
    low, high = right.bounds
    bits = left.frac_bits if left.kind == "real" else FRAC_BITS
    divisors = [
        one
        for one in {low, high, *((-1,) if low < 0 <= high else ()), *((1,) if low <= 0 < high else ())}
        if one
    ]
    unit = Fraction(10) ** (right.decimals - left.decimals) * 2**bits
    corners = [Fraction(a, b) * unit for a in left.bounds for b in divisors] or [Fraction(0)]
    lowest, highest = math.floor(min(corners)), math.ceil(max(corners))
    return Domain("real", lowest, highest, frac_bits=bits, nullable=low <= 0 <= high)


def _whole_division(op: str, args: Sequence[Expression]) -> Domain:
    left, right = args
    divisor = right.value if isinstance(right, Literal) else None
    if (
        left.domain.kind != "number"
        or left.domain.decimals
        or right.domain.decimals
        or not isinstance(divisor, int)
        or divisor < 1
    ):
        raise UsageError(f"{sign(op)} takes a whole number and a whole constant from 1")
    low, high = left.domain.bounds
    if op == "intdiv":
        lowest, highest = (abs(one) // divisor * (1 if one >= 0 else -1) for one in (low, high))
    else:
        lowest, highest = max(min(low, 0), 1 - divisor), min(max(high, 0), divisor - 1)
    return replace(left.domain, lowest=lowest, highest=highest)
