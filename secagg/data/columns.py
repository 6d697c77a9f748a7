"""Which columns of a table play which role.

A *role* is what the computation needs (beneficiary, sender, amount, time); a *column* is what the file
calls it. An identifier may be spread over several columns, as a bank's number and an account's, and a time
over two, the date and the time of day; an identifier's texts are joined as `identifiers.join_parts` says.
Case does not tell columns apart: a header that holds a name twice, in whatever case, is refused where that name
is used. The formats below are known by name and recognised from a table's header:

    name        kind       columns
    secagg      transfers  beneficiary, sender, amount, time
    secagg      deposits   customer, amount, time
    amlsim      transfers  targetNodeId, sourceNodeId, value, time       (AMLSim's transactions.csv)
    amlsim-tx   transfers  RECEIVER_ACCOUNT_ID, SENDER_ACCOUNT_ID, TX_AMOUNT, TIMESTAMP
                                                                         (AMLSim's converted log)
    ibm-aml     transfers  To Bank:Account, From Bank:Account, Amount Received, Timestamp
    paysim      transfers  nameDest, nameOrig, amount, step
    saml-d      transfers  Receiver_account, Sender_account, Amount, Date with Time

IBM AML's header holds `Account` twice; the second is `Account_1` here, as in DuckDB. Its amounts and those of
SAML-D are in the currency of each row and are taken as they stand: select one currency with a query where
that matters. PaySim's rows are of several types, all taken: select TRANSFER with a query.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from secagg.errors import DataError, UsageError

__all__ = ["FORMATS", "DepositColumns", "Format", "TransferColumns", "parse_columns", "resolve_columns"]


@dataclass(frozen=True, slots=True)
class TransferColumns:
    """Name the columns of a table of transfers; a time of two columns is a date and a time of day."""

    beneficiary: tuple[str, ...] = ("beneficiary",)
    sender: tuple[str, ...] = ("sender",)
    amount: str = "amount"
    time: str | tuple[str, str] = "time"

    @property
    def identifiers(self) -> tuple[tuple[str, ...], ...]:
        """Return the columns of each identifier, in the order of the fields."""
        return (self.beneficiary, self.sender)

    @property
    def times(self) -> tuple[str, ...]:
        """Return the columns of the time."""
        return _tuple(self.time)


@dataclass(frozen=True, slots=True)
class DepositColumns:
    """Name the columns of a table of cash deposits; a time of two columns is a date and a time of day."""

    customer: tuple[str, ...] = ("customer",)
    amount: str = "amount"
    time: str | tuple[str, str] = "time"

    @property
    def identifiers(self) -> tuple[tuple[str, ...], ...]:
        """Return the columns of each identifier, in the order of the fields."""
        return (self.customer,)

    @property
    def times(self) -> tuple[str, ...]:
        """Return the columns of the time."""
        return _tuple(self.time)


Columns = TypeVar("Columns", TransferColumns, DepositColumns)


@dataclass(frozen=True, slots=True)
class Format:
    """A table layout known by name.

    `adjacent` are columns that must stand side by side in this order; it tells apart columns that a header
    names alike, where their place alone says whose they are.
    """

    name: str
    columns: TransferColumns | DepositColumns
    adjacent: tuple[str, ...] = ()

    def fits(self, header: Sequence[str]) -> bool:
        """Return whether a table with this header has this format, in whatever case."""
        if any(len(_found(name, header)) != 1 for name in _names(self.columns)):
            return False
        places = [header.index(_found(column, header)[0]) for column in self.adjacent]
        return all(after == before + 1 for before, after in itertools.pairwise(places))


FORMATS = (
    Format("secagg", TransferColumns()),
    Format("secagg", DepositColumns()),
    Format("amlsim", TransferColumns(("targetNodeId",), ("sourceNodeId",), "value", "time")),
    Format(
        "amlsim-tx",
        TransferColumns(("RECEIVER_ACCOUNT_ID",), ("SENDER_ACCOUNT_ID",), "TX_AMOUNT", "TIMESTAMP"),
    ),
    Format(
        "ibm-aml",
        TransferColumns(("To Bank", "Account_1"), ("From Bank", "Account"), "Amount Received", "Timestamp"),
        adjacent=("From Bank", "Account", "To Bank", "Account_1"),
    ),
    Format("paysim", TransferColumns(("nameDest",), ("nameOrig",), "amount", "step")),
    Format(
        "saml-d",
        TransferColumns(("Receiver_account",), ("Sender_account",), "Amount", ("Date", "Time")),
    ),
)


def parse_columns(pairs: Iterable[str], kind: type[Columns], *, base: Columns | None = None) -> Columns:
    """Read `role=column` pairs into a mapping.

    Args:
      pairs: such as `beneficiary=To Account`. An identifier named several times is joined from its columns
        in the order given. The column's name is what follows the first "=", to the letter.
      kind: TransferColumns or DepositColumns.
      base: the mapping that holds for the roles not named; by default the roles' own names.

    Raises:
      UsageError: a pair without "=", an unknown role, an empty column, amount named twice, or time three times.
    """
    roles = get_type_hints(kind)
    named: dict[str, list[str]] = {}
    for pair in pairs:
        role, equals, column = pair.partition("=")
        role = role.strip()
        if not equals or not column:
            raise UsageError(f"a column mapping reads role=column, such as amount=value; got {pair!r}")
        if role not in roles:
            raise UsageError(
                f"there is no role {role!r} in a column mapping; the roles are {', '.join(roles)}"
            )
        named.setdefault(role, []).append(column)
    for role, most in (("amount", "one column"), ("time", "one column, or a date and a time of day")):
        if len(named.get(role, [])) > (1 if role == "amount" else 2):
            raise UsageError(f"{role} is {most}, but the mapping names {len(named[role])} for it")
    changed: dict[str, Any] = {
        role: columns[0] if role in ("amount", "time") and len(columns) == 1 else tuple(columns)
        for role, columns in named.items()
    }
    return dataclasses.replace(kind() if base is None else base, **changed)


def resolve_columns(
    header: Sequence[str],
    mapping: Columns | str | None,
    kind: type[Columns],
    *,
    table: str,
    written: Sequence[str] | None = None,
) -> Columns:
    """Decide which columns of a table to read.

    Args:
      header: the table's column names, each once.
      mapping: explicit columns, the name of a known format, or None to recognise a format from the header.
      kind: TransferColumns or DepositColumns.
      table: what the table is called in messages.
      written: the names as the table has them, which may hold one several times; by default the header.

    Raises:
      DataError: an unknown format, a column that the table does not have or has several times (in whatever case), one
        column for several roles, or no format that fits.
    """
    columns = _resolved(header, mapping, kind, table)
    _check_once(columns, tuple(header), tuple(header if written is None else written), table)
    _check_apart(columns, table)
    return columns


def _resolved(
    header: Sequence[str], mapping: Columns | str | None, kind: type[Columns], table: str
) -> Columns:
    known = [known for known in FORMATS if isinstance(known.columns, kind)]
    if mapping is None:
        for candidate in known:
            if isinstance(candidate.columns, kind) and candidate.fits(header):
                return _in_header(candidate.columns, header)
        for candidate in known:
            found = {name: _found(name, header) for name in _names(candidate.columns)}
            if all(found.values()):
                _refuse_several(found, table)
        options = " ".join(f"--map {role}=COLUMN" for role in get_type_hints(kind))
        raise DataError(
            f"{table}: {_describe(header)}, which is no known format ({_list(known)}); "
            f"say which column is which: {options}"
        )
    if isinstance(mapping, str):
        columns = next(
            (fmt.columns for fmt in known if fmt.name == mapping and isinstance(fmt.columns, kind)), None
        )
        if columns is None:
            raise DataError(f"there is no format {mapping!r} for {_noun(kind)}; known are {_list(known)}")
    else:
        columns = mapping
    found = {name: _found(name, header) for name in _names(columns)}
    _refuse_several(found, table)
    missing = [name for name, columns_found in found.items() if not columns_found]
    if missing:
        role = next(role for role in get_type_hints(kind) if missing[0] in _tuple(getattr(columns, role)))
        raise DataError(
            f"{table}: there is no column {missing[0]!r} for {role}; {_describe(header)}; "
            f"say which one it is: --map {role}=COLUMN"
        )
    return _in_header(columns, header)


def _found(name: str, header: Sequence[str]) -> list[str]:
    """Return the columns of this name, in whatever case."""
    return [column for column in header if column.casefold() == name.casefold()]


def _refuse_several(found: Mapping[str, Sequence[str]], table: str) -> None:
    for name, columns in found.items():
        if len(columns) > 1:
            raise DataError(
                f"{table}: {name!r} can be each of the columns {', '.join(columns)}, which differ in case alone; "
                "rename those that are not meant"
            )


def _check_once(
    columns: TransferColumns | DepositColumns, header: tuple[str, ...], written: tuple[str, ...], table: str
) -> None:
    """Refuse a column whose name the table holds again, unless the mapping names each of them."""
    used = set(_names(columns))
    for name in _names(columns):
        twins = [own for own, raw in zip(header, written, strict=True) if raw == name]
        if len(twins) > 1 and not used.issuperset(twins):
            raise DataError(
                f"{table}: {len(twins)} columns are called {name!r}; rename those that are not meant"
            )


def _check_apart(columns: TransferColumns | DepositColumns, table: str) -> None:
    roles: dict[tuple[str, ...], str] = {}
    for role in get_type_hints(type(columns)):
        names = _tuple(getattr(columns, role))
        if names in roles:
            raise DataError(
                f"{table}: {roles[names]} and {role} are both read from {', '.join(map(repr, names))}; "
                f"say another column for one: --map {role}=COLUMN"
            )
        roles[names] = role


def _in_header(columns: Columns, header: Sequence[str]) -> Columns:
    """Return the columns as the header spells them."""
    spelt: Mapping[str, str] = {name: _found(name, header)[0] for name in _names(columns)}
    roles: dict[str, Any] = {}
    for role in get_type_hints(type(columns)):
        named = getattr(columns, role)
        roles[role] = spelt[named] if isinstance(named, str) else tuple(spelt[name] for name in named)
    return dataclasses.replace(columns, **roles)


def _names(columns: TransferColumns | DepositColumns) -> tuple[str, ...]:
    return (*(name for group in columns.identifiers for name in group), columns.amount, *columns.times)


def _tuple(columns: str | tuple[str, ...]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else columns


def _noun(kind: type[TransferColumns] | type[DepositColumns]) -> str:
    return "transfers" if kind is TransferColumns else "deposits"


def _list(known: Sequence[Format]) -> str:
    return ", ".join(f"{fmt.name}: {', '.join(_names(fmt.columns))}" for fmt in known)


def _describe(header: Sequence[str]) -> str:
    # A table without a header would have its first row, which is somebody's, printed as its column names.
    if any(_is_number(name) for name in header):
        return "its first line looks like data, and column names are expected there"
    return f"its columns are {', '.join(header)}"


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
