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

from secagg.errors import DataError, RemoteProtocolError
from secagg.home import Home
from secagg.jobs.gates import Outcome, RunAtHand
from secagg.jobs.inputs import identifying
from secagg.jobs.job import Job
from secagg.joint.consent.absence import Cells, Root
from secagg.joint.consent.anonymity import checked
from secagg.joint.consent.guard import Approved, check_differences, note_population
from secagg.joint.consent.lists import Exclusions
from secagg.joint.consent.policy import PrivacyPolicy
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
    """

    excluded: dict[str, int]
    checked: dict[str, Check]
    columns: dict[str, str]
    absence: Root | None


class ConsentGate:
    """One party's gate for one run; see the module.

    Args:
      home: of the organisation.
      approved: when somebody of it last approved a job, None for never.
    """

    name: Final = "consent"

    def __init__(self, home: Home, approved: Approved = lambda _: None) -> None:
        self._home, self._approved = home, approved
        self._policy = PrivacyPolicy.of(home)
        self._read: Tables = {}
        self._excluded: dict[str, int] = {}
        self._suppressed: dict[str, dict[str, int]] = {}
        self._checked: dict[str, Check] = {}
        self._populations: dict[str, Population] | None = None
        self._columns: dict[str, str] = {}
        self._cells: Cells | None = None
        self._secret = b""

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
            exclusions = Exclusions(connection)
        kept = exclusions.kept(tables, inputs, data)
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
        for table, columns in tables.items():
            wanted = self._policy.of_table(table, inputs[table], identifiers[table])
            if wanted is None:
                continue
            whose = self._read[table][wanted.persons] if wanted.persons is not None else None
            persons = np.arange(_length(columns)) if whose is None else factorize(whose).codes
            result = checked(table, columns, inputs[table], wanted, persons)
            found[table] = result.columns
            self._checked[table] = Check(wanted.k, wanted.l, wanted.quasi_identifiers, wanted.sensitive)
            self._suppressed[table] = {
                "rows": int(np.count_nonzero(~result.kept)),
                "rows_with_cells": result.cells,
            }
            kept[table] &= result.kept
            if wanted.persons is not None:
                self._leave_out(wanted.persons, table, result.kept, kept)
        entering = {table: taken(columns, kept[table]) for table, columns in self._read.items()}
        self._note(job, me, entering)
        return {table: taken(columns, kept[table]) for table, columns in found.items()}

    def statement(self, run: RunAtHand) -> bytes:
        """Return what others are told.

        Raises:
          DataError: rows enter that this gate has not seen.
        """
        if run.me not in run.job.input_parties:
            return msgspec.msgpack.encode(Statement({}, {}, {}, None))
        if self._populations is None:
            with self._home.transaction() as connection:
                self._go_on(connection, run)
        step = self._policy.exclusions.reported_in
        return msgspec.msgpack.encode(
            Statement(
                {table: count // step * step for table, count in self._excluded.items()} if step else {},
                self._checked,
                self._columns,
                None if self._cells is None else self._cells.root(),
            )
        )

    def check(self, run: RunAtHand, statements: Mapping[PartyId, bytes]) -> None:
        """Read the others' statements, and refuse a run on nearly the persons of an earlier one.

        Raises:
          RemoteProtocolError: a statement is none.
          UsageError: see `guard`.
        """
        for name, data in statements.items():
            read_statement(data, peer=name)
        with self._home.transaction() as connection:
            self._differences(connection, run)

    def commit(self, run: RunAtHand) -> None:
        """Keep who is in the run; of two runs that race on nearly the same persons the second is refused."""
        with self._home.transaction() as connection:
            used = self._differences(connection, run)
            if self._populations is not None:
                rules = self._policy.differencing
                note_population(connection, run.job, run.session, self._populations, rules, used)
            if self._cells is not None:
                cells = np.packbits(self._cells.marked, bitorder="little").tobytes()
                entry = (run.session.hex(), self._secret, cells, len(self._cells.marked))
                connection.execute("INSERT INTO consent_filters VALUES (?, ?, ?, ?)", entry)

    def close(self, run: RunAtHand, outcome: Outcome) -> None:
        """Do nothing: a run that has begun to share stays in the guard's memory, however it ended."""

    def described(self) -> dict[str, Any]:
        """Return exact numbers, for the record's private part."""
        return {"excluded": dict(self._excluded), "suppressed": dict(self._suppressed)}

    def _leave_out(
        self, column: str, table: str, kept: NDArray[np.bool_], everywhere: dict[str, NDArray[np.bool_]]
    ) -> None:
        """Leave a person whose rows are all suppressed in one table out of the others too."""
        values = factorize(self._read[table][column])
        gone = np.ones(len(values.categories), bool)
        gone[values.codes[kept]] = False
        names = set(values.categories[gone].tolist())
        for other, columns in self._read.items():
            if other != table and column in columns and names:
                theirs = factorize(columns[column])
                out = np.fromiter(
                    map(names.__contains__, theirs.categories.tolist()), bool, len(theirs.categories)
                )
                everywhere[other] &= ~out[theirs.codes]

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
        )

    def _go_on(self, connection: sqlite3.Connection, run: RunAtHand) -> None:
        """Let a run go on with the rows that it began with, which were read then."""
        create(connection)
        first = "" if run.resumes is None else run.resumes.hex()
        found = connection.execute("SELECT digest FROM consent_runs WHERE session = ?", (first,)).fetchone()
        if found is None or found[0] != run.job.digest.hex():
            raise DataError(
                "rows are about to enter that no exclusion list was asked about; start the run anew"
            )


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
