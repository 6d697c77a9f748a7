"""Groups of owners' rows, shard by shard: `compute` keeps shuffled rows, and `open` tells owners of theirs.

Between them stands the check of the main session, that no list has more rows than announced (`settle`).
"""

from __future__ import annotations

from secagg.jobs.shards.sharded import COMPUTE, GROUPS, Kept, Plain, Sharded
from secagg.party import Party
from secagg.protocols.group_by import Field, Layout, Query
from secagg.protocols.group_by.shards import Division, KeptShard, OwnRows, compute_shard, open_shard


def groups_in_shards(division: Division) -> Sharded:
    """Return this party's division of rows as what workers work on."""

    def own(shard: int) -> Plain | None:
        rows = division.own(shard)
        return None if rows is None else {"words": rows.words, "values": rows.values}

    return Sharded(GROUPS, division.layout.shards, told_layout(division.layout), own)


async def do(
    party: Party,
    step: str,
    shard: int,  # noqa: ARG001  # a bucket is one of a shard by where it stands
    public: Plain,
    own: Plain | None,
    kept: Kept,
) -> Plain:
    """Do a step of a shard; see `sharded.Does`.

    Returns:
      of `compute`, at a computing party, shares of how many rows each list has; of `open`, at an input party, its findings.
    """
    layout = layout_of(public)
    rows = None if own is None else OwnRows(own["words"], own["values"])
    if step == COMPUTE:
        computed = await compute_shard(party, layout, rows)
        if computed is None:
            return {}
        kept.write({"rows": list(computed.rows), "counted": list(computed.counted)})
        return {"counted": list(computed.counted)}
    computed = None
    if party.me in layout.query.computing_parties:
        content = kept.read()
        computed = KeptShard(content["rows"], content["counted"])
    found = await open_shard(party, layout, rows, computed)
    return {} if found is None else {"flagged": found.flagged, "sums": found.sums}


def told_layout(layout: Layout) -> Plain:
    """Return a layout as plain data."""
    query = layout.query
    return {
        "input": list(query.input_parties),
        "computing": list(query.computing_parties),
        "fields": [[f.name, f.max, f.at_least, f.below, f.opened] for f in query.fields],
        "pad_rows_to": query.pad_rows_to,
        "max_rows": query.max_rows,
        "counts": list(layout.buckets.counts),
        "shards": layout.shards,
    }


def layout_of(told: Plain) -> Layout:
    """Return the layout that `told_layout` made plain; raises `PlanError` for what is none."""
    query = Query(
        tuple(told["input"]),
        tuple(told["computing"]),
        tuple(Field(*of_field) for of_field in told["fields"]),
        told["pad_rows_to"],
        told["max_rows"],
    )
    return Layout.plan(query, told["counts"], shards=told["shards"])
