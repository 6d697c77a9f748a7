"""Time operations of CrypTen (3 processes over loopback), for comparison; needs a Python of its own.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 numpy omegaconf pyyaml onnx
    VENV/bin/pip install --no-deps crypten==0.4.1
    VENV/bin/python benchmarks/peers/crypten_ops.py --ops mul:1000000 cmp:1000000 mm:1000

64-bit ring, 16 fractional bits, its default provider of multiplication triples (the first party, trusted, which
costs no messages). Prints a line of JSON for each operation: the seconds that the slowest of the three processes
took, for each repetition.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

# CrypTen 0.4.1 imports this from where torch had it before 2.9.
sys.modules.setdefault(
    "torch.onnx._internal.registration",
    importlib.import_module("torch.onnx._internal.torchscript_exporter.registration"),
)

import crypten  # noqa: E402
import crypten.communicator  # noqa: E402
import crypten.mpc  # noqa: E402
import torch  # noqa: E402

PARTIES = 3


def operation(name: str, n: int) -> Any:
    """Return a function without arguments over shared operands."""
    if name == "mul":
        x, y = (crypten.cryptensor(torch.randn(n), src=i) for i in (0, 1))
        return lambda: x * y
    if name == "cmp":
        x = crypten.cryptensor(torch.randn(n), src=0)
        return lambda: x > 0
    if name == "mm":
        x, y = (crypten.cryptensor(torch.randn(n, n), src=i) for i in (0, 1))
        return lambda: x @ y
    raise SystemExit(f"unknown operation {name}: expected mul, cmp or mm")


def timed(ops: list[tuple[str, int]], repeats: int) -> list[list[float]]:
    torch.set_num_threads(1)
    timings = []
    for name, n in ops:
        run = operation(name, n)
        seconds = []
        for _ in range(repeats):
            crypten.communicator.get().barrier()
            begun = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begun)
        timings.append(seconds)
    return timings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ops", nargs="+", default=["mul:1000000", "cmp:1000000", "mm:1000"], metavar="OP:N")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ops = [(name, int(n)) for name, n in (item.split(":") for item in options.ops)]
    results = crypten.mpc.context.run_multiprocess(PARTIES)(timed)(ops, options.repeats)
    for index, (name, n) in enumerate(ops):
        slowest = [
            max(repetition) for repetition in zip(*(timings[index] for timings in results), strict=True)
        ]
        print(json.dumps({"peer": "CrypTen", "op": name, "n": n, "seconds": [round(s, 6) for s in slowest]}))


if __name__ == "__main__":
    main()
