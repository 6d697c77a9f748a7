"""One process a party: TLS 1.3 between parties that pinned each other's certificates.

`run_party` connects to everybody (see `meeting`) and runs the program. It ends with the program's result and its ledger,
or, on every side, with an error that names whose doing it was.

What carries the frames while it runs is in `driver`.

How long a fault can go unnoticed: a connection that ends is noticed at once. A peer from which nothing comes, not even a
heartbeat, is noticed after `silence_s`. A live peer that never sends what is waited for is noticed after `message_s`
without progress. Progress of those whom it says it waits for counts too (see `waiting`). Whoever notices tells the
others, who end too. With a quorum the program goes on without it.

Of a long message the beginning is read first. What answers a request is taken if it is of the kind that is asked for, and
no longer than the request and `max_frame_bytes` say. What nobody has asked for is bounded too. A party holds at most
`max_unread_bytes` of a peer's unrequested messages, and one message more that is no longer than that. `mailbox.Room`
bounds their number and lanes. Of a peer that is so far ahead nothing more is read until the program has caught up: it
waits, and no other peer does. A peer that is waited for cannot be made to wait. If it is so far ahead with what nobody
has asked for, the run ends with an error that names it. What is sent to a peer that takes nothing is bounded by
`max_unread_bytes` too, where the program goes on without it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from cryptography import x509

from secagg import wire
from secagg.errors import UsageError
from secagg.ledger import Ledger
from secagg.mailbox import DEFAULT_ROOM
from secagg.network.driver import Driver
from secagg.network.hello import AGREEMENT_BYTES
from secagg.network.identity import Identity, check_certificate
from secagg.network.meeting import Attendance, Meeting
from secagg.network.memory import keep_freed_memory
from secagg.network.pinning import Tls
from secagg.network.sockets import Address
from secagg.network.waiting import Timeouts
from secagg.party import Party, PartyId, Program

__all__ = ["MAX_UNREAD_BYTES", "Peer", "Timeouts", "run_party", "run_party_insecure_plain"]

T = TypeVar("T")

MAX_UNREAD_BYTES: Final = DEFAULT_ROOM.nbytes
_TIMEOUTS: Final = Timeouts()


@dataclass(frozen=True, slots=True)
class Peer:
    """A party of the run: its name, where it listens, and its certificate."""

    name: PartyId
    host: str
    port: int
    certificate: x509.Certificate


def run_party(
    program: Program[T],
    *,
    me: PartyId,
    identity: Identity,
    peers: Sequence[Peer],
    listen: Address,
    agreement: bytes,
    fields: Mapping[str, bytes] = MappingProxyType({}),
    timeouts: Timeouts = _TIMEOUTS,
    max_frame_bytes: int = wire.MAX_FRAME_BYTES,
    max_unread_bytes: int = MAX_UNREAD_BYTES,
    keep_memory: bool = True,
    prepare: Callable[[Party], None] | None = None,
    on_meeting: Callable[[Attendance], None] | None = None,
    on_progress: Callable[[Party], None] | None = None,
) -> tuple[T, Ledger]:
    """Run one party's program with the others over TLS; return its result and what it cost.

    Args:
      program: from the party to its coroutine; called when everybody is there and agrees.
      me, identity: this party.
      peers: all parties, this one among them, in the same order everywhere.
      listen: address and port to listen at; the others know it as this party's `Peer.host` and `.port`, which
        may differ from it behind a firewall.
      agreement: 32-byte digest of what all parties agreed to run.
      fields: 16-byte digests of its parts by their names, with which a difference is named.
      max_frame_bytes: the longest frame taken from a peer, whatever the program asks for.
      max_unread_bytes: how much a peer that is ahead may send before it is made to wait, also in one message. A peer that
        is waited for and sends more than this of what is not asked for is named by an error.
      keep_memory: keep what arrays free for the next ones, in the whole process (see `memory`).
      prepare: called in a thread of its own once everybody is there, before the program. A peer that ends the run
        meanwhile ends this party too, which then leaves the thread behind.
      on_meeting: called some twenty times a second while others are missing, in the calling thread.
      on_progress: called about four times a second and at each new phase, in the calling thread.

    Raises:
      UsageError: names, certificates or addresses that cannot be used; the port is in use.
      JobError, AuthenticationError, RemoteProtocolError, AbortedError, PeerVanishedError: as in `Meeting.meet`,
        or while the program ran.
      Exception: whatever the program raises.
    """
    certificates = {peer.name: peer.certificate for peer in peers}
    if len(certificates) != len(peers) or me not in certificates or identity.name != me:
        raise UsageError(
            f"expected {me}'s identity and peers of distinct names with {me} among them, got the identity of "
            f"{identity.name} and {', '.join(peer.name for peer in peers)}"
        )
    for name, certificate in certificates.items():
        check_certificate(certificate, name=name)
    if certificates.pop(me) != identity.certificate:
        raise UsageError(
            f"the certificate given to the others as {me}'s is not that of this identity ({identity.fingerprint}); "
            f"send them the new file, or use the old key"
        )
    meeting = Meeting(
        me,
        list(addresses := {peer.name: (peer.host, peer.port) for peer in peers}),
        addresses,
        listen,
        agreement=agreement,
        fields=fields,
        tls=Tls(identity, certificates),
        connect_s=timeouts.connect_s,
        on_turn=on_meeting,
    )
    driver: Driver[T] = Driver(meeting, timeouts, max_frame_bytes, max_unread_bytes, on_progress)
    if keep_memory:
        keep_freed_memory()
    return driver.run(program, prepare)


def run_party_insecure_plain(
    program: Program[T],
    *,
    me: PartyId,
    addresses: Mapping[PartyId, Address],
    timeouts: Timeouts = _TIMEOUTS,
    keep_memory: bool = True,
) -> tuple[T, Ledger]:
    """Run one party without TLS, to measure what TLS costs; nobody is who he says. Loopback addresses only.

    Raises:
      UsageError: an address that is not a loopback address; otherwise as `run_party`.
    """
    for name, (host, _) in addresses.items():
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False  # a name may lead anywhere
        if not loopback:
            raise UsageError(
                f"without TLS expected loopback addresses such as 127.0.0.1, got {host} for {name}; use run_party"
            )
    meeting = Meeting(
        me,
        list(addresses),
        addresses,
        addresses[me],
        agreement=bytes(AGREEMENT_BYTES),
        tls=None,
        connect_s=timeouts.connect_s,
    )
    driver: Driver[T] = Driver(meeting, timeouts, wire.MAX_FRAME_BYTES, MAX_UNREAD_BYTES, None)
    if keep_memory:
        keep_freed_memory()
    return driver.run(program)
