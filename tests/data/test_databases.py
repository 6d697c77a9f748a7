"""Tables are read from a real PostgreSQL, SQLite and DuckDB files as from files, and no error tells what it must not.

The module is long because one PostgreSQL server is started for all of it.
"""

from __future__ import annotations

import contextlib
import decimal
import json
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from bank_tables import read_transfers
from postgres_server import Postgres, postgres
from secagg.data.credentials import Secret
from secagg.data.database_tables import SqlTable
from secagg.data.databases import Database, Snapshots
from secagg.data.dialect import Dialect
from secagg.data.source_files import SourceFile
from secagg.data.tables import read_table
from secagg.errors import BadRowsError, DataError, UsageError
from secagg.jobs.inputs import InputTables
from secagg.jobs.job_file import load_job
from secagg.query.schema import Boolean, Category, Date, Identifier, Integer, Real, Schema, Timestamp

__all__ = ["postgres"]  # a fixture

JOB = """\
name = "test"
pattern = "collectors"
approval = "off"
pad_rows_to = 10
[parameters]
min_senders = 3
min_banks = 2
max_senders_per_bank = 5
[window]
start = 2026-09-01
end = 2026-10-01
[roles]
input = ["north", "south"]
computing = ["north", "south", "west"]
""" + "".join(
    f'[[parties]]\nname = "{name}"\naddress = "{name}:1"\ncertificate = "{name}.crt"\n'
    for name in ("north", "south", "west")
)
TRANSFERS = "id bigint PRIMARY KEY, beneficiary text, sender text, amount numeric, time timestamptz"
PASSWORD = Postgres.password


@pytest.fixture
def bank(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """A server with an empty table of transfers, and its password where a source file finds it."""
    monkeypatch.setenv("BANK_PASSWORD", PASSWORD)
    postgres.execute(
        "DROP SCHEMA IF EXISTS ledger CASCADE", "CREATE SCHEMA ledger", f"CREATE TABLE ledger.t ({TRANSFERS})"
    )
    return postgres


def declared(folder: Path, url: str, table: str, *, database: str = "") -> Any:
    """Return the one table of a source file."""
    path = folder / "sources.toml"
    secret = 'password = {env = "BANK_PASSWORD"}' if url.startswith("postgresql") else ""
    path.write_text(
        f'[databases.core]\nurl = "{url}"\n{database or secret}\n[tables.transfers]\ndatabase = "core"\n{table}\n'
    )
    return SourceFile.read(path).named("transfers").sources[0]


def whole_text(error: BaseException) -> str:
    """Return everything that an error and those it hangs on could show anybody."""
    seen: list[str] = []
    while error is not None:
        seen += [repr(error), str(error), *getattr(error, "__notes__", ())]
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return "\n".join(seen)


@pytest.mark.slow
def test_a_table_of_postgresql_reads_as_the_same_table_in_a_file(bank: Postgres, tmp_path: Path) -> None:
    bank.execute(
        "INSERT INTO ledger.t SELECT i, 'DE' || i % 3, 'S' || i, (i * 1.25)::numeric(18,3), "
        "timestamptz '2026-09-01 00:00:00+02' + i * interval '1 hour' FROM generate_series(1, 50) i"
    )
    rows = "".join(
        f"DE{i % 3},S{i},{decimal.Decimal('1.25') * i},{1788213600 + 3600 * i}\n" for i in range(1, 51)
    )
    (tmp_path / "t.csv").write_text(f"beneficiary,sender,amount,time\n{rows}")
    expected = read_transfers(tmp_path / "t.csv", dialect=Dialect(date_format="epoch-s"))
    for table in (
        'table = "ledger.t"',
        "query = \"SELECT * FROM ledger.t WHERE beneficiary LIKE '%E%' ORDER BY id -- all\"",
    ):
        found = read_transfers(declared(tmp_path, bank.url(), table))
        assert found["beneficiary"].categories.tolist() == expected["beneficiary"].categories.tolist()
        for name in ("amount", "time"):
            assert np.array_equal(found[name], expected[name])
        assert (found.report.rows_read, found.report.zoned) == (50, 50)


@pytest.mark.slow
def test_types_of_postgresql_become_those_of_the_schema(bank: Postgres, tmp_path: Path) -> None:
    bank.execute(
        "CREATE TYPE ledger.kind AS ENUM ('cash', 'card')",
        "CREATE TABLE ledger.types (who char(8), kind ledger.kind, n int, x double precision, day date, at timestamp, "
        "ok boolean, u uuid, odd jsonb, since timestamptz)",
        "ALTER ROLE owner SET timezone = 'Africa/Monrovia'",  # 44 minutes and 30 seconds behind UTC, in 1971
        "INSERT INTO ledger.types VALUES ('A1', 'card', 7, 0.1, '2026-01-31', '2026-03-29 01:30', true, "
        "'7f2a4a9e-0000-4000-8000-000000000001', '{}', '1971-06-01 00:00+00'), "
        "('B2', 'cash', NULL, -2.5, '2026-02-01', '2026-07-01 12:00:00.25', false, "
        "'7f2a4a9e-0000-4000-8000-000000000002', '{}', '2026-06-01 00:00+00')",
    )
    schema = Schema(
        who=Identifier(),
        u=Identifier(),
        kind=Category(("card", "cash")),
        n=Integer(0, 9, nullable=True),
        x=Real(decimal.Decimal(-5), decimal.Decimal(5), 1),
        day=Date(),
        at=Timestamp("Europe/Berlin", 2),
        ok=Boolean(),
        since=Timestamp("UTC", 0),
    )
    table = read_table(declared(tmp_path, bank.url(), 'table = "ledger.types"'), schema)
    assert table["who"].categories.tolist() == ["A1", "B2"]
    assert table["u"].categories.tolist()[0] == "7f2a4a9e-0000-4000-8000-000000000001"
    assert table["kind"].tolist() == [0, 1]
    assert table["n"].tolist() == [7, None]
    assert table["x"].tolist() == [1, -25]
    assert table["day"].tolist() == [20484, 20485]
    assert table["at"].tolist() == [177474420000, 178290000025]  # 00:30 and 10:00:00.25 UTC
    assert table["ok"].tolist() == [True, False]
    assert table["since"].tolist() == [44582400, 1780272000]
    bank.execute("ALTER ROLE owner RESET timezone")


def test_bad_rows_are_named_by_primary_key_and_show_no_other_value(bank: Postgres, tmp_path: Path) -> None:
    bank.execute(
        "INSERT INTO ledger.t SELECT 1000 + i, 'SECRET-B', 'SECRET-S', 5, now() FROM generate_series(1, 100) i",
        "UPDATE ledger.t SET amount = NULL WHERE id = 1002",
        "UPDATE ledger.t SET amount = 987.6543 WHERE id = 1003",
        "UPDATE ledger.t SET amount = 'NaN' WHERE id = 1004",
        "UPDATE ledger.t SET beneficiary = NULL WHERE id > 1050",
    )
    table = declared(tmp_path, bank.url(), 'table = "ledger.t"\nprimary_key = "id"')
    with pytest.raises(BadRowsError) as refused:
        read_transfers(table)
    text = str(refused.value)
    assert "transfers: 53 of 100 rows cannot be used" in text
    assert "transfers: id 1002: amount is missing" in text
    assert "transfers: id 1003: amount has digits below 0.01" in text
    assert "transfers: id 1004: amount is not a number" in text
    assert text.count(": id ") == 6  # of each kind at most three
    assert not any(value in text for value in ("SECRET", "987", "NaN"))
    assert "id 1002" not in refused.value.for_record()
    assert "amount is missing" in refused.value.for_record()


@pytest.mark.slow
def test_a_column_of_a_type_that_no_field_takes_is_named(bank: Postgres, tmp_path: Path) -> None:
    bank.execute(
        "ALTER TABLE ledger.t ALTER amount TYPE jsonb USING to_jsonb(amount)",
        """INSERT INTO ledger.t VALUES (1, 'b', 's', '{"secret": 4711}', now())""",
    )
    with pytest.raises(DataError, match=r"column 'amount' holds values of the type dict; cast it") as refused:
        read_transfers(declared(tmp_path, bank.url(), 'table = "ledger.t"'))
    assert "4711" not in whole_text(refused.value)


@pytest.mark.slow
def test_texts_come_out_of_a_database_in_latin_1_and_broken_ones_are_refused(
    bank: Postgres, tmp_path: Path
) -> None:
    for name, encoding in (("latin", "LATIN1"), ("raw", "SQL_ASCII")):
        bank.execute(f"DROP DATABASE IF EXISTS {name}")
        bank.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    with contextlib.closing(bank.connect("latin")) as connection:
        connection.execute(f"CREATE TABLE t ({TRANSFERS})")
        connection.execute("INSERT INTO t VALUES (1, 'Müller', 'Ångström', 5, now())")
    found = read_transfers(declared(tmp_path, bank.url("latin"), 'table = "t"'))
    assert found["beneficiary"].categories.tolist() == ["Müller"]
    with contextlib.closing(bank.connect("raw")) as connection:
        connection.execute(f"CREATE TABLE t ({TRANSFERS})")
        connection.execute("INSERT INTO t VALUES (1, E'M\\xfcller', 'x', 5, now())")
    with pytest.raises(DataError, match=r"database core.*") as refused:
        read_transfers(declared(tmp_path, bank.url("raw"), 'table = "t"'))
    assert "ller" not in whole_text(refused.value)


@pytest.mark.parametrize(
    ("url", "secret", "table", "message"),
    [
        (
            "postgresql://owner@127.0.0.1:{port}/postgres",
            "wrong-secret",
            "ledger.t",
            r"the password is wrong",
        ),
        ("postgresql://owner@127.0.0.1:{port}/nowhere", PASSWORD, "ledger.t", r"no such database"),
        ("postgresql://owner@127.0.0.1:{port}/postgres", PASSWORD, "ledger.hidden", r"no such table"),
        (
            "postgresql://owner@127.0.0.1:1/postgres",
            PASSWORD,
            "ledger.t",
            r"nothing listens at its host and port",
        ),
    ],
)
def test_a_database_that_does_not_give_the_table_tells_why_and_no_secret(
    bank: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    secret: str,
    table: str,
    message: str,
) -> None:
    monkeypatch.setenv("BANK_PASSWORD", secret)
    with pytest.raises(DataError, match=message) as refused:
        read_transfers(declared(tmp_path, url.format(port=bank.port), f'table = "{table}"'))
    text = whole_text(refused.value)
    assert not any(part in text for part in (secret, "127.0.0.1", "owner@", "SELECT", "hidden"))


def test_a_missing_password_is_told_by_the_place_where_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BANK_PASSWORD", raising=False)
    pytest.importorskip("sqlalchemy")
    with pytest.raises(UsageError, match="environment variable BANK_PASSWORD is not set"):
        read_transfers(declared(tmp_path, "postgresql://owner@127.0.0.1/x", 'table = "t"'))


@pytest.mark.parametrize("part", ["owner:hunter2@db.example/x", "owner@db.example/x?password=hunter2"])
def test_a_password_in_a_source_file_is_refused_and_not_shown(tmp_path: Path, part: str) -> None:
    pytest.importorskip("sqlalchemy")
    table = declared(tmp_path, f"postgresql://{part}", 'table = "t"')
    assert "hunter2" not in repr(table)
    with pytest.raises(UsageError, match="its url holds a password, and a source file holds none") as refused:
        read_transfers(table)
    assert "hunter2" not in whole_text(refused.value)


@pytest.mark.slow
def test_a_database_that_goes_away_while_it_is_read_is_told_so(
    postgres: Postgres, bank: Postgres, tmp_path: Path
) -> None:
    bank.execute("INSERT INTO ledger.t SELECT i, 'b', 's', 4711, now() FROM generate_series(1, 50000) i")
    table = declared(tmp_path, bank.url(), 'table = "ledger.t"')
    with Snapshots() as snapshots:
        rows = snapshots.select(table.database, table.selection)
        batches = rows.batches()
        assert len(next(batches)) == 10_000
        postgres.stop()
        try:
            with pytest.raises(DataError, match=r"database core after \d+ rows: .*") as refused:
                list(batches)
        finally:
            rows.close()
            postgres.start()
    assert not any(part in whole_text(refused.value) for part in (PASSWORD, "127.0.0.1", "4711"))


@pytest.mark.slow
def test_all_tables_of_a_run_are_read_in_one_state_of_the_database(bank: Postgres, tmp_path: Path) -> None:
    bank.execute("INSERT INTO ledger.t VALUES (1, 'b', 's', 1, now())")
    table = declared(tmp_path, bank.url(), 'table = "ledger.t"')
    with Snapshots() as snapshots:
        within = table.within(snapshots)
        before = read_transfers(within)
        bank.execute("UPDATE ledger.t SET amount = 2", "INSERT INTO ledger.t VALUES (2, 'b', 's', 1, now())")
        assert read_transfers(within)["amount"].tolist() == before["amount"].tolist() == [100]
    assert sorted(read_transfers(table)["amount"].tolist()) == [100, 200]


def test_a_query_that_writes_is_refused_by_the_database(bank: Postgres, tmp_path: Path) -> None:
    bank.execute(
        "INSERT INTO ledger.t VALUES (1, 'b', 's', 1, now())",
        "CREATE FUNCTION ledger.wipe() RETURNS SETOF ledger.t LANGUAGE sql AS 'DELETE FROM ledger.t RETURNING *'",
    )
    with pytest.raises(DataError, match="read-only transaction"):
        read_transfers(declared(tmp_path, bank.url(), 'query = "SELECT * FROM ledger.wipe()"'))
    assert len(read_transfers(declared(tmp_path, bank.url(), 'table = "ledger.t"'))) == 1


@pytest.mark.slow
def test_a_table_of_sqlite_has_the_types_of_its_values(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    path = tmp_path / "bank.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (id, beneficiary, sender, amount, time)")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?)",
            [(1, 12, "a", 103.5, "2026-09-01"), (2, 13, "b", 7, "2026-09-02")]
            # NULL for longer than whoever guesses types would look, then text.
            + [(3 + i, None, "c", 1, "2026-09-03") for i in range(20_000)]
            + [(99_999, "DE12", "d", 1, "2026-09-04")],
        )
        connection.commit()
    table = declared(tmp_path, f"sqlite:///{path}", 'table = "t"\nprimary_key = ["id"]')
    with pytest.raises(BadRowsError, match="transfers: id 3: beneficiary is missing"):
        read_transfers(table)
    found = read_transfers(table, bad_rows="skip")
    assert found["beneficiary"].categories.tolist() == ["12", "13", "DE12"]
    assert found["amount"].tolist() == [10350, 700, 100]
    with pytest.raises(DataError, match="no such SQLite file"):
        read_transfers(declared(tmp_path, f"sqlite:///{tmp_path}/none", 'table = "t"'))
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_table_of_a_duckdb_file_is_read_without_changing_it(tmp_path: Path) -> None:
    path = tmp_path / "lake.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT i AS id, repeat('k', 100) AS long, "
            "'b' || i AS beneficiary, 's' AS sender, i::DECIMAL(9,2) AS amount, "
            "TIMESTAMPTZ '2026-09-01 00:00+00' AS time FROM range(1, 4) r(i)"
        )
        connection.execute("UPDATE t SET amount = NULL WHERE id = 2")
        (tmp_path / "other.csv").write_text("a\n1\n")
        connection.execute(f"CREATE VIEW elsewhere AS SELECT * FROM read_csv('{tmp_path}/other.csv')")
    before = path.read_bytes()

    def table(text: str) -> Any:
        (tmp_path / "sources.toml").write_text(
            f'[databases.lake]\nduckdb = "lake.duckdb"\n[tables.transfers]\ndatabase = "lake"\n{text}\n'
        )
        return SourceFile.read(tmp_path / "sources.toml").named("transfers").sources[0]

    for what in ('table = "t"', 'query = "SELECT * FROM t; -- all"', 'table = "main.t"'):
        with pytest.raises(BadRowsError, match=r"transfers: id 2, long k{50,60}\.*: amount is missing"):
            read_transfers(table(f'{what}\nprimary_key = ["id", "long"]'))
        assert read_transfers(table(what), bad_rows="skip")["amount"].tolist() == [100, 300]
    for what, fault in (
        ('table = "missing"', "no such table"),
        ('table = "elsewhere"', "reads other files"),
        ('query = "DROP TABLE t"', "one SELECT is expected"),
        ('table = "t"\nprimary_key = "key"', "no column 'key', which the source file names"),
    ):
        with pytest.raises(DataError, match=fault):
            read_transfers(table(what))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            '[tables.t]\ndatabase = "core"\ntable = "t"',
            r"sources.toml:2: tables.t.database: expected one of the databases",
        ),
        ('[tables.t]\ntable = "t"', "expected either database or files"),
        ('[tables.t]\nfiles = "a.csv"\nprimary_key = "id"', "expected primary_key beside database alone"),
        (
            '[databases.core]\nurl = "x"\npassword = "hunter2"',
            r"sources.toml:3: databases.core.password: expected",
        ),
        (
            '[databases.core]\nurl = "x"\npassword = {env = "A", file = "b"}',
            "expected one of env, file and keyring",
        ),
        ('[databases.core]\nurl = "x"\nuser = "u"', "there is no such field"),
    ],
)
def test_a_source_file_that_is_wrong_is_refused_by_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "sources.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=fault) as refused:
        SourceFile.read(path)
    assert "hunter2" not in whole_text(refused.value)


def test_a_password_comes_from_a_file_or_a_keyring_and_its_absence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = pytest.importorskip("keyring")
    file = tmp_path / "secret"
    file.write_text("hunter2\n")
    file.chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Secret(file="$CREDENTIALS_DIRECTORY/secret").read(Path("/"), what="password") == "hunter2"
    assert Secret(file="secret").read(tmp_path, what="password") == "hunter2"
    file.chmod(0o640)
    with pytest.raises(UsageError, match="others on this machine may read password"):
        Secret(file="secret").read(tmp_path, what="password")
    ring = Secret(keyring="core", user="reader")
    monkeypatch.setattr(keyring, "get_password", lambda service, user: f"{service}-{user}")
    assert ring.read(tmp_path, what="password") == "core-reader"
    monkeypatch.setattr(keyring, "get_password", lambda service, user: None)
    with pytest.raises(UsageError, match="store it with: keyring set core reader"):
        ring.read(tmp_path, what="password")

    def locked(service: str, user: str) -> str:
        raise keyring.errors.KeyringLocked("hunter2")

    monkeypatch.setattr(keyring, "get_password", locked)
    with pytest.raises(UsageError, match="KeyringLocked") as refused:
        ring.read(tmp_path, what="password")
    assert "hunter2" not in whole_text(refused.value)
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(UsageError, match=r"pip install 'secagg\[keyring\]'"):
        ring.read(tmp_path, what="password")


def test_a_url_from_the_environment_is_shown_nowhere(
    bank: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = f"postgresql://owner:{PASSWORD}@127.0.0.1:{bank.port}/postgres"
    monkeypatch.setenv("BANK_URL", whole)
    (tmp_path / "sources.toml").write_text(
        '[databases.core]\nurl = {env = "BANK_URL"}\n[tables.t]\ndatabase = "core"\nquery = "SELECT 1 / 0 AS amount"\n'
    )
    (table,) = SourceFile.read(tmp_path / "sources.toml").named("t").sources
    assert isinstance(table, SqlTable)
    for url, fault in (
        (whole, "22012"),
        (whole.replace("4711", "4712"), "the password is wrong"),
        ("::", "expected a url"),
    ):
        monkeypatch.setenv("BANK_URL", url)
        with pytest.raises(UsageError, match=fault) as refused:
            table.open()
        assert not any(part in whole_text(refused.value) for part in ("open-sesame", "127.0.0.1", "1 / 0"))


@pytest.mark.parametrize(("host", "mode"), [("db.example", "require"), ("127.0.0.1", None), ("[::1]", None)])
def test_a_database_on_another_machine_is_asked_for_tls(
    monkeypatch: pytest.MonkeyPatch, host: str, mode: str | None
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    given: dict[str, Any] = {}

    def no_engine(url: Any, **options: Any) -> Any:
        given.update(options["connect_args"])
        raise sqlalchemy.exc.ArgumentError("enough")

    monkeypatch.setattr(sqlalchemy, "create_engine", no_engine)
    with pytest.raises(DataError):
        Database("core", f"postgresql://owner@{host}/x").connect()
    assert given.get("sslmode") == mode
    given.clear()
    with pytest.raises(DataError):
        Database("core", f"postgresql://owner@{host}/x?sslmode=verify-full").connect()
    assert "sslmode" not in given


@pytest.mark.slow
def test_a_job_of_a_query_reads_each_of_its_tables_in_one_state(bank: Postgres, tmp_path: Path) -> None:
    (tmp_path / "query.sql").write_text(
        "SELECT p.kind, count(*) AS n FROM moves m JOIN people p ON m.who = p.id GROUP BY p.kind"
    )
    (tmp_path / "tables.toml").write_text(
        '[tables.moves]\nholders = ["north", "south"]\nmax_rows = 30\n[tables.moves.columns]\n'
        'who = {type = "identifier", spelling = "folded"}\namount = {type = "money", max = 1000}\n'
        '[tables.people]\nholder = "north"\nmax_rows = 30\nkeys = [["id"]]\n[tables.people.columns]\n'
        'id = {type = "identifier", spelling = "folded"}\nkind = {type = "category", values = ["a", "b"]}\n'
    )
    (tmp_path / "job.toml").write_text(
        'name = "q"\nsql = "query.sql"\ntables = "tables.toml"\npad_rows_to = 10\n[roles]'
        + JOB.partition("[roles]")[2]
    )
    bank.execute(
        "CREATE TABLE ledger.people (nr text PRIMARY KEY, kind text)",
        "INSERT INTO ledger.people VALUES ('X1', 'a'), ('x2', 'b')",
        "INSERT INTO ledger.t VALUES (1, 'X1', '', 5, now()), (2, 'X2', '', 6, now())",
    )
    declared(tmp_path, bank.url(), 'table = "ledger.t"')
    with (tmp_path / "sources.toml").open("a") as file:
        file.write('[tables.moves]\ndatabase = "core"\ntable = "ledger.t"\ncolumns = {who = "beneficiary"}\n'
                   '[tables."q.people"]\ndatabase = "core"\ntable = "ledger.people"\nprimary_key = "nr"\n'
                   'columns = {id = "nr"}\n')  # fmt: skip
    job = load_job(tmp_path / "job.toml", with_certificates=False)
    tables = InputTables(job, me="north", source_file=SourceFile.read(tmp_path / "sources.toml"))
    read = tables()
    assert read["people"]["id"].categories.tolist() == ["x1", "x2"]
    assert read["people"]["kind"].tolist() == [0, 1]
    bank.execute("UPDATE ledger.people SET kind = 'SECRET' WHERE nr = 'x2'")
    with pytest.raises(BadRowsError, match="people: nr x2: kind is none of the category's values") as refused:
        tables()
    assert "SECRET" not in str(refused.value)
    bank.execute("ALTER TABLE ledger.people ALTER kind TYPE bytea USING kind::bytea")
    with pytest.raises(DataError, match="column 'kind' holds values of the type bytes"):
        tables()


def test_sqlalchemy_that_is_missing_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(UsageError, match=r"pip install 'secagg\[sql\]'"):
        Database("core", "sqlite:///x").connect()


@pytest.mark.slow
def test_rows_come_in_batches_that_bound_the_memory(bank: Postgres, tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        bank.execute(
            "TRUNCATE ledger.t",
            "ALTER TABLE ledger.t ADD COLUMN IF NOT EXISTS note text",
            "INSERT INTO ledger.t SELECT i, 'DE' || i % 99, 'S' || i % 99, 1.25, now(), repeat('x', 500) "
            f"FROM generate_series(1, {rows}) i",
        )
        code = f"""
            import resource
            from pathlib import Path
            from secagg.data.source_files import SourceFile
            from secagg.data.tables import read_table
            from secagg.patterns.banking.tables import TRANSFERS
            source = SourceFile.read(Path({str(tmp_path / "sources.toml")!r})).named("transfers").sources
            print(len(read_table(source, TRANSFERS)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
        )
        read, kilobytes = map(int, done.stdout.split())
        assert read == rows
        return kilobytes << 10

    declared(tmp_path, bank.url(), 'table = "ledger.t"\nprimary_key = "id"')
    few, many = peak(1_000), peak(51_000)
    # A row's used values as texts, and as what the run takes; not the 500 bytes beside them, nor Python's objects.
    assert (many - few) / 50_000 < 500


@pytest.mark.slow
def test_a_job_reads_its_tables_from_the_source_file_and_records_no_address(
    bank: Postgres, tmp_path: Path
) -> None:
    bank.execute(
        "INSERT INTO ledger.t SELECT i, 'DE' || i % 3, 'S' || i, i, timestamptz '2026-09-02 00:00+00' "
        "FROM generate_series(1, 9) i"
    )
    declared(tmp_path, bank.url(), 'query = "SELECT id, beneficiary, sender AS payer, amount, time FROM ledger.t"\n'
             'primary_key = "id"\ncolumns = {sender = "payer"}')  # fmt: skip
    (tmp_path / "job.toml").write_text(JOB)
    job = load_job(tmp_path / "job.toml", with_certificates=False)
    tables = InputTables(job, me="north", source_file=SourceFile.read(tmp_path / "sources.toml"))
    assert tables.first_rows(5) == {"transfers": []}
    assert tables()["transfers"]["amount"].tolist() == [100 * i for i in range(1, 10)]
    described = tables.described()["transfers"]
    assert described["columns"]["sender"] == ["payer"]
    assert described["sources"] == ["transfers: SQL"]
    assert not any(part in json.dumps(described) for part in ("127.0.0.1", "ledger", "SELECT", PASSWORD))
    bank.stop()
    try:
        with pytest.raises(DataError, match=r"database core: nothing listens"):
            tables()
    finally:
        bank.start()
    bank.execute("UPDATE ledger.t SET amount = -1 WHERE id = 7")
    with pytest.raises(BadRowsError, match="transfers: id 7: amount is negative"):
        tables()
    (fault,) = tables.first_rows(9)["transfers"]
    assert (fault.column, fault.reason, fault.rows) == ("amount", "is negative", 1)
