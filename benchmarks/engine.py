"""Operations of the three-party engine, three processes on this machine, over plain loopback and TLS.

    python -m benchmarks.engine
    python -m benchmarks.engine --spu-python VENV/bin/python --crypten-python VENV/bin/python

Each operation is repeated; the three parties start each repetition together, and its time is that of the slowest.
Beside it stands its limit. That is the time in which the cores of this machine make the keystream that the three
parties need, and copy what they send into the kernel and out of it. For matrices it includes the float64 products.
`--spu-python` and `--crypten-python` run the same operations in SPU (ABY3) and CrypTen, taking turns with ours;
benchmarks/peers says how to install them. Theirs go over plain loopback, and so do ours that they are compared with.
Comparison gives bits, 64 a word; CrypTen's gives integers, so ours is taken with the conversion there.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from secagg.cost.operation import Cost  # noqa: E402
from secagg.mpc.numbers import RING64, RingGroup, decode, encode_public  # noqa: E402
from secagg.mpc.primitives import Shares  # noqa: E402
from secagg.mpc.three.costs import COSTS  # noqa: E402
from secagg.mpc.three.engine import ThreeEngine  # noqa: E402
from secagg.network.memory import keep_freed_memory  # noqa: E402
from secagg.prg import system_stream  # noqa: E402

NAMES = ("ada", "bob", "cleo")
SMALL = 64
FRAC_BITS = 16


class Operation(NamedTuple):
    """What is measured.

    cost: as declared.
    keystream: bytes of keystream that the three parties expand, together.
    products: float64 matrix products of this many elements a side, together.
    """

    title: str
    cost: Cost
    keystream: int
    products: tuple[int, int] = (0, 0)


def operations(n: int, side: int, repeats: int) -> dict[str, tuple[Operation, int]]:
    """Return what to measure by name, and how often."""
    pad = -(-n // 64) * 8
    digits, entries = (21, 7) if n >= 1 << 15 else (16, 15)  # the layout of a comparison's thermometers
    ands = COSTS.negative(n, RING64).payload_bytes["P_1"] - 2 * digits * pad
    fixed = 2 * (
        2 * 8 + 2 * 8 + 3 * 2 + 8
    )  # a, b, rho, x_2 of 8 bytes; r, s, q of 2: each drawn at both holders
    cells = side * side
    # The three make five products modulo 2**64, which are five in float64 each.
    matrix = Operation(f"matmul {side}", COSTS.multiply(cells, RING64, FRAC_BITS), fixed * cells, (25, side))
    small = Operation(f"fixed-point multiply, {SMALL}", COSTS.multiply(SMALL, RING64, FRAC_BITS), 0)
    return {
        "imul": (Operation("integer multiply", COSTS.multiply(n, RING64), 6 * 8 * n), repeats),
        "mul": (
            Operation("fixed-point multiply", COSTS.multiply(n, RING64, FRAC_BITS), fixed * n),
            repeats,
        ),
        "cmp": (
            Operation(
                "x < 0",
                COSTS.negative(n, RING64),
                2 * (digits * entries + 1 + 2 * 2 * digits) * pad + 6 * ands,
            ),
            repeats,
        ),
        "bit": (Operation("bits to integers", COSTS.from_bits(n, RING64), 6 * 8 * n), repeats),
        "eq": (
            Operation(
                "x == 0", COSTS.zero(n, RING64), 2 * 64 * pad + 6 * COSTS.zero(n, RING64).payload_bytes["P_1"]
            ),
            repeats,
        ),
        "and": (Operation("AND of 64 bits", COSTS.conjunction(64 * pad // 8), 6 * 64 * pad), repeats),
        "open": (Operation("open", COSTS.open(8 * n), 0), repeats),
        "mm": (matrix, max(2, repeats // 3)),
        "mul-small": (small, 20 * repeats),
        "cmp-small": (Operation(f"x < 0, {SMALL}", COSTS.negative(SMALL, RING64), 0), 20 * repeats),
    }


async def party_program(party: Any, *, n: int, side: int, repeats: int) -> dict[str, Any]:
    """Return, by operation, the seconds of each repetition, and the errors found at the end."""
    engine, ring = await ThreeEngine.set_up(party, NAMES), RingGroup(RING64)
    made_up = np.random.default_rng(1)
    x, y = np.rint(made_up.standard_normal((2, max(n, side * side))) * 50 * 2**FRAC_BITS) / 2**FRAC_BITS

    async def given(values: Any, owner: int) -> Shares:
        mine = encode_public(values, RING64, FRAC_BITS) if party.me == NAMES[owner] else None
        return await engine.input(ring, NAMES[owner], values.shape, mine)

    async def numbers(opening: Any, frac_bits: int) -> Any:
        opened = await engine.open(await opening)
        return None if opened is None else decode(opened, RING64, frac_bits)

    a, b = await given(x[:n], 0), await given(y[:n], 1)
    p, q = [await given(v[: side * side].reshape(side, side), 2) for v in (x, y)]
    few, others = a[:SMALL].copy(), b[:SMALL].copy()
    beacon = engine.public(ring, np.zeros(1, np.uint64))
    flags = await engine.negative(a)
    bits = [await engine.to_bits(x) for x in (a, b)]
    runs = {
        "imul": lambda: engine.multiply(a, b),
        "mul": lambda: engine.multiply(a, b, FRAC_BITS),
        "cmp": lambda: engine.negative(a),
        "bit": lambda: engine.from_bits(flags, ring, n),
        "eq": lambda: engine.zero(a),
        "and": lambda: engine.conjunction([(bits[0], bits[1])]),
        "open": lambda: engine.open(a),
        "mm": lambda: engine.matmul(p, q, FRAC_BITS),
        "mul-small": lambda: engine.multiply(few, others, FRAC_BITS),
        "cmp-small": lambda: engine.negative(few),
    }
    results: dict[str, Any] = {}
    for name, (_, times) in operations(n, side, repeats).items():
        await runs[name]()
        seconds = []
        for _ in range(times):
            for _ in range(2):  # the second opening ends at all three nearly at once
                await engine.open(beacon)
            begun = time.perf_counter()
            await runs[name]()
            seconds.append(time.perf_counter() - begun)
        results[name] = seconds
    product, matrix = [await numbers(runs[name](), FRAC_BITS) for name in ("mul", "mm")]
    negative = await numbers(runs["bit"](), 0)
    side_x, side_y = (v[: side * side].reshape(side, side) for v in (x, y))
    results["errors"] = {
        "mul": float(abs(product - x[:n] * y[:n]).max() * 2**FRAC_BITS),
        "mm": float(abs(matrix - side_x @ side_y).max() * 2**FRAC_BITS),
        "cmp": int((negative != (x[:n] < 0)).sum()),
    }
    return results


def machine(side: int) -> tuple[float, float, float]:
    """Return seconds a byte of keystream, a byte copied, and a float64 product of `side`, in one thread."""
    keep_freed_memory()
    words, stream = np.ones(1 << 20, np.uint64), system_stream()
    other, matrix = np.ones_like(words), np.ones((side, side))
    out = np.empty_like(matrix)

    def fastest(step: Any, times: int) -> float:
        best = float("inf")
        for _ in range(times):
            begun = time.perf_counter()
            step()
            best = min(best, time.perf_counter() - begun)
        return best

    return (
        fastest(lambda: stream.fill(words), 20) / words.nbytes,
        fastest(lambda: np.copyto(other, words), 20) / words.nbytes,
        fastest(lambda: np.matmul(matrix, matrix, out=out), 3),
    )


def peer_seconds(python: str, script: str, ops: list[str], repeats: int) -> dict[str, float]:
    """Run a peer's script and return its fastest times by operation."""
    command = [
        python,
        str(Path(__file__).parent / "peers" / script),
        "--ops",
        *ops,
        "--repeats",
        str(repeats),
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {f"{line['op']}:{line['n']}": min(line["seconds"]) for line in lines}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1_000_000, help="elements of the elementwise operations")
    parser.add_argument("--side", type=int, default=1000, help="rows and columns of the matrices")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--turns", type=int, default=2, help="how often everybody takes a turn")
    parser.add_argument("--network", choices=["plain", "tls", "both"], default="both")
    parser.add_argument("--spu-python", help="a Python that has SPU")
    parser.add_argument("--crypten-python", help="a Python that has CrypTen")
    parser.add_argument("--tiny", action="store_true", help="once, on a few elements")
    options = parser.parse_args(argv)
    if options.tiny:
        options.n, options.side, options.repeats, options.turns, options.network = 1000, 16, 1, 1, "plain"
    n, side = options.n, options.side
    peers = [
        (name, python, script)
        for name, python, script in (
            ("SPU", options.spu_python, "spu_ops.py"),
            ("CrypTen", options.crypten_python, "crypten_ops.py"),
        )
        if python
    ]
    networks = ["plain", "tls"] if options.network == "both" else [options.network]
    table = operations(n, side, options.repeats)
    ours: dict[str, dict[str, list[float]]] = {network: {name: [] for name in table} for network in networks}
    theirs: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in peers}
    program = functools.partial(party_program, n=n, side=side, repeats=options.repeats)
    print(
        f"{n:,} elements, matrices of {side} x {side}, 64-bit ring, {FRAC_BITS} fractional bits, "
        f"{os.cpu_count()} cores, {options.turns} turns of {options.repeats} repetitions; milliseconds"
    )
    errors: dict[str, float] = {}
    limits = []
    for _ in range(options.turns):
        limits.append(machine(side))
        for network in networks:
            results = run_parties(dict.fromkeys(NAMES, program), tls=network == "tls")
            measured = [result[0] for result in results.values()]
            for name in table:
                ours[network][name] += [max(step) for step in zip(*(m[name] for m in measured), strict=True)]
            for name, error in measured[0]["errors"].items():
                errors[name] = max(errors.get(name, 0), error)
        for name, python, script in peers:
            cmp = comparison(name)
            ops = [f"mul:{n}", f"{cmp}:{n}", f"mm:{side}", f"mul:{SMALL}", f"{cmp}:{SMALL}"]
            theirs[name].append(peer_seconds(python, script, ops, 3))
    keystream_s, copy_s, product_s = map(min, zip(*limits, strict=True))
    share = 3 / min(3, os.cpu_count() or 1)  # three parties on the cores there are
    for network in networks:
        print(
            f"\nover {network}:\n{'':30}    min  quartiles                        limit ratio  rounds  "
            "bytes an element sent by P0, P1, P2"
        )
        for name, (operation, _) in table.items():
            seconds = np.array(ours[network][name])
            low, middle, high = np.percentile(seconds, [25, 50, 75]) * 1e3
            sent = operation.cost.payload_bytes.values()
            limit = (
                operation.keystream / 3 * keystream_s
                + 2 * sum(sent) / 3 * copy_s
                + operation.products[0] / 3 * product_s
            ) * share
            count = {"mm": side * side, "mul-small": SMALL, "cmp-small": SMALL}.get(name, n)
            each = " ".join(f"{s / count:.2f}" for s in sent)
            ratio = f"{limit * 1e3:8.2f} {seconds.min() / limit:5.1f}" if limit > 1e-4 else " " * 14
            print(
                f"  {operation.title:26} {seconds.min() * 1e3:8.2f}  {low:8.2f} {middle:8.2f} {high:8.2f}  "
                f"{ratio}  {operation.cost.rounds:4}    {each}"
            )
    print(
        f"\nlargest error: multiply {errors['mul']:.5f}, matmul {errors['mm']:.5f} units in the last place "
        f"(bound 1); wrong comparisons: {errors['cmp']}"
    )
    if peers:
        compare(ours[networks[0]], theirs, n, side)


GOALS = {
    ("SPU", "mul"): 3,
    ("SPU", "cmp"): 15,
    ("SPU", "mm"): 1.1,
    ("CrypTen", "mul"): 6,
    ("CrypTen", "cmp"): 50,
    ("CrypTen", "mm"): 20,
}


def comparison(peer: str) -> str:
    """Return the name of a peer's comparison: to bits, or to numbers where it has nothing else."""
    return "flag" if peer == "CrypTen" else "cmp"


def compare(
    ours: dict[str, list[float]], theirs: dict[str, list[dict[str, float]]], n: int, side: int
) -> None:
    """Print how many times longer each peer takes; all fastest times of this run."""
    print("\nbeside others, fastest times:")
    fastest = {name: min(seconds) for name, seconds in ours.items()}
    for peer, turns in theirs.items():
        cmp = comparison(peer)
        keys = {"mul": f"mul:{n}", "cmp": f"{cmp}:{n}", "mm": f"mm:{side}"}
        keys |= {"mul-small": f"mul:{SMALL}", "cmp-small": f"{cmp}:{SMALL}"}
        for name, key in keys.items():
            seconds = min(turn[key] for turn in turns)
            mine = fastest[name] + (fastest["bit"] if peer == "CrypTen" and name == "cmp" else 0)
            goal = f"  goal: {GOALS[peer, name]}" if (peer, name) in GOALS else ""
            print(
                f"  {peer:8} {key:12} {seconds * 1e3:10.2f} ms, secagg {mine * 1e3:8.2f} ms: "
                f"{seconds / mine:7.2f} times as long{goal}"
            )


if __name__ == "__main__":
    main()
