"""Federated averaging in NVIDIA FLARE under masks: the server learns the mean of a round and nobody's update.

    {"path": "secagg.integrations.nvflare.SecureFilter", "args": {...}}      # at each site, for task data and results
    {"id": "aggregator", "path": "secagg.integrations.nvflare.SecureAggregator", "args": {...}}   # at the server

For the workflow ScatterAndGather (nvflare >= 2.9). The filter keeps what the executor replied. In its place the masked
protocol runs through auxiliary messages, from the aggregator to the filters and back:

  task     the workflow's own. The filter tells the site's name, a fresh number, names and shapes, signed
  keys, shares, input, consent (malicious server), unmask     as in `secagg.federated`

Learns: the server, the mean, the sum of weights, names and shapes, who took part. Threat model: that of
`secagg.protocols.masked_sum`; `Protection` says how many sites may work with the server. The job's code at a site is
trusted: see docs/nvflare.md.

    messages    what goes through NVFlare's messages
    filter      the site's side
    aggregator  the server's side
"""

from __future__ import annotations

try:
    import nvflare.apis.filter  # noqa: F401  # what is missing must be said here
except ImportError:
    raise ImportError('this needs NVIDIA FLARE: pip install "secagg[nvflare]"') from None

from secagg.federated.bounded import Bounded
from secagg.federated.budget import new_budget
from secagg.federated.encrypted import Encryption
from secagg.federated.identities import load_identity, load_peers, make_identities, new_identity, save_peers
from secagg.federated.round import SumReport
from secagg.federated.shared_key import SharedKey
from secagg.federated.terms import Protection
from secagg.federated.weighted import Encoding
from secagg.integrations.nvflare.aggregator import SecureAggregator
from secagg.integrations.nvflare.filter import SecureFilter
from secagg.updates.compression import Compression
from secagg.updates.privacy import Privacy

__all__ = [
    "Bounded",
    "Compression",
    "Encoding",
    "Encryption",
    "Privacy",
    "Protection",
    "SecureAggregator",
    "SecureFilter",
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
