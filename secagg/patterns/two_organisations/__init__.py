"""Patterns for two organisations that compute with each other alone, with no computing party besides.

They run by Diffie-Hellman on identifiers (`secagg.protocols.intersection`). Both sides are semi-honest: see there.
"""

from secagg.patterns.two_organisations.intersection_count import INTERSECTION_COUNT
from secagg.patterns.two_organisations.intersection_sum_two import INTERSECTION_SUM_TWO
from secagg.patterns.two_organisations.private_intersection import PRIVATE_INTERSECTION

__all__ = ["INTERSECTION_COUNT", "INTERSECTION_SUM_TWO", "PRIVATE_INTERSECTION"]


def __dir__() -> list[str]:
    return sorted(__all__)
