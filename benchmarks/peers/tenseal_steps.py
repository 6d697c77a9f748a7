"""Time TenSEAL's CKKS for one number, in one thread; prints a line of JSON.

    python -m venv VENV && VENV/bin/pip install tenseal==0.3.18 numpy
    VENV/bin/python benchmarks/peers/tenseal_steps.py --numbers 262144 --block 2048
    VENV/bin/python benchmarks/peers/tenseal_steps.py --numbers 100000 --degree 8192 --prime-bits 60 40 60 --scale-bits 40

With `--block` the numbers are in vectors of so many, without it in one long vector.
Vectors that are added have been read from bytes, as an aggregator's have. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json

import numpy as np
import tenseal
from fastest import fastest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--numbers", type=int, default=1 << 18)
    parser.add_argument("--block", type=int, default=0, help="numbers in a vector; 0 for all")
    parser.add_argument("--degree", type=int, default=4096)
    parser.add_argument("--prime-bits", type=int, nargs="+", default=[60, 49])
    parser.add_argument("--scale-bits", type=int, default=40)
    parser.add_argument("--symmetric", action="store_true", help="encrypt with the secret key")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    kinds = tenseal.ENCRYPTION_TYPE
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        options.degree,
        coeff_mod_bit_sizes=options.prime_bits,
        encryption_type=kinds.SYMMETRIC if options.symmetric else kinds.ASYMMETRIC,
        n_threads=1,
    )
    context.global_scale = 2.0**options.scale_bits
    count = options.numbers
    x = np.random.default_rng(1).uniform(-1, 1, count)
    block = options.block or count
    parts = [x[i : i + block] for i in range(0, count, block)]

    def encrypt() -> list[tenseal.CKKSVector]:
        return [tenseal.ckks_vector(context, part) for part in parts]

    with contextlib.redirect_stdout(io.StringIO()):  # a warning at every vector longer than a block
        written = [vector.serialize() for vector in encrypt()]
        totals, others = ([tenseal.ckks_vector_from(context, data) for data in written] for _ in range(2))

        def add() -> None:
            for total, other in zip(totals, others, strict=True):
                total += other

        def decrypt() -> np.ndarray:
            return np.concatenate([np.array(vector.decrypt()) for vector in totals])

        add()
        error = float(abs(decrypt() - 2 * x).max())
        seconds = fastest(
            {
                "encrypt": (encrypt, count),
                "add": (lambda: [add() for _ in range(8)], 8 * count),
                "decrypt": (decrypt, count),
                "write": (lambda: [vector.serialize() for vector in totals], count),
            },
            options.repeats,
        )
    size = sum(map(len, written)) / count
    print(json.dumps({"peer": "TenSEAL", "seconds": seconds, "bytes": size, "error": error}))


if __name__ == "__main__":
    main()
