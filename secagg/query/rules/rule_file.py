"""An owner's rule file: what each column may be used for, and of which groups anything is told.

    owner = "north"

    [tables.payments]
    smallest_group = 10               # rows behind whatever is told; 10 unless given
    persons = "customer"              # optional: the column that tells persons apart
    smallest_persons = 5              # smallest_group unless given, where `persons` is
    smallest_organisations = 3        # of these, without those that receive; 2 where that many hold the table
    dominance = {largest = 1, percent = 80}  # optional: the largest part of a sum that so many may make up
    round_counts = 5                  # optional: counts are told as multiples of this
    opened_cells = 1000               # numbers that a query may open; 1000 unless given
    receivers_pool = true             # whether receivers may pool what they have; true unless given

    [tables.payments.columns.city]
    uses = ["group", "compare"]

    [tables.payments.columns.amount]
    uses = ["aggregate"]
    rounding = 100                    # optional: sums are told as multiples of this, in the column's units
    bottom = 0                        # optional: lower values count as this one
    top = 10000                       # optional: higher values count as this one
    comparisons = 2                   # with constants, in a query; 2 unless given
    arithmetic = false                # whether products, quotients and powers may stand in aggregates

A column without a rule is used for nothing. A table without rules is read by nobody. Rules are compared and signed by their
`digest`, which covers what they mean: spaces, comments, order, and defaults that are written out change nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from secagg import signing
from secagg.errors import UsageError
from secagg.toml_files import FieldFault, check_values, convert, parse_toml, read_toml

T = TypeVar("T")

SMALLEST_GROUP: Final = 10
OPENED_CELLS: Final = 1000
COMPARISONS: Final = 2
_MOST: Final = 1 << 40  # a bound beyond this is a mistake, and would not fit beside sums
_LARGEST_CONTRIBUTORS: Final = 5


class Use(enum.StrEnum):
    """What a column may be used for."""

    OPEN = "open"  # a value of the column itself may be told
    JOIN = "join"  # rows of two tables are put together where the column is equal
    GROUP = "group"  # groups are made by the column, and told by its values
    COMPARE = "compare"  # conditions on the column decide which rows count
    AGGREGATE = "aggregate"  # sums, means and counts over groups
    RANK = "rank"  # order, first rows, ranks
    NEVER = "never"


class Dominance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The largest part of a sum that the largest contributors may make up, in percent."""

    percent: int
    largest: int = 1


class ColumnRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one column may be used for, and how its values are told."""

    uses: tuple[Use, ...]
    rounding: Decimal | None = None
    bottom: Decimal | None = None
    top: Decimal | None = None
    comparisons: int = COMPARISONS
    arithmetic: bool = False


class TableRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of which groups of a table anything is told, and the rules of its columns."""

    columns: dict[str, ColumnRule]
    smallest_group: int = SMALLEST_GROUP
    persons: str | None = None
    smallest_persons: int | None = None
    smallest_organisations: int | None = None
    dominance: Dominance | None = None
    round_counts: int | None = None
    opened_cells: int = OPENED_CELLS
    receivers_pool: bool = True


class OwnerRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One owner's rules for the tables of which it holds rows."""

    owner: str
    tables: dict[str, TableRule]

    @property
    def digest(self) -> bytes:
        """SHA-256 of what the rules mean, 32 bytes."""
        return signing.digest("query.rules", [msgspec.json.encode(_canonical(self), order="deterministic")])


def load_rules(path: Path | str) -> OwnerRules:
    """Read and check an owner's rule file.

    Raises:
      UsageError: the file cannot be read, or a rule is wrong; the message names file, line and field.
    """
    path = Path(path)
    return parse_rules(read_toml(path, what="the rule file", kind=UsageError), file=path)


def parse_rules(text: str, *, file: Path | str = "rules") -> OwnerRules:
    """Check the text of a rule file; errors as in `load_rules`."""
    # Amounts do not pass through binary fractions.
    values = parse_toml(text, file=Path(file), kind=UsageError, parse_float=Decimal)
    try:
        check_values(values)
        rules = _rules(values)
        for field, what in _faults(rules):
            raise FieldFault(field, what)
    except FieldFault as fault:
        raise fault.error(file, text, UsageError) from None
    return rules


class _File(msgspec.Struct, forbid_unknown_fields=True):
    owner: str
    tables: dict[str, dict[str, Any]]


def _rules(values: object) -> OwnerRules:
    """Convert each rule by itself, so that a fault is named by table and column."""
    read = convert(values, _File)
    tables = {}
    for name, table in read.tables.items():
        place = f"tables.{name}"
        columns = table.get("columns", {})
        if not isinstance(columns, dict):
            raise FieldFault(f"{place}.columns", "expected a table of columns")
        rules = {
            column: _converted(f"{place}.columns.{column}", rule, ColumnRule)
            for column, rule in columns.items()
        }
        tables[name] = _converted(place, {**table, "columns": {}}, TableRule)
        tables[name] = msgspec.structs.replace(tables[name], columns=rules)
    return OwnerRules(owner=read.owner, tables=tables)


def _converted(place: str, values: object, struct: type[T]) -> T:
    try:
        return convert(values, struct, hint="a rule for a column stands under [tables.TABLE.columns.COLUMN]")
    except FieldFault as fault:
        raise FieldFault(f"{place}.{fault.field}" if fault.field else place, str(fault)) from None


def _faults(rules: OwnerRules) -> Iterator[tuple[str, str]]:
    if not rules.owner:
        yield "owner", "expected the owner's name in the job, got an empty text"
    for name, table in rules.tables.items():
        yield from _table_faults(f"tables.{name}", table)
        for column, rule in table.columns.items():
            yield from _column_faults(f"tables.{name}.columns.{column}", rule)


def _table_faults(place: str, table: TableRule) -> Iterator[tuple[str, str]]:
    for bound in (
        "smallest_group",
        "smallest_persons",
        "smallest_organisations",
        "round_counts",
        "opened_cells",
    ):
        value = getattr(table, bound)
        if value is not None and not 1 <= value <= _MOST:
            yield f"{place}.{bound}", f"expected 1 to {_MOST}, got {value}"
    if table.smallest_persons is not None and table.persons is None:
        yield f"{place}.smallest_persons", 'name the column that tells persons apart: persons = "..."'
    if (rule := table.dominance) is not None:
        if not 1 <= rule.percent <= 99:
            yield f"{place}.dominance", f"expected 1 to 99 percent, got {rule.percent}"
        if not 1 <= rule.largest <= _LARGEST_CONTRIBUTORS:
            yield (
                f"{place}.dominance",
                f"expected 1 to {_LARGEST_CONTRIBUTORS} contributors, got {rule.largest}",
            )


def _column_faults(place: str, rule: ColumnRule) -> Iterator[tuple[str, str]]:
    if not rule.uses:
        yield f"{place}.uses", f'expected some of {", ".join(Use)}, got an empty list; write ["never"]'
    if len(set(rule.uses)) < len(rule.uses):
        yield f"{place}.uses", f"expected each use once, got {', '.join(rule.uses)}"
    if Use.NEVER in rule.uses and len(rule.uses) > 1:
        yield f"{place}.uses", f"never stands alone, got {', '.join(rule.uses)}"
    if not 0 <= rule.comparisons <= _MOST:
        yield f"{place}.comparisons", f"expected 0 to {_MOST}, got {rule.comparisons}"
    for name in ("rounding", "bottom", "top"):
        value = getattr(rule, name)
        if value is not None and not value.is_finite():
            yield f"{place}.{name}", f"expected a finite number, got {value}"
    if rule.rounding is not None and rule.rounding <= 0:
        yield f"{place}.rounding", f"expected more than 0, got {rule.rounding}"
    if rule.bottom is not None and rule.top is not None and rule.bottom >= rule.top:
        yield f"{place}.bottom", f"expected less than top, which is {rule.top}, got {rule.bottom}"


def _canonical(rules: OwnerRules) -> Any:
    """Return the rules as plain values in which equal rules are equal: uses in order, numbers without trailing zeros."""
    values: Any = msgspec.to_builtins(rules, builtin_types=(Decimal,))
    for table in values["tables"].values():
        for column in table["columns"].values():
            column["uses"] = sorted(column["uses"])
            for name in ("rounding", "bottom", "top"):
                if column[name] is not None:
                    column[name] = str(column[name].normalize() + 0)
    return values
