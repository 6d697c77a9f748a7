"""Federated averaging under protection, apart from the framework that carries its messages.

A framework's server asks nodes to train, and collects what they reply. Here a node keeps its update and shows only the
names and shapes in it. What opens the weighted means is the masked sum (`secagg.protocols.masked_sum`), one node's key
(`encrypted`), or nodes that compute together (`bounded`, `shared_key`). An adapter carries the messages and turns a
framework's records into entries and values: `flower`, `nvflare` and `openfl` of `secagg.integrations`.

    identities    identity keys of nodes, and the file of their public keys
    terms         what all agree on: protection, and the round of the masked protocol that follows from it
    layout        entries and values of replies
    weighted      weighted means, exact; how numbers are written
    misfits       counts of updates that do not fit
    compressed    weighted means of changes in few bits a number
    limbs         numbers of almost any size in several elements
    private       means of bounded updates under noise
    differences   how far replies are from what came with the task, for sums of bounded updates
    encrypted     sums under one node's key in place of masks
    letters       sealed messages between nodes that the server carries
    relayed       sums that nodes compute together by such letters
    correspondent, carrier   a node's side of these, and the server's
    bounded       sums of updates that three nodes check against a bound
    shared_key    sums under a key that several nodes make
    error_feedback  what a node remembers of its updates
    messages      what server and nodes tell each other, and what a node keeps
    replay_guard  a step is answered once, whatever becomes of stored state
    budget        how many sums a node's data went into
    peer_budgets  what nodes know of one another's budgets
    registration  which nodes are ready, and with what
    node          the client's side of a sum
    round         the server's side of a sum
    replies       replies that are arrays by name
    keeper        a client that lives as long as a run
    sum_server    a server of one sum after the other, for all frameworks
    settings      what configuration files say, checked
    histograms    sums for boosted trees
    boosting      boosted trees on such sums

Threat model: that of `secagg.protocols.masked_sum`; `Protection` says how many nodes may work with the server, and whether
it keeps to the protocol.
"""

from secagg.federated.bounded import Bounded
from secagg.federated.budget import new_budget
from secagg.federated.encrypted import Encryption
from secagg.federated.identities import load_identity, load_peers, make_identities, new_identity, save_peers
from secagg.federated.node import Invitation, Node, OwnNode
from secagg.federated.round import ServerRound, SumReport, SumRequest
from secagg.federated.shared_key import SharedKey
from secagg.federated.terms import Protection
from secagg.federated.weighted import Encoding
from secagg.updates.compression import Compression
from secagg.updates.privacy import Privacy

__all__ = [
    "Bounded",
    "Compression",
    "Encoding",
    "Encryption",
    "Invitation",
    "Node",
    "OwnNode",
    "Privacy",
    "Protection",
    "ServerRound",
    "SharedKey",
    "SumReport",
    "SumRequest",
    "load_identity",
    "load_peers",
    "make_identities",
    "new_budget",
    "new_identity",
    "save_peers",
]


def __dir__() -> list[str]:
    return sorted(__all__)
