"""Time operations of SPU (ABY3, 3 processes over loopback), for comparison; needs a Python of its own.

    python -m venv VENV && VENV/bin/pip install spu==0.9.5
    VENV/bin/python benchmarks/peers/spu_ops.py --ops mul:1000000 cmp:1000000 mm:1000 sort:100000

64-bit ring, 16 fractional bits. `exp` is the exponential by SPU's default, `pade` by its more exact way. Prints a line of
JSON for each operation: the seconds that the slowest of the three processes took, for each repetition, and the largest
error.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import time
from typing import Any

from operands import largest_error, operands

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

PARTIES = 3


def operation(name: str, n: int) -> tuple[Any, list[Any]]:
    """Return a function of secrets and the plain values to share."""
    import jax.numpy as jnp
    import numpy as np

    if name == "imul":
        integers = np.random.default_rng(0).integers(-1000, 1000, n).astype(np.int32)
        return lambda x, y: x * y, [integers, integers]
    runs = {
        "mul": lambda x, y: x * y,
        "cmp": lambda x: x > 0,
        "flag": lambda x: (x > 0).astype(jnp.int32),
        "mm": lambda x, y: x @ y,
        "div": lambda x, y: x / y,
        "exp": jnp.exp,
        "pade": jnp.exp,
        "sort": jnp.sort,
    }
    return runs[name], [v.astype(np.float32) for v in operands(name, n)]


def config(name: str = "") -> Any:
    """Return the settings of an operation."""
    import spu

    settings = spu.RuntimeConfig(protocol=spu.ProtocolKind.ABY3, field=spu.FieldType.FM64)
    settings.fxp_fraction_bits = 16
    if name == "pade":
        settings.fxp_exp_mode = spu.RuntimeConfig.EXP_PADE
    return settings


def compiled(name: str, n: int) -> Any:
    import spu
    from spu.utils import frontend

    function, values = operation(name, n)
    inputs = [f"in{i}" for i in range(len(values))]
    secret = [spu.Visibility.VIS_SECRET] * len(values)
    program, _ = frontend.compile(
        frontend.Kind.JAX,
        function,
        values,
        {},
        inputs,
        secret,
        lambda outputs: [f"out{i}" for i in range(len(outputs))],
    )
    return program


def party(rank: int, ports: list[int], jobs: list[Any], repeats: int, results: Any) -> None:
    import spu
    from spu import libspu

    description = libspu.link.Desc()
    for i, port in enumerate(ports):
        description.add_party(f"p{i}", f"127.0.0.1:{port}")
    link = libspu.link.create_brpc(description, rank)
    for index, (name, n, shares) in enumerate(jobs):
        runtime = spu.Runtime(link, config(name))
        program = compiled(name, n)
        seconds = []
        for _ in range(repeats):
            for i, value in enumerate(shares):
                runtime.set_var(f"in{i}", value[rank])
            begun = time.perf_counter()
            runtime.run(program)
            seconds.append(time.perf_counter() - begun)
        results.put((index, rank, seconds, runtime.get_var("out0")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ops", nargs="+", default=["mul:1000000", "cmp:1000000", "mm:1000"], metavar="OP:N")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    import spu

    io = spu.Io(PARTIES, config())
    jobs = []
    for item in options.ops:
        name, n = item.split(":")
        _, values = operation(name, int(n))
        jobs.append((name, int(n), [io.make_shares(v, spu.Visibility.VIS_SECRET) for v in values]))
    sockets = [socket.socket() for _ in range(PARTIES)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=party, args=(rank, ports, jobs, options.repeats, results))
        for rank in range(PARTIES)
    ]
    for process in processes:
        process.start()
    timings: dict[int, list[list[float]]] = {}
    shares: dict[int, dict[int, Any]] = {}
    for _ in range(PARTIES * len(jobs)):
        index, rank, seconds, share = results.get()
        timings.setdefault(index, []).append(seconds)
        shares.setdefault(index, {})[rank] = share
        if len(shares[index]) < PARTIES:
            continue
        name, n, _ = jobs[index]
        slowest = [round(max(repetition), 6) for repetition in zip(*timings[index], strict=True)]
        line = {"peer": "SPU ABY3", "op": name, "n": n, "seconds": slowest}
        if name != "imul":
            line["error"] = largest_error(name, n, io.reconstruct([shares[index][i] for i in range(PARTIES)]))
        print(json.dumps(line), flush=True)
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
