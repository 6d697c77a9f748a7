"""Joint computations on data that organisations may not show each other.

    sum, mean         of what clients hold, under a protection: Masked, Additive, Bounded, Paillier, Ckks or Rlwe
    Privacy           noise inside such a sum
    Compression       less to send for it
    aggregation       all about these
    he, mpc, dp       encryption for sums, computing on shares, differential privacy
    learn             regression and classification on shares
    protocols         what parties run; each is written over Party
    simulate          all parties in one thread, on one of LOOPBACK, LAN, WAN, MOBILE
    network           other drivers: TLS between processes, or the caller's own carrier
    patterns, jobs    what organisations look for together, and how they run it
    federated         federated averaging, apart from the framework that carries it
    bench             what all of these cost: measured, predicted for networks, extrapolated
    cost, errors      what a run costs; what is raised, and whose doing it was

`secagg --help` is the command line.
"""

from secagg.faces import face
from secagg.release import RELEASE

TYPE_CHECKING = False  # as in faces

__version__ = RELEASE
__all__ = [
    "LAN",
    "LOOPBACK",
    "MOBILE",
    "WAN",
    "Additive",
    "Bounded",
    "Ckks",
    "Compression",
    "Masked",
    "Paillier",
    "Party",
    "Privacy",
    "Rlwe",
    "__version__",
    "aggregation",
    "bench",
    "cost",
    "dp",
    "errors",
    "federated",
    "he",
    "jobs",
    "learn",
    "mean",
    "mpc",
    "network",
    "patterns",
    "protocols",
    "simulate",
    "sum",
]

if TYPE_CHECKING:
    from secagg import (
        aggregation,
        bench,
        cost,
        dp,
        errors,
        federated,
        he,
        jobs,
        learn,
        mpc,
        network,
        patterns,
        protocols,
    )
    from secagg.aggregation import (  # called as secagg.sum
        Additive,
        Bounded,
        Ckks,
        Compression,
        Masked,
        Paillier,
        Privacy,
        Rlwe,
        mean,
        sum,  # noqa: A004  # called as secagg.sum
    )
    from secagg.cost.network import LAN, LOOPBACK, MOBILE, WAN
    from secagg.network.simulated import simulate
    from secagg.party import Party
else:
    __getattr__, __dir__ = face(
        "secagg",
        {
            "secagg": "aggregation bench cost dp errors federated he jobs learn mpc network patterns protocols",
            "secagg.aggregation": "Additive Bounded Ckks Compression Masked Paillier Privacy Rlwe mean sum",
            "secagg.cost.network": "LAN LOOPBACK MOBILE WAN",
            "secagg.network.simulated": "simulate",
            "secagg.party": "Party",
        },
    )
