"""Values as people have them, and in their domains' units.

A number is an int, or a `Decimal` with the domain's decimals; a real is a float; a timestamp a `datetime` in UTC.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from secagg.errors import RangeError, UsageError
from secagg.query.algebra import Domain
from secagg.query.evaluator import Value, nearest
from secagg.query.zones import in_zone

_EPOCH: Final = datetime.date(1970, 1, 1)
_EPOCH_UTC: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def in_units(value: Any, domain: Domain) -> Value:
    """Return a value in its domain's unit.

    Raises:
      RangeError: the value is not in the domain; the message does not quote it.
    """
    if value is None:
        if not domain.nullable:
            raise RangeError(f"expected {domain.noun}, got NULL")
        return None
    try:
        made = _in_units(value, domain)
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        raise RangeError(f"expected {domain.noun}, got a {type(value).__name__} that is none") from None
    if domain.lowest is not None and not domain.lowest <= made <= (domain.highest or 0):
        raise RangeError(f"expected {domain.noun} in its range, got one outside")
    return made  # type: ignore[no-any-return]


def _in_units(value: Any, domain: Domain) -> Any:
    match domain.kind:
        case "identifier":
            return str(value)
        case "category":
            return domain.values.index(value)
        case "boolean":
            return int(bool(value))
        case "date":
            day = value.date() if isinstance(value, datetime.datetime) else value
            return (day - _EPOCH).days
        case "timestamp":
            exact = Fraction(
                (in_zone(value, domain.zone) - _EPOCH_UTC) // datetime.timedelta(microseconds=1), 10**6
            )
            return _exactly(exact * 10**domain.decimals)
        case "real":
            return nearest(Fraction(value) * 2**domain.frac_bits)
        case "number":
            # A float stands for the shortest decimals that name it.
            exact = Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
            return _exactly(exact * 10**domain.decimals)


def _exactly(value: Fraction) -> int:
    if value.denominator != 1:
        raise ValueError
    return value.numerator


def of_units(value: Value, domain: Domain) -> Any:
    """Return a value as people have it.

    Raises:
      UsageError: the value is not in the domain's unit.
    """
    if value is None or isinstance(value, str):
        return value
    match domain.kind:
        case "category":
            return domain.values[value]
        case "boolean":
            return bool(value)
        case "date":
            return _EPOCH + datetime.timedelta(days=value)
        case "timestamp":
            return _EPOCH_UTC + datetime.timedelta(microseconds=value * 10 ** (6 - domain.decimals))
        case "real":
            return value / 2**domain.frac_bits
        case "number":
            return Decimal(value).scaleb(-domain.decimals) if domain.decimals else value
        case "identifier":
            raise UsageError("an identifier is a text")
