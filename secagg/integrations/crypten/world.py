"""Who computes in CrypTen, who deals, where they meet, and the secret that each two of them have in common."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from secagg import signing
from secagg.errors import RemoteProtocolError, UsageError
from secagg.party import Party, PartyId
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.wire import Message

_STARTED: Final = os.urandom(
    16
)  # with the number of the process, a name that no other process has on any machine


@dataclass(frozen=True, slots=True)
class World:
    """CrypTen's processes; the same at all parties, but for `interface`.

    Args:
      computing: two or more parties that hold shares; the rank of each is its place.
      dealer: the party that makes triples, and holds no shares.
      rendezvous: where the processes find each other: "tcp://HOST:PORT" of the first computing party, which listens
        there, or "file:///PATH" of a new file on one machine.
      interface: the network interface that CrypTen's connections go through, such as "tun0"; by default torch's choice.
      timeout_s: how long a process waits for others: at the meeting, in an operation, and at the dealer for the next one.

    Raises:
      UsageError: names that come twice, another rendezvous, or no time.
    """

    computing: tuple[PartyId, ...]
    dealer: PartyId
    rendezvous: str
    interface: str = ""
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        if not isinstance(self.computing, tuple):
            raise UsageError(f"expected a tuple of names as computing parties, got {self.computing!r}")
        if len(self.computing) < 2 or len(set(self.members)) != len(self.members):
            raise UsageError(
                "expected two or more computing parties and a dealer that is none of them, all distinct, got "
                f"{', '.join(self.computing)} and {self.dealer}"
            )
        if not _is_rendezvous(self.rendezvous):
            raise UsageError(f'expected "tcp://HOST:PORT" or "file:///PATH", got {self.rendezvous!r}')
        if not self.timeout_s > 0:
            raise UsageError(f"expected timeout_s above 0, got {self.timeout_s}")

    @property
    def members(self) -> tuple[PartyId, ...]:
        """The computing parties and the dealer, in the order of their ranks."""
        return (*self.computing, self.dealer)

    @property
    def digest(self) -> bytes:
        """SHA-256 of what has to be the same at all parties."""
        names = [name.encode() for name in (*self.members, self.rendezvous)]
        return signing.digest("secagg.integrations.crypten/world", names)


class Contribution(Message, frozen=True):
    """One party's half of the secret of a pair, the digest of the world that it means, and a name of its process."""

    secret: bytes
    world: bytes
    process: bytes


class Keys:
    """The secrets that this party has in common with each other one, for one world and one time in it."""

    __slots__ = ("_beside", "_me", "_secrets", "_session")

    def __init__(self, party: Party, secrets: Mapping[PartyId, bytes], beside: Collection[PartyId]) -> None:
        self._me = party.me
        self._session = party.session
        self._secrets = secrets
        self._beside = beside

    def __repr__(self) -> str:
        return f"<Keys of {self._me!r}>"

    def stream(self, peer: PartyId, purpose: str, number: int = 0) -> Stream:
        """Return a stream that this party and `peer` draw the same from, if both ask once for one purpose and number."""
        label = f"secagg.integrations.crypten/{purpose}"
        return Stream(
            derive_key(self._secrets[peer], label=label, context=self._session + number.to_bytes(8, "big"))
        )

    def check_apart(self) -> None:
        """Refuse to go on where another party runs in this process: CrypTen would wait in it for a process that never comes.

        Raises:
          UsageError: another party runs in this process.
        """
        if self._beside:
            raise UsageError(
                f"expected a process for each party of CrypTen's world, got one for {self._me} and "
                f"{', '.join(self._beside)}; CrypTen does not run in the simulator, but over secagg.network.tcp"
            )


async def agree(party: Party, world: World) -> Keys:
    """Agree with each other party of the world on a fresh secret, over the connections of `Party`.

    One round, some 100 bytes to each other party. Who learns what: each pair its own secret.

    Raises:
      UsageError: parties that are not in the roster, or this party is none of the world's.
      RemoteProtocolError: a party means another world, or sent a secret of another length.
    """
    members = world.members
    if party.me not in members or not set(members) <= set(party.roster):
        raise UsageError(
            f"expected the world's parties {', '.join(members)} in the roster {', '.join(party.roster)}, and "
            f"{party.me} among them"
        )
    peers = [name for name in members if name != party.me]
    process = _STARTED + str(os.getpid()).encode()
    mine = {peer: party.rng.bytes(KEY_BYTES) for peer in peers}
    for peer in peers:
        party.send(peer, Contribution(mine[peer], world.digest, process))
    secrets, beside = {}, []
    for peer, message in (await party.gather(Contribution, peers)).items():
        if message.world != world.digest:
            raise RemoteProtocolError(
                f"{peer} joins another world of CrypTen's than {party.me}; computing parties, their order, dealer and "
                f"rendezvous have to be the same, here {', '.join(world.computing)}; {world.dealer}; {world.rendezvous}",
                peer=peer,
            )
        if len(message.secret) != KEY_BYTES:
            raise RemoteProtocolError(
                f"expected a secret of {KEY_BYTES} bytes from {peer}, got {len(message.secret)}", peer=peer
            )
        if message.process == process:
            beside.append(peer)
        first = members.index(party.me) < members.index(peer)
        secrets[peer] = mine[peer] + message.secret if first else message.secret + mine[peer]
    return Keys(party, secrets, beside)


def _is_rendezvous(text: str) -> bool:
    try:
        url = urllib.parse.urlsplit(text)
        port = url.port
    except ValueError:
        return False
    if url.query or url.fragment:
        return False
    if url.scheme == "file":
        return not url.netloc and len(url.path) > 1
    return url.scheme == "tcp" and bool(url.hostname) and bool(port) and not url.path
