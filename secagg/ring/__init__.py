"""Arithmetic modulo 2**k on unsigned numpy arrays: rings, exact products of matrices, bit packing, bit planes.

Elements are unsigned integers in the smallest of uint8, uint16, uint32 and uint64 that holds k bits.
Additions and products of full-width dtypes wrap modulo 2**k by themselves, which is meant everywhere.
`Ring.reduce` clears the bits above for other widths. Nothing here branches on the values of elements
except to refuse those that do not fit, so time and memory access tell nothing about shares.

Bytes and bits are little-endian throughout, on the wire as in memory.
"""

from secagg.ring.arrays import U64, RingArray
from secagg.ring.modulus import Ring
from secagg.ring.packing import pack_bits, unpack_bits
from secagg.ring.planes import from_planes, to_planes, transpose64, unpack
from secagg.ring.products import matmul

__all__ = [
    "U64",
    "Ring",
    "RingArray",
    "from_planes",
    "matmul",
    "pack_bits",
    "to_planes",
    "transpose64",
    "unpack",
    "unpack_bits",
]


def __dir__() -> list[str]:
    return sorted(__all__)
