"""A gradient step of a logistic regression in CrypTen, which `benchmarks.learning` runs beside ours.

    VENV/bin/python benchmarks/peers/crypten_step.py --rows 10000 --columns 100

`crypten_ops.py` says how to install CrypTen. Three processes, its default provider of multiplication triples, its default
sigmoid. Prints a line of JSON: the seconds of a step, which are those of the slowest process over all steps, the processor
seconds of all three, and the weights.
"""

from __future__ import annotations

import argparse
import json
import time

import crypten_ops  # before crypten: it makes old imports of CrypTen work
import numpy as np
import torch

crypten = crypten_ops.crypten


def steps(rows: int, columns: int, count: int) -> tuple[float, float, list[float]]:
    """Return the seconds of a step, those of this process's processor, and the weights after all of them."""
    torch.set_num_threads(1)
    made_up = np.random.default_rng(0)
    table = made_up.normal(size=(rows, columns))
    labels = table @ made_up.normal(size=columns) / np.sqrt(columns) > made_up.normal(size=rows)
    x = crypten.cryptensor(torch.tensor(table, dtype=torch.float32), src=0)
    y = crypten.cryptensor(torch.tensor(labels, dtype=torch.float32), src=1)
    weights = crypten.cryptensor(torch.zeros(columns), src=2)
    crypten.communicator.get().barrier()
    begun, worked = time.perf_counter(), time.process_time()
    for _ in range(count):
        missing = y - (x @ weights).sigmoid()
        weights = weights + (x.t() @ missing) * (0.5 / rows)
    crypten.communicator.get().barrier()
    seconds = (time.perf_counter() - begun) / count, (time.process_time() - worked) / count
    return *seconds, weights.get_plain_text().tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    run = crypten.mpc.context.run_multiprocess(crypten_ops.PARTIES)(steps)
    results = run(options.rows, options.columns, options.steps)
    seconds, processor = max(each[0] for each in results), sum(each[1] for each in results)
    line = {"peer": "CrypTen", "seconds": seconds, "processor": processor, "weights": results[0][2]}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
