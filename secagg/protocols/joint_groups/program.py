"""The program that every party runs, in whatever roles the query gives it."""

from __future__ import annotations

from typing import Final

from secagg.errors import RemoteProtocolError, UsageError
from secagg.mpc.replicated import XOR, Engine, check_computing, receive_opening, share_input
from secagg.party import Party
from secagg.protocols.joint_groups.engine import compute
from secagg.protocols.joint_groups.holder import PlacedRows
from secagg.protocols.joint_groups.layout import Layout
from secagg.protocols.joint_groups.query import Findings, Query, Rows
from secagg.protocols.pseudonyms import agree_hash_key
from secagg.wire import Message

PHASES: Final = ("agree", "share", "merge", "group", "test", "shuffle", "open")


class RowCount(Message, frozen=True):
    """How many rows an input party announces."""

    rows: int


async def find_groups(party: Party, query: Query, rows: Rows | None = None) -> Findings | None:
    """Take part in finding joint groups, in every role that the query gives this party.

    Args:
      query: the same at all parties.
      rows: what this party puts in, if it is an input party; read and fixed before this is called.

    Returns:
      An input party's findings about its own rows; None at the others.

    Raises:
      UsageError: rows without being an input party, or the other way round; see `Rows.check`.
      PlanError: a bucket overflowed, or two rows of one party cannot be told apart by their pseudonyms, with a
        probability below 2**`Layout.log2_abort`; run again, which draws a new hash key.
      RemoteProtocolError, PeerMissingError: as `Party.gather`.
    """
    check_computing(party, query.computing_parties)
    if (rows is not None) != (party.me in query.input_parties):
        raise UsageError(
            f"{party.me}: expected rows from input parties and nobody else ({query.input_parties})"
        )
    with party.phase("agree"):
        if rows is not None:
            rows.check(query)
        counts = await _announce(party, query, rows)
        layout = Layout.plan(query, counts)
        table = None
        if rows is not None:
            table = PlacedRows.place(layout, rows, await agree_hash_key(party, query.input_parties), party.me)
    if party.me not in query.computing_parties:
        if table is None:
            return None
        with party.phase("share"):
            await share_input(party, query.computing_parties, XOR, table.planes())
        with party.phase("open"):
            return table.read(await receive_opening(party, query.computing_parties, XOR, table.opened_shape))
    with party.phase("agree"):
        engine = await Engine.set_up(party, query.computing_parties, label="joint groups")
    opened = await compute(engine, layout, table)
    return None if table is None or opened is None else table.read(opened)


async def _announce(party: Party, query: Query, rows: Rows | None) -> list[int]:
    mine = 0
    if rows is not None:
        mine = -(-len(rows.identifiers) // query.round_rows_to) * query.round_rows_to
        party.broadcast(RowCount(mine))
    peers = [p for p in query.input_parties if p != party.me]
    messages = await party.gather(RowCount, peers)
    for peer, message in messages.items():
        if message.rows < 0 or message.rows % query.round_rows_to:
            raise RemoteProtocolError(
                f"expected a row count that is a multiple of {query.round_rows_to} from {peer}, got {message.rows}",
                peer=peer,
            )
    return [mine if p == party.me else messages[p].rows for p in query.input_parties]
