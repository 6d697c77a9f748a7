"""Patterns that organisations look for together, behind one contract."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["banking", "counts"]

if TYPE_CHECKING:
    from secagg.patterns import banking, counts
else:
    __getattr__, __dir__ = face("secagg.patterns", {"secagg.patterns": "banking counts"})
