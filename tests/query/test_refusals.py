"""What is not supported, or does not fit, is refused by name and place."""

from __future__ import annotations

import re

import pytest

from query_tables import DECLARATION
from secagg.errors import UsageError
from secagg.query import plan

REFUSED = [
    ("SELECT id\nFROM t\nWHERE idd = 3", "line 3, column 7: there is no column 'idd'; near ones: id"),
    ("SELECT id FROM tt", "line 1, column 16: there is no table 'tt'; near ones: t"),
    ("SELECT v.id FROM t", "there is no table 'v' here"),
    ("SELECT id FROM t JOIN u ON t.id = u.id", "line 1, column 8: 'id' is a column of t and of u; write t.id"),
    ("SELECT a,\n  foo(a) FROM t", "line 2, column 3: FOO() is not supported"),
    ("SELECT t.id FROM t FULL JOIN u ON t.id = u.id", "line 1, column 30: FULL JOIN is not supported"),
    ("SELECT t.id FROM t JOIN u ON t.id < u.id", "expected an equality that joins u to t"),
    ("SELECT t.id FROM t, u", "expected an equality that joins u to t"),
    ("SELECT t.id FROM t LEFT JOIN u ON t.id = u.id AND t.a > 1", "this condition of an outer join is not supported"),
    ("SELECT id FROM t WHERE a > (SELECT max(id) FROM u)", "a subquery in this condition is not supported"),
    ("SELECT id FROM t WHERE a IN (SELECT id FROM u) OR b", "a subquery in this condition is not supported"),
    ("SELECT id FROM t WHERE a NOT IN (SELECT id FROM u)", "NOT IN with a subquery where a value may be NULL"),
    ("SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id > t.id)", "this condition in EXISTS is not supported"),
    ("SELECT median(a) FROM t", "MEDIAN() is not supported"),
    ("SELECT sum(DISTINCT a) FROM t", "SUM of DISTINCT values is not supported"),
    ("SELECT sum(s) FROM t", "SUM takes numbers, and this is an identifier"),
    ("SELECT a + c FROM t", "line 1, column 8: + takes numbers, and this is a category of 3 values"),
    ("SELECT a = s FROM t", "= takes values of one type, and these are a whole number and an identifier"),
    ("SELECT s < 'x' FROM t", "< needs an order, and identifiers are compared for equality alone"),
    ("SELECT id FROM t ORDER BY s", "identifiers are compared for equality alone"),
    ("SELECT max(s) FROM t", "MAX needs an order, and identifiers"),
    ("SELECT id FROM t WHERE a", "expected a condition, and this is a whole number"),
    ("SELECT id FROM t WHERE c = 'rad'", "the category has no value 'rad'; near ones: red"),
    ("SELECT id FROM t WHERE c IN ('red', 'gren')", "the category has no value 'gren'; near ones: green"),
    ("SELECT id FROM t WHERE d = 'yesterday'", "expected a date such as 2026-01-31, got 'yesterday'"),
    ("SELECT id FROM t WHERE z >= '2020-03-29 02:30'", "2020-03-29 02:30:00 does not exist in Europe/Berlin"),
    ("SELECT id FROM t WHERE z >= '2020-03-29 01:10:00.5'", "is finer than the timestamps it meets"),
    ("SELECT a, count(*) FROM t", "the column 'a' stands outside an aggregate"),
    ("SELECT id FROM t WHERE sum(a) > 1", "SUM here is not supported"),
    ("SELECT id FROM t LIMIT 3", "LIMIT without ORDER BY takes any rows"),
    ("SELECT id FROM t ORDER BY id LIMIT 1 + 1", "LIMIT takes a constant whole number"),
    ("SELECT a // p FROM t", "// takes a whole number and a whole constant from 1"),
    ("SELECT a // 0 FROM t", "// takes a whole number and a whole constant from 1"),
    ("SELECT d + INTERVAL 1 MONTH FROM t", "an INTERVAL of months added to a column is not supported"),
    ("SELECT current_date FROM t", "the current time is not supported"),
    ("SELECT CAST(a AS VARCHAR) FROM t", "CAST of a whole number to TEXT is not supported"),
    ("SELECT TRY_CAST(a AS INTEGER) FROM t", "is not supported"),
    ("SELECT sum(a) OVER (ORDER BY id ROWS 2 PRECEDING) FROM t", "this frame of a window is not supported"),
    ("SELECT sum(a) OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) FROM t", "this frame"),
    ("SELECT MAKE_DATE(a, 1, 1) FROM t", "MAKE_DATE of columns is not supported"),
    ("SELECT MAKE_DATE(2021, 2, 29) FROM t", "there is no date 2021-2-29"),
    ("SELECT lag(a, 1, 0) OVER (ORDER BY id) FROM t", "DEFAULT of LAG() is not supported"),
    ("SELECT row_number() OVER () FROM t", "ROW_NUMBER needs ORDER BY in OVER"),
    ("SELECT id FROM t EXCEPT SELECT id FROM u", "EXCEPT is not supported"),
    ("SELECT id, a FROM t UNION ALL SELECT id FROM u", "UNION of 2 and 1 columns"),
    ("SELECT id FROM t UNION ALL SELECT c FROM u", "UNION takes values of one type"),
    ("SELECT id, a AS id FROM t", "two columns are called 'id'"),
    ("SELECT x.id FROM t x JOIN u x ON x.id = x.id", "Alias already used: x"),
    ("SELECT id FROM t USING SAMPLE 3", "is not supported"),
    ("SELECT id FROM t TABLESAMPLE 10%", "is not supported"),
    ("SELECT * FROM read_csv('/etc/passwd')", "is not supported"),
    ("SELECT id FROM other.t", "a table of the schema 'other' is not supported"),
    ("WITH RECURSIVE r AS (SELECT id FROM t) SELECT id FROM r", "WITH RECURSIVE is not supported"),
    ("SELECT DISTINCT ON (a) a, id FROM t", "DISTINCT ON is not supported"),
    ("SELECT count(DISTINCT (a, b)) FROM t", "is not supported"),
    ("SELECT a FROM t GROUP BY ROLLUP (a)", "is not supported"),
    ("SELECT list(a ORDER BY id) FROM t", "is not supported"),
    ("SELECT sum(a ORDER BY id) FROM t", "is not supported"),
    ("SELECT (SELECT 1) FROM t", "a subquery as a value is not supported"),
    ("SELECT 1", "expected FROM with a declared table"),
    ("DROP TABLE t", "DROP is not supported; a query is one SELECT"),
    ("SELECT id FROM t; SELECT id FROM u", "expected one SELECT, got 2 statements"),
    ("", "expected one SELECT, got 0 statements"),
    ("SELECT id FROM", "this is not SQL"),
    ("SELECT 'open FROM t", "this is not SQL"),
    ("SELECT x.a FROM u AS x(a, b, c)", "other names for a declared table's columns"),
    ('SELECT a AS "order 1" FROM t', "expected a name of at most 128 letters"),
    ('SELECT "x y".a FROM t AS "x y"', "expected a name of at most 128 letters"),
    ("SELECT id FROM t WHERE " + "NOT " * 5000 + "b", "the query is nested too deeply"),
    ("SELECT " + "(" * 300 + "a" + ")" * 300 + " FROM t", "expected at most 200 brackets"),
    ("SELECT 1e400 FROM t", "expected a number of at most 18 decimals"),
    ("SELECT p * p * p * p * p * p * p * p * p * p FROM t", "gives 20 decimals, and at most 18 are kept"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "message"), REFUSED)
def test_it_is_refused(sql: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        plan(sql, DECLARATION)


def test_a_plan_that_doubles_with_each_part_is_refused() -> None:
    parts = ["x0 AS (SELECT id FROM u)"]
    parts += [f"x{i + 1} AS (SELECT a.id FROM x{i} a JOIN x{i} b ON a.id = b.id)" for i in range(40)]
    with pytest.raises(UsageError, match="expected a plan of at most 1000 steps"):
        plan(f"WITH {', '.join(parts)} SELECT id FROM x40", DECLARATION)
