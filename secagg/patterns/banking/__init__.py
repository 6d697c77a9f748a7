"""Patterns for banks: what accounts and customers do at several of them."""

from secagg.patterns.banking.collectors import COLLECTORS
from secagg.patterns.banking.structuring import STRUCTURING
from secagg.patterns.banking.tables import DEPOSITS, TRANSFERS
from secagg.patterns.banking.velocity import VELOCITY

__all__ = ["COLLECTORS", "DEPOSITS", "STRUCTURING", "TRANSFERS", "VELOCITY"]


def __dir__() -> list[str]:
    return sorted(__all__)
