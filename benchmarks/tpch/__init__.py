"""TPC-H: the eight tables as a declaration, and seven of its queries with the parameters that its validation uses.

What the tables hold is section 4.2 of the TPC-H specification.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from secagg.query import Declaration

QUERIES: Final = {path.stem: path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("q*.sql"))}
HOLDERS: Final = ("first", "second", "third")

_SEGMENTS: Final = ("AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY")
_PRIORITIES: Final = ("1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")
_INSTRUCTIONS: Final = ("COLLECT COD", "DELIVER IN PERSON", "NONE", "TAKE BACK RETURN")
_MODES: Final = ("AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK")
_TYPES: Final = tuple(
    f"{size} {finish} {metal}"
    for size in ("STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO")
    for finish in ("ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED")
    for metal in ("TIN", "NICKEL", "BRASS", "STEEL", "COPPER")
)
_CONTAINERS: Final = tuple(
    f"{size} {kind}"
    for size in ("SM", "LG", "MED", "JUMBO", "WRAP")
    for kind in ("CASE", "BOX", "BAG", "JAR", "PKG", "PACK", "CAN", "DRUM")
)
_TEXT: Final = '{type = "identifier", repeated = true}'
_DAY: Final = '{type = "date", min = 1992-01-01, max = 1998-12-31}'


def declaration(scale: float, *, holders: Sequence[str] = HOLDERS, largest_part: float = 1.0) -> Declaration:
    """Return the declaration of the tables at a scale factor, each split over the holders.

    Args:
      largest_part: the part of a table's rows that a holder has at most; it bounds the rows.
    """
    text = []
    for name, (rows, keys, columns) in _tables(scale).items():
        text.append(f"[tables.{name}]")
        text.append(f"holders = {list(holders)}")
        text.append(f"max_rows = {math.ceil(rows * largest_part)}")
        text.append(f"keys = {keys}")
        text.append(f"[tables.{name}.columns]")
        text += [f"{column} = {kind}" for column, kind in columns.items()]
    return Declaration.parse("\n".join(text), file="tpch")


def _integer(least: int, most: int) -> str:
    return f'{{type = "integer", min = {least}, max = {most}}}'


def _real(least: str, most: str) -> str:
    return f'{{type = "real", min = {least}, max = {most}, decimals = 2}}'


def _one_of(*values: str) -> str:
    return f'{{type = "category", values = {list(values)}}}'


def _tables(scale: float) -> dict[str, tuple[int, list[list[str]], dict[str, str]]]:
    """Return for each table a bound on its rows, its keys and its columns."""

    def scaled(count: int) -> int:
        return max(1, math.ceil(count * scale))

    order, customer, part, supplier = (
        _integer(1, scaled(count)) for count in (6_000_000, 150_000, 200_000, 10_000)
    )
    nation, region = _integer(0, 24), _integer(0, 4)
    manufacturers = [f"Manufacturer#{i}" for i in range(1, 6)]
    brands = [f"Brand#{i}{j}" for i in range(1, 6) for j in range(1, 6)]
    return {
        "lineitem": (
            scaled(6_060_000),
            [["l_orderkey", "l_linenumber"]],
            {
                "l_orderkey": order,
                "l_partkey": part,
                "l_suppkey": supplier,
                "l_linenumber": _integer(1, 7),
                "l_quantity": _real("1", "50"),
                "l_extendedprice": _real("0", "105000"),
                "l_discount": _real("0", "0.1"),
                "l_tax": _real("0", "0.08"),
                "l_returnflag": _one_of("A", "N", "R"),
                "l_linestatus": _one_of("F", "O"),
                "l_shipdate": _DAY,
                "l_commitdate": _DAY,
                "l_receiptdate": _DAY,
                "l_shipinstruct": _one_of(*_INSTRUCTIONS),
                "l_shipmode": _one_of(*_MODES),
                "l_comment": _TEXT,
            },
        ),
        "orders": (
            scaled(1_500_000),
            [["o_orderkey"]],
            {
                "o_orderkey": order,
                "o_custkey": customer,
                "o_orderstatus": _one_of("F", "O", "P"),
                "o_totalprice": _real("0", "800000"),
                "o_orderdate": _DAY,
                "o_orderpriority": _one_of(*_PRIORITIES),
                "o_clerk": _TEXT,
                "o_shippriority": _integer(0, 0),
                "o_comment": _TEXT,
            },
        ),
        "customer": (
            scaled(150_000),
            [["c_custkey"]],
            {
                "c_custkey": customer,
                "c_name": _TEXT,
                "c_address": _TEXT,
                "c_nationkey": nation,
                "c_phone": _TEXT,
                "c_acctbal": _real("-999.99", "9999.99"),
                "c_mktsegment": _one_of(*_SEGMENTS),
                "c_comment": _TEXT,
            },
        ),
        "part": (
            scaled(200_000),
            [["p_partkey"]],
            {
                "p_partkey": part,
                "p_name": _TEXT,
                "p_mfgr": _one_of(*manufacturers),
                "p_brand": _one_of(*brands),
                "p_type": _one_of(*_TYPES),
                "p_size": _integer(1, 50),
                "p_container": _one_of(*_CONTAINERS),
                "p_retailprice": _real("900", "2100"),
                "p_comment": _TEXT,
            },
        ),
        "partsupp": (
            scaled(800_000),
            [["ps_partkey", "ps_suppkey"]],
            {
                "ps_partkey": part,
                "ps_suppkey": supplier,
                "ps_availqty": _integer(1, 9999),
                "ps_supplycost": _real("1", "1000"),
                "ps_comment": _TEXT,
            },
        ),
        "supplier": (
            scaled(10_000),
            [["s_suppkey"]],
            {
                "s_suppkey": supplier,
                "s_name": _TEXT,
                "s_address": _TEXT,
                "s_nationkey": nation,
                "s_phone": _TEXT,
                "s_acctbal": _real("-999.99", "9999.99"),
                "s_comment": _TEXT,
            },
        ),
        "nation": (
            25,
            [["n_nationkey"]],
            {"n_nationkey": nation, "n_name": _TEXT, "n_regionkey": region, "n_comment": _TEXT},
        ),
        "region": (5, [["r_regionkey"]], {"r_regionkey": region, "r_name": _TEXT, "r_comment": _TEXT}),
    }
