"""Time python-paillier (phe) for one number, in one thread; prints lines of JSON.

    python -m venv VENV && VENV/bin/pip install phe==1.5.0 gmpy2
    VENV/bin/python benchmarks/peers/phe_steps.py --bits 3072

Numbers are integers, which are the fastest of its kinds: sums of them need no exponents. Every number has a ciphertext of
its own, as phe has it. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import json

import phe
from fastest import fastest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bits", type=int, default=3072, help="length of n")
    parser.add_argument("--numbers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    public, secret = phe.generate_paillier_keypair(n_length=options.bits)
    numbers = [(i - 3) * 123_456_789 for i in range(options.numbers)]
    ones, others = ([public.encrypt(v) for v in numbers] for _ in range(2))

    def add() -> list[phe.EncryptedNumber]:
        return [a + b for a, b in zip(ones, others, strict=True)]

    if [secret.decrypt(v) for v in add()] != [2 * v for v in numbers]:
        raise SystemExit("phe's sums are wrong")
    count = options.numbers
    seconds = fastest(
        {
            "encrypt": (lambda: [public.encrypt(v) for v in numbers], count),
            "add": (lambda: [add() for _ in range(8)], 8 * count),
            "decrypt": (lambda: [secret.decrypt(v) for v in ones], count),
        },
        options.repeats,
    )
    size = -(-int(public.nsquare).bit_length() // 8)
    print(json.dumps({"peer": "phe", "seconds": seconds, "bytes": size}))


if __name__ == "__main__":
    main()
