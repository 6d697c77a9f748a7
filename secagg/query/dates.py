"""Dates and timestamps: their parts, and days before, after and between them."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Final

from secagg.errors import UsageError
from secagg.query.algebra import (
    NOTHING,
    Call,
    Domain,
    Expression,
    Literal,
)
from secagg.query.constants import is_null, literal, null, text
from secagg.query.evaluator import evaluate
from secagg.query.fitting import (
    any_null,
    fold,
    in_one_domain,
    read_text,
    sign,
)

PARTS: Final = {"month": (1, 12), "day": (1, 31), "quarter": (1, 4), "weekday": (0, 6)}
_EPOCH: Final = datetime.date(1970, 1, 1)


def date_arithmetic(op: str, left: Expression, right: Expression) -> Expression:
    """Return a date plus or minus whole days, or the time between two dates or timestamps."""
    if op == "add" and left.domain.kind == "number":
        left, right = right, left
    if "identifier" in (kinds := {left.domain.kind, right.domain.kind}) or "boolean" in kinds:
        raise UsageError(
            f"{sign(op)} takes a date and whole days, or two dates; these are {left.domain.noun} and {right.domain.noun}"
        )
    nullable = any_null((left, right))
    if right.domain.kind == "number":
        if right.domain.decimals or (left.domain.kind == "timestamp"):
            raise UsageError(f"{sign(op)} takes a date and whole days; write INTERVAL for a timestamp")
        return moved(op, left, right, nullable)
    if op == "add":
        raise UsageError("+ takes a date and whole days, and these are two dates")
    left, right = in_one_domain((left, right), op)
    (a, b), (c, d) = left.domain.bounds, right.domain.bounds
    if left.domain.kind not in ("date", "timestamp"):
        raise UsageError(f"- takes two dates, and these are {left.domain.noun} and {right.domain.noun}")
    return fold(
        op,
        (left, right),
        Domain("number", a - d, b - c, decimals=left.domain.decimals, nullable=nullable),
        "compute",
    )


def moved(op: str, moment: Expression, by: Expression, nullable: bool) -> Expression:
    """Return a date or a timestamp that many of its units later or earlier."""
    (low, high), (least, most) = moment.domain.bounds, by.domain.bounds
    if op == "sub":
        least, most = -most, -least
    domain = replace(moment.domain, lowest=low + least, highest=high + most, nullable=nullable)
    return fold(op, (moment, by), domain, "compute")


def moved_by_units(op: str, moment: Expression, units: int) -> Expression:
    """Return a date some days, or a timestamp some of its units, later or earlier."""
    return moved(op, moment, literal(units), moment.domain.nullable)


def dated(op: str, arg: Expression) -> Expression:
    """Return a part of a date or a timestamp, or the date of one."""
    domain = arg.domain
    written = text(arg)
    if is_null(arg):
        return null(Domain("date" if op == "date_of" else "number", 0, 0))
    if written is not None:
        arg = read_text(written, Domain("date"))
        domain = arg.domain
    if domain.kind not in ("date", "timestamp"):
        raise UsageError(f"{op.upper()} takes a date or a timestamp, and this is {domain.noun}")
    nullable = domain.nullable
    if op == "date_of":
        if domain.kind == "date":
            return arg
        low, high = (_day_of(bound, domain) for bound in domain.bounds)
        return fold(op, (arg,), Domain("date", low, high, nullable=nullable), "compute")
    if op == "year":
        days = (
            domain.bounds
            if domain.kind == "date"
            else tuple(_day_of(bound, domain) for bound in domain.bounds)
        )
        low, high = ((_EPOCH + datetime.timedelta(days=day)).year for day in days)
    else:
        low, high = PARTS[op]
    return fold(op, (arg,), Domain("number", low, high, nullable=nullable), "compute")


def _day_of(bound: int, domain: Domain) -> int:
    value = evaluate(Call("date_of", (Literal(bound, domain),), Domain("date"), NOTHING), {})
    return value if isinstance(value, int) else 0
