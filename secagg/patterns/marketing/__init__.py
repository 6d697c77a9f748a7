"""Patterns for marketing: whom several organisations reach."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["REACH_AND_OVERLAP"]

if TYPE_CHECKING:
    from secagg.patterns.marketing.reach_and_overlap import REACH_AND_OVERLAP
else:
    __getattr__, __dir__ = face(
        "secagg.patterns.marketing",
        {"secagg.patterns.marketing.reach_and_overlap": "REACH_AND_OVERLAP"},
    )
