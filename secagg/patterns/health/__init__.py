"""Patterns for hospitals: statistics of patients at several of them.

plain   the same statistics of pooled tables, in the clear
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["plain"]

if TYPE_CHECKING:
    from secagg.patterns.health import plain
else:
    __getattr__, __dir__ = face("secagg.patterns.health", {"secagg.patterns.health": "plain"})
