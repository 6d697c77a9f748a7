"""Protocols over `Party`: sums, and sums over groups that no organisation sees alone."""

from typing import TYPE_CHECKING

from secagg.faces import face

if __name__ == "protocols":  # found through the link at the root of a checkout
    from secagg.root_links import alias

    alias(__name__)

__all__ = [
    "Roles",
    "SumResult",
    "additive_sum",
    "bounded_sum",
    "group_by",
    "he_sum",
    "masked_sum",
    "pseudonyms",
]

if TYPE_CHECKING:
    from secagg.protocols import (
        additive_sum,
        bounded_sum,
        group_by,
        he_sum,
        masked_sum,
        pseudonyms,
    )
    from secagg.protocols.roles import Roles, SumResult
else:
    __getattr__, __dir__ = face(
        "secagg.protocols",
        {
            "secagg.protocols": "additive_sum bounded_sum he_sum group_by masked_sum pseudonyms",
            "secagg.protocols.roles": "Roles SumResult",
        },
    )
