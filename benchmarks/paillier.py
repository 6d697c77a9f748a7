"""Speed of Paillier's encryption against python-paillier (phe) and against GMP's arithmetic alone.

Every figure is CPU time of one thread for one number, in slots of 48 bits, except where two threads are compared
with one. Within each table the measurements take turns, so that a busy machine slows all alike. Ratios compare the
fastest times, and the medians show how noisy the run was. The limits are loops over the same multiplications (of
secagg's encryption: one for each window of the exponent) or powers and nothing else.

    python -m benchmarks.paillier            # 3072 bits, three minutes
    python -m benchmarks.paillier --tiny     # seconds, to see that it runs
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import gmpy2
import numpy as np
import phe

from secagg.fixed_point import plan
from secagg.he.paillier import Ciphertext, PublicKey, RandomizerPool, SecretKey, table_speed
from secagg.integrations.phe import to_secret_key

PLAN = plan(clip=1000.0, frac_bits=20, parties=10_000)  # sums of 45 bits: slots of 48
WINDOW = 10  # the default


@dataclass
class Step:
    """Something to measure: what it is called, what it does, for how many numbers, and what to do before."""

    name: str
    run: Callable[[], object]
    numbers: int
    before: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)

    @property
    def least(self) -> float:
        return min(self.seconds) / self.numbers

    @property
    def median(self) -> float:
        return float(np.median(self.seconds)) / self.numbers


def take_turns(steps: Sequence[Step], repeats: int, clock: Callable[[], float] = time.process_time) -> None:
    for _ in range(repeats):
        for step in steps:
            step.before()
            start = clock()
            step.run()
            step.seconds.append(clock() - start)


def report(steps: Sequence[Step], peer: Step, limit: Step | None, goal: str) -> None:
    for step in steps:
        of_limit = f"{limit.least / step.least:6.2f} of the limit" if limit else ""
        print(
            f"  {step.name:44} min {step.least * 1e6:10.3f}  median {step.median * 1e6:10.3f} us a number"
            f" {peer.least / step.least:8.0f} x phe  {of_limit}"
        )
    print(f"  goal: {goal}")


class Deferred(Executor):
    """Runs what it is given when told to: a background that does not disturb the measurement."""

    def __init__(self) -> None:
        self.tasks: list[Callable[[], None]] = []

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        future: Future = Future()
        self.tasks.append(lambda: future.set_result(fn(*args, **kwargs)))
        return future

    def run(self) -> None:
        while self.tasks:
            self.tasks.pop()()


@dataclass
class Bench:
    """A key of ours, the same in phe, and numbers to encrypt."""

    key: SecretKey
    residues: int
    repeats: int

    def __post_init__(self) -> None:
        self.public: PublicKey = self.key.public_key
        slots = self.public.encrypt([0.0], PLAN).slots
        rng = np.random.default_rng(1)
        self.x = rng.uniform(-1000, 1000, slots * self.residues)
        self.slots = slots
        self.theirs = to_secret_key(SecretKey(PublicKey(int(self.public.n)), *self.key.prime_factors()))
        self.label = f"s = {self.public.s}"

    def products_alone(self, count: int) -> Step:
        """Return the step of `count` of GMP's products modulo n^(s + 1) a residue, for sixteen residues."""
        factors = self.public.encrypt(self.x[: self.slots * 16], PLAN).integers()
        modulus = self.public.modulus.ciphertext

        def multiply() -> None:
            value = factors[0]
            for _ in range(count):
                for factor in factors:
                    value = value * factor % modulus

        name = f"limit: {count} GMP products modulo n^{self.public.s + 1}"
        return Step(name, multiply, len(factors) * self.slots)

    def additions_alone(self, total: Ciphertext, summand: Ciphertext, numbers: int) -> Step:
        """Return the step of one of GMP's products modulo n^(s + 1) a residue."""
        pairs = list(zip(total.integers(), summand.integers(), strict=True))
        modulus = self.public.modulus.ciphertext
        name = f"limit: GMP's product modulo n^{self.public.s + 1}"
        return Step(name, lambda: [v * w % modulus for v, w in pairs], numbers)

    def powers_alone(self, ciphertext: Ciphertext) -> Step:
        """Return the step of GMP's powers modulo p^(s + 1) and q^(s + 1), a pair a residue."""
        residues = ciphertext.integers()
        moduli = [(p, gmpy2.mpz(p) ** (self.public.s + 1)) for p in self.key.prime_factors()]

        def powers() -> None:
            for p, modulus in moduli:
                for c in residues:
                    gmpy2.powmod(c, p - 1, modulus)

        name = f"limit: GMP's powers modulo p^{self.public.s + 1}, q^{self.public.s + 1}"
        return Step(name, powers, self.x.size)

    def encryption(self) -> None:
        print(f"\nencrypt, {self.label}, {self.slots} numbers a residue, {self.residues} residues")
        public, x = self.public, self.x
        short = PublicKey(int(public.n), s=public.s, h=int(public.h), randomizer_bits=512)
        background = Deferred()
        pool = RandomizerPool(public, background, size=self.residues)
        windows = {key.randomizer_bits: -(-key.randomizer_bits // WINDOW) for key in (public, short)}

        def limit(bits: int) -> Step:
            return self.products_alone(windows[bits])

        for key in (public, short, self.key):
            key.prepare(window=WINDOW)
        peer = Step("phe", lambda: self.theirs.public_key.encrypt(123456789), 1)
        half = Step(
            f"randomizer exponents of {public.randomizer_bits} bits (default)",
            lambda: public.encrypt(x, PLAN),
            x.size,
        )
        half_limit, short_limit = limit(public.randomizer_bits), limit(512)
        owner = Step("the same by the key's owner", lambda: self.key.encrypt(x, PLAN), x.size)
        fast = Step("randomizer exponents of 512 bits", lambda: short.encrypt(x, PLAN), x.size)
        pooled = Step(
            "randomizers from a pool",
            lambda: public.encrypt(x, PLAN, randomizers=pool),
            x.size,
            background.run,
        )
        take_turns([peer, half, half_limit, owner, fast, short_limit, pooled], self.repeats)
        report([peer], peer, None, "-")
        report([half, owner, pooled, half_limit], peer, half_limit, "default at least 1,000 x phe")
        report([fast, short_limit], peer, short_limit, "-")

    def addition(self) -> None:
        print(f"\nadd, {self.label}")
        public, x = self.public, np.resize(self.x, self.slots * self.residues * 8)
        total, one = public.encrypt(x, PLAN), public.encrypt(x, PLAN)

        def add() -> None:
            nonlocal total
            total += one

        data = one.to_bytes()
        mine, other = (self.theirs.public_key.encrypt(v) for v in (123456789, -5))
        peer = Step("phe", lambda: [mine + other for _ in range(64)], 64)
        ours = Step("+=", add, x.size)
        arrived = Step("from_bytes, checks included", lambda: public.read_bytes(data), x.size)
        limit = self.additions_alone(total, one, x.size)
        take_turns([peer, ours, arrived, limit], 3 * self.repeats)
        report([peer], peer, None, "-")
        report([ours, limit, arrived], peer, limit, "+= at least 90 x phe")
        print(f"  {len(data) / x.size:.2f} bytes a number (phe: {public.bits // 4}); goal: at most 12.5")

    def decryption(self) -> None:
        print(f"\ndecrypt, {self.label}")
        ciphertext = self.public.encrypt(self.x, PLAN)
        theirs = self.theirs.public_key.encrypt(123456789)
        peer = Step("phe", lambda: self.theirs.decrypt(theirs), 1)
        ours = Step("secagg", lambda: self.key.decrypt(ciphertext), self.x.size)
        limit = self.powers_alone(ciphertext)
        take_turns([peer, ours, limit], self.repeats)
        report([peer], peer, None, "-")
        report([ours, limit], peer, limit, "at least 60 x phe")
        error = np.max(np.abs(self.key.decrypt(ciphertext) - self.x))
        print(f"  largest error {error:.3g}, bound {PLAN.error():.3g}")

    def threads(self) -> None:
        print(f"\ntwo threads against one, {self.label}, wall-clock time, {os.cpu_count()} cores")
        public, x, key = self.public, self.x, self.key
        ciphertext = public.encrypt(x, PLAN)
        power = public.modulus.ciphertext - 2

        def long_power(_: int) -> None:
            gmpy2.powmod_base_list([power] * 4, public.n, public.modulus.ciphertext)

        with ThreadPoolExecutor(2) as pool:
            pairs = [
                (
                    "what the machine gives: GMP's long powers",
                    lambda: [long_power(i) for i in range(2)],
                    lambda: list(pool.map(long_power, range(2))),
                ),
                ("encrypt", lambda: public.encrypt(x, PLAN), lambda: public.encrypt(x, PLAN, executor=pool)),
                ("encrypt, owner", lambda: key.encrypt(x, PLAN), lambda: key.encrypt(x, PLAN, executor=pool)),
                (
                    "decrypt",
                    lambda: key.decrypt(ciphertext),
                    lambda: key.decrypt(ciphertext, executor=pool),
                ),
            ]
            steps = [(Step(name, one, 1), Step(name, two, 1)) for name, one, two in pairs]
            take_turns([step for pair in steps for step in pair], self.repeats, time.perf_counter)
        for one, two in steps:
            print(
                f"  {one.name:44} one {one.least:7.3f} s  two {two.least:7.3f} s  {one.least / two.least:5.2f} times"
            )
        print("  goal: encryption at least 1.70 times where the machine gives 2")


def generation(bits: int, count: int) -> list[SecretKey]:
    print(f"\nkey generation, {bits} bits, {count} keys")
    keys, seconds = [], []
    for _ in range(count):
        start = time.process_time()
        keys.append(SecretKey.generate(bits))
        seconds.append(time.process_time() - start)
    low, mid, high = np.percentile(seconds, [25, 50, 75])
    print(f"  min {min(seconds):.2f}  quartiles {low:.2f} {mid:.2f} {high:.2f}  max {max(seconds):.2f} s")
    print("  goal: median at most 2.00 s")
    return keys


def table(key: PublicKey) -> None:
    fresh = PublicKey(int(key.n), s=key.s, h=int(key.h))
    start = time.process_time()
    fresh.prepare(window=WINDOW)
    entries = (fresh.randomizer_bits // WINDOW) << WINDOW
    print(
        f"\ntable, s = {key.s}: built in {time.process_time() - start:.2f} s,"
        f" {entries * sys.getsizeof(key.modulus.ciphertext) / 1e6:.0f} MB"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="2048 bits and little of it, to see that it runs")
    parser.add_argument("--bits", type=int, default=3072, help="length of n")
    parser.add_argument("--keys", type=int, default=25, help="keys to generate")
    parser.add_argument("--residues", type=int, default=32, help="residues to encrypt at a time")
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each step")
    parser.add_argument("--exponents", type=int, nargs="+", default=(1, 2, 3), help="values of s")
    parser.add_argument(
        "--measure-tables", action="store_true", help="measure anew what tables pay on this machine, and end"
    )
    options = parser.parse_args(argv)
    if options.measure_tables:
        measured = table_speed.factors(gmpy2.mpz(2) ** (2 * options.bits) - 1, anew=True)
        for megabytes, factor in zip(table_speed.SIZES, measured, strict=True):
            print(f"entries of {megabytes} MB: products take {factor:.2f} times as long as from a cache")
        return
    if options.tiny:
        options.bits, options.keys, options.residues, options.repeats = 2048, 1, 1, 1
        options.exponents = (1,)
    print(
        f"python {platform.python_version()}, gmpy2 {gmpy2.version()}, {gmpy2.mp_version()}, phe {phe.__version__},"
        f" {platform.machine()}, {os.cpu_count()} cores; {options.bits} bits, {PLAN.sum_bits}-bit sums"
    )
    key = generation(options.bits, options.keys)[-1]
    for s in options.exponents:
        public = PublicKey(int(key.public_key.n), s=s, h=int(key.public_key.h))
        bench = Bench(SecretKey(public, *key.prime_factors()), options.residues, options.repeats)
        if not options.tiny:
            table(public)
        bench.encryption()
        bench.addition()
        bench.decryption()
        bench.threads()


if __name__ == "__main__":
    main(sys.argv[1:])
