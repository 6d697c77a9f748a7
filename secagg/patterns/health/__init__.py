"""Patterns for hospitals: statistics of patients at several of them."""

from secagg.patterns.health.association import ASSOCIATION
from secagg.patterns.health.cohort_count import COHORT_COUNT
from secagg.patterns.health.correlation import CORRELATION
from secagg.patterns.health.cox import COX
from secagg.patterns.health.crosstab import CROSSTAB
from secagg.patterns.health.describe import DESCRIBE
from secagg.patterns.health.logrank import LOGRANK
from secagg.patterns.health.marker_cooccurrence import MARKER_COOCCURRENCE
from secagg.patterns.health.rare_variant import RARE_VARIANT
from secagg.patterns.health.survival import SURVIVAL

__all__ = [
    "ASSOCIATION",
    "COHORT_COUNT",
    "CORRELATION",
    "COX",
    "CROSSTAB",
    "DESCRIBE",
    "LOGRANK",
    "MARKER_COOCCURRENCE",
    "RARE_VARIANT",
    "SURVIVAL",
]


def __dir__() -> list[str]:
    return sorted(__all__)
