"""How much memory the numeric core takes beside its result, as multiples of it: the same on every machine."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from secagg.fixed_point import decode, encode, plan
from secagg.mpc.three.products import matmul_locally, multiply_locally
from secagg.prg import Stream, expand
from secagg.ring import Ring, from_planes, matmul, pack_bits, to_planes

WORDS = 1 << 19  # 4 MB, many times what is worked on at a time
NUMBERS = np.linspace(-100, 100, WORDS)
PLAN = plan(clip=128.0, frac_bits=16, parties=10)
ELEMENTS = Stream(bytes(32)).words(WORDS)
SHARES = (ELEMENTS, ELEMENTS[::-1].copy())
TABLE = ELEMENTS.reshape(4096, 128)
SQUARE = ELEMENTS[: 512 * 512].reshape(512, 512)
RING = Ring(64)
ENCODED = encode(NUMBERS, PLAN).values
NARROW = ELEMENTS & np.uint64(0xFFFFF)

# What each may allocate in units of 4 MB, its result included; blocks of planes and limbs of a matrix take as much again.
PEAKS = {
    "expand into an array": (lambda: expand(bytes(32), "memory", SHARES[1]), 0.0),
    "xor a stream into an array": (lambda: Stream(bytes(32)).xor_into(SHARES[1]), 0.0),
    "encode": (lambda: encode(NUMBERS, PLAN), 0.75),
    "decode": (lambda: decode(ENCODED, PLAN), 1.0),
    "product of shares": (lambda: multiply_locally(0, RING, SHARES, SHARES), 1.0),
    "matrix product": (lambda: matmul(SQUARE, SQUARE), 5.7),
    "table times vector": (lambda: matmul_locally(0, RING, (TABLE, TABLE), (TABLE[0], TABLE[1])), 1 / 64),
    "vector times table": (lambda: matmul(TABLE[:, 0].copy(), TABLE), 1 / 64),
    "to bit planes": (lambda: to_planes(ELEMENTS, 64), 2.0),
    "from bit planes": (lambda: from_planes(TABLE.reshape(64, -1), WORDS), 2.0),
    "pack 20 bits": (lambda: pack_bits(NARROW, 20), 0.8),
}


@pytest.mark.parametrize("name", PEAKS)
def test_an_operation_allocates_its_result_and_little_beside_it(name):
    run, expected = PEAKS[name]
    run()
    tracemalloc.start()
    try:
        run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / (8 * WORDS) <= expected + 0.1
