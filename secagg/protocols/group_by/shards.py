"""Groups found shard by shard: each shard in a session of its own, and one check over all of them.

A shard is a run of the table's buckets. A row's shard is the leading bits of its bucket's number, which are bits of its
joint pseudonym. Everything that the protocol does to rows stays within a bucket, so a shard needs no other one.

  divide     the input parties draw the hash key and divide their rows; whose bucket overflows ends the run before it
             shares anything
  compute    for each shard: share, check, merge, group, test, shuffle; the computing parties keep shares of the shuffled
             rows, and of how many rows each list has there
  settle     these numbers are added up over all shards; one bit a list tells whether it has more rows than announced
  open       for each shard: which list each place came from to the computing parties, then each row to its owner

The caller sees to it that all shards are computed, and settled, before any is opened. Between `compute` and `open` shares
wait for another session, which makes them anew. A `compute` that broke off is done again, with other keys and masks. An
`open` that broke off opens the same rows to the same owners.

Threat model: as the package. Learns: as the package, and nobody anything else; docs/soundness-shards.md. What is
opened of a bucket is what a run in one piece opens of it. Cost: `engine.cost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError, UsageError
from secagg.mpc.checkpoints import refreshed
from secagg.mpc.engines import receive_opening, set_up, share_input
from secagg.mpc.groups import XOR, Array
from secagg.party import Party
from secagg.protocols.group_by.announcement import Announced, announce
from secagg.protocols.group_by.engine import open_to_owners, shuffled
from secagg.protocols.group_by.layout import Layout
from secagg.protocols.group_by.lists import check_counts
from secagg.protocols.group_by.owner import PlacedRows
from secagg.protocols.group_by.program import hash_key
from secagg.protocols.group_by.query import Findings, Query, Rows
from secagg.protocols.pseudonyms import pseudonyms
from secagg.ring import U64

_LABEL: Final = "group by shard"


@dataclass(frozen=True, slots=True, eq=False)
class OwnRows:
    """An input party's rows in one shard: no identifiers, and no key to make pseudonyms with.

    Attributes:
      words: pseudonyms, shape (n, 2).
      values: shape (n, fields).
    """

    words: U64
    values: U64

    def __repr__(self) -> str:
        return f"<OwnRows {len(self.values)}>"


@dataclass(frozen=True, slots=True, eq=False)
class KeptShard:
    """What a computing party holds of a shard that is computed and not opened: its shares.

    Attributes:
      rows: of the shuffled rows.
      counted: of how many rows each list has in the shard, lowest bit first.
    """

    rows: Sequence[Array] = field(repr=False)
    counted: Sequence[Array] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """A party's rows, divided into shards.

    Attributes:
      layout: of each shard.
      order: the row numbers of all shards, one shard after the other; None at a party that puts in none.
      begins: where each shard begins in `order`, and where the last one ends.
      words: of all rows, in the order of shards.
      values: of all rows, in their own order.
    """

    layout: Layout
    order: NDArray[np.int64] | None = None
    begins: NDArray[np.int64] | None = None
    words: U64 | None = field(default=None, repr=False)
    values: U64 | None = field(default=None, repr=False)

    def own(self, shard: int) -> OwnRows | None:
        """Return this party's rows in a shard, None at a party that puts in none."""
        if self.order is None or self.begins is None or self.words is None or self.values is None:
            return None
        where = slice(int(self.begins[shard]), int(self.begins[shard + 1]))
        return OwnRows(self.words[where], self.values[self.order[where]])

    def findings(self, of_shards: Sequence[Findings]) -> Findings:
        """Return the findings about all rows from those about the rows of each shard.

        Raises:
          UsageError: there are not as many of them as shards, or this party put in no rows.
        """
        if self.order is None or len(of_shards) != self.layout.shards:
            raise UsageError(
                f"expected findings of {self.layout.shards} shards at an input party, got {len(of_shards)}"
            )
        flagged = np.zeros(len(self.order), bool)
        sums = np.zeros((len(self.order), len(self.layout.query.opened)), np.uint64)
        flagged[self.order] = np.concatenate([f.flagged for f in of_shards])
        sums[self.order] = np.concatenate([f.sums for f in of_shards])
        return Findings(flagged, sums, self.layout.log2_false_match)


async def find_shard_after_shard(
    party: Party, query: Query, rows: Rows | None = None, *, shards: int
) -> Findings | None:
    """Take part in finding groups, shard after shard in one session: for tests, and to see what shards cost.

    Args:
      shards: a power of two from 2.

    Raises: as `announce`, `divide`, `compute_shard`, `settle` and `open_shard`.
    """
    with party.phase("agree"):
        announced = await announce(party, query, rows)
    division = await divide(party, query, announced, shards=shards)
    layout, numbers = division.layout, range(shards)
    kept = [await compute_shard(party, layout, division.own(k), label=str(k)) for k in numbers]
    await settle(party, layout, [k.counted for k in kept if k is not None])
    found = [await open_shard(party, layout, division.own(k), kept[k], label=str(k)) for k in numbers]
    return None if rows is None else division.findings([f for f in found if f is not None])


async def divide(party: Party, query: Query, announced: Announced, *, shards: int) -> Division:
    """Agree on the hash key, and divide this party's rows into shards.

    Args:
      shards: a power of two from 2.

    Raises:
      PlanError: another number of shards, or a bucket of this party overflows; see `Layout.log2_abort`. Nothing was shared.
      RemoteProtocolError: as `agree_hash_key`.
    """
    if shards < 2:
        raise PlanError(f"expected 2 shards or more, got {shards}")
    with party.phase("agree"):
        layout = Layout.plan(query, list(announced.counts.values()), shards=shards)
        key = await hash_key(party, announced)
        if announced.rows is None or key is None:
            return Division(layout)
        words = pseudonyms(key, announced.rows.identifiers)
        bucket = (words[:, 0] & np.uint64(layout.all_buckets - 1)).astype(np.int64)
        capacity = layout.buckets.capacities[query.input_parties.index(party.me)]
        fullest = int(np.max(np.bincount(bucket, minlength=1), initial=0))
        if fullest > capacity:
            raise PlanError(
                f"more than the {capacity} rows that are kept for this party fell into one bucket, which happens at most "
                f"once in 2**40 runs; nothing was shared; run again, which draws a new hash key"
            )
        shard = bucket // layout.buckets.buckets
        order = np.argsort(shard, kind="stable")
        begins = np.searchsorted(shard[order], np.arange(shards + 1))
        return Division(layout, order, begins, words[order], announced.rows.values)


async def compute_shard(
    party: Party, layout: Layout, own: OwnRows | None, *, label: str = ""
) -> KeptShard | None:
    """Compute a shard up to its opening; return what a computing party keeps.

    Args:
      label: tells apart the shards of one session.

    Raises:
      PlanError: two rows of this party cannot be told apart; see `Layout.log2_abort`.
      UsageError: an identifier that stands twice.
      RemoteProtocolError: a peer sent what the protocol forbids, or put in a list that is not well-formed.
    """
    table = None if own is None else PlacedRows.of(layout, own.words, own.values, party.me)
    computing = layout.query.computing_parties
    if party.me in computing:
        engine = await set_up(party, computing, label=f"{_LABEL} {label}")
        rows, counted = await shuffled(engine, layout, table)
        await engine.check()
        if counted is None:
            raise UsageError("expected a shard of several, got the layout of a table in one piece")
        return KeptShard(rows.parts, counted.parts)
    if table is not None:
        with party.phase("share"):
            await share_input(party, computing, XOR, table.planes())
    return None


async def settle(party: Party, layout: Layout, counted: Sequence[Sequence[Array]]) -> None:
    """Check over all shards that no list has more rows than its owner announced; outside the computing parties, nothing.

    Args:
      counted: `KeptShard.counted` of each shard, at a computing party.

    Raises:
      RemoteProtocolError: a list has more; its owner is named, and nothing was opened.
    """
    computing = layout.query.computing_parties
    if party.me not in computing:
        return
    if len(counted) != layout.shards:
        raise UsageError(f"expected the numbers of rows of {layout.shards} shards, got {len(counted)}")
    with party.phase("check"):
        engine = await set_up(party, computing, label=f"{_LABEL}: settle")
        await check_counts(await refreshed(engine, [(XOR, parts) for parts in counted]), layout)


async def open_shard(
    party: Party, layout: Layout, own: OwnRows | None, kept: KeptShard | None, *, label: str = ""
) -> Findings | None:
    """Open a shard that was computed; return the findings about this party's rows in it.

    Args:
      kept: of `compute_shard`, at a computing party; from the same session at all computing parties.
      label: tells apart the shards of one session.

    Raises:
      RemoteProtocolError: what is opened is not what was put in.
    """
    table = None if own is None else PlacedRows.of(layout, own.words, own.values, party.me)
    computing = layout.query.computing_parties
    opened = None
    if party.me in computing:
        if kept is None:
            raise UsageError(f"expected what {party.me} keeps of the shard, got nothing")
        engine = await set_up(party, computing, label=f"{_LABEL} {label}: open")
        with party.phase("open"):
            (rows,) = await refreshed(engine, [(XOR, kept.rows)])
            opened = await open_to_owners(rows, layout)
    elif table is not None:
        with party.phase("open"):
            opened = await receive_opening(party, computing, XOR, table.opened_shape)
    return None if table is None or opened is None else table.read(opened)
