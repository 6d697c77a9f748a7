"""Tables on shares: how an organisation's columns become numbers, and what a program holds of everybody's rows.

An identifier becomes 64 bits of its pseudonym (`secagg.protocols.pseudonyms`) under a key that input parties share and
computing parties do not know. An amount, a whole number and a time become integers; a time counts milliseconds. Every table
of an organisation is padded to a public number of rows, behind which a shared bit says which rows are real. The identifier
of a row of padding is random, so that it equals no other.

Longer than most: an owner's columns and what a program holds of them follow one layout.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import DataError, RangeError, ShapeError, UsageError
from secagg.mpc import concat, fixed, int64, tables
from secagg.mpc.arrays import Engine, SharedArray
from secagg.mpc.arrays.dtypes import DType, boolean
from secagg.mpc.tables import Table
from secagg.party import Party, PartyId
from secagg.patterns.counts import Categorical, factorize
from secagg.patterns.pattern import Limit
from secagg.protocols.pseudonyms import pseudonyms
from secagg.query.schema import (
    Boolean,
    Category,
    Date,
    Identifier,
    Integer,
    Money,
    Real,
    Schema,
    Time,
    Timestamp,
    Type,
)
from secagg.signing import digest

MOST_SMALLEST_UNITS: Final = 10**14  # of an amount or a number for which a pattern sets no other bound
MS: Final = 1000  # of a second: the unit of times on shares
_LATEST: Final = 1 << 52  # milliseconds from 1970 that times have to lie within
IDENTIFIER_BITS: Final = 64
_DAY_0: Final = datetime.date(1970, 1, 1)
_MOMENT_0: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Number:
    """A column of numbers that no file has: a pattern makes it of what files have, before anything is shared.

    Attributes:
      min, max: what every row has to lie within; checked at its owner, and again on shares.
      frac_bits: 0 for integers; otherwise of real numbers.
    """

    min: int = 0
    max: int = MOST_SMALLEST_UNITS
    frac_bits: int = 0


@dataclass(frozen=True, slots=True)
class Flag:
    """A column of bools."""


Column = Type | Number | Flag
Columns = Mapping[str, Column]  # a table as it is shared, by the names of its columns


def columns_of(schema: Schema) -> Columns:
    """Return the columns of a table that is shared as it is read."""
    return dict(schema)


def with_decimals(columns: Columns, currency_decimals: int) -> Columns:
    """Return a table's columns where amounts have the job's decimals unless they say others."""
    return {
        name: replace(kind, decimals=currency_decimals)
        if isinstance(kind, Money) and kind.decimals is None
        else kind
        for name, kind in columns.items()
    }


def dtype_of(column: Column) -> DType:
    """Return what a column is on shares."""
    if isinstance(column, Flag | Boolean):
        return boolean
    if isinstance(column, Number) and column.frac_bits:
        return fixed(column.frac_bits)
    return int64


def may_be_null(column: Column) -> bool:
    """Return whether a row may have no value; then a bool is shared beside it."""
    return bool(getattr(column, "nullable", False))


def dtypes_of(columns: Columns) -> list[DType]:
    """Return the dtype of everything that is shared of a table, in order: values, which are missing, which rows are real."""
    each = ([dtype_of(kind), boolean] if may_be_null(kind) else [dtype_of(kind)] for kind in columns.values())
    return [*itertools.chain.from_iterable(each), boolean]


def bounds_of(column: Column) -> tuple[int, int] | None:
    """Return the least and the largest value on shares, None where anything is allowed.

    Raises:
      UsageError: a largest amount in units of a currency whose decimals are not said.
    """
    if isinstance(column, Integer | Number):
        return column.min, column.max
    if isinstance(column, Money):
        if column.max is None:
            return 0, MOST_SMALLEST_UNITS
        if column.decimals is None:
            raise UsageError(f"{column!r}: expected the currency's decimals; see `with_decimals`")
        return 0, column.max * 10**column.decimals
    if isinstance(column, Time):
        return -_LATEST, _LATEST
    if isinstance(column, Real | Date | Timestamp):
        return column.units
    if isinstance(column, Category):
        return 0, len(column.values) - 1
    return None


def _plain(values: Any, column: Column) -> Any:
    """Return an owner's column as it goes into its commitment: strings, or numbers of the dtype; missing ones masked."""
    if isinstance(column, Identifier):
        return factorize(values)
    array = np.ma.asarray(values) if np.ma.isMaskedArray(values) else np.asarray(values)
    if isinstance(column, Flag | Boolean):
        return array.astype(bool)
    if isinstance(column, Time):
        return np.rint(array * MS).astype(np.int64)
    if isinstance(column, Number) and column.frac_bits:
        return array.astype(np.float64)
    if array.size and array.dtype.kind not in "iub":
        raise DataError(f"expected whole numbers for a column of {column!r}, got {array.dtype}")
    return array.astype(np.int64)


def _gone(values: Any) -> NDArray[np.bool_]:
    """Return which rows of an owner's column have no value."""
    return values.codes < 0 if isinstance(values, Categorical) else np.ma.getmaskarray(values)


def python_value(kind: Type, value: Any) -> Any:
    """Return a value of a result as tables of results show it; `value` is as it is on shares, or that already."""
    if value is None and not isinstance(kind, Time) and kind.nullable:
        return None
    if isinstance(kind, Identifier):
        return str(value)
    if isinstance(kind, Boolean):
        return bool(value)
    if isinstance(kind, Category):
        return value if isinstance(value, str) else kind.values[int(value)]
    if isinstance(kind, Date):
        return value if isinstance(value, datetime.date) else _DAY_0 + datetime.timedelta(days=int(value))
    if isinstance(kind, Timestamp):
        if isinstance(value, datetime.datetime):
            return value
        return _MOMENT_0 + datetime.timedelta(microseconds=int(value) * 10 ** (6 - kind.decimals))
    if isinstance(kind, Real):
        if isinstance(value, Decimal):
            return value
        real = isinstance(value, float | np.floating)
        return (
            round(Decimal(float(value)), kind.decimals)
            if real
            else Decimal(int(value)).scaleb(-kind.decimals)
        )
    return float(value) if isinstance(kind, Time) else int(value)


@dataclass(frozen=True, slots=True, eq=False)
class PrivateTables:
    """What an input party puts in: its tables as they are shared, not padded and not sent yet."""

    layout: Mapping[str, Columns]
    tables: Mapping[str, Mapping[str, Any]]
    caps: Mapping[str, int]
    announced: int
    row_limit: int

    @classmethod
    def of(
        cls, layout: Mapping[str, Columns], tables: Mapping[str, Mapping[str, Any]], **limits: Any
    ) -> PrivateTables:
        """Return an owner's tables in the layout.

        Raises:
          ShapeError: other tables or columns than the layout has, or columns of different lengths.
        """
        made: dict[str, dict[str, Any]] = {}
        for name, columns in layout.items():
            found = tables.get(name, {})
            if set(found) != set(columns) or len({len(values) for values in found.values()}) != 1:
                raise ShapeError(
                    f"{name}: expected columns {', '.join(columns)} of one length, got "
                    f"{', '.join(f'{c} ({len(v)})' for c, v in found.items()) or 'none'}"
                )
            made[name] = {c: _plain(found[c], kind) for c, kind in columns.items()}
        return cls(layout, made, **limits)

    def __repr__(self) -> str:
        return f"<PrivateTables of {', '.join(f'{self.length(name)} {name}' for name in self.layout)}>"

    def length(self, table: str) -> int:
        """Return the number of rows of a table."""
        return len(next(iter(self.tables[table].values())))

    @property
    def rows(self) -> int:
        """The number of rows of the longest table for whose length the terms have no size of its own."""
        return max((self.length(name) for name in self.layout if name not in self.caps), default=0)

    def _missing(self) -> str | None:
        """Return a column that may not have missing values and has some."""
        for name, columns in self.layout.items():
            for column, kind in columns.items():
                values = self.tables[name][column]
                if not may_be_null(kind) and _gone(values).any():
                    return f"{name}.{column}"
        return None

    def _bounded(self) -> Iterator[tuple[str, NDArray[Any], int, int, Column]]:
        for name, columns in self.layout.items():
            for column, kind in columns.items():
                if (bounds := bounds_of(kind)) is not None:
                    yield f"{name}.{column}", self.tables[name][column], *bounds, kind

    def limits(self) -> list[Limit]:
        """Return the largest number of each whole column beside the largest that is allowed."""
        return [
            Limit(name, int(np.max(values, initial=0)), largest, isinstance(kind, Money))
            for name, values, _, largest, kind in self._bounded()
            if values.dtype.kind == "i" and not isinstance(kind, Time)
        ]

    def check(self) -> None:
        """Refuse rows that were not planned for.

        Raises:
          RangeError: more rows than agreed, or a value outside its column's range.
          DataError: a real number that is not finite, or a value that is missing.
        """
        if self.announced > self.row_limit:
            raise RangeError(
                f"{self.rows} rows, announced as {self.announced}, are more than the agreed max_rows of {self.row_limit}; "
                "agree with the other parties on a larger one, or put in fewer"
            )
        for name, most in self.caps.items():
            if self.length(name) > most:
                raise RangeError(
                    f"{name}: {self.length(name)} rows are more than the {most} that the parameters allow; agree with the "
                    "other parties on a larger number, or put in fewer"
                )
        if (gone := self._missing()) is not None:
            raise DataError(
                f"{gone}: expected a value in every row, and some have none; leave these rows out"
            )
        for name, values, least, largest, _ in self._bounded():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise DataError(f"{name}: expected finite numbers, got others")
            outside = int(np.count_nonzero((values < least) | (values > largest)))
            if outside:
                raise RangeError(
                    f"{name}: {outside} of {len(values)} rows lie outside {least} to {largest}; correct them, or agree "
                    "with the other parties on other parameters"
                )

    def commitment(self, salt: bytes, *, session: bytes, owner: PartyId) -> bytes:
        """Return the SHA-256 that holds the owner to its rows, 32 bytes: each column in the layout's order.

        A number stands as 8 bytes, least significant first. A string stands in UTF-8 behind its length in 8 bytes. A missing
        value stands as 0 or an empty string. Behind each column a byte for each row says whether its value is missing.
        """
        parts: list[bytes] = [session, owner.encode(), salt]
        for name, columns in self.tables.items():
            for column, values in columns.items():
                gone = _gone(values)
                if isinstance(values, Categorical):
                    texts = [text.encode(errors="surrogatepass") for text in values.categories.tolist()]
                    each = [len(text).to_bytes(8, "little") + text for text in texts]
                    each.append(bytes(8))  # the place -1: missing
                    held = b"".join(map(each.__getitem__, values.codes.tolist()))
                else:
                    kind = f"<{'f' if values.dtype.kind == 'f' else 'i'}8"
                    held = np.ascontiguousarray(np.where(gone, 0, np.ma.getdata(values)), kind).tobytes()
                parts += [f"{name}.{column}".encode(), held, gone.astype(np.uint8).tobytes()]
        return digest("secagg.patterns.joint_tables/rows", parts)

    def elements(self, table: str, size: int, key: bytes, party: Party) -> list[tuple[NDArray[Any], DType]]:
        """Return each column as it is shared, padded, and behind them which rows are real.

        Args:
          key: of the pseudonyms.
          party: draws the identifiers of padding.
        """
        n = self.length(table)
        found: list[NDArray[Any]] = []
        for column, kind in self.layout[table].items():
            values = self.tables[table][column]
            if isinstance(values, Categorical):
                padded = np.frombuffer(party.rng.bytes(8 * size), np.int64).copy()
                if len(values.categories):
                    known = pseudonyms(key, values.categories)[:, 0].view(np.int64)
                    padded[:n] = np.where(_gone(values), padded[:n], known[values.codes])
            else:
                least, largest = bounds_of(kind) or (0, 0)
                filler = min(max(0, least), largest)  # rows of padding have to lie in the range too
                padded = np.full(size, filler, values.dtype)
                padded[:n] = values.filled(filler) if np.ma.isMaskedArray(values) else values
            found.append(padded)
            if may_be_null(kind):
                found.append(np.concatenate([_gone(values), np.zeros(size - n, bool)]))
        return list(zip([*found, np.arange(size) < n], dtypes_of(self.layout[table]), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class JointTable:
    """Everybody's rows of one table, on shares: those of the first input party first.

    Attributes:
      columns: by name, of one length.
      valid: bools, which rows are real; the others are padding.
      owners: the input parties.
      owner: for each row the place of its owner in `owners`; public.
      nulls: which rows have no value, for each column that may have none.
    """

    columns: Mapping[str, SharedArray]
    valid: SharedArray
    owners: tuple[PartyId, ...]
    owner: NDArray[np.int64]
    nulls: Mapping[str, SharedArray] = field(default_factory=dict)

    def __getitem__(self, column: str) -> SharedArray:
        return self.columns[column]

    @property
    def rows(self) -> int:
        """The public number of rows, padding included."""
        return len(self.owner)

    def part(self, name: PartyId) -> slice:
        """Return where an owner's rows stand."""
        i = self.owners.index(name)
        return slice(int(np.searchsorted(self.owner, i)), int(np.searchsorted(self.owner, i, "right")))

    @classmethod
    def share(
        cls,
        engine: Engine,
        columns: Columns,
        sizes: Mapping[PartyId, int],
        own: Sequence[tuple[NDArray[Any], DType]] | None,
    ) -> JointTable:
        """Return what the input parties share, at a computing party.

        Args:
          sizes: each input party's number of rows, in their order.
          own: this party's columns with their validity, if it puts in rows.
        """
        dtypes = dtypes_of(columns)
        me, parts = engine.party.me, []
        for name, size in sizes.items():
            values = own if name == me and own is not None else [(None, None)] * len(dtypes)
            parts.append(
                [
                    engine.share(v, owner=name, shape=(size,), dtype=dtype)
                    for (v, _), dtype in zip(values, dtypes, strict=True)
                ]
            )
        joined = iter([concat(list(column)) for column in zip(*parts, strict=True)])
        owner = np.repeat(np.arange(len(sizes)), list(sizes.values()))
        shared, nulls = {}, {}
        for name, kind in columns.items():
            shared[name] = next(joined)
            if may_be_null(kind):
                nulls[name] = next(joined)
        return cls(shared, next(joined), tuple(sizes), owner, nulls)

    def table(self) -> Table:
        """Return the rows as a table of `mpc.tables`, for SQL's operators."""
        columns = {name: tables.Column(x, self.nulls.get(name)) for name, x in self.columns.items()}
        return tables.Table(columns, self.valid)

    def out_of_range(self, columns: Columns) -> SharedArray:
        """Return for each owner whether one of its rows lies outside a column's range."""
        wrong: SharedArray | None = None
        for name, kind in columns.items():
            if (bounds := bounds_of(kind)) is not None:
                x = self.columns[name]
                # Modulo 2**64, x - min and max - x are both signed and from 0 just where x is in the range.
                found = (x < bounds[0]) | (x > bounds[1])
                if name in self.nulls:
                    found = found & ~self.nulls[name]
                wrong = found if wrong is None else wrong | found
        zero = self.valid & np.zeros(self.rows, bool)
        wrong = zero if wrong is None else wrong
        return concat([wrong[self.part(name)].any().reshape(1) for name in self.owners])
