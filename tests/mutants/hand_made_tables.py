"""Changes to tables on shares; see `hand_made`."""

from __future__ import annotations

from typing import Final

from change import Change

_TABLES: Final = ("tests/mpc/tables/test_tables.py",)
_OPENINGS: Final = ("tests/mpc/tables/test_table_openings.py",)

TABLES: Final = (
    Change(
        "ties are opened in the order of the input",
        "secagg/mpc/tables/ordering.py",
        "ordered = sorted_by(mixed(t), keys, first=first)",
        "ordered = sorted_by(t, keys, first=first)",
        _OPENINGS,
    ),
    Change(
        "valid rows are opened where they stand",
        "secagg/mpc/tables/opening.py",
        "        t = mixed(t)\n",
        "        pass\n",
        _OPENINGS,
    ),
    Change(
        "what stands under NULL is opened",
        "secagg/mpc/tables/opening.py",
        "Column(c.filled, c.null)",
        "Column(c.values, c.null)",
        _OPENINGS,
    ),
    Change(
        "rows that are not valid are opened as padding",
        "secagg/mpc/tables/opening.py",
        "cleared(c.values, t.valid)",
        "c.values",
        _OPENINGS,
    ),
    Change(
        "groups show the order of keys that are not opened",
        "secagg/mpc/tables/table.py",
        "self.order.unique and len(kept) == len(self.order.keys)",
        "self.order.unique",
        _OPENINGS,
    ),
    Change(
        "a filter leaves a table packed",
        "secagg/mpc/tables/table.py",
        "dataclasses.replace(self.order, packed=False)",
        "self.order",
        (*_OPENINGS, *_TABLES),
    ),
    Change(
        "a key that is not unique is not found",
        "secagg/mpc/tables/joins.py",
        "broken = reductions.any(logic.conjunction(before[-1], is_right))",
        "broken = reductions.any(logic.conjunction(logic.conjunction(before[-1], is_right), is_left))",
        _OPENINGS,
    ),
    Change(
        "rows without a key match",
        "secagg/mpc/tables/joins.py",
        "_Slot(logic.conjunction(taken[i], takes_part), of_right)",
        "_Slot(taken[i], of_right)",
        _TABLES,
    ),
)
