"""What drives parties: one thread with a virtual clock, TLS between processes, or the caller's own carrier."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "Fault",
    "Identity",
    "Outcome",
    "Peer",
    "Stepwise",
    "Timeouts",
    "create_identity",
    "fingerprint",
    "load_identity",
    "read_certificate",
    "run_party",
    "run_party_insecure_plain",
    "simulate",
]

if TYPE_CHECKING:
    from secagg.network.identity import (
        Identity,
        create_identity,
        fingerprint,
        load_identity,
        read_certificate,
    )
    from secagg.network.simulated import Fault, Outcome, simulate
    from secagg.network.stepwise import Stepwise
    from secagg.network.tcp import Peer, Timeouts, run_party, run_party_insecure_plain
else:
    __getattr__, __dir__ = face(
        "secagg.network",
        {
            "secagg.network.identity": "Identity create_identity fingerprint load_identity read_certificate",
            "secagg.network.simulated": "Fault Outcome simulate",
            "secagg.network.stepwise": "Stepwise",
            "secagg.network.tcp": "Peer Timeouts run_party run_party_insecure_plain",
        },
    )
