"""Sums that nodes compute together: each runs a program, and the server carries what they tell each other.

  keys      server -> nodes: who takes part. node -> server: a public key for this sum, signed (`letters`)
  relay-1   server -> nodes: everybody's key. node -> server: what its programs send first, sealed for each receiver
  relay-2.. server -> whoever has mail: letters. node -> server: what its programs answer

until the server's own program has the sum. A node keeps its programs between two steps as `network.stepwise` stores them:
the input, the key of its random stream, and what came. A step runs the program anew up to where it was. The replay guard
sees to it that no step is answered twice.

Some nodes are *needed*: without one of them nothing is opened. The loss of others is borne until their input has come. Where
no letter is left and programs still wait, the server says so, and whoever waits for others alone goes on without them.

A node that is not needed writes to the server and to needed nodes alone: to each party what it puts in, and why it failed.
The server refuses a node that sends more, and goes on without it; a needed node keeps nothing beyond that either. An
exchange that carries nothing of a needed node or of the server is a *stall*. A few in a row end the sum.

Threat model and what is learnt are those of the program: `bounded` and `shared_key`. The server carries sealed letters. It
can withhold them, which ends the sum or leaves a node out.

Cost: an exchange for keys, and one for each round of the programs in which letters go; each step computes anew what came
before. What is sent is what the programs send, 28 bytes a letter for nonce and tag, and the names.

    correspondent  a node's side
    carrier        the server's side
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.errors import AbortedError, CheatingError, RemoteProtocolError, SecaggError
from secagg.federated.identities import SERVER
from secagg.federated.letters import Mail, SumPublicKey
from secagg.party import PartyId, Program
from secagg.protocols.roles import SumResult
from secagg.ring import RingArray
from secagg.wire import Message

RELAY: Final = "relay"
NO_TIME_S: Final = 1e9  # of a program: the server says when nobody is waited for any more


class Delivery(Message, frozen=True):
    """Relay, server -> node: public keys (in the first step), letters, and whether no others are on their way."""

    keys: dict[str, SumPublicKey]
    mail: Mail
    is_late: bool


class Answer(Message, frozen=True):
    """Relay, node -> server: letters, whether the node's programs have ended, and why if they failed.

    accused: the node that they failed because of, their own if it was their own mistake; "" where it is nobody's.
    waits_for: nodes, and the server, whose letters they wait for.
    """

    mail: Mail
    done: bool
    failure: str
    accused: str = ""
    waits_for: tuple[str, ...] = ()


class RelayedSum(Protocol):
    """What is computed in one sum, and by whom; the same at all nodes and the server.

    Attributes:
      context: public, of this sum alone, 32 bytes.
      nodes: who takes part.
      needed: nodes without which nothing is opened.
      roster: the parties; the server is one.
      borne: parties whose loss the others bear.
      exchanges: how many there are if nobody is lost, that of keys among them.
    """

    @property
    def context(self) -> bytes: ...

    @property
    def nodes(self) -> tuple[PartyId, ...]: ...

    @property
    def needed(self) -> tuple[PartyId, ...]: ...

    @property
    def roster(self) -> tuple[PartyId, ...]: ...

    @property
    def borne(self) -> frozenset[PartyId]: ...

    @property
    def exchanges(self) -> int: ...

    def parties_at(self, node: PartyId) -> tuple[PartyId, ...]:
        """Return the parties that a node runs."""

    def node_of(self, party: PartyId) -> PartyId:
        """Return where a party runs."""

    def upload_bytes(self, receiver: PartyId) -> int:
        """Return how many bytes of arrays a node that is not needed sends a party in the sum at most."""

    def program(self, party: PartyId, given: RingArray | None, own: Own | None) -> Program[Any]:
        """Return what a party runs.

        Args:
          given: what its node puts in; None at the server.
          own: the node's key and files; None at the server.
        """

    def total(self, found: Any) -> SumResult:
        """Return what the server's program found; its total holds elements of the coder's ring."""


@dataclass(frozen=True, slots=True)
class Own:
    """What is a node's own: its name, its identity key, and the folder of that with the key's name."""

    name: PartyId
    identity: Ed25519PrivateKey = field(repr=False)
    path: Path


def accused_by(terms: RelayedSum, error: SecaggError) -> tuple[PartyId, ...]:
    """Return the nodes that a program's error names as those who broke the protocol or ended it."""
    names: tuple[PartyId, ...] = ()
    if isinstance(error, CheatingError):
        names = error.suspects
    elif isinstance(error, AbortedError):
        names = (error.accused, error.peer)
    elif isinstance(error, RemoteProtocolError):
        names = (error.peer,)
    return tuple(terms.node_of(name) for name in names if name in terms.roster and name != SERVER)
