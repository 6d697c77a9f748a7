"""Tables on shares: how an organisation's columns become numbers, and what a program holds of everybody's rows.

An identifier becomes 64 bits of its pseudonym (`secagg.protocols.pseudonyms`) under a key that input parties share and
computing parties do not know. An amount, a whole number and a time become integers; a time counts milliseconds. Every table
of an organisation is padded to a public number of rows, behind which a shared bit says which rows are real. The identifier
of a row of padding is random, so that it equals no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import DataError, RangeError, ShapeError
from secagg.mpc import concat, fixed, int64
from secagg.mpc.arrays import Engine, SharedArray
from secagg.mpc.arrays.dtypes import DType, boolean
from secagg.party import Party, PartyId
from secagg.patterns.counts import Categorical, factorize
from secagg.patterns.pattern import Limit
from secagg.protocols.pseudonyms import pseudonyms
from secagg.query.schema import Identifier, Integer, Money, Schema, Time, Type
from secagg.signing import digest

LARGEST_AMOUNT: Final = 10**14  # of an amount for which a pattern sets no other
MS: Final = 1000  # of a second: the unit of times on shares
_LATEST: Final = 1 << 52  # milliseconds from 1970 that times have to lie within
IDENTIFIER_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Number:
    """A column of numbers that no file has: a pattern makes it of what files have, before anything is shared.

    Attributes:
      min, max: what every row has to lie within; checked at its owner, and again on shares.
      frac_bits: 0 for integers; otherwise of real numbers.
    """

    min: int = 0
    max: int = LARGEST_AMOUNT
    frac_bits: int = 0


@dataclass(frozen=True, slots=True)
class Flag:
    """A column of bools."""


Column = Type | Number | Flag
Columns = Mapping[str, Column]  # a table as it is shared, by the names of its columns


def columns_of(schema: Schema) -> Columns:
    """Return the columns of a table that is shared as it is read."""
    return dict(schema)


def dtype_of(column: Column) -> DType:
    """Return what a column is on shares."""
    if isinstance(column, Flag):
        return boolean
    if isinstance(column, Number) and column.frac_bits:
        return fixed(column.frac_bits)
    return int64


def bounds_of(column: Column) -> tuple[int, int] | None:
    """Return the least and the largest value, None where anything is allowed."""
    if isinstance(column, Integer | Number):
        return column.min, column.max
    if isinstance(column, Money):
        return 0, LARGEST_AMOUNT
    if isinstance(column, Time):
        return -_LATEST, _LATEST
    return None


def _plain(values: Any, column: Column) -> Any:
    """Return an owner's column as it goes into its commitment: strings, or numbers of the dtype."""
    if isinstance(column, Identifier):
        return factorize(values)
    array = np.asarray(values)
    if isinstance(column, Flag):
        return array.astype(bool)
    if isinstance(column, Time):
        return np.rint(array * MS).astype(np.int64)
    if isinstance(column, Number) and column.frac_bits:
        return array.astype(np.float64)
    return array.astype(np.int64)


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

    def _bounded(self) -> Iterator[tuple[str, NDArray[Any], int, int, bool]]:
        for name, columns in self.layout.items():
            for column, kind in columns.items():
                if (bounds := bounds_of(kind)) is not None:
                    yield (
                        f"{name}.{column}",
                        self.tables[name][column],
                        *bounds,
                        isinstance(kind, Money),
                    )

    def limits(self) -> list[Limit]:
        """Return the largest number of each whole column beside the largest that is allowed."""
        return [
            Limit(name, int(np.max(values, initial=0)), largest, money)
            for name, values, _, largest, money in self._bounded()
            if values.dtype.kind == "i" and not name.endswith("time")
        ]

    def check(self) -> None:
        """Refuse rows that were not planned for.

        Raises:
          RangeError: more rows than agreed, or a value outside its column's range.
          DataError: a real number that is not finite.
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

        Numbers stand as 8 bytes each, least significant first; strings in UTF-8, behind their lengths in 8 bytes.
        """
        parts: list[bytes] = [session, owner.encode(), salt]
        for name, columns in self.tables.items():
            for column, values in columns.items():
                parts.append(f"{name}.{column}".encode())
                if isinstance(values, Categorical):
                    texts = [text.encode(errors="surrogatepass") for text in values]
                    parts.append(b"".join(len(text).to_bytes(8, "little") + text for text in texts))
                else:
                    parts.append(
                        np.ascontiguousarray(
                            values, f"<{'f' if values.dtype.kind == 'f' else 'i'}8"
                        ).tobytes()
                    )
        return digest("secagg.patterns.joint_tables/rows", parts)

    def elements(self, table: str, size: int, key: bytes, party: Party) -> list[tuple[NDArray[Any], DType]]:
        """Return each column as it is shared, padded, and behind them which rows are real.

        Args:
          key: of the pseudonyms.
          party: draws the identifiers of padding.
        """
        n = self.length(table)
        found: list[tuple[NDArray[Any], DType]] = []
        for column, kind in self.layout[table].items():
            values, dtype = self.tables[table][column], dtype_of(kind)
            if isinstance(values, Categorical):
                padded = np.frombuffer(party.rng.bytes(8 * size), np.int64).copy()
                if n:
                    padded[:n] = pseudonyms(key, values.categories)[:, 0].view(np.int64)[values.codes]
            else:
                filler = (bounds_of(kind) or (0, 0))[0]
                padded = np.full(size, max(0, filler), values.dtype)
                padded[:n] = values
            found.append((padded, dtype))
        return [*found, (np.arange(size) < n, boolean)]


@dataclass(frozen=True, slots=True, eq=False)
class JointTable:
    """Everybody's rows of one table, on shares: those of the first input party first.

    Attributes:
      columns: by name, of one length.
      valid: bools, which rows are real; the others are padding.
      owners: the input parties.
      owner: for each row the place of its owner in `owners`; public.
    """

    columns: Mapping[str, SharedArray]
    valid: SharedArray
    owners: tuple[PartyId, ...]
    owner: NDArray[np.int64]

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
        dtypes = [*(dtype_of(kind) for kind in columns.values()), boolean]
        me, parts = engine.party.me, []
        for name, size in sizes.items():
            values = own if name == me and own is not None else [(None, None)] * len(dtypes)
            parts.append(
                [
                    engine.share(v, owner=name, shape=(size,), dtype=dtype)
                    for (v, _), dtype in zip(values, dtypes, strict=True)
                ]
            )
        *joined, valid = [concat(list(column)) for column in zip(*parts, strict=True)]
        owner = np.repeat(np.arange(len(sizes)), list(sizes.values()))
        return cls(dict(zip(columns, joined, strict=True)), valid, tuple(sizes), owner)

    def out_of_range(self, columns: Columns) -> SharedArray:
        """Return for each owner whether one of its rows lies outside a column's range."""
        wrong: SharedArray | None = None
        for name, kind in columns.items():
            if (bounds := bounds_of(kind)) is not None:
                x = self.columns[name]
                # Each difference fits where the first comparison holds; where it does not, the row is out of range anyway.
                found = (x < bounds[0]) | (x > bounds[1])
                wrong = found if wrong is None else wrong | found
        zero = self.valid & np.zeros(self.rows, bool)
        wrong = zero if wrong is None else wrong
        return concat([wrong[self.part(name)].any().reshape(1) for name in self.owners])
