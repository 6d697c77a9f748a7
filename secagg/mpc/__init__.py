"""Secret sharing, and computing on shares: n-party additive sharing and the three-party replicated engine."""

from typing import TYPE_CHECKING

from secagg.faces import face

if __name__ == "mpc":  # found through the link at the root of a checkout
    from secagg.root_links import alias

    alias(__name__)

__all__ = [
    "SharedArray",
    "SharedBits",
    "ThreeEngine",
    "additive",
    "bits",
    "from_bits",
    "input_array",
    "input_bits",
    "public_array",
    "public_bits",
    "receive_array",
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
    from secagg.mpc.bits import SharedBits, input_bits, public_bits
    from secagg.mpc.three.engine import ThreeEngine
else:
    __getattr__, __dir__ = face(
        "secagg.mpc",
        {
            "secagg.mpc": "additive bits",
            "secagg.mpc.array": "SharedArray from_bits input_array public_array receive_array where share_array",
            "secagg.mpc.bits": "SharedBits input_bits public_bits",
            "secagg.mpc.three.engine": "ThreeEngine",
        },
    )
