"""A SQL database, read through SQLAlchemy in one read-only transaction that sees one state of it.

SQLAlchemy and a driver come with `pip install 'secagg[sql]'`. Nothing of them is imported before a database is named.

Rows come in batches through the driver's server-side cursor, so that a table of any size costs the memory of one batch.
What a driver or SQLAlchemy raises quotes addresses, statements and values. None of it leaves here, not even as the
context of another error: `database_faults` says in other words what it means.

Tested with PostgreSQL and SQLite. What other databases are told about transactions is what their manuals say.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from secagg.data.credentials import Secret
from secagg.data.database_faults import describe
from secagg.errors import DataError, UsageError

__all__ = ["BATCH_ROWS", "Database", "Rows", "Selection", "Snapshots"]

T = TypeVar("T")

BATCH_ROWS: Final = 10_000
_CONNECT_S: Final = 15
# The isolation level in which all statements of a transaction see one state.
_ISOLATION: Final = {
    "postgresql": "REPEATABLE READ",
    "mysql": "REPEATABLE READ",
    "mariadb": "REPEATABLE READ",
    "mssql": "SNAPSHOT",
    "oracle": "SERIALIZABLE",
    "sqlite": "AUTOCOMMIT",  # the driver begins no transaction of its own, so that the BEGIN below holds
}
# What a transaction is told before it reads.
_FIRST: Final = {
    "mysql": ("SET SESSION TRANSACTION READ ONLY",),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY",),
    "sqlite": ("PRAGMA query_only = ON", "BEGIN"),
}
# libpq goes on without TLS where a server offers none, unless it is told otherwise; on this machine nobody listens in.
# A connection that is dead is noticed within about two minutes.
_LIBPQ: Final = {
    "connect_timeout": _CONNECT_S,
    "client_encoding": "utf8",
    "application_name": "secagg",
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 15,
    "keepalives_count": 4,
    "tcp_user_timeout": 120_000,
}
_SECRET_OPTIONS: Final = ("pass", "pwd", "secret", "token", "credential")


@dataclass(frozen=True, slots=True)
class Database:
    """A database as an owner's source file has it; its `repr` shows no address.

    Attributes:
      name: what the source file calls it.
      url: SQLAlchemy's URL without a password, or the place of one.
      password: where the password is.
      folder: where relative paths of secrets start.
    """

    name: str
    url: str | Secret = field(repr=False)
    password: Secret | None = field(repr=False, default=None)
    folder: Path = field(repr=False, default=Path())

    def connect(self) -> Any:
        """Return a SQLAlchemy connection inside a read-only transaction that sees one state.

        Raises:
          UsageError: SQLAlchemy, the driver or the password is missing, or the URL cannot be used.
          DataError: the database does not let this party in.
        """
        sqlalchemy = _sqlalchemy()
        url = self._url(sqlalchemy)
        kind = url.get_backend_name()
        if kind not in _ISOLATION:
            raise UsageError(
                f"database {self.name}: expected one of {', '.join(_ISOLATION)}, whose transactions are known to read "
                f"one state, got {kind!r:.40}; export the table, or put it where one of these reads it"
            )
        options: dict[str, Any] = {"poolclass": sqlalchemy.NullPool, "hide_parameters": True}
        if kind == "postgresql" and url.get_driver_name() in ("psycopg", "psycopg2"):
            own = _LIBPQ if _is_here(url.host) else {**_LIBPQ, "sslmode": "require"}
            options["connect_args"] = {k: v for k, v in own.items() if k not in url.query}
        engine = self.asked(lambda: sqlalchemy.create_engine(url, **options))
        read_only = {"postgresql_readonly": True} if kind == "postgresql" else {}

        def connected() -> Any:
            connection = engine.connect()
            try:
                connection = connection.execution_options(
                    isolation_level=_ISOLATION[kind], no_parameters=True, **read_only
                )
                for statement in _FIRST.get(kind, ()):
                    connection.exec_driver_sql(statement)
            except BaseException:
                connection.close()
                raise
            return connection

        return self.asked(connected)

    def asked(self, what: Callable[[], T], doing: str = "") -> T:
        """Return what a call gives that talks to the database, and let nothing of its errors through.

        Args:
          doing: what was being done, for the error.

        Raises:
          DataError: the database refuses, or is gone.
          UsageError: the driver is not installed.
        """
        try:
            return what()
        except ModuleNotFoundError as error:
            failure: UsageError = UsageError(
                f"database {self.name}: its driver {error.name or ''} is not installed; install it with pip, or name "
                "another one in the url"
            )
        except UnicodeError:
            failure = DataError(
                f"database {self.name}: a text is not in the encoding that the database declares; mend it, or cast it "
                "in a query"
            )
        except Exception as error:  # noqa: BLE001  # drivers have trees of their own, whose texts must not get out
            failure = DataError(f"database {self.name}{doing}: {describe(error)}")
        # Outside the handler: an error's context would hold what must not be shown.
        raise failure

    def _url(self, sqlalchemy: Any) -> Any:
        given = self.url
        written = given if isinstance(given, str) else given.read(self.folder, what=f"url of {self.name}")
        url = None
        with contextlib.suppress(sqlalchemy.exc.ArgumentError, ValueError):
            url = sqlalchemy.make_url(written)
        if url is None:
            raise UsageError(
                f"database {self.name}: expected a url such as postgresql://USER@HOST:5432/DATABASE"
            )
        if isinstance(given, str):
            secret = [key for key in url.query if any(mark in key.lower() for mark in _SECRET_OPTIONS)]
            if url.password is not None or secret:
                raise UsageError(
                    f"database {self.name}: its url holds a password, and a source file holds none; take it out, change "
                    'it, and write password = {env = "NAME"} or {keyring = "SERVICE", user = "USER"}'
                )
        if self.password is not None:
            url = url.set(password=self.password.read(self.folder, what=f"password of database {self.name}"))
        if url.drivername == "postgresql":  # SQLAlchemy before 2.1 takes another driver than the extra brings
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            raise DataError(
                f"database {self.name}: there is no such SQLite file; SQLite would make an empty one"
            )
        return url


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read of a database: a table by its name, or the owner's own query."""

    table: str = ""
    query: str = field(repr=False, default="")

    def statement(self, columns: Sequence[str] | None, limit: int | None) -> Any:
        """Return what to execute for a table.

        Args:
          columns: those that are read; None for all.
          limit: at most so many rows; None for all.
        """
        sqlalchemy = _sqlalchemy()
        *schema, name = self.table.split(".")
        table = sqlalchemy.table(name, schema=".".join(schema) or None)
        named = [sqlalchemy.column(column) for column in columns or ()]
        selected = (
            sqlalchemy.select(*named) if columns is not None else sqlalchemy.select(sqlalchemy.text("*"))
        )
        selected = selected.select_from(table)
        return selected if limit is None else selected.limit(limit)


class Rows:
    """The result of a selection: the names of its columns, then batches of rows.

    Attributes:
      names: the columns', in order.
    """

    def __init__(self, database: Database, result: Any) -> None:
        self._database, self._result = database, result
        self.names = [str(name) for name in result.keys()]  # noqa: SIM118  # no dictionary's
        self._read = 0

    def batches(self) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield the rows; errors as `Database.asked`."""
        while True:
            doing = f" after {self._read} rows"
            batch = self._database.asked(lambda: self._result.fetchmany(BATCH_ROWS), doing)
            if not batch:
                return
            self._read += len(batch)
            yield batch

    def close(self) -> None:
        """Close the cursor; what is gone need not be closed."""
        with contextlib.suppress(DataError):
            self._database.asked(self._result.close)


class Snapshots:
    """Connections to databases, one to each, whose transactions last until the end of the body.

    All tables that are read inside see one state of their database.
    """

    def __init__(self) -> None:
        self._connections: dict[str, tuple[Database, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for database, connection in self._connections.values():
            # Nothing was written, and nothing is lost where the connection is gone.
            with contextlib.suppress(DataError):
                database.asked(connection.close)
        self._connections.clear()

    def select(
        self,
        database: Database,
        selection: Selection,
        columns: Sequence[str] | None = None,
        *,
        limit: int | None = None,
    ) -> Rows:
        """Return the rows of a table or a query, in batches; arguments as `Selection.statement`.

        Raises:
          UsageError, DataError: as `Database.connect`, or the database refuses.
        """
        if database.name not in self._connections:
            self._connections[database.name] = (database, database.connect())
        connection = self._connections[database.name][1]

        def executed() -> Any:
            streaming = connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS)
            if selection.query:
                # As it stands: SQLAlchemy would take :name for a parameter.
                return streaming.exec_driver_sql(selection.query)
            return streaming.execute(selection.statement(columns, limit))

        result = database.asked(executed)
        if not result.returns_rows:
            raise DataError(f"database {database.name}: expected a SELECT, which gives rows")
        return Rows(database, result)


def _is_here(host: str | None) -> bool:
    """Return whether a host is this machine: a socket's folder, or an address of the loopback."""
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _sqlalchemy() -> Any:
    try:
        module = importlib.import_module("sqlalchemy")
    except ModuleNotFoundError:
        raise UsageError(
            "databases are read through SQLAlchemy, which is not installed; run: pip install 'secagg[sql]'"
        ) from None
    return module
