"""Exclusion lists: whose rows never enter a run of this organisation.

A list is about columns: a column of any table, as in "patient"; one of a table, as in "transfers.sender"; or "*" for every
identifier. A row is excluded where one of these columns holds one of the list's identifiers. There are two kinds:

  identifiers   kept as keyed digests alone, spelt by each rule that a job may have
  a source      a file, a query, or a table of the owner's source file, read anew by each run, with the job's own rule

A list that cannot be read, or whose digests do not know a job's rule, refuses the run: nobody on it enters unseen.
"""

from __future__ import annotations

import datetime
import hmac
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.data.conventions import Conventions
from secagg.data.dialect import Dialect
from secagg.data.source_files import PREFIX, SOURCES, SourceFile
from secagg.data.sources import Place, find_sources, open_source
from secagg.data.tables import read_table
from secagg.errors import BadRowsError, DataError, UsageError
from secagg.joint.consent.tables import create, key_for
from secagg.patterns.counts import factorize
from secagg.patterns.pattern import Tables
from secagg.query.identifier_rules import Rule
from secagg.query.schema import Identifier, Schema

__all__ = ["EVERY", "ExclusionList", "Exclusions", "add_identifiers", "add_source", "drop", "lists"]

EVERY: Final = "*"
_RULES: Final = ("exact", "folded", "iban", "digits")
_PERSON: Final = Schema(person=Identifier(repeated=True))
_DIGEST: Final = "sha256"
_LABEL: Final = "lists"


@dataclass(frozen=True, slots=True)
class ExclusionList:
    """A list, without whom it names.

    Attributes:
      columns: what it is about; see the module.
      source: the file or query, "" for digests.
      read: the source's columns that make an identifier; none for its only column.
      rules: of digests, the rules by which they are spelt.
      count: of digests, how many persons.
    """

    name: str
    columns: tuple[str, ...]
    source: str
    read: tuple[str, ...]
    made: str
    rules: tuple[str, ...] = ()
    count: int | None = None

    def is_about(self, table: str, column: str) -> bool:
        """Return whether it is about a column of a table."""
        return not {EVERY, column, f"{table}.{column}"}.isdisjoint(self.columns)


def lists(connection: sqlite3.Connection) -> list[ExclusionList]:
    """Return the lists of a home's database, in the order of their names."""
    create(connection)
    found = []
    for name, columns, source, read, made in connection.execute(
        "SELECT name, columns, source, read, made FROM consent_lists ORDER BY name"
    ).fetchall():
        asked = connection.execute(
            "SELECT rule, count(*) FROM consent_rules WHERE list = ? GROUP BY rule ORDER BY rule", (name,)
        ).fetchall()
        count = max((n for _, n in asked), default=0)
        # A rule of which only some persons were spelt would let the others enter.
        rules = tuple(rule for rule, n in asked if n == count)
        about = (tuple(json.loads(columns)), source, tuple(json.loads(read)), made)
        found.append(ExclusionList(name, *about, rules, None if source else count))
    return found


def add_identifiers(
    connection: sqlite3.Connection,
    name: str,
    columns: Sequence[str],
    texts: Sequence[str],
    rules: Sequence[str] = (),
) -> int:
    """Put persons on a list of digests, made where there is none; return how many were not on it.

    Args:
      texts: identifiers, as tables of jobs spell them.
      rules: by which a job may spell them, besides exact, folded, iban and digits.

    Raises:
      UsageError: a text that is no identifier by any rule, a list of another kind, or no list of these columns.
    """
    known = _begin(connection, name, columns, source="", read=())
    key, before = key_for(connection, _LABEL), known.count or 0
    asked = list(dict.fromkeys([*_RULES, *known.rules, *rules]))
    for place, by_rule in enumerate(_spelt(texts, asked)):
        if not by_rule:
            raise UsageError(f"the identifier at place {place + 1} is none by any rule; nothing was added")
        person = _person(key, by_rule)
        for rule in asked:
            if rule in by_rule:
                entry = (name, rule, _digest(key, rule, by_rule[rule]), person)
                connection.execute("INSERT OR IGNORE INTO consent_digests VALUES (?, ?, ?, ?)", entry)
            connection.execute("INSERT OR IGNORE INTO consent_rules VALUES (?, ?, ?)", (name, person, rule))
    (after,) = connection.execute(
        "SELECT count(DISTINCT person) FROM consent_rules WHERE list = ?", (name,)
    ).fetchone()
    return int(after) - before


def add_source(
    connection: sqlite3.Connection,
    name: str,
    columns: Sequence[str],
    source: str,
    read: Sequence[str] = (),
    *,
    tables: Path | None = None,
) -> int:
    """Make a list of a file, a query or a table, and return how many different identifiers it has now.

    Args:
      source: a path, a SELECT after `duckdb:`, or after `source:` a table of the owner's source file.
      tables: the owner's source file.
      read: its columns that make an identifier; by default its only one.

    Raises:
      UsageError: it cannot be read, or there is a list of this name.
    """
    if any(known.name == name for known in lists(connection)):
        raise UsageError(f"there is a list {name!r:.80}; take another name, or drop it first")
    if not source.startswith(("duckdb:", PREFIX)):
        source = str(Path(source).absolute())  # a run may be started elsewhere
    found = _read(source, tuple(read), Rule("exact"), Conventions(), name, tables)
    _begin(connection, name, columns, source=source, read=read)
    return len(found)


def drop(connection: sqlite3.Connection, name: str, texts: Sequence[str] = ()) -> int:
    """Take persons off a list of digests, or the whole list; return how many persons, or 0 for a source.

    Raises:
      UsageError: there is no such list, or a person is not on it.
    """
    known = next((one for one in lists(connection) if one.name == name), None)
    if known is None:
        raise UsageError(f"there is no list {name!r:.80}; see `secagg consent list`")
    if texts and known.source:
        raise UsageError(f"the list {name} is {known.source}; take the person out there")
    if not texts:
        for table in ("consent_digests", "consent_rules"):
            connection.execute(f"DELETE FROM {table} WHERE list = ?", (name,))  # noqa: S608  # our own names
        connection.execute("DELETE FROM consent_lists WHERE name = ?", (name,))
        return known.count or 0
    key = key_for(connection, _LABEL)
    for place, by_rule in enumerate(_spelt(texts, _RULES)):
        person = (name, _person(key, by_rule))
        connection.execute("DELETE FROM consent_digests WHERE list = ? AND person = ?", person)
        gone = connection.execute("DELETE FROM consent_rules WHERE list = ? AND person = ?", person).rowcount
        if not gone:
            raise UsageError(
                f"the identifier at place {place + 1} is not on the list {name} in this spelling; nothing was taken off"
            )
    return len(texts)


class Exclusions:
    """The lists of a home, as one run needs them.

    Args:
      tables: the owner's source file, which says where lists of its databases are.
    """

    def __init__(self, connection: sqlite3.Connection, tables: Path | None = None) -> None:
        self._tables = tables
        self._lists = lists(connection)
        self._key = key_for(connection, _LABEL)
        self._rules = {one.name: frozenset(one.rules) for one in self._lists}
        self._digests: dict[str, dict[str, set[bytes]]] = {}
        for name, rule, digest in connection.execute("SELECT list, rule, digest FROM consent_digests"):
            self._digests.setdefault(name, {}).setdefault(rule, set()).add(digest)

    def check_columns(self, inputs: Mapping[str, Schema]) -> None:
        """Refuse lists that could only mean a column by a name that it does not have.

        Raises:
          DataError: a list is about a table of the job and about none of its identifiers.
        """
        for one in self._lists:
            for named in one.columns:
                table, dot, column = named.partition(".")
                if dot and table in inputs and column not in inputs[table].identifiers:
                    raise DataError(
                        f"the exclusion list {one.name} is about {named}, and {table} has the identifiers "
                        f"{', '.join(inputs[table].identifiers) or 'none'}; correct the list"
                    )

    def idle(self, inputs: Mapping[str, Schema]) -> list[str]:
        """Return the lists that are about no column of a job, and so leave nobody out of it."""
        columns = [(table, name) for table, schema in inputs.items() for name in schema.identifiers]
        return [
            f"{one.name} ({', '.join(one.columns)})"
            for one in self._lists
            if not any(one.is_about(table, name) for table, name in columns)
        ]

    def kept(
        self, tables: Tables, inputs: Mapping[str, Schema], data: Conventions
    ) -> dict[str, NDArray[np.bool_]]:
        """Return which rows of each table stay.

        Raises:
          DataError: a list cannot be read, or does not know a rule of the job.
        """
        self.check_columns(inputs)
        kept = {}
        for table, columns in tables.items():
            keep = np.ones(len(next(iter(columns.values()))), bool)
            for column in inputs[table].identifiers:
                about = [one for one in self._lists if one.is_about(table, column)]
                if about:
                    values, rule = factorize(columns[column]), data.rule(column)
                    texts = values.categories.tolist()
                    out = np.zeros(len(texts) + 1, bool)  # the last place is that of a missing identifier, -1
                    for one in about:
                        out[:-1] |= self._on(one, texts, rule, data)
                    keep &= ~out[values.codes]
            kept[table] = keep
        return kept

    def _on(
        self, one: ExclusionList, texts: Sequence[str], rule: Rule, data: Conventions
    ) -> NDArray[np.bool_]:
        if one.source:
            named = _read(one.source, one.read, rule, data, one.name, self._tables)
            found: Iterable[bool] = map(named.__contains__, texts)
        else:
            if one.count and rule.name not in self._rules[one.name]:
                raise DataError(
                    f"the exclusion list {one.name} holds persons spelt by {', '.join(sorted(self._rules[one.name]))}, and "
                    f"the job spells them by {rule.name}; name them again with `secagg consent remove --rule {rule.name}`"
                )
            known = self._digests.get(one.name, {}).get(rule.name, set())
            found = (_digest(self._key, rule.name, text) in known for text in texts)
        return np.fromiter(found, bool, len(texts))


def _spelt(texts: Sequence[str], rules: Sequence[str]) -> list[dict[str, str]]:
    """Return how each rule spells each text, without those that refuse it."""
    spelt: list[dict[str, str]] = [{} for _ in texts]
    for rule in dict.fromkeys(rules):
        canonical, refused = Rule(rule, tuple(texts)).spell(list(texts))
        for place, text in enumerate(canonical):
            if place not in refused:
                spelt[place][rule] = text
    return spelt


def _person(key: bytes, by_rule: Mapping[str, str]) -> bytes:
    """Return what tells a person on a list from others: the first of our own rules that takes the text."""
    rule = next((rule for rule in _RULES if rule in by_rule), min(by_rule, default=""))
    return _digest(key, f"person {rule}", by_rule.get(rule, ""))


def _begin(
    connection: sqlite3.Connection, name: str, columns: Sequence[str], *, source: str, read: Sequence[str]
) -> ExclusionList:
    """Return the list of this name, made where there is none."""
    if not name.isprintable() or not 0 < len(name) <= 64:
        raise UsageError(f"expected a name of 1 to 64 printable characters for a list, got {name!r:.80}")
    known = next((one for one in lists(connection) if one.name == name), None)
    if known is None:
        if not columns:
            raise UsageError(
                f'expected the columns that the list {name} is about; "{EVERY}" for all identifiers'
            )
        made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        row = (name, json.dumps(list(columns)), source, json.dumps(list(read)), made)
        connection.execute("INSERT INTO consent_lists VALUES (?, ?, ?, ?, ?)", row)
        return ExclusionList(name, tuple(columns), source, tuple(read), made, (), 0)
    if known.source:
        raise UsageError(f"the list {name} is {known.source}; add the person there, or take another list")
    if columns and set(columns) != set(known.columns):
        raise UsageError(
            f"the list {name} is about {', '.join(known.columns)}, not {', '.join(columns)}; take another list"
        )
    return known


def _read(
    source: str, read: tuple[str, ...], rule: Rule, data: Conventions, name: str, tables: Path | None
) -> frozenset[str]:
    """Return the identifiers of a source, spelt by a rule."""
    conventions = Conventions(
        identifiers={"person": rule.name},
        real_identifiers=data.real_identifiers,
        time_zone=data.time_zone,
    )
    try:
        places, dialect = _places(source, tables)
        columns = read or _only_column(places, dialect)
        table = read_table(
            places,
            _PERSON,
            mapping={"person": columns},
            conventions=conventions,
            dialect=dialect,
            allow_empty=True,
        )
    except BadRowsError as error:
        first, *lines = str(error).split("\n")
        rows = [line for line in lines if line.startswith("  ")]  # what follows is advice on a job's tables
        raise DataError(
            f"the exclusion list {name} cannot be read, so nobody's rows enter: {first}",
            *rows,
            "whom such a row means is not known: mend it, or leave it out by a query, such as WHERE bsn IS NOT NULL",
        ) from None
    except UsageError as error:
        first, *lines = str(error).split("\n")
        raise DataError(
            f"the exclusion list {name} cannot be read, so nobody's rows enter: {first}", *lines
        ) from None
    return frozenset(table["person"].categories.tolist())


def _places(source: str, tables: Path | None) -> tuple[list[Place], Dialect]:
    """Return where a source is, and how its texts are written."""
    if not source.startswith(PREFIX):
        return [source], Dialect()
    if tables is None or not tables.exists():
        raise UsageError(f"expected the table {source} in {tables or SOURCES}, and there is no such file")
    entry = SourceFile.read(tables).named(source.removeprefix(PREFIX))
    return list(entry.sources), entry.dialect


def _only_column(places: Sequence[Place], dialect: Dialect) -> tuple[str, ...]:
    opened = open_source(find_sources(places)[0], dialect)
    try:
        columns = tuple(opened.columns)
    finally:
        opened.close()
    if len(columns) != 1:
        raise DataError(f"the list has the columns {', '.join(columns)}; say which name persons, with --from")
    return columns


def _digest(key: bytes, rule: str, text: str) -> bytes:
    return hmac.digest(key, rule.encode() + b"\0" + text.encode(errors="surrogatepass"), _DIGEST)
