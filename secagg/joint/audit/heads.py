"""What a party states of its log before a run, and whether a peer's statement fits what it stated before.

A statement is the log's length, and of each of its last entries the hash and the session. The log's owner signs it
(`jobs.gates`), and each peer keeps it in its own log. So a log that is cut, restored from a backup or written anew is no
longer what peers remember. A peer refuses the run:

- if the log is shorter than it was, or has another hash at the remembered place;
- if it lacks the last run that both completed.

Where that lies before the entries that are stated, `compare` finds it, which reads whole logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec

from secagg.errors import RemoteProtocolError, UsageError
from secagg.jobs.gates import GateStatements, from_record
from secagg.joint.audit.entry import ANEW, END, START, Entry
from secagg.party import PartyId

GATE: Final = "audit"
_SHOWN: Final = 64  # hashes in a statement: 2 KB of the 32 that all gates share
_Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_SESSION_BYTES: Final = 16  # of a session's 32: enough to find it, and of no use to anybody who was not in it
_Session = Annotated[bytes, msgspec.Meta(max_length=_SESSION_BYTES)]


class Heads(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a party states of its log.

    Attributes:
      length: how many entries it has.
      hashes: of the last of them, in their order, at most 64.
      sessions: of each of these the first bytes of the session that it begins; b"" where it begins none.
    """

    length: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
    hashes: Annotated[list[_Hash], msgspec.Meta(min_length=1, max_length=_SHOWN)]
    sessions: list[_Session]

    @property
    def head(self) -> bytes:
        """Return the hash of the last entry."""
        return self.hashes[-1]

    def hash_at(self, length: int) -> bytes | None:
        """Return the hash of the last entry of so many; None where the statement does not say."""
        place = length - 1 - self.first
        return self.hashes[place] if 0 <= place < len(self.hashes) else None

    def lacks(self, session: str, *, since: int) -> bool:
        """Return whether no entry from a place on begins a session; False where the statement begins later than there."""
        return self.first <= since and _short(session) not in self.sessions[since - self.first :]

    @property
    def first(self) -> int:
        """Return the place of the first entry of which the statement tells."""
        return self.length - len(self.hashes)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a peer stated of its log in an earlier run, as this party's log has it.

    Attributes:
      session: of that run.
      shared: whether the peer shared data in it, and so wrote that it begins.
    """

    heads: Heads
    session: str
    shared: bool


def stated(entries: Sequence[Entry]) -> Heads:
    """Return what is stated of a log."""
    last = entries[-_SHOWN:]
    sessions = [_short(entry.content["session"]) if entry.event == START else b"" for entry in last]
    return Heads(len(entries), [entry.hash for entry in last], sessions)


def decoded(statement: bytes, peer: PartyId) -> Heads:
    """Return a peer's statement.

    Raises:
      RemoteProtocolError: it is none.
    """
    try:
        heads = msgspec.msgpack.decode(statement, type=Heads)
    except (msgspec.MsgspecError, RecursionError):
        heads = None
    if heads is None or not len(heads.hashes) == len(heads.sessions) == min(heads.length, _SHOWN):
        raise RemoteProtocolError(
            f"expected the length and the last hashes of {peer}'s audit log, got something else; does {peer} run the "
            "same release?",
            peer=peer,
        )
    return heads


def remembered(entries: Iterable[Entry]) -> dict[PartyId, Remembered]:
    """Return what each peer last stated of its log, by this party's log; peers that may begin anew are left out.

    Raises:
      UsageError: an entry holds other statements than a party writes.
    """
    found: dict[PartyId, Remembered] = {}
    for entry in entries:
        if entry.event == START:
            me = entry.content["party"]
            for peer, heads in heads_in(entry).items():
                if peer != me:
                    found[peer] = Remembered(heads, str(entry.content.get("session")), shared=False)
        elif entry.event == END and entry.content.get("outcome") == "complete":
            ended = str(entry.content.get("session"))
            found |= {peer: replace(one, shared=True) for peer, one in found.items() if one.session == ended}
        elif entry.event == ANEW:
            found.pop(str(entry.content.get("peer")), None)
    return found


def statements_in(entry: Entry) -> dict[PartyId, GateStatements]:
    """Return what the gates of each party stated before a run, by the entry of its start.

    Raises:
      UsageError: it holds something else.
    """
    told: Any = entry.content.get("stated")
    if not isinstance(told, Mapping):
        raise UsageError(
            f"expected what gates stated in entry {entry.number} of the audit log, got something else"
        )
    return {str(peer): from_record(one) for peer, one in told.items()}


def heads_in(entry: Entry) -> dict[PartyId, Heads]:
    """Return what each party stated of its log before a run; errors as `statements_in`."""
    try:
        return {
            peer: decoded(message.statements[GATE], peer) for peer, message in statements_in(entry).items()
        }
    except (KeyError, RemoteProtocolError):
        raise UsageError(
            f"expected what each party stated of its audit log in entry {entry.number}, got something else"
        ) from None


def check_peer(peer: PartyId, now: Heads, before: Remembered) -> None:
    """Check that a peer's log has grown from what the peer stated before.

    Raises:
      RemoteProtocolError: it has not.
    """
    then = before.heads
    at = now.hash_at(then.length)
    lost = before.shared and now.lacks(before.session, since=then.length)
    if now.length >= then.length and at in (None, then.head) and not lost:
        return
    if lost and at == then.head:
        how = f"lacks session {before.session[:16]}, in which it shared data: it was cut"
    elif now.length < then.length:
        how = (
            f"had {then.length} entries in session {before.session[:16]} and has {now.length} now: it was cut"
        )
    else:
        how = (
            f"has another entry {then.length - 1} than in session {before.session[:16]}: it was written anew"
        )
    raise RemoteProtocolError(
        f"{peer}'s audit log {how}, or restored from a backup. Ask {peer} for the reason; if its log was lost and all "
        f"agree that it begins anew, run `secagg audit anew {peer} --reason TEXT`",
        peer=peer,
    )


def _short(session: object) -> bytes:
    try:
        return bytes.fromhex(str(session))[:_SESSION_BYTES]
    except ValueError:
        raise UsageError("expected a session in hexadecimal in the audit log, got something else") from None
