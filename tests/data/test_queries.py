"""CSV inside a query: its columns have the types that the query declares, or it is refused by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bank_tables import read_deposits
from secagg.data.dialect import Dialect
from secagg.data.queries import check_csv_is_typed
from secagg.data.sources import open_source
from secagg.errors import DataError

ALL = "account (BIGINT), payer (BIGINT), amount (DOUBLE), day (DATE)"
HEADER = ("account", "payer", "amount", "day", "kind")
ROWS = [
    ("123", "42", "1.234", "05.09.2026", "TRANSFER"),
    ("777", "43", "3.000", "06.09.2026", "TRANSFER"),
    ("8", "44", "2.50", "06.09.2026", "FEE"),
]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with t.csv, of which DuckDB takes all columns but one for numbers or dates."""
    monkeypatch.chdir(tmp_path)
    write("t.csv", ROWS)
    guessed = [row[1] for row in duckdb.connect().execute("DESCRIBE SELECT * FROM 't.csv'").fetchall()]
    assert guessed == ["BIGINT", "BIGINT", "DOUBLE", "DATE", "VARCHAR"], "the file shows what it is to show"
    return tmp_path


def write(name: str, rows: Sequence[Sequence[str]]) -> None:
    Path(name).write_text("".join(",".join(row) + "\n" for row in [HEADER, *rows]), "utf-8")


def rows_of(query: str) -> list[tuple[Any, ...]]:
    source = open_source("duckdb:" + query)
    try:
        return source.connection.sql("SELECT * FROM source").fetchall()
    finally:
        source.close()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('t.csv', all_varchar = true)",
        "FROM read_csv_auto(['t.csv'], all_varchar = true)  -- the real ones\n;",
        "SELECT a.* FROM read_csv('t.csv', delim = ',', all_varchar = true) AS a ORDER BY amount",
        (
            "WITH c AS (FROM read_csv('t.csv', all_varchar = true)) "
            "FROM c WHERE payer < '44' UNION ALL FROM c WHERE payer >= '44'"
        ),
    ],
)
def test_columns_that_a_query_declares_to_be_text_are_the_texts_of_the_file(at: Path, query: str) -> None:
    assert sorted(rows_of(query)) == sorted(ROWS)


@pytest.mark.slow
def test_types_that_the_author_declares_hold(at: Path) -> None:
    declared = "all_varchar = true, types = {'payer': 'BIGINT', 'amount': 'DECIMAL(18, 3)'}"
    with_types = rows_of(f"SELECT account, payer + 1 AS p, amount FROM read_csv('t.csv', {declared}) LIMIT 1")
    assert [*map(str, with_types[0])] == ["123", "43", "1.234"]
    columns = dict.fromkeys(HEADER, "VARCHAR") | {"amount": "DECIMAL(18, 3)"}
    summed = rows_of(f"SELECT sum(amount) AS s FROM read_csv('t.csv', columns = {columns}, header = true)")
    assert [*map(str, summed[0])] == ["6.734"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM 't.csv'",
        "SELECT kind FROM read_csv('t.csv')",
        "SELECT account FROM read_csv_auto('t.csv') WHERE amount = 3",
        "SELECT account FROM read_csv('t.csv', all_varchar = false) WHERE #3 = 3",
        "WITH c AS (SELECT account FROM 't.csv') SELECT account FROM c UNION ALL SELECT account FROM c",
        "SELECT a.kind FROM read_csv('t.csv', all_varchar = true) a JOIN 't.csv' b ON a.kind = b.kind",
        "SELECT (SELECT max(account) FROM 't.csv') AS a",
        "SELECT 1 AS a WHERE EXISTS (FROM 't.csv')",
        "SELECT unnest(t) FROM 't.csv' AS t",
        "SELECT * FROM 't*.csv' AS t(account, payer, amount, day, kind)",
        "SELECT * FROM (PIVOT 't.csv' ON kind IN ('FEE') USING sum(amount))",
    ],
)
def test_a_query_over_csv_of_guessed_types_is_refused_by_its_columns(at: Path, query: str) -> None:
    expected = re.escape(f"whose types DuckDB guesses: {ALL}; ") + ".*all_varchar = true.* or declare types"
    with pytest.raises(DataError, match=expected):
        open_source("duckdb:" + query)


def test_only_columns_without_a_declared_type_are_named(at: Path) -> None:
    with pytest.raises(DataError, match=r"guesses: account \(BIGINT\), day \(DATE\); "):
        open_source(
            "duckdb:SELECT * FROM read_csv('t.csv', types = {'payer': 'VARCHAR', 'amount': 'VARCHAR'})"
        )


def test_csv_that_duckdb_takes_for_text_needs_no_declaration(at: Path) -> None:
    Path("text.csv").write_text("name,kind\nanna,x\nbert,y\n", "utf-8")
    assert sorted(rows_of("SELECT name FROM 'text.csv' WHERE kind <> 'z'")) == [("anna",), ("bert",)]


def test_a_part_of_a_query_may_be_called_as_a_file_would_be(at: Path) -> None:
    assert rows_of('WITH "none.csv" AS (SELECT \'x\' AS account) SELECT account FROM "none.csv"') == [("x",)]


def test_what_duckdb_cannot_say_the_reads_of_is_refused(at: Path) -> None:
    with pytest.raises(DataError, match="the query: DuckDB cannot say what the query reads"):
        check_csv_is_typed(duckdb.connect(), "PIVOT 't.csv' ON kind USING sum(amount)", name="the query")


@pytest.mark.parametrize(
    ("function", "query"),
    [
        ("query", "SELECT * FROM query('SELECT * FROM ''t.csv''')"),
        ("query_table", "SELECT * FROM query_table('t.csv')"),
        (
            "json_execute_serialized_sql",
            "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT account FROM ''t.csv'''))",
        ),
    ],
)
def test_a_query_that_hides_what_it_reads_is_refused(at: Path, function: str, query: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"{function}() hides what it reads")):
        check_csv_is_typed(duckdb.connect(), query, name="the query")


@pytest.mark.slow
def test_the_readers_see_leading_zeros_and_ambiguous_amounts_of_a_query(at: Path) -> None:
    # Leading zeros stand beyond the rows from which DuckDB tells the types.
    write("t.csv", [*ROWS[1:], *[("900", "90", "1.5", "07.09.2026", "X")] * 21_000, ("0123", *ROWS[0][1:])])
    assert duckdb.connect().execute("SELECT account FROM 't.csv' WHERE payer = 42").fetchall() == [(123,)]
    query = (
        "duckdb:SELECT account AS customer, amount, day AS time FROM read_csv('t.csv', all_varchar = true) "
        "WHERE kind = 'TRANSFER'"
    )
    with pytest.raises(DataError, match=r"amount can be read with decimals or with thousands"):
        read_deposits(query, dialect=Dialect(date_format="%d.%m.%Y"))
    german = read_deposits(query, dialect=Dialect(date_format="%d.%m.%Y", decimal=",", thousands="."))
    assert sorted(german["customer"].strings) == ["0123", "777"]
    assert sorted(german["amount"]) == [123_400, 300_000]
    assert german.report.files == ("query: typed columns",)
