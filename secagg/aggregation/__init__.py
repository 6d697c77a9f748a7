"""Sums and weighted means of clients' updates that nobody saw, under a protection of the caller's choice.

    secagg.sum(updates, clip=1.0)                                              # masked
    secagg.mean(updates, weights=examples, max_weight=10_000, clip=1.0, protocol="rlwe")
    secagg.mean(updates, clip=1.0, protocol=Masked(threat_model="malicious", max_dropout=0.1))
    secagg.mean(updates, privacy=Privacy(epsilon=8.0, delta=1e-6, norm=1.0, rounds=100), round_number=7)
    secagg.sum(updates, clip=1.0, compression=Compression(bits=8, keep=0.1))   # less to send

Each runs the real protocol with all parties in one process, in the simulator. docs/choosing.md says which protection
fits which trust.

    protection  what a protection is; masked, additive, bounded, encrypted: the six there are
    report      what comes with a result
    arguments   what callers pass, checked
    api         `sum` and `mean`

How updates become vectors, and sums become updates, is `secagg.updates`.
"""

from secagg.aggregation.additive import Additive
from secagg.aggregation.api import mean, sum  # noqa: A004  # called as secagg.sum
from secagg.aggregation.bounded import Bounded
from secagg.aggregation.encrypted import Ckks, Paillier, Rlwe
from secagg.aggregation.masked import Masked
from secagg.aggregation.protection import Protection
from secagg.aggregation.report import Aggregate, Report, RoleCost
from secagg.updates.compression import Compression
from secagg.updates.privacy import Privacy

__all__ = [
    "Additive",
    "Aggregate",
    "Bounded",
    "Ckks",
    "Compression",
    "Masked",
    "Paillier",
    "Privacy",
    "Protection",
    "Report",
    "Rlwe",
    "RoleCost",
    "mean",
    "sum",
]


def __dir__() -> list[str]:
    return sorted(__all__)
