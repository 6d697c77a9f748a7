"""Time operations of CrypTen (3 processes over loopback), for comparison; needs a Python of its own.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 numpy omegaconf pyyaml
    VENV/bin/pip install --no-deps crypten==0.4.1
    VENV/bin/python benchmarks/peers/crypten_ops.py --ops mul:1000000 flag:1000000 mm:1000

64-bit ring, 16 fractional bits, its default provider of multiplication triples (the first party, trusted, which
costs no messages). Prints a line of JSON for each operation: the seconds that the slowest of the three processes
took, for each repetition, and the largest error.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import time
import types

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

# CrypTen 0.4.1 imports this from where torch had it before 2.9.
sys.modules.setdefault(
    "torch.onnx._internal.registration",
    importlib.import_module("torch.onnx._internal.torchscript_exporter.registration"),
)

if importlib.util.find_spec("onnx") is None:  # only its conversion of models needs it
    for name in ("onnx", "onnx.numpy_helper"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["onnx"].numpy_helper = sys.modules["onnx.numpy_helper"]  # type: ignore[attr-defined]

import crypten  # noqa: E402
import crypten.communicator  # noqa: E402
import crypten.mpc  # noqa: E402
import torch  # noqa: E402
from operands import largest_error, operands  # noqa: E402

PARTIES = 3


RUNS = {
    "mul": lambda x, y: x * y,
    "flag": lambda x: x > 0,
    "mm": lambda x, y: x @ y,
    "div": lambda x, y: x / y,
    "exp": lambda x: x.exp(),
}


def timed(ops: list[tuple[str, int]], repeats: int) -> list[tuple[list[float], float]]:
    """Return, for each operation, the seconds of each repetition and the largest error."""
    torch.set_num_threads(1)
    timings = []
    for name, n in ops:
        given = [
            crypten.cryptensor(torch.tensor(v, dtype=torch.float32), src=i)
            for i, v in enumerate(operands(name, n))
        ]
        seconds = []
        for _ in range(repeats):
            crypten.communicator.get().barrier()
            begun = time.perf_counter()
            result = RUNS[name](*given)
            seconds.append(time.perf_counter() - begun)
        timings.append((seconds, largest_error(name, n, result.get_plain_text())))
    return timings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--ops", nargs="+", default=["mul:1000000", "flag:1000000", "mm:1000"], metavar="OP:N"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ops = [(name, int(n)) for name, n in (item.split(":") for item in options.ops)]
    unknown = {name for name, _ in ops} - set(RUNS)
    if unknown:
        raise SystemExit(f"unknown operation {min(unknown)}: expected one of {', '.join(RUNS)}")
    results = crypten.mpc.context.run_multiprocess(PARTIES)(timed)(ops, options.repeats)
    for index, (name, n) in enumerate(ops):
        each, errors = zip(*(timings[index] for timings in results), strict=True)
        seconds = [round(max(repetition), 6) for repetition in zip(*each, strict=True)]
        print(json.dumps({"peer": "CrypTen", "op": name, "n": n, "seconds": seconds, "error": max(errors)}))


if __name__ == "__main__":
    main()
