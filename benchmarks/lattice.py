"""What the best known lattice attack on our ring-LWE parameters costs, estimated.

The attack: embed the secret and the error of 2N samples in a lattice with one unusually short vector (primal
attack with the rescaling of [BG14]) and reduce it. Blocks of size beta find that vector when [AGVW17]

    sigma * sqrt(beta) <= delta(beta)**(2 * beta - d - 1) * (q**m * (sigma / sigma_s)**N)**(1 / d)

with m samples used, d = N + m + 1, sigma_s the secret's and sigma the error's standard deviation. m is chosen
best for the attacker. Prices of one reduction with blocks of size beta, in bits:

    core-SVP        0.292 beta: one call of the best known sieve, nothing else counted
    quantum         0.265 beta, and 0.257 beta for the most optimistic asymptotic figure
    gates           blocks, dimensions for free and gates of the sieve counted, as [MATZOV22]

This is an independent check of what the lattice-estimator [APS15] says of the same attack, in plain Python; the
estimator knows more attacks. Its command is printed below the table.

    python -m benchmarks.lattice
    python -m benchmarks.lattice --tiny     # one set, few choices of m
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

SIGMA = math.sqrt(10.5)  # centred binomial, 42 coins
SIGMA_SECRET = math.sqrt(2 / 3)  # uniform on -1, 0, 1
# N, log2 q, what it is for
SETS = (
    (4096, 64, "single key"),
    (4096, 96, "threshold"),
    (8192, 128, "threshold, wide or many sums"),
)
# Largest log2 q for 128 bits, ternary secrets, by N: [ACC+18] classical, quantum; [BCC+24] classical, quantum.
TABLES = {4096: (109, 101, 107, 101), 8192: (218, 202, 214, 203)}
ESTIMATOR = """\
git clone https://github.com/malb/lattice-estimator && cd lattice-estimator && git checkout 27a581b
sage -python -c "
from estimator import *
for N, b in ((4096, 64), (4096, 96), (8192, 128)):
    p = LWE.Parameters(n=N, q=2**b, Xs=ND.Uniform(-1, 1), Xe=ND.DiscreteGaussian(3.24), m=2 * N)
    for attack in (LWE.primal_usvp, LWE.primal_bdd, LWE.dual_hybrid):
        print(N, b, attack.__class__.__name__, attack(p, red_cost_model=RC.MATZOV))
    print(N, b, 'quantum', LWE.primal_usvp(p, red_cost_model=RC.LaaMosPol14))
    print(N, b, 'core-SVP', LWE.primal_usvp(p, red_cost_model=RC.ADPS16, red_shape_model='gsa'))
"
"""


def log_delta(beta: int) -> float:
    """Return log2 of the root Hermite factor that blocks of this size reach [Che13]."""
    return math.log2((math.pi * beta) ** (1 / beta) * beta / (2 * math.pi * math.e)) / (2 * (beta - 1))


def finds(beta: int, degree: int, log_q: float, samples: int) -> bool:
    """Return whether reduction with blocks of this size finds the secret [AGVW17]."""
    d = degree + samples + 1
    volume = (samples * log_q + degree * math.log2(SIGMA / SIGMA_SECRET)) / d
    return math.log2(SIGMA * math.sqrt(beta)) <= (2 * beta - d - 1) * log_delta(beta) + volume


def smallest_block(degree: int, log_q: float, step: int = 1) -> tuple[int, int]:
    """Return the smallest block size that finds the secret from at most 2N samples, and how many it needs."""
    low, high = 60, degree
    while low < high:
        beta = (low + high) // 2
        if any(finds(beta, degree, log_q, m) for m in range(step, 2 * degree + 1, step)):
            high = beta
        else:
            low = beta + 1
    return low, next(m for m in range(step, 2 * degree + 1, step) if finds(low, degree, log_q, m))


def gates(beta: int, dimension: int) -> float:
    """Return log2 of the gates of reduction with progressive blocks [MATZOV22], by list decoding."""
    free = beta * math.log(4 / 3) / math.log(beta / (2 * math.pi * math.e))
    progressive = 1 / (1 - 2**-0.292)
    return math.log2(progressive**2 * (dimension - beta)) + 0.2961350 * (beta - free) + 20.387886


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="one set, to see that it runs")
    tiny = parser.parse_args(argv).tiny
    print(f"ring-LWE, ternary secret, error of standard deviation {SIGMA:.2f}, q a power of two; bits")
    print(
        "     N  log q  beta     m  core-SVP  quantum 0.265/0.257  gates  largest log q for 128 bits in tables"
    )
    for degree, log_q, use in SETS[:1] if tiny else SETS:
        beta, samples = smallest_block(degree, log_q, 64 if tiny else 1)
        print(
            f"{degree:6} {log_q:6} {beta:5} {samples:5} {0.292 * beta:9.1f} {0.265 * beta:14.1f} /{0.257 * beta:6.1f}"
            f" {gates(beta, degree + samples + 1):6.1f}  {'/'.join(map(str, TABLES[degree]))}  {use}"
        )
    print("tables: [ACC+18] classical/quantum, [BCC+24] classical/quantum")
    print(
        "\nThe fuller table, with SageMath 10 (minutes to hours; the primal attack at N = 8192 the longest):\n"
    )
    print(ESTIMATOR, end="")


if __name__ == "__main__":
    main()
