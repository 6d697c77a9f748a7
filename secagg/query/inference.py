"""Expressions with their domains: types that fit, ranges by interval arithmetic, NULL, and lineage.

`call`, `case` and `literal` build every expression. They bring arguments to one domain (`rescale`, `to_real`, `recode`),
fold constants, and refuse what does not fit. An error says what is wrong; `sql` adds where.
"""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from secagg.errors import UsageError
from secagg.query.algebra import (
    NOTHING,
    Aggregation,
    Call,
    Case,
    Column,
    Domain,
    Expression,
    Lineage,
    Literal,
    Relation,
    after,
)
from secagg.query.evaluator import evaluate, like

__all__ = [
    "FRAC_BITS",
    "aggregation",
    "boolean",
    "call",
    "case",
    "in_one_domain",
    "literal",
    "near",
    "null",
    "text",
]

FRAC_BITS: Final = 20  # of quotients and means: about six decimals
_MOST_DECIMALS: Final = 18
BOOLEAN: Final = Domain("boolean", 0, 1)
_EPOCH: Final = datetime.date(1970, 1, 1)

_COMPARISONS: Final = ("eq", "ne", "lt", "le", "gt", "ge")
_SWAPPED: Final = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_SIGNS: Final = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "intdiv": "//", "mod": "%", "neg": "-",
    "eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip
_PARTS: Final = {"month": (1, 12), "day": (1, 31), "quarter": (1, 4), "weekday": (0, 6)}


def near(name: str, known: Iterable[str]) -> str:
    """Return words that name the known names next to one that is not, or all if they are few."""
    known = list(known)
    found = difflib.get_close_matches(name.lower(), [one.lower() for one in known], 3, 0.6)
    shown = [one for one in known if one.lower() in found] or known[:12]
    more = ", ..." if len(shown) < len(known) and not found else ""
    return f"{'near ones' if found else 'there are'}: {', '.join(shown) or 'none'}{more}"


def literal(value: bool | int | Decimal | datetime.date | str) -> Literal:
    """Return a constant; a text is a category of one value until it meets an identifier, a date or a timestamp."""
    match value:
        case bool():
            return Literal(int(value), BOOLEAN)
        case int():
            return Literal(value, Domain("number", value, value))
        case Decimal():
            sign, digits, exponent = value.as_tuple()
            if not isinstance(exponent, int) or abs(exponent) > 2 * _MOST_DECIMALS:
                raise UsageError(f"expected a number of at most {_MOST_DECIMALS} decimals, got {value}")
            unit = int("".join(map(str, digits))) * (-1 if sign else 1) * 10 ** max(exponent, 0)
            decimals = max(-exponent, 0)
            if decimals > _MOST_DECIMALS:
                raise UsageError(f"expected a number of at most {_MOST_DECIMALS} decimals, got {value}")
            return Literal(unit, Domain("number", unit, unit, decimals=decimals))
        case datetime.date():
            days = (value - _EPOCH).days
            return Literal(days, Domain("date", days, days))
        case str():
            return Literal(0, Domain("category", 0, 0, values=(value,)))


def boolean(value: bool) -> Literal:
    """Return TRUE or FALSE."""
    return literal(value)


def null(domain: Domain = BOOLEAN) -> Literal:
    """Return NULL of a domain."""
    return Literal(None, domain.with_null())


def text(expression: Expression) -> str | None:
    """Return the text of a constant text, or None for anything else."""
    if (
        isinstance(expression, Literal)
        and isinstance(expression.value, int)
        and expression.domain.kind == "category"
    ):
        return expression.domain.values[expression.value]
    return None


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
        args = tuple(_as_kind(arg, "boolean", op.upper()) for arg in args)
        return _fold(op, args, BOOLEAN.with_null(_any_null(args)))
    if op == "is_null":
        if not args[0].domain.nullable:
            return boolean(False)
        return _fold(op, args, BOOLEAN, "compare")
    if op in ("coalesce", "least", "greatest"):
        args = in_one_domain(args, op)
        if op != "coalesce":
            _ordered(args, op.upper())
        kept = args
        if op == "coalesce":  # what follows one that is never NULL is never used
            never = next((i for i, arg in enumerate(args) if not arg.domain.nullable), len(args) - 1)
            kept = args[: never + 1]
            if len(kept) == 1:
                return kept[0]
        nullable = all(arg.domain.nullable for arg in kept)
        domain = _hull([arg.domain for arg in kept]).with_null(nullable)
        return _fold(op, kept, domain, None if op == "coalesce" else "compute")
    if op in ("year", *_PARTS, "date_of", "to_timestamp"):
        return _dated(op, args[0])
    return _arithmetic(op, args, decimals)


def case(branches: Sequence[tuple[Expression, Expression]], otherwise: Expression | None) -> Expression:
    """Return a CASE.

    Raises:
      UsageError: a condition that is no boolean, or values of domains that do not fit together.
    """
    conditions = [_as_kind(condition, "boolean", "CASE WHEN") for condition, _ in branches]
    values = in_one_domain([*(value for _, value in branches), otherwise or null()], "CASE")
    if all(map(_is_null, values)):
        return null()
    domain = _hull([value.domain for value in values]).with_null(_any_null(values))
    lineage = _together(values).union(*(after(one.lineage, "compare") for one in conditions))
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
        _as_kind(column.ref, "boolean", shown)
    elif function in ("min", "max"):
        _ordered((column.ref,), shown)
    elif domain.kind not in ("number", "real"):
        raise UsageError(f"{shown} takes numbers, and this is {domain.noun}")
    elif function == "sum":
        domain = replace(domain, lowest=min(low, low * rows), highest=max(high, high * rows))
    else:
        unit = Fraction(2**FRAC_BITS, 10**domain.decimals) if domain.kind == "number" else Fraction(1)
        bits = FRAC_BITS if domain.kind == "number" else domain.frac_bits
        domain = Domain("real", math.floor(low * unit), math.ceil(high * unit), frac_bits=bits)
    return Aggregation(name, function, column.name, domain.with_null(nullable))


# --- domains that fit together


def in_one_domain(args: Sequence[Expression], what: str) -> tuple[Expression, ...]:
    """Return the arguments with equal decimals, bits or lists of texts.

    Raises:
      UsageError: they are of kinds that do not fit together.
    """
    known = [arg for arg in args if not _is_null(arg)]
    if not known:
        return tuple(args)
    texts = [arg for arg in known if text(arg) is None] or known
    kinds = {arg.domain.kind for arg in texts}
    domains = [arg.domain for arg in known]
    if kinds == {"number"}:
        target = max((one.domain for one in texts), key=lambda domain: domain.decimals)
    elif kinds <= {"number", "real"}:
        bits = max(arg.domain.frac_bits for arg in texts)
        target = Domain("real", frac_bits=bits)
    elif kinds == {"category"}:
        target = Domain(
            "category", values=tuple(sorted({one for domain in domains for one in domain.values}))
        )
    elif kinds <= {"date", "timestamp"} and "timestamp" in kinds:
        stamps = [arg.domain for arg in texts if arg.domain.kind == "timestamp"]
        zones = {domain.zone for domain in stamps}
        if len(zones) > 1:
            raise UsageError(
                f"{_sign(what)} of timestamps in the zones {' and '.join(sorted(zones))}; declare one zone for both"
            )
        target = max(stamps, key=lambda domain: domain.decimals)
    elif len(kinds) == 1:
        target = texts[0].domain
        spellings = sorted({arg.domain.spelling for arg in texts if not isinstance(arg, Literal)})
        if len(spellings) > 1:
            raise UsageError(
                f"{_sign(what)} of identifiers that are spelt by the rules {' and '.join(spellings)}; declare one"
            )
    else:
        named = " and ".join(sorted({f"{arg.domain.noun}" for arg in texts}))
        raise UsageError(f"{_sign(what)} takes values of one type, and these are {named}")
    return tuple(_brought(arg, target) for arg in args)


def _brought(arg: Expression, target: Domain) -> Expression:
    domain = arg.domain
    if _is_null(arg):
        return null(
            replace(
                target,
                lowest=None if target.lowest is None else 0,
                highest=None if target.highest is None else 0,
            )
        )
    written = text(arg)
    if written is not None and target.kind != "category":
        return _read(written, target)
    match target.kind:
        case "number":
            more = target.decimals - domain.decimals
            if not more:
                return arg
            low, high = (bound * 10**more for bound in domain.bounds)
            return _fold(
                "rescale", (arg,), replace(domain, lowest=low, highest=high, decimals=target.decimals)
            )
        case "real":
            if domain.kind == "real" and domain.frac_bits == target.frac_bits:
                return arg
            unit = Fraction(2**target.frac_bits, 10**domain.decimals * 2**domain.frac_bits)
            low, high = math.floor(domain.bounds[0] * unit), math.ceil(domain.bounds[1] * unit)
            made = Domain("real", low, high, frac_bits=target.frac_bits, nullable=domain.nullable)
            return _fold("to_real", (arg,), made)
        case "category":
            if domain.values == target.values:
                return arg
            places = [target.values.index(one) for one in domain.values] or [0]
            low, high = min(places), max(places)
            if isinstance(arg, Literal) and isinstance(arg.value, int):
                return Literal(
                    places[arg.value], replace(domain, lowest=low, highest=high, values=target.values)
                )
            return _fold("recode", (arg,), replace(domain, lowest=low, highest=high, values=target.values))
        case "timestamp":
            if domain.kind == "date":
                return _to_timestamp(arg, target)
            if domain.decimals != target.decimals:
                raise UsageError("timestamps of different precision do not meet; declare equal decimals")
            return arg
        case _:
            return arg


def _read(written: str, target: Domain) -> Literal:
    """Return a text constant as a value of a domain."""
    if target.kind == "identifier":
        return Literal(written, Domain("identifier", spelling=target.spelling))
    try:
        if target.kind == "date":
            return literal(datetime.date.fromisoformat(written))
        if target.kind == "timestamp":
            return timestamp(written, target)
    except ValueError:
        example = "2026-01-31" if target.kind == "date" else "2026-01-31 12:00:00"
        raise UsageError(f"expected a {target.kind} such as {example}, got {written!r:.60}") from None
    raise UsageError(f"expected {target.noun}, got the text {written!r:.60}")


def timestamp(written: str, target: Domain) -> Literal:
    """Return a text as a timestamp of a domain; without a zone it is in the domain's.

    Raises:
      ValueError: it is no timestamp.
      UsageError: it is finer than the domain.
    """
    moment = datetime.datetime.fromisoformat(written)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(target.zone))
    exact = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(microseconds=1)
    units = Fraction(int(exact)) / 10**6 * 10**target.decimals
    if units.denominator != 1:
        raise UsageError(
            f"{written!r:.60} is finer than the timestamps it meets, which have {target.decimals} decimals of a second"
        )
    return Literal(int(units), replace(target, lowest=int(units), highest=int(units), nullable=False))


def _hull(domains: Sequence[Domain]) -> Domain:
    """Return the first domain with a range that holds all of them."""
    first = domains[0]
    if first.lowest is None:
        return first
    return replace(
        first, lowest=min(one.bounds[0] for one in domains), highest=max(one.bounds[1] for one in domains)
    )


def _as_kind(arg: Expression, kind: str, what: str) -> Expression:
    if arg.domain.kind != kind:
        raise UsageError(f"{_sign(what)} takes a {kind}, and this is {arg.domain.noun}")
    return arg


def _ordered(args: Iterable[Expression], what: str) -> None:
    if any(arg.domain.kind == "identifier" for arg in args):
        raise UsageError(f"{_sign(what)} needs an order, and identifiers are compared for equality alone")


def _is_null(arg: Expression) -> bool:
    return isinstance(arg, Literal) and arg.value is None


def _any_null(args: Iterable[Expression]) -> bool:
    return any(arg.domain.nullable for arg in args)


def _together(args: Iterable[Expression]) -> Lineage:
    return NOTHING.union(*(arg.lineage for arg in args))


def _sign(op: str) -> str:
    return _SIGNS.get(op, op.upper())


def _fold(op: str, args: Sequence[Expression], domain: Domain, step: str | None = None) -> Expression:
    """Return a call, or its value if all arguments are constants."""
    lineage = _together(args)
    if step is not None:
        lineage = after(lineage, step)  # type: ignore[arg-type]
    built = Call(op, tuple(args), domain, lineage)
    if not all(isinstance(arg, Literal) for arg in args):
        return built
    value = evaluate(built, {})
    if isinstance(value, int) and domain.kind != "category":
        domain = replace(domain, lowest=value, highest=value)
    return Literal(value, domain.with_null(value is None))


# --- comparisons


def _comparison(op: str, left: Expression, right: Expression) -> Expression:
    for this, other, sense in ((left, right, op), (right, left, _SWAPPED[op])):
        written = text(other)
        if written is not None and text(this) is None and this.domain.kind == "category":
            return _with_text(sense, this, written)
    left, right = in_one_domain((left, right), op)
    if op not in ("eq", "ne"):
        _ordered((left, right), op)
    nullable = _any_null((left, right))
    return _fold(op, (left, right), BOOLEAN.with_null(nullable), "compare")


def _with_text(op: str, category: Expression, written: str) -> Expression:
    """Return the comparison of a category with a text, decided over its public list."""
    values = category.domain.values
    if op in ("eq", "ne"):
        if written not in values:
            raise UsageError(f"the category has no value {written!r:.60}; {near(written, values)}")
        return _fold(
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
    return _fold("in", args, BOOLEAN.with_null(domain.nullable), "compare")


def _in(value: Expression, options: Sequence[Expression]) -> Expression:
    given = [one for one in options if not _is_null(one)]
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
        found = _fold("in", (value, *given), BOOLEAN.with_null(value.domain.nullable), "compare")
    return found if len(given) == len(options) else call("or", found, null())


def _like(value: Expression, pattern: Expression) -> Expression:
    written = text(pattern)
    if written is None:
        raise UsageError("LIKE takes a constant pattern")
    if _is_null(value):
        return null()
    if value.domain.kind == "category":
        chosen = [one for one in value.domain.values if like(one, written)]
        return _one_of(value, chosen)
    if value.domain.kind != "identifier":
        raise UsageError(f"LIKE takes texts, and this is {value.domain.noun}")
    return _fold(
        "like",
        (value, Literal(written, Domain("identifier"))),
        BOOLEAN.with_null(value.domain.nullable),
        "compare",
    )


# --- arithmetic


def _arithmetic(op: str, args: Sequence[Expression], decimals: int) -> Expression:
    nullable = _any_null(args)
    if op in ("add", "sub") and {arg.domain.kind for arg in args} & {"date", "timestamp"}:
        return _date_arithmetic(op, *args)
    if op == "to_number":
        return _fold(op, (_as_kind(args[0], "boolean", "CAST"),), Domain("number", 0, 1, nullable=nullable))
    if any(_is_null(arg) for arg in args):
        args = [literal(0) if _is_null(arg) else arg for arg in args]
        # Whatever is computed with NULL is NULL; what else is there must fit all the same.
        return null(_arithmetic(op, args, decimals).domain)
    for arg in args:
        if arg.domain.kind not in ("number", "real"):
            raise UsageError(f"{_sign(op)} takes numbers, and this is {arg.domain.noun}")
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
    if domain.decimals > _MOST_DECIMALS:
        raise UsageError(
            f"{_sign(op)} gives {domain.decimals} decimals, and at most {_MOST_DECIMALS} are kept; ROUND the arguments"
        )
    return _fold(op, args, domain.with_null(nullable), "compute")


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
        raise UsageError(f"{_sign(op)} takes a whole number and a whole constant from 1")
    low, high = left.domain.bounds
    if op == "intdiv":
        lowest, highest = (abs(one) // divisor * (1 if one >= 0 else -1) for one in (low, high))
    else:
        lowest, highest = max(min(low, 0), 1 - divisor), min(max(high, 0), divisor - 1)
    return replace(left.domain, lowest=lowest, highest=highest)


# --- dates


def _date_arithmetic(op: str, left: Expression, right: Expression) -> Expression:
    if op == "add" and left.domain.kind == "number":
        left, right = right, left
    if "identifier" in (kinds := {left.domain.kind, right.domain.kind}) or "boolean" in kinds:
        raise UsageError(
            f"{_sign(op)} takes a date and whole days, or two dates; these are {left.domain.noun} and {right.domain.noun}"
        )
    nullable = _any_null((left, right))
    if right.domain.kind == "number":
        if right.domain.decimals or (left.domain.kind == "timestamp"):
            raise UsageError(f"{_sign(op)} takes a date and whole days; write INTERVAL for a timestamp")
        return _moved(op, left, right, nullable)
    if op == "add":
        raise UsageError("+ takes a date and whole days, and these are two dates")
    left, right = in_one_domain((left, right), op)
    (a, b), (c, d) = left.domain.bounds, right.domain.bounds
    if left.domain.kind not in ("date", "timestamp"):
        raise UsageError(f"- takes two dates, and these are {left.domain.noun} and {right.domain.noun}")
    return _fold(
        op,
        (left, right),
        Domain("number", a - d, b - c, decimals=left.domain.decimals, nullable=nullable),
        "compute",
    )


def _moved(op: str, moment: Expression, by: Expression, nullable: bool) -> Expression:
    (low, high), (least, most) = moment.domain.bounds, by.domain.bounds
    if op == "sub":
        least, most = -most, -least
    domain = replace(moment.domain, lowest=low + least, highest=high + most, nullable=nullable)
    return _fold(op, (moment, by), domain, "compute")


def moved_by_units(op: str, moment: Expression, units: int) -> Expression:
    """Return a date some days, or a timestamp some of its units, later or earlier."""
    return _moved(op, moment, literal(units), moment.domain.nullable)


def _dated(op: str, arg: Expression) -> Expression:
    domain = arg.domain
    written = text(arg)
    if _is_null(arg):
        return null(Domain("date" if op == "date_of" else "number", 0, 0))
    if written is not None:
        arg = _read(written, Domain("date"))
        domain = arg.domain
    if domain.kind not in ("date", "timestamp"):
        raise UsageError(f"{op.upper()} takes a date or a timestamp, and this is {domain.noun}")
    nullable = domain.nullable
    if op == "to_timestamp":
        return arg
    if op == "date_of":
        if domain.kind == "date":
            return arg
        low, high = (_day_of(bound, domain) for bound in domain.bounds)
        return _fold(op, (arg,), Domain("date", low, high, nullable=nullable), "compute")
    if op == "year":
        days = (
            domain.bounds
            if domain.kind == "date"
            else tuple(_day_of(bound, domain) for bound in domain.bounds)
        )
        low, high = ((_EPOCH + datetime.timedelta(days=day)).year for day in days)
    else:
        low, high = _PARTS[op]
    return _fold(op, (arg,), Domain("number", low, high, nullable=nullable), "compute")


def _day_of(bound: int, domain: Domain) -> int:
    value = evaluate(Call("date_of", (Literal(bound, domain),), Domain("date"), NOTHING), {})
    return value if isinstance(value, int) else 0


def _to_timestamp(arg: Expression, target: Domain) -> Expression:
    day = 86_400 * 10**target.decimals
    low, high = (bound * day for bound in arg.domain.bounds)
    domain = replace(target, lowest=low - day, highest=high + day, nullable=arg.domain.nullable)
    return _fold("to_timestamp", (arg,), domain)
