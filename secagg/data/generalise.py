"""Coarser values by a recipe that all parties agree on, made before anything is shared.

    [generalise.patients]
    age = {band = 10}          # 47 becomes 40; amounts and reals in units of the column
    diagnosis = {prefix = 3}   # the first characters: G20.1 becomes G20
    admitted = {to = "month"}  # the first day of the month; or "quarter", "year", and "day" of a timestamp

A band is named by its lower end, and never by less than the column's least value. Days, months, quarters and years of
timestamps are those of UTC. A missing value stays missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg.errors import UsageError
from secagg.patterns.counts import Categorical, factorize
from secagg.patterns.pattern import Tables
from secagg.query.schema import Date, Identifier, Integer, Money, Real, Schema, Time, Timestamp, Type

__all__ = ["Recipe", "Step", "generalised", "read_recipe"]

_PERIODS: Final = ("day", "month", "quarter", "year")
_LONGEST_PREFIX: Final = 64
_MOST: Final = 10**17
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Step:
    """How one column is made coarser; one of the attributes is set.

    Attributes:
      band: width, in what the array counts: whole numbers, smallest units, 10**-decimals, seconds.
      prefix: the number of characters that stay.
      to: the period whose first moment stays.
      shown: as a job file writes it.
    """

    shown: str
    band: int = 0
    prefix: int = 0
    to: str = ""


Recipe: TypeAlias = Mapping[str, Mapping[str, Step]]  # by table and column


class _Field(msgspec.Struct, forbid_unknown_fields=True):
    band: int | Decimal | None = None
    prefix: int | None = None
    to: str | None = None


def read_recipe(
    written: Mapping[str, Any], inputs: Mapping[str, Schema], *, decimals: int
) -> dict[str, dict[str, Step]]:
    """Check a recipe.

    Args:
      written: by table and column, as TOML has it, fractions as decimals.
      inputs: the pattern's tables.
      decimals: of the job's currency.

    Raises:
      UsageError: no such table, column or step; the message begins with TABLE.COLUMN and a colon.
    """
    recipe: dict[str, dict[str, Step]] = {}
    for table, columns in written.items():
        if table not in inputs or not isinstance(columns, Mapping):
            raise UsageError(f"{table}: expected one of the tables {', '.join(inputs)}, with its columns")
        for column, field in columns.items():
            place = f"{table}.{column}"
            if column not in inputs[table]:
                raise UsageError(f"{place}: expected one of the columns {', '.join(inputs[table])}")
            try:
                given = msgspec.convert(field, _Field)
            except msgspec.ValidationError:
                raise UsageError(
                    f'{place}: expected {{band = N}}, {{prefix = N}} or {{to = "month"}}'
                ) from None
            recipe.setdefault(table, {})[column] = _step(place, given, inputs[table][column], decimals)
    return recipe


def _step(place: str, given: _Field, kind: Type, decimals: int) -> Step:
    named = [name for name in ("band", "prefix", "to") if getattr(given, name) is not None]
    if len(named) != 1:
        raise UsageError(f"{place}: expected one of band, prefix and to, got {', '.join(named) or 'none'}")
    if given.band is not None and isinstance(kind, Integer | Money | Real | Time):
        places = (
            (decimals if kind.decimals is None else kind.decimals)
            if isinstance(kind, Money)
            else kind.decimals
            if isinstance(kind, Real)
            else 0
        )
        width = Decimal(given.band)
        units = width.scaleb(places) if width.is_finite() else Decimal(0)
        if units != units.to_integral_value() or not 1 <= units <= _MOST:
            raise UsageError(f"{place}: expected a band above 0 with at most {places} decimals, got {width}")
        return Step(f"{{band = {width:f}}}", band=int(units))
    if given.prefix is not None and isinstance(kind, Identifier):
        if not 1 <= given.prefix <= _LONGEST_PREFIX:
            raise UsageError(
                f"{place}: expected a prefix of 1 to {_LONGEST_PREFIX} characters, got {given.prefix}"
            )
        return Step(f"{{prefix = {given.prefix}}}", prefix=given.prefix)
    if given.to is not None and isinstance(kind, Date | Timestamp):
        periods = _PERIODS[isinstance(kind, Date) :]
        if given.to not in periods:
            raise UsageError(f"{place}: expected one of {', '.join(periods)}, got {given.to!r:.40}")
        return Step(f'{{to = "{given.to}"}}', to=given.to)
    raise UsageError(
        f"{place}: a column of type {type(kind).__name__} has no {named[0]}; bands are for numbers, amounts and times, "
        "prefixes for identifiers, periods for dates and timestamps"
    )


def generalised(tables: Tables, inputs: Mapping[str, Schema], recipe: Recipe) -> Tables:
    """Return tables with coarser values; what the recipe does not name stays as it is.

    Args:
      inputs: the schemas of these tables.
    """
    return {
        table: {
            name: _coarse(values, inputs[table][name], step)
            if (step := recipe.get(table, {}).get(name)) is not None
            else values
            for name, values in columns.items()
        }
        for table, columns in tables.items()
    }


def _coarse(values: Any, kind: Type, step: Step) -> Any:
    if step.prefix:
        return _prefixes(factorize(values), step.prefix)
    data = np.ma.getdata(values)
    if isinstance(kind, Time):
        return np.floor(data / step.band) * step.band
    coarse = _periods(data, kind, step.to) if step.to else data - data % step.band
    coarse = np.maximum(coarse, _least(kind)).astype(np.int64)
    return np.ma.array(coarse, mask=np.ma.getmaskarray(values)) if np.ma.isMaskedArray(values) else coarse


def _prefixes(values: Categorical, length: int) -> Categorical:
    short = factorize(np.array([text[:length] for text in values.categories.tolist()] or [""], object))
    codes = np.where(values.codes < 0, -1, short.codes[values.codes])
    return Categorical(short.categories, codes) if len(values.categories) else values


def _periods(units: NDArray[Any], kind: Type, period: str) -> NDArray[np.int64]:
    """Return the first moment of each period, in the array's units."""
    in_day = _DAY_S * 10**kind.decimals if isinstance(kind, Timestamp) else 1
    days = units // in_day
    if period != "day":
        code = "Y" if period == "year" else "M"
        first = days.astype("datetime64[D]").astype(f"datetime64[{code}]").astype(np.int64)
        if period == "quarter":
            first -= first % 3
        days = first.astype(f"datetime64[{code}]").astype("datetime64[D]").astype(np.int64)
    return np.asarray(days * in_day, np.int64)


def _least(kind: Type) -> int:
    if isinstance(kind, Integer):
        return kind.min
    return kind.units[0] if isinstance(kind, Real | Date | Timestamp) else 0
