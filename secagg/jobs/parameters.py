"""A pattern's parameters as a job file gives them, read without rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec

from secagg.patterns.parameters import DECIMALS, parameter_fields
from secagg.patterns.pattern import Pattern
from secagg.toml_files import FieldFault

_LARGEST_AMOUNT: Final = 10**16
_MAX_DECIMALS: Final = (
    30  # of which all but the currency's must be zeros; more would only make the check slow
)


def read_parameters(pattern: Pattern, given: Mapping[str, Any], *, decimals: int = DECIMALS) -> Any:
    """Return the parameters that a job file gives; those that it leaves out have their defaults.

    Args:
      given: from a job file, decimal fractions as `Decimal`.
      decimals: of the currency.

    Raises:
      FieldFault: one that there is not, of another type, out of range, not finite, or with fractions of a cent.
    """
    fields = parameter_fields(pattern.Parameters)
    values: dict[str, Any] = {
        field.name: _cents(name, Decimal(field.default).scaleb(-DECIMALS), decimals)
        for name, field in fields.items()
        if name != field.name
    }
    for name, value in given.items():
        if name not in fields:
            known = f"{pattern.name} has {', '.join(fields)}" if fields else f"{pattern.name} has none"
            raise FieldFault(f"parameters.{name}", f"there is no such parameter; {known}")
        field = fields[name]
        if name != field.name:
            exact: Any = _cents(name, value, decimals)
        else:
            exact = _finite(name, value)
        try:
            values[field.name] = msgspec.convert(exact, field.type)
        except msgspec.ValidationError as error:
            raise FieldFault(
                f"parameters.{name}", _describe(str(error), exact, amount=name != field.name)
            ) from None
    return pattern.Parameters(**values)


def _finite(name: str, value: Any) -> Any:
    """Return a parameter that is no amount with its fractions as floats; raises `FieldFault` for one that is no number."""
    if isinstance(value, dict):
        return {key: _finite(f"{name}.{key}", inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_finite(name, inside) for inside in value]
    if not isinstance(value, Decimal | float):
        return value
    if not math.isfinite(float(value)):
        raise FieldFault(f"parameters.{name}", f"expected a finite number, got {value:.3g}")
    return float(value)


def _cents(name: str, value: object, decimals: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise FieldFault(
            f"parameters.{name}", f"expected an amount such as 20000 or 20000.50, got {value!r:.40}"
        )
    amount = Decimal(value)
    if not amount.is_finite() or abs(amount) > _LARGEST_AMOUNT:
        raise FieldFault(
            f"parameters.{name}", f"expected an amount of at most {_LARGEST_AMOUNT}, got {amount:.3g}"
        )
    exponent = amount.as_tuple().exponent
    cents = (
        Fraction(amount) * 10**decimals if isinstance(exponent, int) and exponent >= -_MAX_DECIMALS else None
    )
    if cents is None or cents.denominator != 1:
        raise FieldFault(
            f"parameters.{name}",
            f"expected an amount with at most {decimals} decimals, as the currency has, got {amount}",
        )
    return int(cents.numerator)


def _describe(message: str, value: object, *, amount: bool) -> str:
    text = message.partition(" - at ")[0]
    text = text[:1].lower() + text[1:].replace("`", "")
    if "got" not in text:
        text += f"{' cents' if amount else ''}, got {value}"
    return text
