"""Example data of the patterns for banks: made-up payments of a few banks, with one finding planted for each pattern.

Nothing here is drawn from anybody's data. Honest payments are random; what is planted is the same for every seed.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from secagg.patterns.example import Example, FileTable

_BANKS: Final = ("north", "south", "east", "west")
_START: Final = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
_DAYS: Final = 28
_CUSTOMERS: Final = 8  # of each bank
_PAYMENTS: Final = 40


def _at(day: float) -> str:
    return f"{_START + datetime.timedelta(minutes=round(day * 1440)):%Y-%m-%dT%H:%M:%SZ}"


class _Payments:
    """Payments between accounts of banks: honest ones first, then what is planted.

    Args:
      seed: of the honest ones.
      banks: how many.
    """

    def __init__(self, seed: int, banks: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.banks = _BANKS[:banks]
        self.bank_of = {f"{bank}-{i}": bank for bank in self.banks for i in range(_CUSTOMERS)}
        self.rows: list[tuple[str, str, int, float]] = []
        names = list(self.bank_of)
        for a, b in rng.integers(0, len(names), (_PAYMENTS, 2)).tolist():
            if a != b:
                self.pay(names[a], names[b], int(rng.integers(20, 900)), float(rng.uniform(0, _DAYS - 1)))

    def account(self, name: str, bank: str) -> str:
        """Add an account and return its name."""
        self.bank_of[name] = bank
        return name

    def pay(self, sender: str, beneficiary: str, amount: int, day: float) -> None:
        """Add a payment."""
        self.rows.append((sender, beneficiary, amount, day))

    def transfers(self, wanted: Callable[[str, str, str], bool]) -> dict[str, FileTable]:
        """Return each bank's transfers.

        Args:
          wanted: whether a bank has the row of this sender and this beneficiary.
        """
        found: dict[str, FileTable] = {}
        for bank in self.banks:
            own = sorted((row for row in self.rows if wanted(bank, row[0], row[1])), key=lambda row: row[3])
            found[bank] = {
                "beneficiary": [row[1] for row in own],
                "sender": [row[0] for row in own],
                "amount": [f"{row[2]}.00" for row in own],
                "time": [_at(row[3]) for row in own],
            }
        return found

    def of_payers(self) -> dict[str, Mapping[str, FileTable]]:
        """Return the transfers of each bank's own customers."""
        own = self.transfers(lambda bank, sender, _: self.bank_of.get(sender) == bank)
        return {bank: {"transfers": table} for bank, table in own.items()}

    def of_payees(self) -> dict[str, Mapping[str, FileTable]]:
        """Return what each bank's own customers received."""
        own = self.transfers(lambda bank, _, payee: self.bank_of.get(payee) == bank)
        return {bank: {"transfers": table} for bank, table in own.items()}

    def of_both(self) -> dict[str, dict[str, FileTable]]:
        """Return the transfers in which either side is a bank's own account, and these accounts."""
        seen = self.transfers(lambda bank, *sides: bank in map(self.bank_of.get, sides))
        return {
            bank: {
                "transfers": seen[bank],
                "accounts": {"account": [name for name, at in self.bank_of.items() if at == bank]},
            }
            for bank in self.banks
        }


def collectors(seed: int) -> Example:
    """Return an account that three customers of each bank pay into."""
    payments = _Payments(seed)
    for bank in payments.banks:
        for i in range(3):
            payments.pay(f"{bank}-{i}", "mule", 3000 + i, 10 + i)
    return Example(
        "The account mule lies at a fourth bank. Nine customers of three banks pay it 27,009 together; no bank sees more "
        "than three of them.",
        payments.of_payers(),
        {"min_senders": 6, "min_banks": 2, "min_total": 20_000},
        [("mule", 9)],
    )


def dispersers(seed: int) -> Example:
    """Return an account that pays three customers of each bank."""
    payments = _Payments(seed)
    for bank in payments.banks:
        for i in range(3):
            payments.pay("fountain", f"{bank}-{i}", 2000 + i, 12 + i)
    return Example(
        "The account fountain lies at a fourth bank. It pays nine customers of three banks; no bank sees more than three.",
        payments.of_payees(),
        {"min_receivers": 6, "min_banks": 2},
        [("fountain", 9)],
    )


def gather_scatter(seed: int) -> Example:
    """Return an account that nine pay, and that pays six."""
    payments = _Payments(seed)
    hub = payments.account("hub", "south")
    for bank in payments.banks:
        for i in range(3):
            payments.pay(f"{bank}-{i}", hub, 1500, 5 + i)
        for i in range(3, 5):
            payments.pay(hub, f"{bank}-{i}", 2000, 9 + i)
    return Example(
        "Three customers of each bank pay the account hub at south, and hub pays two customers of each bank.",
        payments.of_payers(),
        {"min_senders": 8, "min_receivers": 5},
        [("hub", 9, 6)],
    )


def structuring(seed: int) -> Example:
    """Return a customer who deposits below the limit at three banks."""
    rng = np.random.default_rng(seed)
    tables = {}
    for bank in _BANKS[:3]:
        rows = [(f"{bank}-{i}", int(rng.integers(50, 3000)), float(rng.uniform(0, 28))) for i in range(12)]
        rows.append(("smurf", 4200, 14.0))
        tables[bank] = {
            "deposits": {
                "customer": [row[0] for row in rows],
                "amount": [f"{row[1]}.00" for row in rows],
                "time": [_at(row[2]) for row in rows],
            }
        }
    return Example(
        "The customer smurf deposits 4,200 in cash at each of three banks. The limit is 10,000.",
        tables,
        {"limit": 10_000},
        [("smurf", 3)],
    )


def velocity(seed: int) -> Example:
    """Return a card that turns up at two organisations within half an hour."""
    rng = np.random.default_rng(seed)
    tables = {}
    for place, bank in enumerate(_BANKS[:3]):
        uses = [(f"card-{bank}-{i % 5}", float(rng.uniform(0, 28))) for i in range(15)]
        uses += [("card-everywhere", 3.0 + 7 * place)]  # a week apart
        if place < 2:
            uses.append(("card-copied", 20 + place / 72))
        tables[bank] = {
            "uses": {"instrument": [which for which, _ in uses], "time": [_at(day) for _, day in uses]}
        }
    return Example(
        "card-copied is used at north and, twenty minutes later, at south. card-everywhere is used at all three, a week "
        "apart each, which is no finding.",
        tables,
        {"min_organisations": 2, "within_s": 3600},
        [("card-copied", 2)],
    )


def watchlist_overlap(seed: int) -> Example:
    """Return an entry of three lists."""
    rng = np.random.default_rng(seed)
    tables = {}
    for bank in _BANKS[:3]:
        entries = {f"Company {i}" for i in rng.integers(100, 1000, 15).tolist()} | {"Harbour Trading"}
        tables[bank] = {"watchlist": {"entry": sorted(entries)}}
    return Example(
        "Harbour Trading stands on all three lists.",
        tables,
        {"min_organisations": 3},
        [("Harbour Trading", 3)],
    )


def payment_mismatch(seed: int) -> Example:
    """Return a payment that two banks have booked with different amounts."""
    rng = np.random.default_rng(seed)
    sent: dict[str, list[tuple[str, int]]] = {bank: [] for bank in _BANKS[:3]}
    received: dict[str, list[tuple[str, int]]] = {bank: [] for bank in _BANKS[:3]}
    for i, (a, b) in enumerate(rng.integers(0, 3, (30, 2)).tolist()):
        amount = int(rng.integers(10, 5000))
        sent[_BANKS[a]].append((f"ref-{i:04}", amount))
        received[_BANKS[b]].append((f"ref-{i:04}", amount))
    sent["north"].append(("ref-9000", 1000))
    received["east"].append(("ref-9000", 100))

    def table(rows: Sequence[tuple[str, int]]) -> FileTable:
        return {"reference": [row[0] for row in rows], "amount": [f"{row[1]}.00" for row in rows]}

    return Example(
        "north sent 1,000 under ref-9000, and east has booked 100. All other payments agree.",
        {bank: {"sent": table(sent[bank]), "received": table(received[bank])} for bank in sent},
        {},
        [("ref-9000", "sent"), ("ref-9000", "received")],
    )


def intersection_sum(seed: int) -> Example:
    """Return 25 common customers."""
    rng = np.random.default_rng(seed)
    tables = {}
    for bank in _BANKS[:3]:
        names = [f"{bank}-{i}" for i in range(15)]
        names += [f"both-{i}" for i in range(25)] if bank != "east" else []
        amounts = rng.integers(0, 1000, len(names)).tolist()
        tables[bank] = {"customers": {"customer": names, "amount": [f"{amount}.50" for amount in amounts]}}
    return Example(
        "north and south have 25 customers in common, both-0 to both-24. Their number and total are told, and no name.",
        tables,
        {"min_organisations": 2, "min_customers": 20},
        [(25,)],
    )


def joint_scoring(seed: int) -> Example:
    """Return a customer whose features at three banks reach the threshold together."""
    rng = np.random.default_rng(seed)
    features = dict(zip(_BANKS, ("defaults", "overdraft_days", "loans"), strict=False))
    tables = {}
    for bank, feature in features.items():
        customers = ["risky", *(f"c-{i}" for i in range(12))]
        values = [3, *rng.integers(0, 2, 12).tolist()]
        tables[bank] = {
            "features": {"customer": customers, "feature": [feature] * len(customers), "value": values}
        }
    return Example(
        "The customer risky has 3 defaults at north, 3 overdraft days at south and 3 loans at east. That makes 2,760 points "
        "together, and at most 2,100 at one bank.",
        tables,
        {"weights": {"defaults": 700, "overdraft_days": 20, "loans": 200}, "min_points": 2500},
        [("risky", 2760)],
    )


def peer_benchmark(seed: int) -> Example:
    """Return figures of four banks, one of which three have."""
    rng = np.random.default_rng(seed)
    losses = dict(zip(_BANKS, (310, 120, 90, 150), strict=True))
    tables: dict[str, dict[str, FileTable]] = {}
    for bank in _BANKS:
        figures: dict[str, object] = {"fraud_losses": losses[bank], "complaints": int(rng.integers(10, 400))}
        if bank != "west":
            figures["outages"] = int(rng.integers(0, 9))
        tables[bank] = {"figures": {"figure": list(figures), "value": list(figures.values())}}
    return Example(
        "north lost 310 to fraud, the most of four banks, which lost 670 together. outages is a figure of three "
        "banks alone, so nothing is told of it.",
        tables,
        {"min_peers": 4},
        [("fraud_losses", 310, 4, 1, 670)],
    )


def pass_through(seed: int) -> Example:
    """Return an account that money leaves within a day."""
    payments = _Payments(seed)
    relay = payments.account("relay", "south")
    payments.pay("north-0", relay, 3000, 10.0)
    payments.pay("east-0", relay, 3000, 10.2)
    payments.pay(relay, "east-5", 5900, 10.8)
    return Example(
        "The account relay at south receives 6,000 from two banks, and pays 5,900 within a day.",
        payments.of_both(),
        {"min_total": 5000, "within_s": 86_400, "tolerance_percent": 5},
        [("relay", 1)],
    )


def trace(seed: int) -> Example:
    """Return an account that a hidden seed's money reaches over three banks."""
    payments = _Payments(seed)
    chain = [
        payments.account(name, bank) for name, bank in zip(("source", "hop", "goal"), _BANKS, strict=False)
    ]
    for i, (sender, payee) in enumerate(itertools.pairwise(chain)):
        payments.pay(sender, payee, 500, 4.0 + i)
    tables = payments.of_both()
    seeds = {"north": ["source"], "south": [], "east": []}
    return Example(
        "north watches its account source, and tells nobody. source pays hop at south, and hop pays goal at east.",
        {bank: {**own, "seeds": {"account": seeds[bank]}} for bank, own in tables.items()},
        {"hops": 2, "max_seeds": 4},
        [("hop", 1), ("goal", 2)],
    )


def risk_propagation(seed: int) -> Example:
    """Return an account that gets all its money from a risky one."""
    rng = np.random.default_rng(seed)
    payments = _Payments(seed)
    payments.account("risky", "north")
    payments.account("heir", "east")
    payments.pay("risky", "heir", 5000, 3.0)
    tables: dict[str, Mapping[str, FileTable]] = {}
    for bank, own in payments.of_both().items():
        accounts = own["accounts"]["account"]
        scores = {"risky": "0.9", "heir": "0.1"}
        transfers = {name: own["transfers"][name] for name in ("beneficiary", "sender", "amount")}
        tables[bank] = {
            "transfers": transfers,
            "accounts": {
                "account": accounts,
                "score": [scores.get(str(name), f"{rng.uniform(0, 0.3):.4f}") for name in accounts],
            },
        }
    return Example(
        "The account heir at east has a score of 0.1. It gets all its money from the account risky at north, whose score is "
        "0.9. After one step heir stands at half of each, 0.5.",
        tables,
        {"steps": 1},
        [("heir",)],
        tolerance=1e-6,
    )


def cycles(seed: int) -> Example:
    """Return money that goes round three banks."""
    payments = _Payments(seed)
    ring = [payments.account(f"ring-{bank}", bank) for bank in payments.banks]
    for i, (sender, payee, amount) in enumerate(
        zip(ring, [*ring[1:], ring[0]], (5000, 4900, 4800), strict=True)
    ):
        payments.pay(sender, payee, amount, 8.0 + 2 * i)
    return Example(
        "ring-north pays ring-south 5,000, that pays ring-east 4,900, and that pays 4,800 back to ring-north.",
        payments.of_both(),
        {"min_amount": 1000, "max_paths": 200, "max_cycles": 20, "max_transfers": 4},
        [(name, 3) for name in ring],
    )


def scatter_gather(seed: int) -> Example:
    """Return an account whose money goes over three others to a third."""
    payments = _Payments(seed)
    source, goal = payments.account("splitter", "north"), payments.account("joiner", "east")
    for i, bank in enumerate(payments.banks):
        between = payments.account(f"between-{bank}", bank)
        payments.pay(source, between, 1000, 5.0 + i)
        payments.pay(between, goal, 990, 7.0 + i)
    return Example(
        "splitter at north pays three accounts, one at each bank, and each of them pays joiner at east.",
        payments.of_both(),
        {"min_between": 3, "max_receivers": 8},
        [("splitter", True), ("joiner", False, False, True), ("between-south", False, True)],
    )


def isolated(seed: int) -> Example:
    """Return three accounts that pay each other and nobody else."""
    payments = _Payments(seed)
    closed = [payments.account(f"closed-{bank}", bank) for bank in payments.banks]
    for i, (sender, payee) in enumerate(zip(closed, [*closed[1:], closed[0]], strict=True)):
        payments.pay(sender, payee, 700, 3.0 + i)
    return Example(
        "closed-north, closed-south and closed-east pay each other, and nobody else.",
        payments.of_both(),
        {"min_accounts": 3, "max_accounts": 4},
        [(name, 3) for name in closed],
    )
