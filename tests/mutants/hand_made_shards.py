"""Changes to queries in shards, to workers on shards, and to sums that nodes compute together; see `hand_made`."""

from __future__ import annotations

from typing import Final

from change import Change

_DIVISION: Final = ("tests/query/test_division.py",)
_CHECKS: Final = ("tests/query/test_query_shards_checks.py",)
_WORKERS: Final = ("tests/jobs/test_shards.py",)

SHARDS: Final = (
    Change(
        "shares of a shard in which somebody lied go on to the main session",
        "secagg/mpc/arrays/handing_on.py",
        "    await engine.primitives.check()\n",
        "",
        ("tests/mpc/test_handing_on.py",),
    ),
    Change(
        "numbers of tables that are shared once may be outside their ranges",
        "secagg/query/shards.py",
        "checks = outside_ranges(once) + _of_all_shards",
        "checks = _of_all_shards",
        _CHECKS,
    ),
    Change(
        "one leaf is divided by two identifiers, and rows that belong together lie in two shards",
        "secagg/query/division.py",
        "        if any(found.get(local, column) != column for local, column in by.items()):\n            return None\n",
        "",
        _DIVISION,
    ),
    Change(
        "different values that several shards have are counted several times",
        "secagg/query/division.py",
        "return _Ways(tuple(way for way in ways if counted <= way.columns))",
        "return _Ways(ways)",
        _DIVISION,
    ),
    Change(
        "rows without a partner are one group a shard",
        "secagg/query/division.py",
        'of_both = one.columns | other.columns if relation.how == "inner" else one.columns',
        "of_both = one.columns | other.columns",
        _DIVISION,
    ),
    Change(
        "blocks of shards are sized as if each identifier had one row",
        "secagg/mpc/buckets.py",
        "enough = most * (math.log(lists * buckets) + OVERFLOW_BITS * math.log(2))",
        "enough = math.log(lists * buckets) + OVERFLOW_BITS * math.log(2)",
        _DIVISION,
    ),
    Change(
        "shares of another attempt are opened with those of this one",
        "secagg/jobs/shards/sharded.py",
        "msgspec.msgpack.encode([run, me, name])",
        "msgspec.msgpack.encode([run, me])",
        _WORKERS,
    ),
    Change(
        "workers do not compare whose certificates they were told",
        "secagg/jobs/shards/worker.py",
        "part in (name.encode(), pem)]",
        "part in (name.encode(),)]",
        _WORKERS,
    ),
    Change(
        "a node that lies of another is never the one that others do without",
        "secagg/federated/carrier.py",
        "found |= {*pair} if pair[1] in needed else set()",
        "found |= {pair[1]} if pair[1] in needed else set()",
        ("tests/federated/test_relayed_failures.py",),
    ),
    Change(
        "a server lets nodes compute that take no part in the sum",
        "secagg/federated/identities.py",
        "if name in chosen and name in nodes)",
        "if name in chosen)",
        ("tests/federated/test_relayed_failures.py",),
    ),
)
