"""Rows out: the bits that have to be opened first, and the matrix in which a result is opened to its receivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import mpc
from secagg.errors import DataError, RemoteProtocolError
from secagg.mpc.arrays import Engine, SharedArray, moves
from secagg.mpc.arrays.outside import receive
from secagg.mpc.arrays.rehearsal import Rehearsal
from secagg.mpc.tables.ordering import mixed, packed
from secagg.mpc.tables.table import cleared
from secagg.party import Party, PartyId
from secagg.query.encoding import Field, decode
from secagg.query.quotients import parts
from secagg.query.rows import Rows, parts_of
from secagg.wire import Message

OPENED_BITS: Final = 36  # of an opened quotient's fraction
_MOST_ROWS: Final = 1 << 32


class ResultShape(Message, frozen=True):
    """Computing party -> a receiver that does not compute: how many rows come, and which columns are quotients."""

    rows: int
    quotients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A result as it was opened: for each column its integers, its fractions if it is a quotient, and what is NULL."""

    of: Field
    values: NDArray[np.int64] = field(repr=False)
    fractions: NDArray[np.int64] | None = field(repr=False)
    null: NDArray[np.bool_] | None = field(repr=False)

    def floats(self) -> NDArray[np.float64]:
        """Return a real's values."""
        if self.fractions is None:
            return self.values / 2.0**self.of.scale
        return self.values + self.fractions / 2.0**OPENED_BITS


@dataclass(frozen=True, slots=True)
class Shape:
    """Which columns a result has: a matrix of integers, the first row of which says which rows are valid.

    Attributes:
      rows: valid and other ones.
      quotients: which columns are opened in two parts.
    """

    fields: tuple[Field, ...]
    rows: int
    quotients: frozenset[str]

    @property
    def columns(self) -> int:
        """How many rows the matrix has."""
        return 1 + sum(1 + (f.name in self.quotients) + f.nullable for f in self.fields)

    def read(self, matrix: NDArray[np.int64]) -> list[Opened]:
        """Return the valid rows of an opened matrix."""
        kept = matrix[:, matrix[0] != 0]
        found, place = [], 1
        for of in self.fields:
            values, fractions, null = kept[place], None, None
            place += 1
            if of.name in self.quotients:
                fractions, place = kept[place], place + 1
            if of.nullable:
                null, place = kept[place] != 0, place + 1
            found.append(Opened(of, values, fractions, null))
        return found


def result_table(rows: Rows, fields: Sequence[Field]) -> tuple[SharedArray, Shape]:
    """Return what is opened of rows: a matrix, valid rows first, and its shape."""
    table = rows.table
    if not table.order.shown:
        table = packed(mixed(table))
    elif not table.order.packed:
        table = packed(table)
    lines, quotients = [table.valid.astype(mpc.int64)], set()
    for of in fields:
        if (kept := rows.ratios.get(of.name)) is not None:
            above, below, null, bits, denominator_bits = parts_of(table, kept)
            whole = list(
                parts(above, below, bits=bits, denominator_bits=denominator_bits, fraction_bits=OPENED_BITS)
            )
            quotients.add(of.name)
        else:
            column = table[of.name]
            whole, null = [column.values.astype(mpc.int64)], column.null
        shown = table.valid if null is None else table.valid & ~null
        lines += [cleared(x, shown) for x in whole]
        if of.nullable:
            is_null = table.valid if null is None else table.valid & null
            lines.append((is_null ^ is_null if null is None else is_null).astype(mpc.int64))
    matrix = moves.stack(lines)
    return matrix, Shape(tuple(fields), table.rows, frozenset(quotients))


async def open_checks(engine: Engine, checks: Sequence[tuple[SharedArray, str]]) -> None:
    """Open whether what was declared holds, to the computing parties.

    Raises:
      DataError: it does not; nothing else has been opened.
    """
    if not checks:
        return
    opened = await engine.open(*(bit for bit, _ in checks))
    wrong = [
        what for found, (_, what) in zip(opened, checks, strict=True) if found is True or found is np.True_
    ]
    if wrong:
        raise DataError(f"{'; '.join(wrong)}; nothing of the result was opened")


async def open_to_receivers(
    engine: Engine, results: Sequence[tuple[Sequence[PartyId], SharedArray, Shape]]
) -> list[Opened] | None:
    """Open each matrix to its receivers; return what this party learns of the last one, None if it learns nothing."""
    party, found = engine.party, None
    for receivers, matrix, shape in results:
        for receiver in receivers:
            if receiver not in engine.computing:
                party.send(receiver, ResultShape(shape.rows, tuple(sorted(shape.quotients))))
        if shape.rows == 0:
            continue
        opened = await engine.open_one(matrix, receivers)
        if party.me in receivers and not isinstance(engine.primitives, Rehearsal):
            found = shape.read(opened)
    return found


async def receive_result(
    party: Party, computing: Sequence[PartyId], fields: Sequence[Field]
) -> list[Opened] | None:
    """Return the result at a receiver that does not compute; None if it can have no rows."""
    shape = await receive_shape(party, computing, fields)
    if shape.rows == 0:
        return None
    return shape.read(await receive(party, computing, (shape.columns, shape.rows)))


async def receive_shape(party: Party, computing: Sequence[PartyId], fields: Sequence[Field]) -> Shape:
    """Return the shape of the result at a receiver that does not compute; all computing parties say the same.

    Raises:
      RemoteProtocolError: they do not.
    """
    told = await party.gather(ResultShape, computing)
    first = told[computing[0]]
    for peer, message in told.items():
        said = (message.rows, message.quotients)
        if said != (first.rows, first.quotients) or not 0 <= message.rows <= _MOST_ROWS:
            raise RemoteProtocolError(
                f"expected one shape of the result from all computing parties, got another one from {peer}",
                peer=peer,
            )
    return Shape(tuple(fields), first.rows, frozenset(first.quotients))


def rows_of(opened: Sequence[Opened], names: Mapping[int, str]) -> list[tuple[Any, ...]]:
    """Return a result row by row.

    Args:
      names: of identifiers, those of this party's own rows.
    """
    columns = [
        one.floats().tolist()
        if one.of.kind == "real" and one.null is None
        else _reals(one)
        if one.of.kind == "real"
        else decode(one.of, one.values, one.null, names)
        for one in opened
    ]
    return list(zip(*columns, strict=True))


def _reals(one: Opened) -> list[float | None]:
    null = np.zeros(len(one.values), bool) if one.null is None else one.null
    return [
        None if missing else value
        for value, missing in zip(one.floats().tolist(), null.tolist(), strict=True)
    ]
