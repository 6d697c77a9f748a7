"""Secret sharing, and computing on shares: n-party additive sharing, and engines of three or four parties."""

from typing import TYPE_CHECKING

from secagg.faces import face

if __name__ == "mpc":  # found through the link at the root of a checkout
    from secagg.root_links import alias

    alias(__name__)

__all__ = [
    "SharedArray",
    "additive",
    "bits",
    "from_bits",
    "input_array",
    "public_array",
    "receive_array",
    "set_up",
    "share_array",
    "where",
]

if TYPE_CHECKING:
    from secagg.mpc import additive, bits
    from secagg.mpc.array import (
        SharedArray,
        from_bits,
        input_array,
        public_array,
        receive_array,
        share_array,
        where,
    )
    from secagg.mpc.engines import set_up
else:
    __getattr__, __dir__ = face(
        "secagg.mpc",
        {
            "secagg.mpc": "additive bits",
            "secagg.mpc.array": "SharedArray from_bits input_array public_array receive_array where share_array",
            "secagg.mpc.engines": "set_up",
        },
    )
