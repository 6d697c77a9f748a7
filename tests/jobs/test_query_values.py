"""Values of a query's parameters become literals and nothing else, and a template of a query is approved without them."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from secagg.errors import JobError
from secagg.jobs.job import Job
from secagg.jobs.job_file import parse_job
from secagg.jobs.query_values import filled, parameters_of
from secagg.jobs.record import _parameters
from secagg.toml_files import FieldFault

TABLES = """\
[tables.moves]
holders = ["north", "south"]
max_rows = 30
[tables.moves.columns]
channel = {type = "category", values = ["card", "wire"]}
amount = {type = "money", max = 1000}
day = {type = "date", min = 2026-01-01, max = 2026-12-31}
"""
SQL = """-- without $no
SELECT channel, sum(amount) AS total FROM moves WHERE day >= $start AND amount < $most GROUP BY channel
"""
JOB = """\
name = "moved"
sql = "query.sql"
tables = "tables.toml"
[parameters]
start = 2026-03-01
most = 500.50
[roles]
input = ["north", "south"]
computing = ["north", "south", "west"]
[[parties]]
name = "north"
[[parties]]
name = "south"
[[parties]]
name = "west"
[agreement]
author = "north/anna"
until = 2999-01-01
[vary]
start = {least = 2026-02-01, most = 2026-10-01}
most = [500.50, 700.0]
"""


def parse(folder: Path, *changes: tuple[str, str], sql: str = SQL) -> Job:
    (folder / "query.sql").write_text(sql)
    (folder / "tables.toml").write_text(TABLES)
    text = JOB
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return parse_job(text, file=folder / "job.toml", with_certificates=False)


@pytest.mark.parametrize(
    "value",
    [
        "o'neill",
        "' OR TRUE --",
        "$most",
        "a\\' --",
        "é",
        5,
        -5,
        True,
        Decimal("-1.50"),
        datetime.date(2026, 1, 2),
    ],
)
def test_a_value_is_one_literal_wherever_it_stands(value: Any) -> None:
    text = filled("SELECT a-$x, '$x', b FROM t WHERE c = $x", {"x": value})
    first, second, third = sqlglot.parse_one(text, read="duckdb").expressions
    assert isinstance(first, exp.Sub)
    assert not list(first.expression.find_all(exp.Column))
    assert (second.this, third.name) == ("$x", "b")
    if isinstance(value, str):
        assert first.expression.this == value


def test_parameters_are_found_outside_texts_and_comments_alone() -> None:
    assert parameters_of("SELECT $end, '$a', \"$b\" FROM t -- $c\nWHERE $date = $end AND x = $$d$$") == (
        "end",
        "date",
    )


def test_a_template_of_a_query_keeps_its_digest_over_the_values_within_its_bounds(tmp_path: Path) -> None:
    job = parse(tmp_path)
    other = parse(tmp_path, ("start = 2026-03-01", "start = 2026-04-01"), ("most = 500.50", "most = 700.0"))
    assert other.template == job.template
    assert other.content != job.content
    assert other.shown_parameters()["start"] == "2026-04-01"
    assert parse(tmp_path, sql=SQL.replace("day >=", "day >")).template != job.template
    assert job.shown_allowed("most") == "[500.50, 700.0]"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "start = 2026-03-01",
            "start = 2026-01-01",
            r"parameters\.start: 2026-01-01 is outside what \[vary\] allows",
        ),
        ("most = 500.50", "most = 600.0", r"parameters\.most: 600\.0 is outside"),
        ("most = 500.50\n", "", r"parameters\.most: the query has \$most, and the job gives it no value"),
        ("[parameters]", "[parameters]\nother = 1", r"parameters\.other: the query has no \$other"),
        ("most = 500.50", "most = [1]", r"parameters\.most: expected a text, a number"),
        (
            "least = 2026-02-01",
            'least = "2026-02-01"',
            r"vary\.start: expected values of the kind of this run's",
        ),
        (
            "[500.50, 700.0]",
            "{least = 900.0, most = 800.0}",
            r"vary\.most: expected `least` not above `most`",
        ),
    ],
)
def test_a_value_that_is_missing_strange_or_outside_its_bounds_is_named(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    with pytest.raises(JobError, match=says):
        parse(tmp_path, (old, new))


def test_a_text_of_a_query_stands_in_records_as_a_digest(tmp_path: Path) -> None:
    sql = "SELECT sum(amount) AS total FROM moves WHERE channel = $channel\n"
    of_this = ("start = 2026-03-01\nmost = 500.50", 'channel = "wire"')
    job = parse(tmp_path, of_this, (JOB[JOB.index("[agreement]") :], ""), sql=sql)
    assert job.shown_parameters()["channel"] == '"wire"'
    assert "wire" not in _parameters(job)["channel"]


def test_a_mistake_in_a_value_is_a_fault_of_its_field() -> None:
    with pytest.raises(FieldFault, match="expected a printable text"):
        filled("SELECT $x", {"x": "a\nb"})
