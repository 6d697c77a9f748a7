"""Sums of many clients' vectors that only one server adds up and that no party sees the summands of [BIK+17; BBG+20].

  keys      each client sends two fresh public keys, signed by its registered identity key
  shares    each client shares a masking key and the seed of a self mask among its neighbours, sealed for each
  input     each client sends its vector + self mask +- masks in common with its neighbours
  consent   (against a malicious server) each client signs who shared and who is in the sum, and sees that a quorum
            signed the same
  unmask    of every client whose vector is in the sum the others tell the self mask's shares, of every other one
            that sent shares the masking key's; the server takes the masks off the sum

Clients may drop out at any point, up to the number that the parameters were chosen for. The sum is then that of the vectors
that had come in time.

Threat model. Parameters are for c corrupt clients that work with the server (`choose`, in `graph`, prints them
with the probabilities of failure). *Semi-honest server*: it keeps to the protocol. *Malicious server*: it may send anything
to anybody. It still learns no more than one sum, of at least `min_clients` vectors of its choice. Nobody checks that the
sum it announces is right. Corrupt clients may do anything; a client can spoil the sum, since nobody can tell whether a
vector is honest. Channels to the server are authenticated and encrypted.

Deviations from [BIK+17] and [BBG+20], none of which opens more:
  - sharing also with oneself in the sparse graph; survivors named by one set, not by two lists;
  - against a malicious server, clients sign who shared as well as who is in the sum. In the sparse graph too they sign the
    same sets for everybody, where [BBG+20] has neighbours vouch for one another;
  - a share that cannot be opened is left out instead of ending the run.

Learns: the server, the sum and who contributed. Clients, who contributed, not the sum.

Cost per client with k neighbours, d elements of b bits: 6 rounds (8), 4 messages (5); sends ceil(d b / 8) + 115 k + O(1)
bytes, receives 210 k + O(n / 8) (and 64 for each of the quorum's signatures); expands k + 1 masks. The server takes off
one mask for each contributor. For each client that dropped out after it had sent shares, it takes off one for each
neighbour of it that is in the sum. `cost` is exact.

Proofs in docs/soundness-masked.md.
"""

from __future__ import annotations

from secagg.protocols.masked_sum.client import Client, Phase
from secagg.protocols.masked_sum.costs import Stayed, cost
from secagg.protocols.masked_sum.graph import Graph, GraphParameters, choose
from secagg.protocols.masked_sum.messages import (
    Consent,
    Consents,
    Included,
    Keys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    Shares,
    Unmasking,
)
from secagg.protocols.masked_sum.program import aggregate, contribute, reference, take_part
from secagg.protocols.masked_sum.rounds import MaskedSum, Stage
from secagg.protocols.masked_sum.server import Server
from secagg.protocols.masked_sum.sharded import Division, ShardedServer
from secagg.protocols.masked_sum.terms import SumInSession, Terms
from secagg.protocols.roles import Roles, SumResult

__all__ = [
    "Client",
    "Consent",
    "Consents",
    "Division",
    "Graph",
    "GraphParameters",
    "Included",
    "Keys",
    "MaskedInput",
    "MaskedSum",
    "PeerKeys",
    "PeerShares",
    "Phase",
    "Roles",
    "Server",
    "ShardedServer",
    "Shares",
    "Stage",
    "Stayed",
    "SumInSession",
    "SumResult",
    "Terms",
    "Unmasking",
    "aggregate",
    "choose",
    "contribute",
    "cost",
    "reference",
    "take_part",
]


def __dir__() -> list[str]:
    return sorted(__all__)
