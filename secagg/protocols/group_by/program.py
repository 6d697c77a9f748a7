"""The program that every party runs, in whatever roles the query gives it."""

from __future__ import annotations

from typing import Final

from secagg.mpc.engines import INPUT_KINDS, OPENING_KINDS, SET_UP_KINDS, receive_opening, set_up, share_input
from secagg.mpc.groups import XOR
from secagg.mpc.primitives import Primitives
from secagg.party import SHARED, Party
from secagg.protocols.group_by.announcement import Announced, announce
from secagg.protocols.group_by.engine import compute
from secagg.protocols.group_by.layout import Layout
from secagg.protocols.group_by.owner import PlacedRows
from secagg.protocols.group_by.query import Findings, Query, Rows
from secagg.protocols.pseudonyms import agree_hash_key

PHASES: Final = ("agree", "share", "check", "merge", "group", "test", "shuffle", "open")


async def find_groups(party: Party, query: Query, rows: Rows | None = None) -> Findings | None:
    """Take part in finding groups, in every role that the query gives this party.

    Args:
      query: the same at all parties.
      rows: what this party puts in, if it is an input party; read and fixed before this is called.

    Returns:
      An input party's findings about its own rows; None at the others.

    Raises:
      as `announce` and `find_announced`.
    """
    with party.phase("agree"):
        announced = await announce(party, query, rows)
    return await find_announced(party, query, announced)


async def find_announced(party: Party, query: Query, announced: Announced) -> Findings | None:
    """Take part in finding groups, once everybody has announced its rows.

    Raises:
      UsageError: an identifier that stands twice.
      PlanError: a bucket overflowed, or two rows of one party cannot be told apart by their pseudonyms, with a
        probability below 2**`Layout.log2_abort`; run again, which draws a new hash key.
      RemoteProtocolError: a peer sent what the protocol forbids, or put in a list that is not well-formed; see `lists`.
      PeerMissingError: as `Party.gather`.
    """
    with party.phase("agree"):
        layout = Layout.plan(query, list(announced.counts.values()))
        goes_on = party.checkpoints.resumes is not None
        if goes_on:
            key, engine = party.checkpoints.content()["key"], await _engine(party, query)
        else:
            key, engine = await party.parallel(hash_key(party, announced), _engine(party, query))
        table = None
        if announced.rows is not None and key is not None:
            table = PlacedRows.place(layout, announced.rows, key, party.me)
    if engine is not None:
        opened = await compute(engine, layout, table, key)
        return None if table is None or opened is None else table.read(opened)
    if not goes_on:
        party.checkpoints.keep(SHARED, {"key": key})
    if table is None:
        return None
    if not goes_on:
        with party.phase("share"):
            await share_input(party, query.computing_parties, XOR, table.planes())
    with party.phase("open"):
        return table.read(await receive_opening(party, query.computing_parties, XOR, table.opened_shape))


async def hash_key(party: Party, announced: Announced) -> bytes | None:
    """Return the hash key at an input party."""
    if announced.rows is None:
        return None
    # All have told this party what they heard, so nobody waits for one of these in an earlier protocol.
    later = (*SET_UP_KINDS, *INPUT_KINDS, *OPENING_KINDS)
    return await agree_hash_key(party, announced.contribution, announced.contributions, sent_before=later)


async def _engine(party: Party, query: Query) -> Primitives | None:
    """Return the engine at a computing party."""
    if party.me not in query.computing_parties:
        return None
    return await set_up(party, query.computing_parties, label="group by")
