"""How much memory an operation reads and writes: bytes an element, the same on every machine.

A pass of numpy over two operands and a result is 24 bytes an element of 8, in place or not, in chunks or not; keystream
that overwrites is 8, and keystream that is combined with what is there 16. Whoever needs fewer lowers the number here.
"""

from __future__ import annotations

import numpy as np
import pytest

from passes import counted, counting
from secagg.fixed_point import decode, encode, plan
from secagg.he.rlwe import SecretKey, parameters
from secagg.mpc import additive
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RING64, RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three.engine import ThreeEngine
from secagg.network.simulated import simulate
from secagg.prg import Stream, expand
from secagg.ring import Ring, from_planes, to_planes

WORDS = 1 << 16
PARTIES = ("ada", "bob", "cleo")
PLAN = plan(clip=128.0, frac_bits=16, parties=10, bits=64)
NUMBERS = np.linspace(-100, 100, WORDS)
ELEMENTS = Stream(bytes(32)).words(WORDS)
ENCODED = encode(NUMBERS, PLAN).values
STREAM = Stream(bytes(32))


def traffic(run) -> float:
    """Return the bytes read and written an element."""
    with counted() as found:
        run()
    return found.nbytes / WORDS


KEY = SecretKey.generate(parameters(64), rng=Stream(bytes(32)))
SEALED = KEY.public_key.encrypt_encoded(ENCODED, PLAN, rng=Stream(bytes(32)))
SHARES = additive.share(ELEMENTS, 3, Ring(64), Stream(bytes(32)))


def encrypt():
    KEY.public_key._kept.clear()  # kept memory was made where nothing counts
    return KEY.public_key.encrypt_encoded(counting(ENCODED), PLAN, rng=Stream(bytes(32)))


def decrypt():
    KEY._kept.clear()
    return KEY.decrypt_encoded(SEALED)


LOCAL = {
    "expand": (lambda: expand(bytes(32), "passes", counting(ELEMENTS.copy())), 8),
    # Least and largest are read; a sum rounds, a difference takes out the bits.
    "encode": (lambda: encode(counting(NUMBERS), PLAN), 2 * 8 + 2 * 16),
    # Least and largest are read; a conversion and a product.
    "decode": (lambda: decode(counting(ENCODED), PLAN), 2 * 8 + 2 * 16),
    # Two masks and two differences.
    "share among 3": (lambda: additive.share(counting(ELEMENTS), 3, Ring(64), STREAM), 2 * 8 + 2 * 24),
    "reconstruct of 3": (
        lambda: additive.reconstruct([*SHARES[0], counting(SHARES[1])], SHARES[1].shape, Ring(64)),
        2 * 8 + 2 * 24,
    ),
    # Six stages of six operations on half the words, and a copy before.
    "to planes": (lambda: to_planes(counting(ELEMENTS), 64), 6 * (3 * 8 + 3 * 12) + 16),
    # As above, and a copy behind.
    "from planes": (
        lambda: from_planes(counting(ELEMENTS.reshape(64, -1)), WORDS),
        6 * (3 * 8 + 3 * 12) + 2 * 16,
    ),
    "encrypt under RLWE": (encrypt, 586),
    "decrypt under RLWE": (decrypt, 398),
}


@pytest.mark.parametrize("name", LOCAL)
def test_an_operation_reads_and_writes_as_much_memory_as_it_says(name):
    run, expected = LOCAL[name]
    run()  # tables of roots are made once
    assert traffic(run) == pytest.approx(expected, abs=0.25)


SHARED = {
    # Three or four products and sums, a third of the parties one more; two masks and their sums.
    "integer multiply": (lambda e, x, _: e.multiply(x, x), (4 + 3 + 3) * 24 / 3 + 2 * (8 + 24)),
    "fixed-point multiply": (lambda e, x, _: e.multiply(x, x, 16), 294),
    # Four operations, and keystream of two keys over the result.
    "AND of 64 bits": (lambda e, _, bits: e.conjunction([(bits, bits)]), 4 * 24 + 2 * 16),
    "x < 0": (lambda e, x, _: e.negative(x), 775),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "x < 0" else n for n in SHARED]
)
def test_a_party_reads_and_writes_as_much_memory_for_an_operation_as_it_says(name):
    operation, expected = SHARED[name]

    async def program(party):
        engine = await ThreeEngine.set_up(party, PARTIES)
        numbers, bits = (
            Shares(engine, group, (counting(ELEMENTS), counting(ELEMENTS)))
            for group in (RingGroup(RING64), XOR)
        )
        await operation(engine, numbers, bits)

    found = traffic(lambda: simulate(dict.fromkeys(PARTIES, program))) / len(PARTIES)
    assert found == pytest.approx(expected, abs=0.25)
