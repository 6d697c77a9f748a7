"""Secret sharing, and computing on shares: n-party additive sharing, and shared arrays among three or four parties."""

from typing import TYPE_CHECKING

from secagg.faces import face

if __name__ == "mpc":  # found through the link at the root of a checkout
    from secagg.root_links import alias

    alias(__name__)

__all__ = [
    "Engine",
    "SharedArray",
    "additive",
    "argsort",
    "astype",
    "bits",
    "ceil",
    "clip",
    "concat",
    "cost",
    "exp",
    "fixed",
    "floor",
    "histogram",
    "int8",
    "int16",
    "int32",
    "int64",
    "inverse_permutation",
    "linalg",
    "log",
    "logsumexp",
    "matmul",
    "maximum",
    "median",
    "minimum",
    "quantile",
    "receive",
    "reciprocal",
    "reorder",
    "rint",
    "rsqrt",
    "searchsorted",
    "set_up",
    "share_with",
    "sigmoid",
    "sign",
    "softmax",
    "sort",
    "sort_by",
    "sqrt",
    "stack",
    "take",
    "tanh",
    "tensordot",
    "top_k",
    "trunc",
    "unique_counts",
    "where",
]

if TYPE_CHECKING:
    from secagg.mpc import additive, bits
    from secagg.mpc.arrays import linalg
    from secagg.mpc.arrays.arithmetic import astype, ceil, floor, rint, sign, trunc
    from secagg.mpc.arrays.array import SharedArray
    from secagg.mpc.arrays.comparison import maximum, minimum, where
    from secagg.mpc.arrays.dtypes import fixed, int8, int16, int32, int64
    from secagg.mpc.arrays.elementary import (
        exp,
        log,
        logsumexp,
        reciprocal,
        rsqrt,
        sigmoid,
        softmax,
        sqrt,
        tanh,
    )
    from secagg.mpc.arrays.engine import Engine
    from secagg.mpc.arrays.functions import clip, matmul, tensordot
    from secagg.mpc.arrays.moves import concat, stack, take
    from secagg.mpc.arrays.ordering import (
        argsort,
        inverse_permutation,
        reorder,
        searchsorted,
        sort,
        sort_by,
        top_k,
        unique_counts,
    )
    from secagg.mpc.arrays.outside import receive, share_with
    from secagg.mpc.arrays.rehearsal import cost
    from secagg.mpc.arrays.statistics import histogram, median, quantile
    from secagg.mpc.engines import set_up
else:
    __getattr__, __dir__ = face(
        "secagg.mpc",
        {
            "secagg.mpc": "additive bits",
            "secagg.mpc.arrays": "linalg",
            "secagg.mpc.arrays.arithmetic": "astype ceil floor rint sign trunc",
            "secagg.mpc.arrays.array": "SharedArray",
            "secagg.mpc.arrays.comparison": "maximum minimum where",
            "secagg.mpc.arrays.dtypes": "fixed int8 int16 int32 int64",
            "secagg.mpc.arrays.elementary": "exp log logsumexp reciprocal rsqrt sigmoid softmax sqrt tanh",
            "secagg.mpc.arrays.engine": "Engine",
            "secagg.mpc.arrays.functions": "clip matmul tensordot",
            "secagg.mpc.arrays.moves": "concat stack take",
            "secagg.mpc.arrays.ordering": "argsort inverse_permutation reorder searchsorted sort sort_by top_k "
            "unique_counts",
            "secagg.mpc.arrays.outside": "receive share_with",
            "secagg.mpc.arrays.rehearsal": "cost",
            "secagg.mpc.arrays.statistics": "histogram median quantile",
            "secagg.mpc.engines": "set_up",
        },
    )
