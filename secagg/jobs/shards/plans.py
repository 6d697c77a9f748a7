"""A query's plan, shard by shard: workers compute what is below the cut, and the main session what is above it.

Workers keep nothing. Each hands back its party's shares of what the shard leaves, and the main process takes them up in a
session of its own. So no worker opens anything of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

from secagg.jobs.query_in_shards import PlanInShards, plan_of, terms_of, told_terms
from secagg.jobs.shards.sharded import QUERY, Kept, Plain, Sharded
from secagg.party import Party
from secagg.query.shards import Division, KeptShard, compute_shard


def plan_in_shards(plan: PlanInShards, division: Division) -> Sharded:
    """Return this party's division of rows as what workers work on."""

    def own(shard: int) -> Plain | None:
        blocks = division.own(shard)
        return None if blocks is None else {"blocks": [list(block) for block in blocks]}

    counts = {owner: list(of_owner) for owner, of_owner in plan.announced.counts.items()}
    public = {**plan.texts, "terms": told_terms(plan.terms), "counts": counts}
    return Sharded(QUERY, plan.terms.shards, public, own)


async def do(
    party: Party,
    step: str,  # noqa: ARG001  # one step
    shard: int,
    public: Plain,
    own: Plain | None,
    kept: Kept,  # noqa: ARG001
) -> Plain:
    """Compute a shard; see `sharded.Does`.

    Returns:
      at a computing party, its shares of what the shard leaves.
    """
    terms = terms_of(public["terms"])
    counts = {owner: tuple(of_owner) for owner, of_owner in public["counts"].items()}
    blocks = None if own is None else [(integers, bits) for integers, bits in own["blocks"]]
    found = await compute_shard(party, plan_of(public, terms), terms, counts, shard, blocks)
    return {} if found is None else {"arrays": [list(arrays) for arrays in found.arrays]}


def kept_shards(computed: Sequence[Plain]) -> list[KeptShard | None]:
    """Return what workers handed back, shard by shard; None outside the computing parties."""
    return [KeptShard(one["arrays"]) if "arrays" in one else None for one in computed]
