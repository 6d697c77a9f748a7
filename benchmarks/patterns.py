"""Graph patterns over banks' transfers: joint in the simulator against the pooled tables, and what each bank finds alone.

    python -m benchmarks.patterns --data FOLDER [--only cycles trace]

The folder has `transfers.csv` and `accounts.csv` (or .csv.gz) and `patterns.csv`, as AMLGentex' output with banks:
transaction, day, type, amount, sender, sender_bank, beneficiary, beneficiary_bank; account, bank; pattern, type, account,
main. A bank sees the rows in which either side is its own. What is planted scores results and is no input.

*Alone* is the union of what each bank finds in the rows that it sees, with the same thresholds, about its own accounts.
*Together* is what the banks are told of their accounts by the joint run. Recall: the part of the typology's planted
accounts that are found, main ones where the typology has some. Precision: the part of the found accounts that lie in any
planted pattern. Results are compared row for row with the pattern's reference on the pooled tables. The last line says how
many equal it; the exit status is 1 where one does not.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from secagg.network.simulated import simulate
from secagg.party import Party
from secagg.patterns.pattern import Pattern, Terms
from secagg.patterns.registry import find

_DAY: Final = 86_400


@dataclass(frozen=True)
class Case:
    """A pattern, its parameters, and the planted typology that it is scored by, "" for none."""

    pattern: str
    parameters: Mapping[str, Any]
    typology: str = ""


CASES: Final = (
    Case("collectors", {"min_senders": 25, "min_banks": 1}, "fan_in"),
    Case("dispersers", {"min_receivers": 20, "min_banks": 1}, "fan_out"),
    Case("gather_scatter", {"min_senders": 15, "min_receivers": 8}, "gather_scatter"),
    Case("scatter_gather", {"min_between": 3, "max_receivers": 24}, "scatter_gather"),
    Case(
        "pass_through", {"min_total_cents": 200_000, "within_s": 10 * _DAY, "tolerance_percent": 20}, "stack"
    ),
    Case(
        "cycles",
        {
            "max_hops": 4,
            "tolerance_percent": 60,
            "within_s": 30 * _DAY,
            "max_transfers": 16,
            "min_amount_cents": 30_000,
            "max_paths": 40_000,
        },
        "cycle",
    ),
    Case("isolated", {"min_accounts": 2, "max_accounts": 4}),
    Case("trace", {"hops": 2, "max_seeds": 8}),
)


@dataclass(frozen=True)
class Planted:
    """What was planted: all accounts in a pattern, and those of each typology, main ones where it has some."""

    accounts: frozenset[str]
    of_type: Mapping[str, frozenset[str]]


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file, packed or not."""
    plain, packed = folder / f"{name}.csv", folder / f"{name}.csv.gz"
    if plain.exists():
        with plain.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    with gzip.open(packed, "rt", newline="", encoding="utf-8") as unpacked:
        return list(csv.DictReader(unpacked))


def strings(values: list[str]) -> Any:
    """Return strings as tables of identifiers are read."""
    return np.array([*values, None], object)[:-1]


def columns(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return transfers as tables are read."""
    return {
        "sender": strings([row["sender"] for row in rows]),
        "beneficiary": strings([row["beneficiary"] for row in rows]),
        "amount": np.array([round(100 * float(row["amount"])) for row in rows], np.int64),
        "time": np.array([_DAY * float(row["day"]) for row in rows]),
    }


class Bank:
    """What a bank sees.

    Args:
      rows: all transfers.
    """

    def __init__(self, name: str, accounts: list[str], rows: list[dict[str, str]]) -> None:
        self.name = name
        self.accounts = accounts
        self.seen = [row for row in rows if name in (row["sender_bank"], row["beneficiary_bank"])]

    def tables(self, pattern: str) -> dict[str, Any]:
        """Return the bank's tables for a joint run."""
        own = self.seen
        if pattern in ("collectors", "gather_scatter"):  # the payer's bank's rows
            own = [row for row in own if row["sender_bank"] == self.name]
        elif pattern == "dispersers":
            own = [row for row in own if row["beneficiary_bank"] == self.name]
        return self._chosen(pattern, own, self.accounts)

    def alone(self, pattern: str) -> dict[str, Any]:
        """Return the same tables as if all accounts that it sees were its own."""
        known = {row[side] for row in self.seen for side in ("sender", "beneficiary")} | set(self.accounts)
        return self._chosen(pattern, self.seen, sorted(known))

    def _chosen(self, pattern: str, rows: list[dict[str, str]], accounts: list[str]) -> dict[str, Any]:
        every = {
            "transfers": columns(rows),
            "accounts": {"account": strings(accounts)},
            # Nobody's suspicion: the first accounts of each bank stand for a hidden list.
            "seeds": {"account": strings(self.accounts[:4])},
        }
        return {name: every[name] for name in find(pattern).pattern.inputs}


def joint(pattern: Pattern, parameters: Any, terms: Terms, tables: Mapping[str, Any]) -> Any:
    """Return the outcome of a run of all banks in this process."""

    async def take_part(party: Party) -> Any:
        own = tables.get(party.me)
        contribution = None if own is None else pattern.prepare(parameters, terms, own)
        agreed = await pattern.agree(party, parameters, terms, contribution)
        return await pattern.run(party, parameters, terms, agreed)

    outcome = simulate(dict.fromkeys(terms.parties, take_part))
    outcome.values()
    return outcome


def scored(found: set[str], planted: Planted, typology: str) -> str:
    """Return recall and precision of found accounts."""
    if not typology:
        return f"{len(found)} accounts"
    wanted = planted.of_type.get(typology, frozenset())
    recall = f"{len(found & wanted)} of {len(wanted)}"
    precision = f"{100 * len(found & planted.accounts) / len(found):.0f} %" if found else "-"
    part = 100 * len(found & wanted) / max(1, len(wanted))
    return f"{len(found):5} accounts, recall {recall} ({part:.0f} %), precision {precision}"


def run(case: Case, banks: list[Bank], planted: Planted) -> bool:
    """Print what a case finds alone and together; return whether the joint run equals its pooled reference."""
    pattern = find(case.pattern).pattern
    parameters = pattern.Parameters(**case.parameters)
    names = tuple(bank.name for bank in banks)
    computing = (*names, "helper_1", "helper_2")[:3]
    terms = Terms(tuple(dict.fromkeys((*names, *computing))), {"input": names, "computing": computing})
    tables = {bank.name: bank.tables(case.pattern) for bank in banks}
    expected = pattern.reference(parameters, terms, tables)
    begun = time.perf_counter()
    outcome = joint(pattern, parameters, terms, tables)
    seconds = time.perf_counter() - begun
    equal = {name: outcome.results[name] for name in names} == dict(expected)
    own = {bank.name: set(bank.accounts) for bank in banks}
    together = {row[0] for name in names for row in outcome.results[name]}
    alone: set[str] = set()
    each = []
    for bank in banks:
        single = Terms((bank.name,), {"input": (bank.name,), "computing": computing})
        told = pattern.reference(parameters, single, {bank.name: bank.alone(case.pattern)})
        mine = {row[0] for row in told[bank.name]} & own[bank.name]
        each.append(f"{bank.name} {len(mine)}")
        alone |= mine
    totals = [ledger.total() for ledger in outcome.ledgers.values()]
    print(f"{case.pattern}{f' for {case.typology}' if case.typology else ''}")
    print(f"  alone     {scored(alone, planted, case.typology)}  ({', '.join(each)})")
    print(f"  together  {scored(together, planted, case.typology)}")
    print(
        f"  {'equals' if equal else 'DIFFERS FROM'} its pooled reference, row for row; {seconds:.1f} s in one process, "
        f"{max(t.rounds for t in totals)} rounds, {max(t.sent.payload_bytes for t in totals) / 1e6:.0f} MB sent at most",
        flush=True,
    )
    return equal


def compare(folder: Path, only: list[str] | None) -> int:
    """Print all cases on a folder; return 1 where one differs from its reference."""
    transfers, accounts = rows_of(folder, "transfers"), rows_of(folder, "accounts")
    at: dict[str, list[str]] = {}
    for row in accounts:
        at.setdefault(row["bank"], []).append(row["account"])
    if len(at) < 2:
        print(f"expected accounts of at least two banks in {folder}, found {len(at)}", file=sys.stderr)
        return 2
    bank_of = {row["account"]: row["bank"] for row in accounts}
    strange = 0
    for row in transfers:
        for side in ("sender", "beneficiary"):
            listed = bank_of.get(row[side], row[f"{side}_bank"])
            strange += listed != row[f"{side}_bank"]
            row[f"{side}_bank"] = listed
    if strange:
        print(
            f"{strange} transfers name another bank of an account than the table of accounts, which is taken"
        )
    banks = [Bank(name, own, transfers) for name, own in sorted(at.items())]
    truth = rows_of(folder, "patterns")
    of_type: dict[str, set[str]] = {}
    for kind in {row["type"] for row in truth}:
        rows = [row for row in truth if row["type"] == kind]
        main_ones = {row["account"] for row in rows if row["main"] == "True"}
        of_type[kind] = main_ones if kind in _WITH_MAIN and main_ones else {row["account"] for row in rows}
    planted = Planted(
        frozenset(row["account"] for row in truth),
        {kind: frozenset(found) for kind, found in of_type.items()},
    )
    print(
        f"{len(banks)} banks, {len(accounts)} accounts, {len(transfers)} transfers, "
        f"{len({row['pattern'] for row in truth})} planted patterns"
    )
    cases = [case for case in CASES if not only or case.pattern in only]
    equal = sum([run(case, banks, planted) for case in cases])
    print(f"{equal} of {len(cases)} patterns equal their pooled reference")
    return int(equal < len(cases))


_WITH_MAIN: Final = ("fan_in", "fan_out", "gather_scatter")


def make(folder: Path) -> None:
    """Write a little made-up folder."""
    rng = np.random.default_rng(2)
    bank = {str(i): f"bank_{i % 3}" for i in range(12)}
    lines = ["transaction,day,type,amount,sender,sender_bank,beneficiary,beneficiary_bank,pattern"]
    for i, (a, b) in enumerate(rng.integers(0, 12, (40, 2)).tolist()):
        if a != b:
            s, r = str(a), str(b)
            lines.append(f"{i},{i % 30},TRANSFER,{rng.integers(400, 900)}.50,{s},{bank[s]},{r},{bank[r]},-1")
    (folder / "transfers.csv").write_text("\n".join(lines) + "\n")
    (folder / "accounts.csv").write_text("account,bank\n" + "".join(f"{a},{b}\n" for a, b in bank.items()))
    (folder / "patterns.csv").write_text(
        "pattern,type,account,main,phase\n0,cycle,1,True,0\n0,cycle,2,False,0\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Compare the patterns on a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder with transfers, accounts and patterns")
    parser.add_argument(
        "--only", nargs="+", choices=[case.pattern for case in CASES], help="these patterns alone"
    )
    parser.add_argument("--tiny", action="store_true", help="on a little made-up folder")
    chosen = parser.parse_args(argv)
    if chosen.tiny:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            return compare(Path(folder), chosen.only)
    if chosen.data is None:
        parser.error("--data is missing: the folder with transfers, accounts and patterns")
    return compare(chosen.data, chosen.only)


if __name__ == "__main__":
    sys.exit(main())
