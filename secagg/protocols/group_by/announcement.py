"""What input parties announce before anything depends on it, and that everybody was told the same.

An input party announces three things once, to everybody: how many rows it will put in (rounded up), a commitment to them,
and the digest of its contribution to the hash key. Then everybody tells everybody the digests of what it was told. So a
party that tells two others different things ends the run before a layout is made.

`protocols.announcements` says who is named where words differ.

Learns: everybody, the announced row counts. A commitment shows nothing of the rows without its salt, which its owner keeps.
Cost: 2 rounds; no arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from secagg.errors import RemoteProtocolError, UsageError
from secagg.mpc.engines import check_computing
from secagg.party import Party, PartyId
from secagg.prg import KEY_BYTES
from secagg.protocols.announcements import SALT_BYTES, check_digests, check_heard
from secagg.protocols.group_by.query import Query, Rows
from secagg.protocols.pseudonyms import digest_of_contribution, joined_text
from secagg.signing import DIGEST_BYTES, digest
from secagg.wire import Message

_LABEL: Final = "secagg.protocols.group_by"


class Asked(Protocol):
    """What an announcement has to fit: `Query` for one."""

    @property
    def input_parties(self) -> tuple[PartyId, ...]:
        """Who announces."""

    @property
    def computing_parties(self) -> tuple[PartyId, ...]:
        """Who computes."""

    @property
    def pad_rows_to(self) -> int:
        """Row counts are announced as multiples of this."""

    @property
    def row_limit(self) -> int:
        """The largest row count that one input party may announce."""

    def announced(self, rows: int) -> int:
        """Return the row count that an input party with so many rows announces."""


class Announcement(Message, frozen=True):
    """Input party -> everybody: row count, commitment to the rows, digest of the contribution to the hash key."""

    rows: int
    commitment: bytes
    contribution: bytes


class Heard(Message, frozen=True):
    """Everybody -> everybody: the digests of what the input parties announced to the sender, in their order."""

    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Announced:
    """What all input parties announced, the same at everybody; and what this party keeps for itself.

    Attributes:
      counts: the row count of each input party, in the query's order.
      commitments: each one's commitment to its rows; see `commitment`.
      contributions: the digest of each one's contribution to the hash key.
      rows: this party's, if it is an input party.
      salt: of its own commitment, b"" elsewhere; with it and the rows anybody can check the commitment.
      contribution: its own contribution to the hash key.
    """

    counts: Mapping[PartyId, int]
    commitments: Mapping[PartyId, bytes]
    contributions: Mapping[PartyId, bytes]
    rows: Rows | None = None
    salt: bytes = field(default=b"", repr=False)
    contribution: bytes = field(default=b"", repr=False)


def commitment(rows: Rows, salt: bytes, *, session: bytes, owner: PartyId) -> bytes:
    """Return the commitment to rows in their order, 32 bytes, as an auditor recomputes it from them and the salt.

    It is the SHA-256 of seven strings, each behind its length in 8 bytes, most significant first. The first five are
    "secagg", "secagg.protocols.group_by/rows", the session, the owner's name and the salt. Then come the identifiers in
    UTF-8, with a zero byte behind each. Last come the values row by row, 8 bytes each, least significant first. Session
    and name are in it so that nobody can announce another's commitment as its own.

    Args:
      rows: what the owner put in.
      salt: 32 bytes that the owner drew.
      session: of the run.
      owner: the party's name.

    Raises:
      UsageError: a salt of another length than 32 bytes.
      DataError: an identifier that holds a zero character, or is not valid Unicode text.
    """
    if len(salt) != SALT_BYTES:
        raise UsageError(f"expected a salt of {SALT_BYTES} bytes, got {len(salt)}")
    values = rows.values.astype("<u8", copy=False).tobytes()
    return digest(f"{_LABEL}/rows", [session, owner.encode(), salt, joined_text(rows.identifiers), values])


async def announce(party: Party, query: Query, rows: Rows | None = None) -> Announced:
    """Announce this party's rows, if it is an input party, and return what all announced.

    Args:
      rows: what this party puts in; read and fixed before this is called.

    Raises:
      UsageError: rows without being an input party, or the other way round; see `Rows.check`.
      RemoteProtocolError: an announcement that the query does not allow, or not the same to everybody.
    """
    check_computing(party, query.computing_parties)
    if rows is not None:
        rows.check(query)

    def commit(salt: bytes) -> bytes:
        return b"" if rows is None else commitment(rows, salt, session=party.session, owner=party.me)

    announced = await announce_count(party, query, None if rows is None else len(rows.identifiers), commit)
    return replace(announced, rows=rows)


async def announce_count(
    party: Party, asked: Asked, count: int | None, commit: Callable[[bytes], bytes]
) -> Announced:
    """Announce how many rows this party puts in, None if it is no input party; return what all announced, without rows.

    Args:
      commit: gives the commitment, 32 bytes, to this party's rows under a salt.

    Raises: as `announce`.
    """
    if (count is not None) != (party.me in asked.input_parties):
        raise UsageError(
            f"{party.me}: expected rows from input parties and nobody else ({asked.input_parties})"
        )
    told: dict[PartyId, Announcement] = {}
    salt = contribution = b""
    if count is not None:
        salt, contribution = party.rng.bytes(SALT_BYTES), party.rng.bytes(KEY_BYTES)
        told[party.me] = Announcement(
            asked.announced(count),
            commit(salt),
            digest_of_contribution(party.session, party.me, contribution),
        )
        party.broadcast(told[party.me])
    told |= await party.gather(Announcement, [p for p in asked.input_parties if p != party.me])
    for peer, announcement in told.items():
        _check(announcement, asked, peer)
    ordered = {name: told[name] for name in asked.input_parties}
    await _compare(party, asked, ordered)
    return Announced(
        {name: a.rows for name, a in ordered.items()},
        {name: a.commitment for name, a in ordered.items()},
        {name: a.contribution for name, a in ordered.items()},
        None,
        salt,
        contribution,
    )


def _check(announcement: Announcement, asked: Asked, peer: PartyId) -> None:
    rows = announcement.rows
    if rows < 0 or rows % asked.pad_rows_to or rows > asked.row_limit:
        multiple = f"a multiple of {asked.pad_rows_to}, " if asked.pad_rows_to > 1 else ""
        raise RemoteProtocolError(
            f"expected a row count from {peer} that is {multiple}0 to {asked.row_limit} (max_rows), got {rows}",
            peer=peer,
        )
    check_digests(announcement.commitment, announcement.contribution, peer)


async def _compare(party: Party, asked: Asked, told: Mapping[PartyId, Announcement]) -> None:
    """Compare with everybody what the input parties announced."""
    mine = tuple(_digest(party.session, name, a) for name, a in told.items())
    party.broadcast(Heard(mine))
    max_bytes = 2 * DIGEST_BYTES * len(asked.input_parties)
    heard = await party.gather(Heard, party.others, max_bytes=max_bytes)
    digests = {peer: message.digests for peer, message in heard.items()}
    check_heard(party.me, dict(zip(told, mine, strict=True)), digests, asked.computing_parties)


def _digest(session: bytes, announcer: PartyId, a: Announcement) -> bytes:
    parts = [session, announcer.encode(), a.rows.to_bytes(8, "big"), a.commitment, a.contribution]
    return digest(f"{_LABEL}/announcement", parts)
