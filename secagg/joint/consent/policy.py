"""What an owner wants of the rows that enter its runs, in `privacy.toml` of its home folder.

    [differencing]
    within_days = 90            # how long a run's population is kept and compared; 0 for never
    smallest_group = 10         # populations that differ in fewer persons are nearly the same

    [exclusions]
    reported_in = 10            # others are told the number of excluded rows, rounded down to this; 0 tells nothing

    [absence]
    shown = true                # whether a run keeps what shows later that somebody was not in it

    [tables.patients]
    k = 5                       # each combination of these columns is that of k persons or more
    quasi_identifiers = ["age", "postcode", "admitted"]
    sensitive = ["diagnosis"]   # optional: each combination has l different values of each of these
    l = 2
    persons = "patient"         # optional: the column that tells persons apart; rows are counted without one
    suppress = "nothing"        # or "rows", or "cells": which of too small combinations do not enter
    at_most_percent = 5         # of the rows that may be suppressed; a run with more is refused

All of it is optional. Without the file populations are compared as above, and no table is checked. Of a table, those columns
are checked that enter a run; what a job does not read cannot tell anything.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from secagg.errors import DataError, UsageError
from secagg.home import Home
from secagg.query.schema import Schema
from secagg.toml_files import FieldFault, check_values, convert, parse_toml, read_toml

__all__ = ["Anonymity", "Differencing", "Exclusions", "PrivacyPolicy"]

_FILE: Final = "privacy.toml"
_MOST: Final = 1 << 40


class Differencing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When two runs are on nearly the same persons."""

    within_days: int = 90
    smallest_group: int = 10


class Exclusions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the number of excluded rows is told to others."""

    reported_in: int = 10


class ShownAbsence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether runs commit to who is in them."""

    shown: bool = True


class Anonymity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a table has to be like as it enters; see the module."""

    k: int
    quasi_identifiers: tuple[str, ...]
    sensitive: tuple[str, ...] = ()
    l: int = 1  # noqa: E741  # as in the paper
    persons: str | None = None
    suppress: Literal["nothing", "rows", "cells"] = "nothing"
    at_most_percent: int = 5


class PrivacyPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An owner's choices; see the module."""

    differencing: Differencing = Differencing()
    exclusions: Exclusions = Exclusions()
    absence: ShownAbsence = ShownAbsence()
    tables: dict[str, Anonymity] = {}

    @classmethod
    def of(cls, home: Home) -> PrivacyPolicy:
        """Return a home folder's policy, the default one where it has none.

        Raises:
          UsageError: the file is wrong; the message names file, line and field.
        """
        path = home.path / _FILE
        if not path.exists():
            return cls()
        text = read_toml(path, what="the privacy policy", kind=UsageError)
        values = parse_toml(text, file=path, kind=UsageError)
        try:
            check_values(values)
            policy = convert(values, cls)
            policy._check()
        except FieldFault as fault:
            raise fault.error(path, text, UsageError) from None
        return policy

    def of_table(self, table: str, schema: Schema, identifying: Schema) -> Anonymity | None:
        """Return what is asked of a table in a job, in the columns that enter; None where these are none.

        Args:
          schema: of what enters.
          identifying: with the identifiers that are read besides.

        Raises:
          DataError: persons are to be counted by a column that is not read as an identifier.
        """
        wanted = self.tables.get(table)
        if wanted is None or not (entering := tuple(c for c in wanted.quasi_identifiers if c in schema)):
            return None
        if wanted.persons is not None and wanted.persons not in identifying.identifiers:
            raise DataError(
                f"{_FILE} counts the persons of {table} by {wanted.persons}, and the job reads the identifiers "
                f"{', '.join(identifying.identifiers) or 'none'}; leave `persons` out where each row is a person"
            )
        sensitive = tuple(c for c in wanted.sensitive if c in schema)
        return msgspec.structs.replace(wanted, quasi_identifiers=entering, sensitive=sensitive)

    def _check(self) -> None:
        numbers: list[tuple[str, Any, int]] = [
            ("differencing.within_days", self.differencing.within_days, 0),
            ("differencing.smallest_group", self.differencing.smallest_group, 1),
            ("exclusions.reported_in", self.exclusions.reported_in, 0),
        ]
        for name, table in self.tables.items():
            numbers += [(f"tables.{name}.k", table.k, 1), (f"tables.{name}.l", table.l, 1)]
            numbers += [(f"tables.{name}.at_most_percent", table.at_most_percent, 0)]
            if not table.quasi_identifiers:
                raise FieldFault(f"tables.{name}.quasi_identifiers", "expected columns, got none")
            if table.l > 1 and not table.sensitive:
                raise FieldFault(
                    f"tables.{name}.l", "name the columns that have so many values: sensitive = [...]"
                )
        for field, value, least in numbers:
            if not least <= value <= _MOST:
                raise FieldFault(field, f"expected {least} to {_MOST}, got {value}")
