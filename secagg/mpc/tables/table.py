"""Tables: named columns of shared arrays, of one public length, with a shared bit that says which rows count.

Rows that do not count (not *valid*) are there like all others, and what they hold is undefined. So is what a column holds
where it is NULL. Neither is ever opened (`opening`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays import arithmetic, logic, moves
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import BoolType, DType, IntegerType, boolean, int64
from secagg.mpc.arrays.handle import Maker, as_numbers


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      values: numbers or bools, shape (rows,).
      null: which rows are NULL, bools; None where none can be.
    """

    values: SharedArray
    null: SharedArray | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, SharedArray) or self.values.ndim != 1:
            raise ShapeError(f"expected a shared array (rows,) as a column, got {self.values!r}")
        if self.null is not None:
            _check_bools(self.null, self.rows, "NULL")

    @property
    def rows(self) -> int:
        return int(self.values.shape[0])

    @property
    def dtype(self) -> DType:
        return self.values.dtype

    @property
    def is_null(self) -> SharedArray:
        """Which rows are NULL, as bools also where none can be."""
        return constant(self.values, value=False) if self.null is None else self.null

    @property
    def filled(self) -> SharedArray:
        """The values, and 0 or False where they are NULL."""
        return self.values if self.null is None else cleared(self.values, logic.invert(self.null))


Condition: TypeAlias = Column | SharedArray


@dataclass(frozen=True)
class Order:
    """What is known of the order of a table's valid rows.

    Attributes:
      keys: columns by which they are sorted, each with whether it descends; NULL last.
      packed: whether all valid rows stand before the others.
      shown: whether rows may be opened in this order: an ORDER BY asked for it, and ties are in an order that nobody knows.
      unique: whether no two valid rows are equal in all keys.
    """

    keys: tuple[tuple[str, bool], ...] = ()
    packed: bool = False
    shown: bool = False
    unique: bool = False


@dataclass(frozen=True)
class Table:
    """Columns by name, and which rows are valid.

    Attributes:
      columns: of one length.
      valid: bools, shape (rows,).
      order: of the valid rows, as far as it is known.
    """

    columns: Mapping[str, Column]
    valid: SharedArray
    order: Order = field(default_factory=Order)

    def __post_init__(self) -> None:
        if not isinstance(self.valid, SharedArray) or self.valid.ndim != 1:
            raise ShapeError(f"expected bools (rows,) that say which rows are valid, got {self.valid!r}")
        _check_bools(self.valid, self.rows, "valid")
        for name, column in self.columns.items():
            if not isinstance(column, Column) or column.rows != self.rows:
                raise ShapeError(
                    f"expected column {name!r} to be a Column of {self.rows} rows, got {column!r}"
                )
            if column.values.engine is not self.engine:
                raise UsageError(
                    f"column {name!r} and the bits that say which rows are valid are of different engines"
                )
        object.__setattr__(self, "columns", MappingProxyType(dict(self.columns)))

    def __getitem__(self, name: str) -> Column:
        if name not in self.columns:
            raise UsageError(f"expected a column among {', '.join(self.columns)}, got {name!r}")
        return self.columns[name]

    @property
    def engine(self) -> Maker:
        return self.valid.engine

    @property
    def rows(self) -> int:
        return int(self.valid.shape[0])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def select(self, names: Iterable[str]) -> Table:
        """Return the table with these columns, in this order. Free."""
        wanted = list(names)
        return self._with({name: self[name] for name in wanted}, changed=set(self.names) - set(wanted))

    def with_columns(self, columns: Mapping[str, Column]) -> Table:
        """Return the table with columns added or replaced. Free."""
        return self._with({**self.columns, **columns}, changed=set(columns))

    def renamed(self, names: Mapping[str, str]) -> Table:
        """Return the table with columns called otherwise, by their names so far. Free.

        Raises:
          UsageError: no such column, or two of one name.
        """
        missing = [name for name in names if name not in self.columns]
        called = {name: names.get(name, name) for name in self.names}
        if missing or len(set(called.values())) < len(called):
            raise UsageError(
                f"expected new names, each once, for columns among {', '.join(self.names)}, got {dict(names)}"
            )
        keys = tuple((called[name], down) for name, down in self.order.keys)
        columns = {called[name]: column for name, column in self.columns.items()}
        return Table(columns, self.valid, dataclasses.replace(self.order, keys=keys))

    def _with(self, columns: Mapping[str, Column], changed: set[str]) -> Table:
        kept = []
        for name, down in self.order.keys:
            if name in changed:
                break
            kept.append((name, down))
        unique = self.order.unique and len(kept) == len(self.order.keys)
        return Table(columns, self.valid, dataclasses.replace(self.order, keys=tuple(kept), unique=unique))

    def filter(self, condition: Condition) -> Table:
        """Return the table in which rows are valid for which the condition holds; NULL does not hold. One AND a row."""
        valid = logic.conjunction(self.valid, holds(condition))
        return Table(self.columns, valid, dataclasses.replace(self.order, packed=False))


def concat(tables: Sequence[Table]) -> Table:
    """Return the rows of all tables (UNION ALL). Free.

    Args:
      tables: at least one, with columns of the same names and dtypes.
    """
    if not tables:
        raise UsageError("expected at least one table to join row by row, got none")
    first = tables[0]
    for t in tables[1:]:
        if set(t.names) != set(first.names):
            raise UsageError(
                f"expected tables of the same columns, got {', '.join(first.names)} and {', '.join(t.names)}"
            )
        if odd := [n for n in first.names if t[n].dtype != first[n].dtype]:
            name = odd[0]
            raise UsageError(
                f"expected column {name!r} to be {first[name].dtype} in all tables, got {t[name].dtype}; convert with astype"
            )
    if len(tables) == 1:
        return first
    columns = {name: _stacked([t[name] for t in tables]) for name in first.names}
    return Table(columns, moves.concat([t.valid for t in tables]))


def _stacked(columns: Sequence[Column]) -> Column:
    values = moves.concat([c.values for c in columns])
    if all(c.null is None for c in columns):
        return Column(values)
    return Column(values, moves.concat([c.is_null for c in columns]))


def holds(condition: Condition) -> SharedArray:
    """Return for which rows a condition holds: where it is True and not NULL."""
    column = condition if isinstance(condition, Column) else Column(condition)
    if not isinstance(column.dtype, BoolType):
        raise UsageError(
            f"expected a condition of bools, got {column.values!r}; compare it first, as in (x != 0)"
        )
    return column.filled


def constant(like: SharedArray, *, value: bool) -> SharedArray:
    """Return public bools, all alike, as many as `like` has rows."""
    return like.engine.public(np.full(like.shape[0], value), dtype=boolean)  # type: ignore[no-any-return]


def numbered(like: SharedArray, dtype: DType) -> SharedArray:
    """Return the number of each row from 0 on, as a shared array."""
    return like.engine.public(np.arange(like.shape[0]), dtype=dtype)  # type: ignore[no-any-return]


def cleared(values: SharedArray, keep: SharedArray) -> SharedArray:
    """Return values where a bit is set, and 0 or False elsewhere."""
    if isinstance(values.dtype, BoolType):
        return logic.conjunction(values, keep)
    return arithmetic.selected(keep, values)


def wide(values: SharedArray) -> SharedArray:
    """Return what is summed: integers and bools in 64 bits, fixed-point numbers as they are."""
    if isinstance(values.dtype, IntegerType) and values.dtype != int64:
        return arithmetic.astype(values, int64)
    return as_numbers(values)


def _check_bools(bits: SharedArray, rows: int, what: str) -> None:
    if not isinstance(bits, SharedArray) or bits.shape != (rows,) or not isinstance(bits.dtype, BoolType):
        raise ShapeError(f"expected bools of shape ({rows},) that say which rows are {what}, got {bits!r}")


def at_least_one_row(t: Table) -> Table:
    """Return the table, and one of a row that is not valid for a table without rows."""
    if t.rows:
        return t
    columns = {}
    for name, column in t.columns.items():
        zero = np.zeros(1, bool if isinstance(column.dtype, BoolType) else np.int64)
        null = None if column.null is None else t.engine.public(np.zeros(1, bool))
        columns[name] = Column(t.engine.public(zero, dtype=column.dtype), null)
    return Table(columns, t.engine.public(np.zeros(1, bool)), Order(packed=True))
