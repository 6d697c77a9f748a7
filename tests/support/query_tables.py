"""Small declared tables with NULL in every place, and their pool."""

from __future__ import annotations

import datetime
import itertools
import random
from decimal import Decimal
from typing import Any

from secagg.query import Declaration, Pool

DECLARED = """
[tables.t]
holders = ["north", "south"]
max_rows = 100
keys = [["id"]]
[tables.t.columns]
id = {type = "integer", min = 0, max = 1000}
a = {type = "integer", min = -5, max = 10, nullable = true}
p = {type = "real", min = -10, max = 10, decimals = 2, nullable = true}
c = {type = "category", values = ["red", "green", "blue"], nullable = true}
s = {type = "identifier", nullable = true}
d = {type = "date", min = 2020-01-01, max = 2021-12-31, nullable = true}
z = {type = "timestamp", zone = "Europe/Berlin", min = 2020-01-01, max = 2021-12-31, nullable = true}
b = {type = "boolean", nullable = true}

[tables.u]
holder = "west"
max_rows = 50
keys = [["id"]]
[tables.u.columns]
id = {type = "integer", min = 0, max = 1000}
c = {type = "category", values = ["red", "green", "white"]}
w = {type = "money", max = 1000}
"""
DECLARATION = Declaration.parse(DECLARED)


def t_rows() -> list[dict[str, Any]]:
    """Return rows in which each pair of columns has NULL and values in all combinations, among others."""
    made = random.Random(5)
    values: dict[str, list[Any]] = {
        "a": [None, -5, 0, 3, 10],
        "p": [None, Decimal("-2.50"), Decimal("0.00"), Decimal("7.25")],
        "c": [None, "red", "green", "blue"],
        "s": [None, "x", "y"],
        "d": [None, datetime.date(2020, 2, 29), datetime.date(2021, 12, 31)],
        "z": [None, *(datetime.datetime(2020, 12, 31, hour, 30, tzinfo=datetime.UTC) for hour in (8, 23))],
        "b": [None, True, False],
    }  # fmt: skip
    rows = [{"id": i, **{name: made.choice(several) for name, several in values.items()}} for i in range(30)]
    pairs = itertools.product(values["a"][:3], values["b"])
    rows += [{"id": 30 + i, **dict.fromkeys(values), "a": a, "b": b} for i, (a, b) in enumerate(pairs)]
    return rows


def u_rows() -> list[dict[str, Any]]:
    return [
        {"id": i, "c": ("red", "green", "white")[i % 3], "w": Decimal(i * i) / 4} for i in range(0, 60, 3)
    ]


def filled() -> Pool:
    """Return the pool of these rows; of t, north has two thirds and south one."""
    pool = Pool(DECLARATION)
    rows = t_rows()
    pool.add("t", "north", rows[::3] + rows[1::3])
    pool.add("t", "south", rows[2::3])
    pool.add("u", "west", u_rows())
    return pool
