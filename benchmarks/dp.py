"""Speed of exact noise, and how much more noise the accounting asks for than the best possible for one release.

Speed is compared with what the same number of continuous Gaussians takes numpy, which decides by float64 and is no
substitute. Where opendp is installed (pip install opendp), it is also compared with OpenDP's exact sampler, on fewer
samples. Each figure is a ratio of measurements that take turns within one run.

    python -m benchmarks.dp            # a million elements
    python -m benchmarks.dp --tiny     # a second, to see that it runs
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import platform
import sys
import time
from collections.abc import Sequence

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from benchmarks.timing import Step, quartiles, take_turns
from secagg import dp
from secagg.prg import system_stream

OPENDP_SHARE = 100  # OpenDP draws this many times fewer samples


def opendp_sampler(deviation: float, n: int) -> Step | None:
    if importlib.util.find_spec("opendp") is None:
        return None
    import opendp.prelude as opendp

    opendp.enable_features("contrib")
    space = opendp.vector_domain(opendp.atom_domain(T=int)), opendp.l2_distance(T=float)
    measurement = opendp.m.make_gaussian(*space, deviation)
    zeros = [0] * n
    return lambda: measurement(zeros)


def samplers(n: int, repeats: int) -> None:
    print(f"\nexact samplers, {n:,} samples; limit: numpy's continuous standard_normal")
    rng, floats = system_stream(), np.random.default_rng()
    few = max(1, n // OPENDP_SHARE)
    for deviation in (0.5, 10.0, 1e3, 1e6):
        start = time.perf_counter()
        gaussian = dp.DiscreteGaussian(deviation**2)
        middle = time.perf_counter()
        skellam = dp.Skellam(deviation**2)
        end = time.perf_counter()
        steps: list[tuple[str, float, Step]] = [
            ("numpy", 1, lambda: floats.standard_normal(n)),
            ("discrete Gaussian", 1, lambda g=gaussian: g.draw(n, rng)),  # type: ignore[misc]
            ("Skellam", 1, lambda s=skellam: s.draw(n, rng)),  # type: ignore[misc]
        ]
        peer = opendp_sampler(deviation, few)
        if peer is not None:
            steps.append((f"OpenDP, {few:,} samples", n / few, peer))
        times = take_turns([step for *_, step in steps], repeats)
        print(
            f"  deviation {deviation:g}; set up in {(middle - start) * 1e3:.1f} ms and {(end - middle) * 1e3:.1f} ms"
        )
        for (name, share, _), seconds in zip(steps, times, strict=True):
            each = share * seconds.min()
            print(
                f"    {name:24} {quartiles(seconds)}  {each / n * 1e9:9.1f} ns a sample"
                f"  {each / times[0].min():8.2f} of numpy"
            )


def contributions(length: int, repeats: int) -> None:
    print(
        f"\na client's contribution, {length:,} elements: clipped, rounded, with noise; then the sum as numbers"
    )
    x = np.random.default_rng(1).normal(size=length)
    budget, cohort = dp.Budget(8.0, 1e-6, 100), dp.Cohort(100, 70, 10)
    for rotated in (False, True):
        seed = os.urandom(32) if rotated else None
        start = time.perf_counter()
        mechanism = dp.choose(budget, cohort, clip=1.0, length=length, random_rotation=rotated)
        middle = time.perf_counter()
        contributor = dp.Contributor(mechanism)
        end = time.perf_counter()
        values = contributor.contribute(x, seed=seed).values
        there, back = take_turns(
            [
                lambda c=contributor, s=seed: c.contribute(x, seed=s),  # type: ignore[misc]
                lambda m=mechanism, v=values, s=seed: m.to_numbers(v, seed=s),  # type: ignore[misc]
            ],
            repeats,
        )
        print(
            f"  rotated {rotated!s:5} ring of {mechanism.ring.bits} bits; planned in {(middle - start) * 1e3:.1f} ms,"
            f" sampler in {(end - middle) * 1e3:.1f} ms"
        )
        print(f"    contribute               {quartiles(there)}")
        print(f"    to_numbers               {quartiles(back)}")


def least_gaussian(epsilon: float, delta: float) -> float:
    """Return the deviation of the best continuous Gaussian for one release of sensitivity 1 [Balle, Wang 2018]."""

    def spent(s: float) -> float:
        def below(z: float) -> float:
            return math.erfc(-z / math.sqrt(2)) / 2

        return below(0.5 / s - epsilon * s) - math.exp(epsilon) * below(-0.5 / s - epsilon * s)

    low, high = 1e-3, 1e6
    while high > low * (1 + 1e-9):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle) <= delta else (middle, high)
    return high


def noise(length: int) -> None:
    print(f"\ndeviation of the noise, clip 1, {length:,} elements, 100 clients, 70 survive, none colludes")
    for rounds in (1, 1000):
        for epsilon in (0.1, 1.0, 8.0):
            reports = [
                dp.choose(
                    dp.Budget(epsilon, 1e-6, rounds), dp.Cohort(100, 70), clip=1.0, length=length, kind=kind
                ).report()
                for kind in ("skellam", "discrete gaussian")
            ]
            line = "".join(f"  {r.noise} {r.noise_std:10.5f}" for r in reports)
            if rounds == 1:
                best = least_gaussian(epsilon, 1e-6)
                line += f"  best {best:10.5f}, ratio {reports[0].noise_std / best:.4f}"
            print(f"  {rounds:4} rounds, epsilon {epsilon:4g}, delta 1e-6:{line}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--repeats", type=int, default=None, help="measurements of each step")
    options = parser.parse_args(argv)
    repeats = options.repeats or (2 if options.tiny else 7)
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, {platform.machine()},"
        f" {os.cpu_count()} cores, {repeats} repeats"
    )
    samplers(1000 if options.tiny else 1_000_000, repeats)
    contributions(1000 if options.tiny else 1_000_000, repeats)
    noise(1000 if options.tiny else 1_000_000)


if __name__ == "__main__":
    main(sys.argv[1:])
