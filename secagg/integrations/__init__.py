"""Other software's types turned into secagg's and back; each needs that software installed.

Besides those below there are `nvflare` and `openfl`. They have environments of their own, and are imported by their full
names.
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
