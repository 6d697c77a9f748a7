"""Constants of a plan, and words for names that are not known."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from secagg.errors import UsageError
from secagg.query.algebra import (
    Domain,
    Expression,
    Literal,
)

MOST_DECIMALS: Final = 18
BOOLEAN: Final = Domain("boolean", 0, 1)
_EPOCH: Final = datetime.date(1970, 1, 1)


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
            if not isinstance(exponent, int) or abs(exponent) > 2 * MOST_DECIMALS:
                raise UsageError(f"expected a number of at most {MOST_DECIMALS} decimals, got {value}")
            unit = int("".join(map(str, digits))) * (-1 if sign else 1) * 10 ** max(exponent, 0)
            decimals = max(-exponent, 0)
            if decimals > MOST_DECIMALS:
                raise UsageError(f"expected a number of at most {MOST_DECIMALS} decimals, got {value}")
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


def is_null(arg: Expression) -> bool:
    """Return whether an expression is the constant NULL."""
    return isinstance(arg, Literal) and arg.value is None
