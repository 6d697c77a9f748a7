"""Patterns for hospitals: statistics of patients at several of them."""

from secagg.patterns.health.cox import COX
from secagg.patterns.health.logrank import LOGRANK
from secagg.patterns.health.survival import SURVIVAL

__all__ = ["COX", "LOGRANK", "SURVIVAL"]


def __dir__() -> list[str]:
    return sorted(__all__)
