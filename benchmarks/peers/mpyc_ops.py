"""Time operations of MPyC (3 processes over loopback), for comparison; needs a Python of its own.

    python -m venv VENV && VENV/bin/pip install mpyc==0.11 numpy gmpy2
    VENV/bin/python benchmarks/peers/mpyc_ops.py --ops mul:10000 flag:10000 mm:100

Shamir's sharing, fixed-point numbers of 32 bits of which 16 are fractional. Prints a line of JSON for each operation:
the seconds of the first process for each repetition, until it has heard that the others are done, and the largest error.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from operands import FRAC_BITS, largest_error, operands

PARTIES = 3


def consecutive_ports() -> int:
    """Return the first of ports that are free, one after the other."""
    for first in range(20_000 + os.getpid() % 10_000, 60_000, PARTIES):
        sockets = []
        try:
            for port in range(first, first + PARTIES):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
        except OSError:
            continue
        else:
            return first
        finally:
            for s in sockets:
                s.close()
    raise SystemExit("no free ports")


async def timed(mpc: Any, ops: list[tuple[str, int]], repeats: int) -> None:
    numbers, whole = mpc.SecFxp(32, FRAC_BITS), mpc.SecInt(32)
    runs = {
        "mul": lambda x, y: x * y,
        "flag": lambda x: x > 0,
        "mm": lambda x, y: x @ y,
        "div": lambda x, y: x / y,
        "sort": mpc.np_sort,
    }
    await mpc.start()
    for op, n in ops:
        given = [mpc.input(numbers.array(v), senders=0) for v in operands(op, n)]
        for x in given:
            await mpc.gather(x)
        seconds = []
        for _ in range(repeats):
            await mpc.output(whole(1))  # everybody is here
            begun = time.perf_counter()
            result = runs[op](*given)
            await mpc.gather(result)
            await mpc.output(whole(1))
            seconds.append(round(time.perf_counter() - begun, 6))
        error = largest_error(op, n, await mpc.output(result))
        if mpc.pid == 0:
            line = {"peer": "MPyC", "op": op, "n": n, "seconds": seconds, "error": error}
            print(json.dumps(line), flush=True)
    await mpc.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ops", nargs="+", default=["mul:10000", "flag:10000", "mm:100"], metavar="OP:N")
    parser.add_argument("--repeats", type=int, default=3)
    options, rest = parser.parse_known_args()
    ops = [(name, int(n)) for name, n in (item.split(":") for item in options.ops)]
    if "-I" not in rest:
        sys.argv += [f"-M{PARTIES}", "-B", str(consecutive_ports())]
    # The import reads MPyC's own options, and starts the other processes with the same ones and -I.
    from mpyc.runtime import mpc

    mpc.run(timed(mpc, ops, options.repeats))


if __name__ == "__main__":
    main()
