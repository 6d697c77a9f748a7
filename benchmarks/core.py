"""Speed of the numeric core against what the machine gives: OpenSSL, memory copies, BLAS and numpy.

Each figure is a ratio of two measurements that take turns within one run, so that a busy machine slows both alike.
Compare ratios, never seconds of different runs. A ratio compares the fastest times; the quartiles show how noisy the
run was.

    python -m benchmarks.core            # real sizes
    python -m benchmarks.core --tiny     # a second, to see that it runs
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence

# BLAS reads its thread count when numpy is loaded. One thread, unless the caller asked otherwise: the
# comparison with numpy's integer product, which never uses more, is then one of methods.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.timing import Step, quartiles, take_turns
from secagg.fixed_point import decode, encode, plan
from secagg.prg import Stream, expand, system_stream
from secagg.ring import from_planes, matmul, pack_bits, to_planes, unpack_bits


def mask_expansion(words: int, repeats: int) -> None:
    print(f"\nmask expansion, {8 * words / 1e6:g} MB; limit: OpenSSL AES-256-CTR into a warm buffer")
    cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    zeros, raw = bytes(8 * words), np.ones(words, np.uint64)
    out, seed, stream = np.ones(words, np.uint64), os.urandom(32), system_stream()
    limit, *times = take_turns(
        [
            lambda: cipher.update_into(zeros, raw.view(np.uint8).data),
            lambda: expand(seed, "benchmark", out),
            lambda: stream.xor_into(out),
            lambda: stream.words(words),
        ],
        repeats,
    )
    print(f"  {'OpenSSL update_into':34} {quartiles(limit)}  {8 * words / limit.min() / 1e9:6.2f} GB/s")
    names = ("expand into a warm array", "xor_into a warm array", "words (new array)")
    for name, seconds in zip(names, times, strict=True):
        print(
            f"  {name:34} {quartiles(seconds)}  {8 * words / seconds.min() / 1e9:6.2f} GB/s"
            f"  {limit.min() / seconds.min():5.2f} of the limit"
        )
    print("  goal: expand at least 0.70 of the limit")


def encoding(n: int, repeats: int) -> None:
    print(f"\nencode and decode, {n:,} numbers; limit: numpy copy of 8 bytes a number, warm buffers")
    x = np.random.default_rng(1).uniform(-100, 100, n)
    short = x.astype(np.float32)
    copied, numbers = np.ones(n), np.ones(n)
    p64, p32 = plan(clip=100.0, frac_bits=24, parties=20), plan(clip=100.0, frac_bits=16, parties=20)
    wide = plan(clip=100.0, frac_bits=50, parties=20)
    v64, v32 = np.ones(n, p64.ring.dtype), np.ones(n, p32.ring.dtype)
    rng = Stream(os.urandom(32))
    cases: list[tuple[str, Step]] = [
        ("encode float64, 64-bit ring", lambda: encode(x, p64, out=v64)),
        ("encode float64, 32-bit ring", lambda: encode(x, p32, out=v32)),
        ("encode float32, 32-bit ring", lambda: encode(short, p32, out=v32)),
        ("encode float64, above 2**51", lambda: encode(x, wide, out=v64)),
        ("encode stochastic, 64-bit ring", lambda: encode(x, p64, rounding="stochastic", rng=rng, out=v64)),
        ("encode float64, new array", lambda: encode(x, p64)),
    ]
    limit, *times = take_turns([lambda: np.copyto(copied, x), *(step for _, step in cases)], repeats)
    encode(x, p64, out=v64)
    decoding = take_turns([lambda: decode(v64, p64, out=numbers)], repeats)[0]
    print(f"  {'numpy copy':34} {quartiles(limit)}")
    names = [*(name for name, _ in cases), "decode, 64-bit ring"]
    for name, seconds in zip(names, [*times, decoding], strict=True):
        print(f"  {name:34} {quartiles(seconds)}  {seconds.min() / limit.min():5.2f} copies")
    print(f"  goal: encode float64 at most 3.00 copies; largest error {abs(numbers - x).max():.3g}, bound")
    print(f"  {p64.error():.3g}")


def products(size: int, repeats: int) -> None:
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "default")
    print(
        f"\nmatmul modulo 2**64, {size} x {size} x {size}; limit: five float64 products, BLAS threads {threads}"
    )
    words = system_stream().words((2, size, size))
    a, b = words
    floats = a.astype(np.float64)
    out = np.empty_like(floats)
    blas, ours, numpys = take_turns(
        [lambda: np.matmul(floats, floats, out=out), lambda: matmul(a, b), lambda: a @ b], repeats
    )
    exact = bool((matmul(a, b) == a @ b).all())
    print(
        f"  {'float64 product, once':34} {quartiles(blas)}  {5 * blas.min() / ours.min():5.2f} of matmul in five"
    )
    print(f"  {'secagg matmul':34} {quartiles(ours)}  equal to numpy's: {exact}")
    print(f"  {'numpy uint64 @':34} {quartiles(numpys)}  {numpys.min() / ours.min():5.2f} times matmul")
    print("  goal: numpy at least 4.00 times matmul")


def packing(n: int, widths: Sequence[int], repeats: int) -> None:
    print(f"\nbit packing, {n:,} uint64 elements: ns an element, GB/s of elements")
    values = system_stream().words(n)
    for width in widths:
        fitting = values >> np.uint64(64 - width)
        packed = pack_bits(fitting, width)
        times = take_turns(
            [
                lambda v=fitting, w=width: pack_bits(v, w),  # type: ignore[misc]
                lambda p=packed, w=width: unpack_bits(p, w, n, np.uint64),  # type: ignore[misc]
            ],
            repeats,
        )
        pack, unpack = (t.min() for t in times)
        print(
            f"  width {width:2}: pack {pack / n * 1e9:6.2f} ns {8 * n / pack / 1e9:6.2f} GB/s,"
            f" unpack {unpack / n * 1e9:6.2f} ns {8 * n / unpack / 1e9:6.2f} GB/s"
        )


def planes(n: int, widths: Sequence[int], repeats: int) -> None:
    print(f"\nbit planes, {n:,} uint64 elements: ns an element")
    values = system_stream().words(n)
    for bits in widths:
        sliced = to_planes(values, bits)
        times = take_turns(
            [
                lambda b=bits: to_planes(values, b),  # type: ignore[misc]
                lambda s=sliced: from_planes(s, n),  # type: ignore[misc]
            ],
            repeats,
        )
        there, back = (t.min() / n * 1e9 for t in times)
        print(f"  {bits:2} planes: to {there:6.2f}, from {back:6.2f}")


def drawing(n: int, repeats: int) -> None:
    print(f"\ndraws, {n:,} each: ns an element")
    stream = system_stream()
    cases: list[tuple[str, Step]] = [
        ("words", lambda: stream.words(n)),
        ("below(1000003)", lambda: stream.below(1_000_003, n)),
        ("signed(1000)", lambda: stream.signed(1000, n)),
        ("permutation", lambda: stream.permutation(n)),
        ("permutations, 64 rows", lambda: stream.permutations(64, n // 64)),
    ]
    times = take_turns([step for _, step in cases], repeats)
    for (name, _), seconds in zip(cases, times, strict=True):
        print(f"  {name:34} {seconds.min() / n * 1e9:6.2f}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--repeats", type=int, default=None, help="measurements of each step")
    options = parser.parse_args(argv)
    tiny = options.tiny
    repeats = options.repeats or (2 if tiny else 11)
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, {platform.machine()},"
        f" {os.cpu_count()} cores, {repeats} repeats"
    )
    mask_expansion(1 << 12 if tiny else 1 << 23, repeats)
    encoding(10_000 if tiny else 10_000_000, repeats)
    products(70 if tiny else 1000, min(repeats, 7))
    widths = (1, 5, 12, 20, 21, 32, 36, 48, 63, 64)
    packing(1000 if tiny else 1 << 22, widths[::3] if tiny else widths, repeats)
    planes(1000 if tiny else 1 << 20, (1, 8, 16, 32, 64), repeats)
    drawing(1000 if tiny else 1 << 20, min(repeats, 5))


if __name__ == "__main__":
    main(sys.argv[1:])
