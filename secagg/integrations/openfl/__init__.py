"""Federated averaging in OpenFL under masks: the aggregator learns the mean of a round and nobody's update.

    class Runner(SecureTaskRunner, MyTaskRunner): ...              # at each collaborator: tasks give way to protected_round
    aggregation_type: {template: secagg.integrations.openfl.SecureSum, settings: {...}}     # in the plan

For OpenFL's task runners (openfl >= 1.9). Collaborators ask and the aggregator answers, so the masked protocol's messages
are one more tensor of the model: what the aggregator tells goes out with the model of a round, what collaborators answer
comes back as that tensor trained. One round of training is five of OpenFL's rounds, six against a malicious aggregator.

Learns: the aggregator, the mean, the sum of weights, names and shapes, who took part. Threat model: that of
`secagg.protocols.masked_sum`; `Protection` says how many collaborators may work with the aggregator. Plan and code at a
collaborator are its own: see docs/openfl.md.

    messages    frames in tensors
    task_runner the collaborator's side
    aggregation the aggregator's side
"""

from __future__ import annotations

try:
    import openfl.interface.aggregation_functions  # noqa: F401  # what is missing must be said here
except ImportError:
    raise ImportError('this needs OpenFL: pip install "secagg[openfl]"') from None

from secagg.federated.budget import new_budget
from secagg.federated.encrypted import Encryption
from secagg.federated.identities import load_identity, load_peers, make_identities, new_identity, save_peers
from secagg.federated.round import SumReport
from secagg.federated.terms import Protection
from secagg.federated.weighted import Encoding
from secagg.integrations.openfl.aggregation import SecureSum
from secagg.integrations.openfl.task_runner import SecureTaskRunner
from secagg.updates.compression import Compression
from secagg.updates.privacy import Privacy

__all__ = [
    "Compression",
    "Encoding",
    "Encryption",
    "Privacy",
    "Protection",
    "SecureSum",
    "SecureTaskRunner",
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
