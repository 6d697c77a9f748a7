"""Other software's types turned into secagg's and back; each module needs that software installed."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "flower",
    "phe",
    "tenseal",
]

if TYPE_CHECKING:
    from secagg.integrations import flower, phe, tenseal
else:
    __getattr__, __dir__ = face(
        "secagg.integrations",
        {
            "secagg.integrations": "flower phe tenseal",
        },
    )
