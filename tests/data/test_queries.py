"""CSV inside a query: text comes out as the file has it, or the query is refused by the columns it computes with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bank_tables import read_deposits
from secagg.data.dialect import Dialect
from secagg.data.queries import csv_as_text
from secagg.data.sources import open_source
from secagg.errors import DataError

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
        "SELECT * FROM 't.csv'",
        "FROM read_csv('t.csv')  -- the real ones\n;",
        "SELECT account, payer, amount, t.day, kind FROM read_csv_auto(['t.csv']) AS t",
        "SELECT a AS account, b, c, d, e FROM 't.csv' AS t(a, b, c, d, e)",
        'SELECT t.account, t.* EXCLUDE (account) FROM "t.csv" ORDER BY amount',
        "SELECT * FROM read_csv('t.csv', all_varchar = false, delim = ',')",
        "SELECT * FROM 't.csv' WHERE kind = 'FEE' UNION ALL SELECT * FROM 't.csv' WHERE kind = 'TRANSFER'",
    ],
)
def test_columns_that_a_query_hands_on_are_the_texts_of_the_file(at: Path, query: str) -> None:
    assert sorted(rows_of(query)) == sorted(ROWS)


@pytest.mark.parametrize(
    ("condition", "accounts"),
    [
        ("payer = 43", ["777"]),
        ("amount > 2 AND amount <= 3", ["777", "8"]),
        ("account IN (123, 8)", ["123", "8"]),
    ],
)
def test_a_condition_compares_numbers_as_its_author_saw_them(
    at: Path, condition: str, accounts: list[str]
) -> None:
    found = rows_of(f"SELECT account FROM 't.csv' WHERE {condition}")
    assert sorted(row[0] for row in found) == accounts
    by_duckdb = duckdb.connect().execute(f"SELECT count(*) FROM 't.csv' WHERE {condition}").fetchall()
    assert by_duckdb == [(len(accounts),)]


def test_types_that_the_author_declares_hold(at: Path) -> None:
    declared = "types = {'payer': 'BIGINT', 'amount': 'DECIMAL(18, 3)'}"
    with_types = rows_of(f"SELECT account, payer + 1 AS p, amount FROM read_csv('t.csv', {declared}) LIMIT 1")
    assert [*map(str, with_types[0])] == ["123", "43", "1.234"]
    computing = "SELECT account || ':' || payer AS a FROM read_csv('t.csv', all_varchar = true)"
    assert rows_of(computing) == [("123:42",), ("777:43",), ("8:44",)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("SELECT account || '-' || payer AS a FROM 't.csv'", "account (BIGINT), payer (BIGINT)"),
        ("SELECT CAST(account AS VARCHAR) AS a FROM 't.csv'", "account (BIGINT)"),
        ("SELECT kind, sum(amount) AS s FROM 't.csv' GROUP BY kind", "amount (DOUBLE)"),
        ("SELECT DISTINCT account FROM 't.csv'", "account (BIGINT)"),
        ("SELECT kind FROM 't.csv' ORDER BY amount LIMIT 1", "amount (DOUBLE)"),
        ("SELECT kind FROM 't.csv' WHERE day > '2026-09-05'", "day (DATE)"),
        ("SELECT a.payer FROM 't.csv' a JOIN 't.csv' b USING (payer)", "payer (BIGINT)"),
        ("SELECT account FROM 't.csv' NATURAL JOIN (SELECT 777 AS account)", "account (BIGINT)"),
        ("SELECT #1 AS a FROM 't.csv' GROUP BY ALL",
         "account (BIGINT), payer (BIGINT), amount (DOUBLE), day (DATE)"),
        ("WITH c AS (SELECT account FROM 't.csv') SELECT account FROM c", "account (BIGINT)"),
        ("SELECT (SELECT max(account) FROM 't.csv') AS a", "account (BIGINT)"),
        ("SELECT COLUMNS('acc.*') FROM 't.csv'", "account (BIGINT), payer (BIGINT), amount (DOUBLE), day (DATE)"),
        ("SELECT * REPLACE (2 * amount AS amount) FROM 't.csv'", "account (BIGINT), payer (BIGINT), amount (DOUBLE)"),
        ("SELECT account FROM 't.csv' UNION SELECT payer FROM 't.csv'", "account (BIGINT), payer (BIGINT)"),
    ],
)  # fmt: skip
def test_a_query_that_computes_with_guesses_is_refused_by_its_columns(
    at: Path, query: str, columns: str
) -> None:
    expected = re.escape(f"whose types DuckDB guesses: {columns}") + ".*all_varchar = true"
    with pytest.raises(DataError, match=expected):
        open_source("duckdb:" + query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT t::VARCHAR AS account FROM 't.csv' t",
        "SELECT to_json(t) AS account FROM 't.csv'",
        "SELECT read_csv::VARCHAR AS account FROM read_csv('t.csv')",
        "SELECT unnest(t) FROM 't.csv' AS t",
        "SELECT T AS account FROM 't.csv'",
        "SELECT kind FROM 't.csv' t WHERE t = t",
        "SELECT kind FROM 't.csv' t WHERE struct_extract(t, 'amount') > 2.7",
        "SELECT z::VARCHAR AS account FROM 't.csv' AS z(a, b, c, d, e)",
    ],
)
def test_a_query_that_computes_with_whole_rows_is_refused(at: Path, query: str) -> None:
    with pytest.raises(DataError, match="computes with CSV columns whose types DuckDB guesses: "):
        open_source("duckdb:" + query)


def test_a_column_that_is_called_as_its_file_is_a_column(at: Path) -> None:
    write("account.csv", ROWS)
    assert rows_of("SELECT account FROM 'account.csv' WHERE account > 100") == [("123",), ("777",)]
    assert rows_of("SELECT upper(kind) AS k FROM 'account.csv' AS kind LIMIT 1") == [("TRANSFER",)]


def test_a_condition_on_a_guessed_column_under_another_name_is_refused(at: Path) -> None:
    # As text it would be compared with whole numbers after rounding.
    for condition in ("x = 1", "X IN (1, 3)", "t.kind = 'FEE' OR x = 3"):
        with pytest.raises(DataError, match=r"guesses: amount \(DOUBLE\)"):
            open_source(f"duckdb:SELECT amount AS x FROM 't.csv' WHERE {condition}")
    assert rows_of("SELECT amount AS kind FROM 't.csv' WHERE kind = 'FEE'") == [("2.50",)]
    assert rows_of("SELECT amount, kind AS k FROM 't.csv' WHERE k = 'FEE'") == [("2.50", "FEE")]


def test_a_condition_on_the_columns_of_a_read_without_a_name_compares_numbers(at: Path) -> None:
    query = "SELECT account FROM read_csv('t.csv') WHERE read_csv.amount > 2.7"
    assert rows_of(query) == rows_of("SELECT account FROM 't.csv' WHERE amount > 2.7") == [("777",)]


def test_what_duckdb_cannot_say_the_reads_of_is_refused(at: Path) -> None:
    with pytest.raises(DataError, match="the query: DuckDB cannot say what the query reads"):
        csv_as_text(duckdb.connect(), "PIVOT 't.csv' ON kind USING sum(amount)", name="the query")


def test_a_join_compares_numbers_and_hands_on_texts(at: Path) -> None:
    names = "(VALUES (777, 'seven'), (123, 'one')) AS n(account, who)"
    by_condition = rows_of(f"SELECT who, t.account FROM 't.csv' t JOIN {names} ON t.account = n.account")
    assert sorted(by_condition) == [("one", "123"), ("seven", "777")]
    by_name = rows_of(f"SELECT who, amount FROM 't.csv' JOIN {names} USING (account)")
    assert sorted(by_name) == [("one", "1.234"), ("seven", "3.000")]


def test_what_a_query_does_with_text_is_its_own_affair(at: Path) -> None:
    counted = rows_of("SELECT kind, count(*) AS n FROM 't.csv' GROUP BY kind ORDER BY kind")
    assert counted == [("FEE", 1), ("TRANSFER", 2)]
    assert rows_of("WITH c AS (SELECT kind FROM 't.csv') SELECT lower(kind) AS k FROM c LIMIT 1") == [
        ("transfer",)
    ]


def test_a_query_that_hides_what_it_reads_is_refused(at: Path) -> None:
    with pytest.raises(DataError, match="query_table"):
        open_source("duckdb:SELECT * FROM query('SELECT * FROM ''t.csv''')")


@pytest.mark.slow
def test_the_readers_see_leading_zeros_and_ambiguous_amounts_of_a_query(at: Path) -> None:
    # Leading zeros stand beyond the rows from which DuckDB tells the types.
    write("t.csv", [*ROWS[1:], *[("900", "90", "1.5", "07.09.2026", "X")] * 21_000, ("0123", *ROWS[0][1:])])
    assert duckdb.connect().execute("SELECT account FROM 't.csv' WHERE payer = 42").fetchall() == [(123,)]
    query = "duckdb:SELECT account AS customer, amount, day AS time FROM 't.csv' WHERE kind = 'TRANSFER'"
    with pytest.raises(DataError, match=r"amount can be read with decimals or with thousands"):
        read_deposits(query, dialect=Dialect(date_format="%d.%m.%Y"))
    german = read_deposits(query, dialect=Dialect(date_format="%d.%m.%Y", decimal=",", thousands="."))
    assert sorted(german["customer"].strings) == ["0123", "777"]
    assert sorted(german["amount"]) == [123_400, 300_000]
    assert german.report.files == ("query: typed columns, those of CSV as text",)


def test_a_number_that_its_guess_cannot_hold_names_the_remedy(at: Path) -> None:
    more = [("9", "90", "1", "07.09.2026", "X")] * 21_000
    write("t.csv", [*ROWS, *more, ("9", "many", "1", "07.09.2026", "X")])
    query = "duckdb:SELECT account AS customer, amount, '1' AS time FROM 't.csv' WHERE payer > 1"
    with pytest.raises(DataError, match=r"ConversionException.*its CSV is read as text.*all_varchar = true"):
        read_deposits(query)
