"""Joint computations on data that organisations may not show each other."""

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
    "Masked",
    "Paillier",
    "Party",
    "Privacy",
    "Rlwe",
    "__version__",
    "aggregation",
    "cost",
    "dp",
    "errors",
    "federated",
    "he",
    "jobs",
    "mean",
    "mpc",
    "network",
    "patterns",
    "protocols",
    "simulate",
    "sum",
]

if TYPE_CHECKING:
    from secagg import aggregation, cost, dp, errors, federated, he, jobs, mpc, network, patterns, protocols
    from secagg.aggregation import Additive, Bounded, Ckks, Masked, Paillier, Privacy, Rlwe, mean, sum  # noqa: A004  # called as secagg.sum
    from secagg.cost.network import LAN, LOOPBACK, MOBILE, WAN
    from secagg.network.simulated import simulate
    from secagg.party import Party
else:
    __getattr__, __dir__ = face(
        "secagg",
        {
            "secagg": "aggregation cost dp errors federated he jobs mpc network patterns protocols",
            "secagg.aggregation": "Additive Bounded Ckks Masked Paillier Privacy Rlwe mean sum",
            "secagg.cost.network": "LAN LOOPBACK MOBILE WAN",
            "secagg.network.simulated": "simulate",
            "secagg.party": "Party",
        },
    )
