"""Other software's types turned into secagg's and back; each needs that software installed.

Besides those below there is `nvflare`, which has an environment of its own and is imported by its full name.
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "crypten",
    "flower",
    "phe",
    "tenseal",
]

if TYPE_CHECKING:
    from secagg.integrations import crypten, flower, phe, tenseal
else:
    __getattr__, __dir__ = face(
        "secagg.integrations",
        {
            "secagg.integrations": "crypten flower phe tenseal",
        },
    )
