"""Our CKKS against the raw TenSEAL calls on the same data: what the interface costs on top.

Measured as an aggregator works: what is added, decrypted and written has been read from bytes, ours and TenSEAL's.
What is encrypted is what a client has. Each pair of steps takes turns within one run and is timed by this process's
own seconds of processor time, of which the fastest count. Goal: ratios of at most 1.10. Ours also compares headers,
which takes some microseconds an array and shows where that has one block. It reads what arrives out of a frame, with
checks that TenSEAL lacks. What stays above the goal is listed at the end. TenSEAL's decryption returns a list. Who
works with numpy makes an array of it, so that is compared; the time without it is printed besides. Arrays longer than
a block make TenSEAL print a warning, which goes to nowhere here.

    python -m benchmarks.ckks            # 2,048 to 1,000,000 numbers
    python -m benchmarks.ckks --tiny     # a second, to see that it runs
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Sequence

import numpy as np
import tenseal

from benchmarks.timing import Step, take_turns
from secagg.fixed_point import plan
from secagg.he.ckks import CONTEXTS, Ciphertext, Context, SecretKey

GOAL = 1.10


def processor_seconds(*steps: Step, repeats: int) -> np.ndarray:
    """Return processor seconds, shape (steps, repeats); what TenSEAL prints is thrown away."""
    with contextlib.redirect_stdout(io.StringIO()):
        return np.stack(take_turns(steps, repeats, time.process_time))


def raw_context(context: Context) -> tenseal.Context:
    kinds = tenseal.ENCRYPTION_TYPE
    raw = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        context.degree,
        coeff_mod_bit_sizes=list(context.prime_bits),
        encryption_type=kinds.SYMMETRIC if context.symmetric else kinds.ASYMMETRIC,
        n_threads=1,
    )
    raw.global_scale = 2.0**context.scale_bits
    return raw


def compare(context: Context, length: int, repeats: int) -> dict[str, float]:
    """Print the ratios for one context and length; return them, and by how many microseconds ours take longer."""
    x = np.random.default_rng(1).uniform(-1, 1, length)
    agreed = plan(clip=1.0, frac_bits=20, parties=1000)
    key, raw = SecretKey.generate(context), raw_context(context)
    sent = key.encrypt(x, agreed)
    with contextlib.redirect_stdout(io.StringIO()):
        their_sent = tenseal.ckks_vector(raw, x)
    written, their_written = sent.to_bytes(), their_sent.serialize()

    def read() -> Ciphertext:
        return key.public_key.read_bytes(written)

    def their_read() -> tenseal.CKKSVector:
        return tenseal.ckks_vector_from(raw, their_written)

    (mine, other), (theirs, their_other) = (read(), read()), (their_read(), their_read())

    def add_in_place() -> None:
        total = mine + other
        for _ in range(20):
            total += other

    def their_add_in_place() -> None:
        total = theirs + their_other
        for _ in range(20):
            total += their_other

    pairs: list[tuple[str, Step, Step]] = [
        ("encrypt", lambda: key.encrypt(x, agreed), lambda: tenseal.ckks_vector(raw, x)),
        ("to bytes, as encrypted", sent.to_bytes, their_sent.serialize),
        ("from bytes", read, their_read),
        ("add", lambda: mine + other, lambda: theirs + their_other),
        ("add in place, 20 times", add_in_place, their_add_in_place),
        ("copy", mine.copy, lambda: theirs**1),
        ("to message", mine.to_message, theirs.serialize),
        ("to bytes", mine.to_bytes, theirs.serialize),
        ("decrypt to an array", lambda: key.decrypt(mine), lambda: np.array(theirs.decrypt())),
    ]
    print(
        f"\n{context.scheme}, {context.security_bits} bits of security, {length:,} numbers, "
        f"{len(written) / length:.2f} bytes a number ({len(their_written) / length:.2f} raw)"
    )
    ratios = {}
    for name, ours, raw_call in pairs:
        seconds = processor_seconds(ours, raw_call, repeats=repeats)
        best, median = seconds.min(axis=1), np.median(seconds, axis=1)
        ratio = best[0] / best[1]
        ratios[f"{name}, {context.name}, {length:,} numbers: {(best[0] - best[1]) * 1e6:.0f} us more"] = ratio
        print(
            f"  {name:24} ours min {best[0] * 1e3:9.3f} median {median[0] * 1e3:9.3f} ms   raw min "
            f"{best[1] * 1e3:9.3f} median {median[1] * 1e3:9.3f} ms   ratio {ratio:5.2f} (medians "
            f"{median[0] / median[1]:5.2f})"
        )
    bare = processor_seconds(theirs.decrypt, repeats=repeats).min()
    total = mine + other
    worst_error = float(np.max(np.abs(key.decrypt(total) - 2 * x)))
    error = key.public_key.error(total.header)
    print(f"  raw decryption to a list alone: {bare * 1e3:.3f} ms")
    print(
        f"  largest error of a sum of 2: {worst_error:.3g}; measured {error.measured:.3g} root mean square, bound "
        f"{error.bound:.3g}"
    )
    return ratios


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, only to see that it runs")
    parser.add_argument("--context", choices=list(CONTEXTS), action="append", help="these parameters only")
    parser.add_argument("--repeats", type=int, default=15, help="runs of each step (default 15)")
    options = parser.parse_args(argv)
    contexts = [CONTEXTS[name] for name in options.context or CONTEXTS]
    lengths = (100, 3000) if options.tiny else (2048, 100_000, 1_000_000)
    repeats = 2 if options.tiny else options.repeats
    print(f"TenSEAL {tenseal.__version__}, one thread, processor time, fastest of {repeats}")
    ratios: dict[str, float] = {}
    for context in contexts:
        for length in lengths:
            few = repeats if length < 500_000 else max(3, repeats // 3)
            ratios |= compare(context, length, few)
    above = {step: ratio for step, ratio in ratios.items() if ratio > GOAL}
    print(f"\ngoal: ratios of at most {GOAL:.2f}; {len(above)} of {len(ratios)} are above")
    for step, ratio in sorted(above.items(), key=lambda item: -item[1]):
        print(f"  {ratio:5.2f}  {step}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
