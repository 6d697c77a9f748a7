"""What input parties announce before a query is computed, and that everybody was told the same, under the same rules.

An input party announces once, to everybody: how many rows each of its tables puts in (rounded up), a commitment to them,
and the digest of its contribution to the key of the pseudonyms. Then everybody tells everybody the digest of what it was
told. Both messages have the digest of the owners' rules that the sender applied. So a party that tells two others different
things, or applies other rules, ends the run before anything is computed. `protocols.announcements` says who is named.

Learns: everybody, the announced row counts. A commitment shows nothing of the rows without its salt, which its owner keeps.
Cost: 2 rounds; no arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from secagg.errors import RemoteProtocolError
from secagg.party import Party, PartyId
from secagg.prg import KEY_BYTES
from secagg.protocols.announcements import SALT_BYTES, check_digests, check_heard
from secagg.protocols.pseudonyms import digest_of_contribution, joined_text
from secagg.query.encoding import Encoded
from secagg.signing import DIGEST_BYTES, digest
from secagg.wire import Message

_LABEL: Final = "secagg.query"


class QueryRows(Message, frozen=True):
    """Input party -> everybody: row counts, commitment to the rows, digest of the contribution to the key.

    Attributes:
      rules: digest of the rules that the sender applied; b"" for none.
    """

    rows: tuple[int, ...]
    commitment: bytes
    contribution: bytes
    rules: bytes


class QueryHeard(Message, frozen=True):
    """Everybody -> everybody: the digests of what the input parties announced to the sender, in their order; and `rules`."""

    digests: tuple[bytes, ...]
    rules: bytes


@dataclass(frozen=True, slots=True)
class Announced:
    """What all input parties announced, the same at everybody; and what this party keeps for itself.

    Attributes:
      counts: of each input party, the announced rows of each of its tables.
      commitments: each one's commitment to its rows; see `commitment`.
      contributions: the digest of each one's contribution to the key.
      salt: of its own commitment, b"" elsewhere.
      contribution: its own contribution to the key.
    """

    counts: Mapping[PartyId, tuple[int, ...]]
    commitments: Mapping[PartyId, bytes]
    contributions: Mapping[PartyId, bytes]
    salt: bytes = field(default=b"", repr=False)
    contribution: bytes = field(default=b"", repr=False)


def commitment(columns: Sequence[Encoded], salt: bytes, *, session: bytes, owner: PartyId) -> bytes:
    """Return the commitment to an owner's columns in their order, 32 bytes.

    It is the digest of the session, the owner's name, the salt, and for each column its name, its integers (8 bytes each,
    least significant first) or texts (in UTF-8, a zero byte behind each), and its bits for NULL, a byte each.

    Raises:
      DataError: an identifier that holds a zero character, or is not valid Unicode text.
    """
    parts = [session, owner.encode(), salt]
    for column in columns:
        held = (
            joined_text(column.values)
            if column.of.kind == "identifier"
            else np.ascontiguousarray(column.values, "<i8").tobytes()
        )
        parts += [column.of.name.encode(), held, b"" if column.null is None else column.null.tobytes()]
    return digest(f"{_LABEL}/rows", parts)


async def announce(
    party: Party,
    counts: Mapping[PartyId, tuple[int, int]],
    mine: tuple[tuple[int, ...], Sequence[Encoded]] | None,
    *,
    step: int,
    computing: Sequence[PartyId],
    rules: bytes = b"",
) -> Announced:
    """Announce this party's rows, if it is an input party, and return what all announced.

    Args:
      counts: of each input party, in their order, how many tables it has and the largest row count of each.
      mine: this party's row counts, rounded up, and its columns.
      step: counts are multiples of it, but for tables of a fixed number of rows.
      computing: the computing parties.
      rules: digest of the rules that this party applied, b"" for none.

    Raises:
      RemoteProtocolError: an announcement that the plan does not allow, or not the same to everybody; or a party applies
        other rules.
    """
    told: dict[PartyId, QueryRows] = {}
    salt = contribution = b""
    if mine is not None:
        rows, columns = mine
        salt, contribution = party.rng.bytes(SALT_BYTES), party.rng.bytes(KEY_BYTES)
        told[party.me] = QueryRows(
            rows,
            commitment(columns, salt, session=party.session, owner=party.me),
            digest_of_contribution(party.session, party.me, contribution),
            rules,
        )
        party.broadcast(told[party.me])
    told |= await party.gather(QueryRows, [p for p in counts if p != party.me])
    for peer, announced in told.items():
        _check_rules(party.me, rules, peer, announced.rules)
        _check(announced, *counts[peer], peer, step)
    ordered = {name: told[name] for name in counts}
    await _compare(party, ordered, rules, computing)
    return Announced(
        {name: a.rows for name, a in ordered.items()},
        {name: a.commitment for name, a in ordered.items()},
        {name: a.contribution for name, a in ordered.items()},
        salt,
        contribution,
    )


def _check(announced: QueryRows, tables: int, most: int, peer: PartyId, step: int) -> None:
    rows = announced.rows
    if len(rows) != tables or any(not 0 <= n <= most or n % step for n in rows):
        multiple = f", multiples of {step}" if step > 1 else ""
        raise RemoteProtocolError(
            f"expected {tables} row counts from {peer}, 0 to {most} (max_rows){multiple}, got {rows}",
            peer=peer,
        )
    check_digests(announced.commitment, announced.contribution, peer)


async def _compare(
    party: Party, told: Mapping[PartyId, QueryRows], rules: bytes, computing: Sequence[PartyId]
) -> None:
    """Compare with everybody what the input parties announced, and which rules are applied."""
    mine = {name: _digest(party.session, name, a) for name, a in told.items()}
    party.broadcast(QueryHeard(tuple(mine.values()), rules))
    heard = await party.gather(QueryHeard, party.others, max_bytes=2 * DIGEST_BYTES * (len(told) + 1))
    for peer, message in heard.items():
        _check_rules(party.me, rules, peer, message.rules)
    check_heard(party.me, mine, {peer: message.digests for peer, message in heard.items()}, computing)


def _check_rules(me: PartyId, mine: bytes, peer: PartyId, theirs: bytes) -> None:
    if theirs != mine:
        raise RemoteProtocolError(
            f"{me} applies {_named(mine)}, and {peer} {_named(theirs)}: compare the owners' rule files and who gets the "
            "result; nothing was computed",
            peer=peer,
        )


def _named(rules: bytes) -> str:
    return f"rules of digest {rules.hex()[:16]}" if rules else "no rules"


def _digest(session: bytes, announcer: PartyId, a: QueryRows) -> bytes:
    counts = b"".join(n.to_bytes(8, "big") for n in a.rows)
    return digest(
        f"{_LABEL}/announcement", [session, announcer.encode(), counts, a.commitment, a.contribution]
    )
