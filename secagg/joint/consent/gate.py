"""The gate that decides whose rows enter a run, and keeps what shows later who was not in it.

  admit      rows of persons on an exclusion list are left out
  screen     rows are checked as they enter, coarser as the job says: k-anonymity, l-diversity
  statement  rounded numbers of excluded rows, what was checked, and the commitment to who is in the run
  check      the guard against differencing, which only this party's own populations are asked for
  commit     the populations and what opens the commitment are on the disk

Learns: everybody, the statements; that a guard refused, where it did, and not why. A refusal by the guard tells others that
an earlier run was on nearly the same persons.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg.data.source_files import SOURCES
from secagg.errors import DataError, RemoteProtocolError
from secagg.home import Home
from secagg.jobs.gates import Outcome, RunAtHand
from secagg.jobs.inputs import identifying
from secagg.jobs.job import Job
from secagg.joint.consent.absence import Cells, Root
from secagg.joint.consent.anonymity import checked
from secagg.joint.consent.guard import Approved, check_differences, note_run, stated_before, unchanged
from secagg.joint.consent.lists import Exclusions
from secagg.joint.consent.policy import Anonymity, PrivacyPolicy
from secagg.joint.consent.population import Population, person_columns, persons_of
from secagg.joint.consent.tables import create, key_for
from secagg.party import PartyId
from secagg.patterns.counts import factorize
from secagg.patterns.pattern import Tables
from secagg.prg import KEY_BYTES
from secagg.query.schema import Columns

__all__ = ["ConsentGate", "Statement"]


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a table was checked: k and l, over which columns."""

    k: int
    l: int  # noqa: E741  # as in the paper
    quasi_identifiers: tuple[str, ...]
    sensitive: tuple[str, ...]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a party tells of its rows.

    Attributes:
      excluded: by table, rows that did not enter by exclusion lists, rounded down; empty where the owner tells nothing.
      checked: by table, what holds of the rows as they enter.
      columns: in which persons stand, as "table.column", with the rule that spells them.
      absence: the commitment to these persons; None at a party that puts in none.
      unchanged: earlier sessions of this very job in which its rows were these very ones.
    """

    excluded: dict[str, int]
    checked: dict[str, Check]
    columns: dict[str, str]
    absence: Root | None
    unchanged: list[str]


NOTHING: Final = Statement({}, {}, {}, None, [])


class ConsentGate:
    """One party's gate for one run; see the module.

    Args:
      home: of the organisation.
      approved: whether it has approved a job since some moment.
    """

    name: Final = "consent"

    def __init__(self, home: Home, approved: Approved = lambda _job, _at: False) -> None:
        self._home, self._approved = home, approved
        self._policy = PrivacyPolicy.of(home)
        self._read: Tables = {}
        self._excluded: dict[str, int] = {}
        self._idle: list[str] = []
        self._suppressed: dict[str, dict[str, int]] = {}
        self._checked: dict[str, Check] = {}
        self._populations: dict[str, Population] | None = None
        self._columns: dict[str, str] = {}
        self._cells: Cells | None = None
        self._secret = b""
        self._same: frozenset[str] = frozenset()
        self._stated = NOTHING

    def __repr__(self) -> str:
        return f"ConsentGate({str(self._home.path)!r})"

    def ready(self, job: Job, me: PartyId) -> None:
        """Refuse a policy or a list that does not fit the job's tables."""
        if me not in job.input_parties:
            return
        inputs, _ = identifying(job, me)
        for table, schema in job.pattern_at(me).inputs.items():
            self._policy.of_table(table, schema, inputs[table])
        with self._home.transaction() as connection:
            Exclusions(connection).check_columns(inputs)

    def admit(self, job: Job, me: PartyId, tables: Tables) -> Tables:
        """Return the rows of those who are on no exclusion list.

        Raises:
          DataError: a list cannot be read, or is about a column that was not.
        """
        inputs, data = identifying(job, me)
        for table, schema in inputs.items():
            if missing := [name for name in schema.identifiers if name not in tables[table]]:
                raise DataError(
                    f"{table} was read without {', '.join(missing)}, and exclusion lists are about all its identifiers"
                )
        with self._home.transaction() as connection:
            exclusions = Exclusions(connection, self._home.path / SOURCES)
        kept, self._idle = exclusions.kept(tables, inputs, data), exclusions.idle(inputs)
        self._excluded = {table: int(np.count_nonzero(~keep)) for table, keep in kept.items()}
        self._read = {table: taken(columns, kept[table]) for table, columns in tables.items()}
        own = job.pattern_at(me).inputs
        return {
            table: {name: values for name, values in columns.items() if name in own[table]}
            for table, columns in self._read.items()
        }

    def screen(self, job: Job, me: PartyId, tables: Tables) -> Tables:
        """Return the rows as they enter.

        Raises:
          DataError: combinations are too small; see `anonymity`.
        """
        inputs, (identifiers, _) = job.pattern_at(me).inputs, identifying(job, me)
        kept = {table: np.ones(_length(columns), bool) for table, columns in tables.items()}
        found: dict[str, Columns] = dict(tables)
        wanted = {
            table: asked
            for table in tables
            if (asked := self._policy.of_table(table, inputs[table], identifiers[table])) is not None
        }
        again = bool(wanted)
        while (
            again
        ):  # who is left out of one table is left out of others, which may make combinations there too small
            again = False
            for table, asked in wanted.items():
                rows = np.flatnonzero(kept[table])
                whose = self._read[table][asked.persons] if asked.persons is not None else None
                persons = rows if whose is None else factorize(whose).codes[rows]
                result = checked(table, taken(found[table], kept[table]), inputs[table], asked, persons)
                found[table] = placed(found[table], result.columns, kept[table])
                self._noted(table, asked, rows=len(rows) - int(result.kept.sum()), cells=result.cells)
                if not result.kept.all():
                    kept[table][rows[~result.kept]] = False
                    if asked.persons is not None:
                        self._leave_out(asked.persons, table, kept)
                    again = True
        self._check_suppressed(kept, wanted)
        entering = {table: taken(columns, kept[table]) for table, columns in self._read.items()}
        self._note(job, me, entering)
        return {table: taken(columns, kept[table]) for table, columns in found.items()}

    def statement(self, run: RunAtHand) -> bytes:
        """Return what others are told.

        Raises:
          DataError: rows enter that this gate has not seen.
        """
        if run.me not in run.job.input_parties:
            return msgspec.msgpack.encode(NOTHING)
        with self._home.transaction() as connection:
            if self._populations is None:
                self._stated = self._stated_before(connection, run)
                return msgspec.msgpack.encode(self._stated)
            same = unchanged(connection, run.job, self._populations)
        step = self._policy.exclusions.reported_in
        self._stated = Statement(
            {table: count // step * step for table, count in self._excluded.items()} if step else {},
            self._checked,
            self._columns,
            None if self._cells is None else self._cells.root(),
            same,
        )
        return msgspec.msgpack.encode(self._stated)

    def check(self, run: RunAtHand, statements: Mapping[PartyId, bytes]) -> None:
        """Read the others' statements, and refuse a run on nearly the persons of an earlier one.

        Raises:
          RemoteProtocolError: a statement is none.
          UsageError: see `guard`.
        """
        told = {name: read_statement(data, peer=name) for name, data in statements.items()}
        same = [frozenset(told[name].unchanged) for name in run.job.input_parties if name in told]
        self._same = frozenset.intersection(*same) if same else frozenset()
        with self._home.transaction() as connection:
            self._differences(connection, run)

    def commit(self, run: RunAtHand) -> None:
        """Keep who is in the run; of two runs that race on nearly the same persons the second is refused."""
        with self._home.transaction() as connection:
            used = self._differences(connection, run)
            if self._populations is None:
                if run.resumes is not None:
                    # The record of this session is the one that will be shown.
                    create(connection)  # a party without data has had no reason to
                    connection.execute(
                        "INSERT OR IGNORE INTO consent_filters SELECT ?, first, secret, cells, count FROM consent_filters "
                        "WHERE first = ? ORDER BY rowid DESC LIMIT 1",
                        (run.session.hex(), run.resumes.hex()),
                    )
                return
            stated = msgspec.msgpack.encode(self._stated)
            rules = self._policy.differencing
            first = run.resumes or run.session
            note_run(connection, run.job, first, self._populations, rules, used, stated)
            if self._cells is not None:
                cells = np.packbits(self._cells.marked, bitorder="little").tobytes()
                entry = (run.session.hex(), first.hex(), self._secret, cells, len(self._cells.marked))
                connection.execute("INSERT INTO consent_filters VALUES (?, ?, ?, ?, ?)", entry)

    def close(self, run: RunAtHand, outcome: Outcome) -> None:
        """Do nothing: a run that has begun to share stays in the guard's memory, however it ended."""

    def described(self) -> dict[str, Any]:
        """Return exact numbers, for the record's private part."""
        return {
            "excluded": dict(self._excluded),
            "idle_lists": list(self._idle),
            "suppressed": dict(self._suppressed),
        }

    def _noted(self, table: str, asked: Anonymity, *, rows: int, cells: int) -> None:
        counts = self._suppressed.setdefault(table, {"rows": 0, "rows_with_cells": 0})
        counts["rows"] += rows
        counts["rows_with_cells"] += cells
        self._checked[table] = Check(asked.k, asked.l, asked.quasi_identifiers, asked.sensitive)

    def _check_suppressed(
        self, kept: Mapping[str, NDArray[np.bool_]], wanted: Mapping[str, Anonymity]
    ) -> None:
        for table, asked in wanted.items():
            gone, rows = int(np.count_nonzero(~kept[table])), len(kept[table])
            if 100 * gone > asked.at_most_percent * rows:
                raise DataError(
                    f"{table}: {gone} of {rows} rows would be suppressed, with those of persons who are suppressed in other "
                    f"tables, and privacy.toml allows {asked.at_most_percent} percent; agree on a coarser recipe"
                )

    def _leave_out(self, column: str, table: str, kept: dict[str, NDArray[np.bool_]]) -> None:
        """Leave a person whose rows are all suppressed in one table out of the others too."""
        values = factorize(self._read[table][column])
        gone = np.ones(len(values.categories), bool)
        gone[values.codes[kept[table]]] = False
        names = set(values.categories[gone].tolist())
        for other, columns in self._read.items():
            if other != table and column in columns and names:
                theirs = factorize(columns[column])
                out = [text in names for text in theirs.categories.tolist()]
                kept[other] &= ~np.array([*out, False])[theirs.codes]

    def _note(self, job: Job, me: PartyId, entering: Tables) -> None:
        """Take down who enters."""
        inputs, data = identifying(job, me)
        with self._home.transaction() as connection:
            key = key_for(connection, "population")
        self._populations = {
            table: Population.of(columns, inputs[table], key) for table, columns in entering.items()
        }
        self._columns = {
            f"{table}.{name}": data.rule(name).name
            for table in entering
            for name in person_columns(inputs[table])
        }
        self._secret = secrets.token_bytes(KEY_BYTES)
        if self._columns and self._policy.absence.shown:
            self._cells = Cells.of(
                self._secret,
                (
                    (f"{table}.{name}", text)
                    for table, columns in entering.items()
                    for name, text in persons_of(columns, inputs[table])
                ),
            )

    def _differences(self, connection: sqlite3.Connection, run: RunAtHand) -> list[str]:
        if not self._populations or not self._policy.differencing.within_days:
            return []
        return check_differences(
            connection,
            run.job,
            self._populations,
            self._policy.differencing,
            approved=self._approved,
            resumes=run.resumes,
            same=self._same,
        )

    def _stated_before(self, connection: sqlite3.Connection, run: RunAtHand) -> Statement:
        """Return what was stated of the run that goes on, with the rows that were read then."""
        before = stated_before(connection, run.job, run.resumes) if run.resumes is not None else None
        if before is None:
            raise DataError(
                "rows are about to enter that no exclusion list was asked about; start the run anew"
            )
        return msgspec.structs.replace(read_statement(before, peer=run.me), unchanged=[])


def taken(columns: Columns, rows: NDArray[np.bool_]) -> Columns:
    """Return some rows of a table, by a mask; identifiers that no longer occur are gone."""
    if rows.all():
        return columns
    return {
        name: values[rows]
        if getattr(values, "dtype", np.dtype(object)).kind != "O"
        else factorize(values).taken(rows)
        for name, values in columns.items()
    }


def placed(columns: Columns, some: Columns, rows: NDArray[np.bool_]) -> Columns:
    """Return a table in which the numbers of some rows are others; identifiers stay as they are."""
    if rows.all():
        return some
    changed = dict(columns)
    for name, values in some.items():
        if np.ma.isMaskedArray(values):
            whole = np.ma.array(columns[name], copy=True)
            whole[rows] = values
            changed[name] = whole
    return changed


def read_statement(data: bytes, *, peer: PartyId) -> Statement:
    """Return what a party told.

    Raises:
      RemoteProtocolError: it is something else.
    """
    try:
        return msgspec.msgpack.decode(data, type=Statement)
    except msgspec.MsgspecError:
        raise RemoteProtocolError(
            f"expected what {peer} tells of its rows, got something else; does it run the same release?",
            peer=peer,
        ) from None


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))
