"""Federated averaging in Flower under masks: the server learns the mean of a round and nobody's update.

    app = ClientApp(mods=[SecureMod()])                                     # in the client app
    strategy = SecureAggregation(FedAvg(), peers="/etc/secagg/peers.toml")  # in the server app

For Flower's message API (flwr >= 1.41). Training and evaluation run as before, and what the app's functions reply
stays at the node. In its place five exchanges of the masked protocol, six against a malicious server, run through the same
grid:

  task     the strategy's own message. The node runs the app's function, keeps what it replied, and tells its name,
           a fresh number and the names and shapes of what it keeps, signed
  keys     who takes part, with everybody's fresh number -> public keys of this sum
  shares   the neighbours' keys -> secrets shared among them, sealed for each
  input    sealed shares -> arrays and metrics times weight, the weight, and what does not fit, under masks
  consent  against a malicious server
  unmask   who is in the sum -> shares that take off the masks

The wrapped strategy is given the weighted means as one reply whose weight is the sum of weights. Masks are agreed
on after the training: a node that fails or is late with it costs nothing but its own update.

With `Protection.privacy` nodes add noise. The mean is then of updates scaled down to a norm, all of the same weight, and
differentially private. A node counts the sums that its data went into, and refuses more than its budget is for.

Learns: the server (ServerApp, SuperLink and whoever reads their storage), the means, names and shapes, who took part, and
without noise the sum of weights. Where an update does not fit, it learns no mean, but at how many nodes which array does
not. Nodes learn what the strategy sends them.

Threat model: that of `secagg.protocols.masked_sum`, with `Protection` saying how many nodes may work with the server and
whether it keeps to the protocol. Nodes must run code that the server did not choose: see docs/flower.md.

    records     replies to entries and values, and back
    messages    what goes through Flower's messages, and where a node keeps its state
    mod         the client's side
    exchanges   the server's messages over Flower's grid
    strategy    the wrapper

What knows no Flower is `secagg.federated`.
"""

from __future__ import annotations

try:
    import flwr.serverapp.strategy  # noqa: F401  # what is missing must be said here
except ImportError:
    raise ImportError('this needs Flower: pip install "secagg[flower]"') from None

from secagg.federated.bounded import Bounded
from secagg.federated.budget import new_budget
from secagg.federated.encrypted import Encryption
from secagg.federated.identities import load_identity, load_peers, make_identities, new_identity, save_peers
from secagg.federated.round import SumReport
from secagg.federated.shared_key import SharedKey
from secagg.federated.terms import Protection
from secagg.federated.weighted import Encoding
from secagg.integrations.flower.mod import SecureMod
from secagg.integrations.flower.strategy import SecureAggregation
from secagg.updates.compression import Compression
from secagg.updates.privacy import Privacy

__all__ = [
    "Bounded",
    "Compression",
    "Encoding",
    "Encryption",
    "Privacy",
    "Protection",
    "SecureAggregation",
    "SecureMod",
    "SharedKey",
    "SumReport",
    "load_identity",
    "load_peers",
    "make_identities",
    "new_budget",
    "new_identity",
    "save_peers",
]


def __dir__() -> list[str]:
    return sorted(__all__)
