"""Risk propagation over banks' tables, in the simulator, against the same rule on the pooled files.

    python -m benchmarks.risk --data FOLDER [--steps 2]
    python -m benchmarks.risk --data FOLDER --tno-python VENV/bin/python [--key-bits 1024]
    python -m benchmarks.risk --make 3000 --tno-python VENV/bin/python

The folder has, for each bank B, `nodes_B.csv` (id, risk_score) and `transactions_B_period0.csv` (id_source, id_destination,
amount), and the pooled `nodes_all.csv` and `transactions_all_period0.csv`, as the test data of TNO's
`tno.mpc.protocols.risk_propagation`. Prints the largest difference, the time, and rounds and bytes. The last line says
whether all scores are equal to 1e-6; the exit status too. `--tno-python` lets TNO's package do the same beside it, with all
banks in one process too (`benchmarks/peers/tno_risk.py`). `--make` takes a made-up folder of so many transfers.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from secagg.network.simulated import simulate
from secagg.party import Party
from secagg.patterns.banking.risk_propagation import RISK_PROPAGATION as PATTERN
from secagg.patterns.banking.risk_propagation import Steps
from secagg.patterns.pattern import Terms

_TOLERANCE: Final = 1e-6
_UNITS: Final = 10**10


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def strings(values: list[str]) -> Any:
    """Return strings as tables of identifiers are read."""
    return np.array([*values, None], object)[:-1]


def bank_tables(folder: Path, bank: str) -> dict[str, Any]:
    """Return a bank's tables."""
    nodes, moves = rows_of(folder / f"nodes_{bank}.csv"), rows_of(folder / f"transactions_{bank}_period0.csv")
    return {
        "transfers": {
            "sender": strings([row["id_source"] for row in moves]),
            "beneficiary": strings([row["id_destination"] for row in moves]),
            "amount": np.array([int(row["amount"]) for row in moves], np.int64),
        },
        "accounts": {
            "account": strings([row["id"] for row in nodes]),
            "score": np.array([round(float(row["risk_score"]) * _UNITS) for row in nodes], np.int64),
        },
    }


def pooled(folder: Path, parameters: Steps) -> dict[str, float]:
    """Apply TNO's rule to the pooled files, with matrices in place of the pattern's own reference."""
    nodes, moves = rows_of(folder / "nodes_all.csv"), rows_of(folder / "transactions_all_period0.csv")
    place = {row["id"]: i for i, row in enumerate(nodes)}
    score = np.array([float(row["risk_score"]) for row in nodes])
    weights = np.zeros((len(nodes), len(nodes)))
    received = np.zeros(len(nodes))
    for row in moves:
        if (to := place.get(row["id_destination"])) is None:
            continue
        received[to] += float(row["amount"])
        if (by := place.get(row["id_source"])) is not None:
            weights[to, by] += float(row["amount"])
    weights = np.divide(weights, received[:, None], out=np.zeros_like(weights), where=received[:, None] > 0)
    for d in parameters.shares():
        score = (1 - d) * score + d * (weights @ score)
    return dict(zip(place, score.tolist(), strict=True))


def joint(tables: dict[str, Any], parameters: Steps) -> tuple[dict[str, float], Any]:
    """Return each account's score as its bank learns it, and the run's outcome."""
    banks = tuple(tables)
    computing = (*banks, "helper_1", "helper_2")[:3]
    terms = Terms(tuple(dict.fromkeys((*banks, *computing))), {"input": banks, "computing": computing})

    async def take_part(party: Party) -> Any:
        own = tables.get(party.me)
        contribution = None if own is None else PATTERN.prepare(parameters, terms, own)
        agreed = await PATTERN.agree(party, parameters, terms, contribution)
        return await PATTERN.run(party, parameters, terms, agreed)

    outcome = simulate(dict.fromkeys(terms.parties, take_part))
    outcome.values()
    return {who: float(score) for bank in banks for who, score in outcome.results[bank]}, outcome


def make(folder: Path, *, transfers: int = 20, banks: int = 2) -> None:
    """Write made-up files of some banks, with half as many accounts as transfers."""
    rng = np.random.default_rng(1)
    count = transfers // 2
    pairs = np.unique(rng.integers(0, count, (transfers, 2)), axis=0).tolist()
    moves = [(f"{a}", f"{b}", f"{rng.integers(100, 1000)}") for a, b in pairs if a != b]
    nodes = [(f"{i}", f"{rng.random():.6f}") for i in range(count)]
    parts = np.array_split(np.arange(count), banks)
    bank = {nodes[i][0]: f"local{k}" for k, part in enumerate(parts) for i in part.tolist()}
    for name, own in (("all", np.arange(count)), *((f"local{k}", part) for k, part in enumerate(parts))):
        mine = {nodes[i][0] for i in own.tolist()}
        seen = [(a, bank[a], b, bank[b], amount) for a, b, amount in moves if a in mine or b in mine]
        for kind, header, rows in (
            ("nodes_{}.csv", "id,risk_score", [nodes[i] for i in own.tolist()]),
            (
                "transactions_{}_period0.csv",
                "id_source,bank_source,id_destination,bank_destination,amount",
                seen,
            ),
        ):
            lines = [header, *(",".join(map(str, row)) for row in rows)]
            (folder / kind.format(name)).write_text("\n".join(lines) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; return 1 where a score differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder with the banks' files")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument(
        "--make", type=int, help="so many made-up transfers of three banks in place of a folder"
    )
    parser.add_argument("--tno-python", help="a Python that has TNO's package: does the same there")
    parser.add_argument("--key-bits", type=int, default=1024, help="of TNO's key")
    parser.add_argument("--tiny", action="store_true", help="on made-up files")
    chosen = parser.parse_args(argv)
    if chosen.tiny or chosen.make:
        with tempfile.TemporaryDirectory() as folder:
            if chosen.tiny:
                make(Path(folder))
            else:
                make(Path(folder), transfers=chosen.make, banks=3)
            return both(Path(folder), chosen)
    if chosen.data is None:
        parser.error("--data is missing: the folder with the banks' files")
    return both(chosen.data, chosen)


def both(folder: Path, chosen: argparse.Namespace) -> int:
    """Let TNO's package run first, if so asked, and then compare."""
    if chosen.tno_python:
        script = Path(__file__).parent / "peers" / "tno_risk.py"
        options = ["--steps", str(chosen.steps), "--key-bits", str(chosen.key_bits)]
        subprocess.run([chosen.tno_python, str(script), str(folder), *options], check=True)
    return compare(folder, chosen.steps)


def compare(folder: Path, steps: int) -> int:
    """Print the comparison of a folder; return 1 where a score differs."""
    banks = sorted(
        path.stem.removeprefix("nodes_") for path in folder.glob("nodes_*.csv") if path.stem != "nodes_all"
    )
    if len(banks) < 2:
        sys.exit(f"expected nodes_BANK.csv of at least two banks in {folder}, found {len(banks)}")
    parameters = Steps(steps=steps)
    tables = {bank: bank_tables(folder, bank) for bank in banks}
    expected = pooled(folder, parameters)
    begun, busy = time.perf_counter(), time.process_time()
    found, outcome = joint(tables, parameters)
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    differ = {who: abs(found.get(who, np.inf) - score) for who, score in expected.items()}
    moves = sum(1 for _ in rows_of(folder / "transactions_all_period0.csv"))
    totals = [ledger.total() for ledger in outcome.ledgers.values()]
    print(f"{len(banks)} banks, {len(expected)} accounts, {moves} transfers, {steps} steps, in one process")
    print(
        f"largest difference from the pooled rule: {max(differ.values(), default=0.0):.2e} (allowed {_TOLERANCE:g})"
    )
    print(
        f"{seconds:.2f} s, {busy:.2f} processor seconds of all banks, {1e6 * seconds / max(1, moves):.0f} us a transfer "
        f"({1e6 * busy / max(1, moves):.0f} processor), {max(t.rounds for t in totals)} rounds, "
        f"{max(t.sent.payload_bytes for t in totals) / 1e6:.2f} MB sent by the party that sends most"
    )
    equal = sum(gap <= _TOLERANCE for gap in differ.values())
    print(f"{equal} of {len(expected)} scores equal their pooled reference")
    if equal < len(expected) or found.keys() != expected.keys():
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
