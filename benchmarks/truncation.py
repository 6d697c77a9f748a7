"""Errors of fixed-point products: the engine's truncation, and local truncation on the same products.

    python -m benchmarks.truncation                10 million products of numbers up to 2**15

Three parties in the simulator multiply numbers uniform in [-2**15, 2**15) with 16 fractional bits; each product
is compared with the exact one, in integers. Beside it stands what local truncation of two shares [MZ17] makes
of the same products: it is right most of the time, and else wrong by 2**32.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from secagg.mpc.numbers import RING64, RingGroup
from secagg.mpc.three.engine import ThreeEngine
from secagg.network.simulated import simulate
from secagg.party import Party
from secagg.prg import system_stream

NAMES = ("ada", "bob", "cleo")
FRAC_BITS = 16
CHUNK = 1_000_000


def engine_products(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the products' ring elements, as the three parties open them."""

    async def program(party: Party) -> NDArray[np.int64]:
        engine, ring = await ThreeEngine.set_up(party, NAMES), RingGroup(RING64)
        factors = []
        for owner, values in ((NAMES[0], x), (NAMES[1], y)):
            # The numbers are given as integers that are already scaled.
            mine = RING64.from_signed(values) if party.me == owner else None
            factors.append(await engine.input(ring, owner, values.shape, mine))
        opened = await engine.open(await engine.multiply(*factors, FRAC_BITS))
        assert opened is not None
        return RING64.to_signed(opened)

    first, *others = simulate(dict.fromkeys(NAMES, program)).values()
    assert all(np.array_equal(first, other) for other in others)
    return first


def local_products(products: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what two parties get that shift their random shares of the exact products."""
    share = system_stream().words(products.size).view(np.int64)
    return (share >> FRAC_BITS) - ((share - products) >> FRAC_BITS)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--products", type=int, default=10_000_000)
    parser.add_argument("--tiny", action="store_true", help="once, on a few products")
    options = parser.parse_args(argv)
    count = 1000 if options.tiny else options.products
    made_up = np.random.default_rng()
    limit = 1 << 15 + FRAC_BITS
    worst = wrong = wrong_locally = 0
    total = squares = 0.0
    begun = time.perf_counter()
    for start in range(0, count, CHUNK):
        x, y = made_up.integers(-limit, limit, (2, min(CHUNK, count - start)))
        exact = x * y  # within +-2**62: no int64 overflows
        error = (engine_products(x, y) << FRAC_BITS) - exact  # in 2**-16 units of the last place
        worst = max(worst, int(abs(error).max()))
        wrong += int((abs(error) >= 1 << FRAC_BITS).sum())
        total += float(error.sum()) / 2**FRAC_BITS
        squares += float(np.square(error / 2**FRAC_BITS).sum())
        wrong_locally += int((abs(local_products(exact) - (exact >> FRAC_BITS)) > 1).sum())
    deviation = (squares / count) ** 0.5 / count**0.5
    print(
        f"{count:,} products of numbers uniform in [-2**15, 2**15), {FRAC_BITS} fractional bits, "
        f"{time.perf_counter() - begun:.1f} s in the simulator"
    )
    print(f"  largest error      {worst / 2**FRAC_BITS:.6f} units in the last place (bound: below 1)")
    print(f"  mean error         {total / count:+.2e} units, standard deviation of the mean {deviation:.1e}")
    print(f"  wrong by a unit or more      {wrong:,}")
    print(f"  local truncation, wrong      {wrong_locally:,} of the same products, by about 2**32")
    if wrong or abs(total / count) > 6 * deviation:
        raise SystemExit("an error is larger than it can be")


if __name__ == "__main__":
    main()
