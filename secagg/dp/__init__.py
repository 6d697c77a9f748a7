"""Differential privacy of sums: exact integer noise, made once or as one share a client, with accounting.

For whoever holds all rows (central differential privacy): `dp.sum`, `dp.histogram`.
For sums under a protocol: `choose` a `Mechanism`, and let each client's `Contributor` add its share of noise. The
protocol sums the contributions modulo 2^k. `Mechanism.to_numbers` turns the sum into numbers.

Guarantees are (epsilon, delta) for the adjacency named in the `Report`, whose `assumptions` say what they rest on.
They are computational: noise is expanded from seeds by AES.
"""

from secagg.dp.accounting import Adjacency, Sensitivity
from secagg.dp.calibration import Budget, Cohort, Noise, NoiseKind, calibrate
from secagg.dp.central import Released, histogram, sum  # noqa: A004 - called as dp.sum
from secagg.dp.clipping import Grid
from secagg.dp.mechanism import Contribution, Contributor, Mechanism, Report, choose
from secagg.dp.samplers import DiscreteGaussian, Skellam

__all__ = [
    "Adjacency",
    "Budget",
    "Cohort",
    "Contribution",
    "Contributor",
    "DiscreteGaussian",
    "Grid",
    "Mechanism",
    "Noise",
    "NoiseKind",
    "Released",
    "Report",
    "Sensitivity",
    "Skellam",
    "calibrate",
    "choose",
    "histogram",
    "sum",
]


def __dir__() -> list[str]:
    return sorted(__all__)
