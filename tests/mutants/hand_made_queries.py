"""Changes to what SQL becomes; see `hand_made`."""

from __future__ import annotations

from typing import Final

from change import Change

_SQL: Final = ("tests/query/test_sql.py",)
_REFUSALS: Final = ("tests/query/test_refusals.py",)
_DIVISION: Final = ("tests/query/test_division.py",)
_SHARDS: Final = ("tests/query/test_query_shards.py",)
_CHECKS: Final = ("tests/query/test_query_shards_checks.py",)

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
    Change(
        "capacities of shards are those of identifiers with one row",
        "secagg/mpc/buckets.py",
        "enough = most * (math.log",
        "enough = 1 * (math.log",
        _DIVISION,
    ),
    Change(
        "rows of shards are shared though they do not fit",
        "secagg/query/shards.py",
        "if fullest > block.rows:",
        "if False:",
        _CHECKS,
    ),
    Change(
        "an owner's rows over all shards are compared with nothing",
        "secagg/query/shards.py",
        "more = total > announced[leaf.local, block.holder]",
        "more = total > d.shards * block.rows",
        _CHECKS,
    ),
    Change(
        "rows in other shards than theirs are asked for nowhere",
        "secagg/query/blocks.py",
        "wrong = is_negative(moves.stack([values - low, -(values - high)])).any(axis=0) & table.valid\n",
        "wrong = table.valid & ~table.valid\n",
        _CHECKS,
    ),
    Change(
        "rows in other shards than theirs tell whether others have such a group",
        "secagg/query/shards.py",
        "bit & ~elsewhere",
        "bit",
        _CHECKS,
    ),
    Change(
        "what is wrong in the first shard alone ends a run",
        "secagg/query/shards.py",
        "(_any([one.wrong[i][0] for one in several]), what)",
        "(_any([one.wrong[i][0] for one in several[:1]]), what)",
        _CHECKS,
    ),
    Change(
        "the right side's identifier divides what stands above a left join",
        "secagg/query/division.py",
        'one.columns | other.columns if relation.how == "inner" else one.columns',
        "one.columns | other.columns",
        _DIVISION,
    ),
    Change(
        "an identifier that may be NULL divides a table",
        "secagg/query/division.py",
        "if not column.domain.nullable and not any(",
        "if not any(",
        _DIVISION,
    ),
    Change(
        "counts of shards are counted",
        "secagg/query/division.py",
        '"count": "sum"',
        '"count": "count"',
        _SHARDS,
    ),
    Change(
        "distinct counts of anything add up over shards",
        "secagg/query/division.py",
        "for way in ways if counted <= way.columns",
        "for way in ways",
        _SHARDS,
    ),
    Change(
        "owners' rows of one identifier are not counted",
        "secagg/query/owner.py",
        "if isinstance(kind, Identifier) and kind.max_rows is not None:",
        "if False:",
        _DIVISION,
    ),
)
