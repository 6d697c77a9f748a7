"""Patterns for banks: what accounts and customers do at several of them."""

from secagg.patterns.banking import collectors, structuring

__all__ = ["collectors", "structuring"]
