"""Patterns that find the same people at two organisations by names and birth dates that are not spelt alike."""

from secagg.patterns.linkage.linkage_count import LINKAGE_COUNT
from secagg.patterns.linkage.record_linkage import RECORD_LINKAGE

__all__ = ["LINKAGE_COUNT", "RECORD_LINKAGE"]


def __dir__() -> list[str]:
    return sorted(__all__)
