"""Protocols over `Party`: sums, and the patterns that organisations look for together."""

from typing import TYPE_CHECKING

from secagg.faces import face

if __name__ == "protocols":  # found through the link at the root of a checkout
    from secagg.root_links import alias

    alias(__name__)

__all__ = [
    "additive_sum",
    "bounded_sum",
    "collectors",
    "group_by",
    "he_sum",
    "masked_sum",
    "pseudonyms",
    "structuring",
]

if TYPE_CHECKING:
    from secagg.protocols import (
        additive_sum,
        bounded_sum,
        collectors,
        group_by,
        he_sum,
        masked_sum,
        pseudonyms,
        structuring,
    )
else:
    __getattr__, __dir__ = face(
        "secagg.protocols",
        {
            "secagg.protocols": "additive_sum bounded_sum collectors he_sum group_by masked_sum pseudonyms structuring",
        },
    )
