"""The patterns that a job can name, and what a job file calls their parameters.

A pattern works in whole cents, which stand for the smallest unit of the job's currency: a yen, or a thousandth
of a dinar, where the job says so. A job file gives amounts in units, with as many decimals as the currency has.
So the parameter `min_total_cents` is `min_total` in a job file, and `most_cents_per_bank` is
`most_amount_per_bank`. Defaults are the same number of units in every currency.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import ModuleType
from typing import Any, Final

import msgspec

from secagg.jobs.fields import FieldFault
from secagg.party import PartyId
from secagg.patterns.banking import collectors, structuring
from secagg.patterns.schema import Schema
from secagg.protocols.group_by import Query, Rows

DECIMALS: Final = 2  # of the currency that the parameters' defaults are in
_LARGEST_AMOUNT: Final = 10**16
_MOST_DECIMALS: Final = (
    30  # of which all but the currency's must be zeros; more would only make the check slow
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, as its module offers it.

    Attributes:
      name: what a job file calls it.
      table: what an input party puts in: "transfers" or "deposits".
      summary: one line about what it finds.
      result_columns: the identifier, then the opened sums; `total` is in cents.
      parameters: the struct of its parameters, all with defaults.
      query, rows: as in `secagg.patterns.banking.collectors`.
    """

    name: str
    table: str
    schema: Schema
    summary: str
    result_columns: tuple[str, ...]
    parameters: type[msgspec.Struct]
    query: Callable[[Any, tuple[PartyId, ...], tuple[PartyId, PartyId, PartyId], int, int], Query]
    rows: Callable[..., Rows]

    @classmethod
    def of(cls, module: ModuleType) -> Pattern:
        """Return the pattern that a module of `secagg.protocols` offers."""
        return cls(
            name=module.NAME,
            table=module.TABLE,
            schema=module.SCHEMA,
            summary=(inspect.getdoc(module) or "").partition("\n")[0].partition(": ")[2],
            result_columns=module.RESULT_COLUMNS,
            parameters=module.Parameters,
            query=module.query,
            rows=module.rows,
        )

    def fields(self) -> dict[str, msgspec.structs.FieldInfo]:
        """Return the parameters by what a job file calls them."""
        return {_in_job_file(field.name): field for field in msgspec.structs.fields(self.parameters)}

    def read_parameters(self, given: Mapping[str, Any], *, decimals: int = DECIMALS) -> Any:
        """Return the parameters that a job file gives; those that it leaves out have their defaults.

        Args:
          given: from a job file, decimal fractions as `Decimal`.
          decimals: of the currency.

        Raises:
          FieldFault: one that there is not, of another type, out of range, or with fractions of a cent.
        """
        fields = self.fields()
        values: dict[str, Any] = {
            field.name: _cents(name, Decimal(field.default).scaleb(-DECIMALS), decimals)
            for name, field in fields.items()
            if name != field.name
        }
        for name, value in given.items():
            if name not in fields:
                raise FieldFault(
                    f"parameters.{name}", f"there is no such parameter; {self.name} has {', '.join(fields)}"
                )
            field = fields[name]
            exact = _cents(name, value, decimals) if name != field.name else value
            try:
                values[field.name] = msgspec.convert(exact, field.type)
            except msgspec.ValidationError as error:
                raise FieldFault(
                    f"parameters.{name}", _describe(str(error), exact, amount=name != field.name)
                ) from None
        return self.parameters(**values)

    def show_parameters(self, parameters: msgspec.Struct, *, decimals: int = DECIMALS) -> dict[str, str]:
        """Return the parameters as a job file writes them, in a currency with so many decimals."""
        shown = {}
        for name, field in self.fields().items():
            value = getattr(parameters, field.name)
            shown[name] = str(value) if name == field.name else units(value, decimals)
        return shown


PATTERNS: Final[Mapping[str, Pattern]] = {
    pattern.name: pattern for pattern in map(Pattern.of, (collectors, structuring))
}


def units(cents: int, decimals: int = DECIMALS) -> str:
    """Return an amount of the currency's smallest unit as units, with the currency's decimals."""
    whole, part = divmod(cents, 10**decimals)
    return f"{whole}.{part:0{decimals}}" if decimals else str(whole)


def _in_job_file(name: str) -> str:
    return name.removesuffix("_cents").replace("_cents_", "_amount_")


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
        Fraction(amount) * 10**decimals if isinstance(exponent, int) and exponent >= -_MOST_DECIMALS else None
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
