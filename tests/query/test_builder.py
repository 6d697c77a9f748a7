"""An ibis expression computes what DuckDB makes of its SQL."""

from __future__ import annotations

import pytest

from query_tables import DECLARATION, filled
from secagg.errors import UsageError
from secagg.query.evaluator import rows_of

ibis = pytest.importorskip("ibis", reason="the extra ibis is not installed")


@pytest.mark.slow
def test_ibis_expressions_give_the_plans_of_their_sql() -> None:
    from secagg.query.builder import plan_of, tables

    t, u = tables(DECLARATION)["t"], tables(DECLARATION)["u"]
    _ = ibis._
    expressions = [
        t.filter(_.a > 0).group_by("c").aggregate(n=_.count(), s=_.p.sum(), m=_.p.mean()).order_by(ibis.desc("n"), "c"),
        t.join(u, "id").select("id", "w", x=_.a * 2),
        t.anti_join(u, "id").select("id"),
        t.mutate(r=ibis.row_number().over(group_by="c", order_by="id")).filter(_.r < 2).select("id", "r"),
        t.mutate(before=_.a.lag().over(order_by="id"), total=_.a.sum()).select("id", "before", "total"),
        t.filter(_.c.isin(["red", "blue"]), _.d >= ibis.date("2020-02-01")).select("id", year=_.d.year()),
        t.select(k=ibis.cases((_.a > 1, "big"), else_="small"), v=_.p.fill_null(0)),
        t.select("a").union(u.select(a="id")),
        t.filter(_.id.isin(u.id)).aggregate(n=_.s.nunique()),
    ]  # fmt: skip
    with filled() as pool:
        rows = {name: pool.rows(name) for name in DECLARATION}
        for expression in expressions:
            query = plan_of(expression, DECLARATION)
            mine = [tuple(row[name] for name in query.root.names) for row in rows_of(query.root, rows)]
            assert sorted(mine, key=str) == sorted(pool.units(query), key=str)
    with pytest.raises(UsageError, match=r"PERCENTILE_CONT\(\) is not supported"):
        plan_of(t.aggregate(m=t.a.median()), DECLARATION)
