"""Tables on shares: what SQL does, without anybody seeing a row. Nothing but `open_table` awaits or opens.

A table's columns are shared arrays of one public length, and a shared bit says which rows are valid. A filter clears bits
and removes nothing, so sizes stay public. Operators are programs on `secagg.mpc.arrays`: `mpc.cost` says what they cost,
debug mode looks at their values, and three or four parties run them.

Modules, each of which stands on those before it:

  table           `Column`, `Table`, UNION ALL
  ordering        ORDER BY, LIMIT
  runs            runs of equal keys in a sorted table
  aggregates      GROUP BY, DISTINCT
  windows         window functions
  joins           joins on equal keys
  opening         `open_table`

Who learns what: sizes are public, and nothing else shows before `open_table` (docs/soundness.md).
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "Column",
    "Order",
    "Table",
    "concat",
    "distinct",
    "group_by",
    "join",
    "limit",
    "open_table",
    "order_by",
    "window",
]

if TYPE_CHECKING:
    from secagg.mpc.tables.aggregates import distinct, group_by
    from secagg.mpc.tables.joins import join
    from secagg.mpc.tables.opening import open_table
    from secagg.mpc.tables.ordering import limit, order_by
    from secagg.mpc.tables.table import Column, Order, Table, concat
    from secagg.mpc.tables.windows import window
else:
    __getattr__, __dir__ = face(
        "secagg.mpc.tables",
        {
            "secagg.mpc.tables.aggregates": "distinct group_by",
            "secagg.mpc.tables.joins": "join",
            "secagg.mpc.tables.opening": "open_table",
            "secagg.mpc.tables.ordering": "limit order_by",
            "secagg.mpc.tables.table": "Column Order Table concat",
            "secagg.mpc.tables.windows": "window",
        },
    )
