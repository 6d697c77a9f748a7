"""Changes to what SQL becomes; see `hand_made`."""

from __future__ import annotations

from typing import Final

from change import Change

_SQL: Final = ("tests/query/test_sql.py",)
_REFUSALS: Final = ("tests/query/test_refusals.py",)

QUERIES: Final = (
    Change(
        "conditions of an inner join are met after an outer join",
        "secagg/query/joins.py",
        "left = self.filtered(self._join_pending())",
        "left = self._join_pending()",
        _SQL,
    ),
    Change(
        "options of SQL that nobody reads are passed over",
        "secagg/query/places.py",
        "if name in supported or value in (None, [], False):",
        "if True:",
        _REFUSALS,
    ),
    Change(
        "a sum has the range of one value",
        "secagg/query/inference.py",
        "lowest=min(low, low * rows), highest=max(high, high * rows)",
        "lowest=low, highest=high",
        _SQL,
    ),
    Change(
        "NOT LIKE is read as LIKE",
        "secagg/query/scalars.py",
        'return call("not", like) if node.args.get("negate") else like',
        "return like",
        _SQL,
    ),
    Change(
        "NOT IN takes values that may be NULL",
        "secagg/query/selects.py",
        "if negated and (value.domain.nullable or other.domain.nullable):",
        "if False:",
        _REFUSALS,
    ),
)
