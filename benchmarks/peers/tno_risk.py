"""Run by a Python that has `tno.mpc.protocols.risk_propagation`: TNO's risk propagation on a folder of its own form.

    VENV/bin/python benchmarks/peers/tno_risk.py FOLDER [--steps 2] [--key-bits 1024]

All banks run in this process and talk over HTTP on the loopback interface. The key is made jointly before the time runs.
Prints the time, processor seconds of all banks together, and the largest difference from TNO's rule on the pooled files.
Needs `tno.mpc.encryption_schemes.utils[communication]` beside the package.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import logging
import resource
import socket
import time
from pathlib import Path

import numpy as np
from tno.mpc.communication import Pool
from tno.mpc.protocols.distributed_keygen import DistributedPaillier
from tno.mpc.protocols.risk_propagation import Player
from tno.mpc.protocols.risk_propagation.accounts import nodes_expected_dtype
from tno.mpc.protocols.risk_propagation.bank import transactions_expected_dtype


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def processor_seconds() -> float:
    """Return what this process has used, and those that it started to draw randomness."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def pooled(folder: Path, steps: int) -> dict[str, float]:
    nodes, moves = rows_of(folder / "nodes_all.csv"), rows_of(folder / "transactions_all_period0.csv")
    place = {row["id"]: i for i, row in enumerate(nodes)}
    score = np.array([float(row["risk_score"]) for row in nodes])
    weights, received = np.zeros((len(nodes), len(nodes))), np.zeros(len(nodes))
    for row in moves:
        to, by = place[row["id_destination"]], place[row["id_source"]]
        received[to] += float(row["amount"])
        weights[to, by] += float(row["amount"])
    weights = np.divide(weights, received[:, None], out=np.zeros_like(weights), where=received[:, None] > 0)
    for _ in range(steps):
        score = 0.5 * score + 0.5 * (weights @ score)
    return dict(zip(place, score.tolist(), strict=True))


async def play(folder: Path, steps: int, key_bits: int) -> None:
    banks = sorted(p.stem.removeprefix("nodes_") for p in folder.glob("nodes_*.csv") if p.stem != "nodes_all")
    ports = dict(zip(banks, free_ports(len(banks)), strict=True))
    pools = {}
    for name, port in ports.items():
        pools[name] = Pool()
        pools[name].add_http_server(port=port, addr="127.0.0.1")
        for other, there in ports.items():
            if other != name:
                pools[name].add_http_client(other, "127.0.0.1", port=there)
    begun = time.perf_counter()
    schemes = await asyncio.gather(
        *(
            DistributedPaillier.from_security_parameter(
                pools[name], 1, key_bits, 2000, 40, 40, precision=8, distributed=False, batch_size=100
            )
            for name in banks
        )
    )
    print(
        f"key of {key_bits} bits made jointly in {time.perf_counter() - begun:.0f} s, not counted", flush=True
    )
    players = []
    for name, scheme in zip(banks, schemes, strict=True):
        nodes, moves = (
            rows_of(folder / f"nodes_{name}.csv"),
            rows_of(folder / f"transactions_{name}_period0.csv"),
        )
        columns = ("id_source", "bank_source", "id_destination", "bank_destination")
        accounts = np.array([(r["id"], float(r["risk_score"])) for r in nodes], nodes_expected_dtype)
        transfers = np.array(
            [(*(r[c] for c in columns), int(r["amount"])) for r in moves], transactions_expected_dtype
        )
        players.append(
            Player(name=name, accounts=accounts, transactions=transfers, pool=pools[name], paillier=scheme)
        )
    begun, busy = time.perf_counter(), processor_seconds()
    await asyncio.gather(*(player.run_protocol(steps) for player in players))
    wall, cpu = time.perf_counter() - begun, processor_seconds() - busy
    found = {who: float(score) for player in players for who, score in player.risk_scores.items()}
    expected = pooled(folder, steps)
    differ = max(abs(found[who] - score) for who, score in expected.items())
    count = len(rows_of(folder / "transactions_all_period0.csv"))
    print(
        f"TNO: {len(banks)} banks, {count} transfers, {steps} steps: {wall:.2f} s, {cpu:.2f} processor seconds of all, "
        f"{1e6 * wall / count:.0f} us a transfer ({1e6 * cpu / count:.0f} processor); largest difference {differ:.1e}",
        flush=True,
    )
    for scheme in schemes:
        scheme.shut_down()
    for pool in pools.values():
        await pool.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--key-bits", type=int, default=1024)
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a bank that others call before it listens
    asyncio.run(play(chosen.folder, chosen.steps, chosen.key_bits))
