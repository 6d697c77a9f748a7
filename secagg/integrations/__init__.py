"""Other software's types turned into secagg's and back; each needs that software installed.

Besides those below there are `nvflare`, `openfl`, `dask` and `ray`. They are imported by their full names, the first two in
environments of their own.
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
