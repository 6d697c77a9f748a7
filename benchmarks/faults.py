"""Faults at any message of every protocol: the result is right, or an error names a peer. Never anything else.

    python -m benchmarks.faults                  10,000 seeded runs in the simulator
    python -m benchmarks.faults --runs 500 --first-seed 12345

Each seed chooses a protocol, one or two faults (drop, delay, duplicate, reorder, truncate, flip, crash), and the
messages they befall. A seed that fails is printed; running it alone repeats the run exactly.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg import mpc
from secagg.errors import SecaggError
from secagg.fixed_point import plan
from secagg.he.rlwe import SecretKey
from secagg.mpc.groups import XOR
from secagg.network.simulated import ACTIONS, Fault, Outcome, simulate
from secagg.party import Party
from secagg.patterns.banking import COLLECTORS, STRUCTURING
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.pattern import Terms as PatternTerms
from secagg.protocols import additive_sum as additive
from secagg.protocols import bounded_sum as bounded
from secagg.protocols import masked_sum
from secagg.protocols.group_by import find_groups, flagged_rows
from secagg.protocols.he_sum import single_key
from secagg.protocols.he_sum.terms import Terms
from secagg.protocols.masked_sum import choose
from secagg.protocols.roles import Roles
from secagg.protocols.threat_model import ThreatModel
from secagg.ring import Ring

COMPUTING = ("P0", "P1", "P2")


@dataclass(frozen=True)
class Case:
    """A protocol to be disturbed: its programs, and what each party's result looks like as plain data."""

    programs: dict[str, Callable[[Party], Any]]
    plain: Callable[[str, Any], Any]


def sum_case() -> Case:
    async def program(party: Party) -> Any:
        x = np.arange(4, dtype=np.uint64) * np.uint64(party.roster.index(party.me) + 1)
        return await additive.additive_sum(party, x, ring=Ring(64))

    return Case(dict.fromkeys(("a", "b", "c", "d"), program), lambda _, result: result.tolist())


def additive_case() -> Case:
    """Five clients, of whom three may go, one aggregator being a client; right is the sum over the announced set."""
    clients = ("c0", "c1", "y", "c2", "c3")
    ring = Ring(20)
    terms = additive.Terms(Roles(clients, ("x", "y", "z"), ("r", "c1")), (5,), ring, min_clients=2)
    vectors = {
        name: np.arange(5, dtype=np.uint32) * np.uint32(1000 * (i + 1)) for i, name in enumerate(clients)
    }

    async def program(party: Party) -> Any:
        return await additive.take_part(party, vectors.get(party.me), terms=terms)

    def plain(_: str, result: Any) -> Any:
        if result is None or result.total is None:
            return None
        return np.array_equal(
            result.total, additive.reference([vectors[name] for name in result.contributors], ring)
        )

    return Case(dict.fromkeys((*clients, "x", "z", "r"), program), plain)


def engine_case() -> Case:
    """Inputs from inside and outside, product, comparison, selection, shuffle; opened inside and outside."""
    values = np.array([1.5, -2.25, 100.0, 0.0])

    async def computing(party: Party) -> Any:
        engine = await mpc.Engine.create(party, COMPUTING)
        x = engine.share(values if party.me == "P1" else None, owner="P1", shape=4, dtype=mpc.fixed(16))
        y = engine.share(None, owner="data", shape=4, dtype=mpc.fixed(16))
        larger = mpc.maximum(x, y)
        z = larger * y
        await z.open(to="result")
        (mixed,) = await engine.primitives.shuffle(engine.primitives.public(XOR, np.zeros((1, 4), np.uint64)))
        await engine.primitives.open(mixed, ["P2"])
        return (await larger.open()).tolist()

    async def data(party: Party) -> None:
        await mpc.share_with(party, COMPUTING, -values, dtype=mpc.fixed(16))

    async def result(party: Party) -> Any:
        opened = await mpc.receive(party, COMPUTING, 4, dtype=mpc.fixed(16))
        return np.round(opened, 3).tolist()

    return Case({**dict.fromkeys(COMPUTING, computing), "data": data, "result": result}, lambda _, r: r)


def bank_case(pattern: GroupByPattern, parameters: Any, computing: tuple[str, str, str], seed: int) -> Case:
    rng = np.random.default_rng(seed)
    banks = ("bank_a", "bank_b", "bank_c")[: 2 + seed % 2]
    parties = tuple(dict.fromkeys((*banks, *computing)))
    query = pattern.query(parameters, PatternTerms(parties, {"input": banks, "computing": computing}))
    rows = {}
    for bank in banks:
        names = np.array([f"n{i}" for i in rng.integers(0, 6, 12)], object)
        cents = rng.integers(0, 800_000, 12)
        if pattern is COLLECTORS:
            senders = np.array([f"s{i}" for i in rng.integers(0, 9, 12)], object)
            tables = {"transfers": {"beneficiary": names, "sender": senders, "amount": cents}}
        else:
            tables = {"deposits": {"customer": names, "amount": cents}}
        rows[bank] = pattern.group_rows(parameters, tables)
    programs = {name: partial(find_groups, query=query, rows=rows.get(name)) for name in parties}
    return Case(programs, lambda name, findings: findings and flagged_rows(rows[name], findings))


def masked_case(threat_model: ThreatModel) -> Case:
    """Six clients, of whom some may go; right is the sum over those that the server says are in it."""
    clients = tuple(f"c{i}" for i in range(6))
    identities = {name: Ed25519PrivateKey.generate() for name in clients}
    public = tuple(key.public_key().public_bytes_raw() for key in identities.values())
    parameters = choose(6, max_corrupt=0.1, max_dropout=0.2, threat_model=threat_model)
    terms = masked_sum.Terms(Roles(clients, ("server",), ("server",)), public, 5, Ring(20), parameters)
    vectors = {
        name: np.arange(5, dtype=np.uint32) * np.uint32(1000 * (i + 1)) for i, name in enumerate(clients)
    }

    async def client(party: Party) -> Any:
        await masked_sum.contribute(party, vectors[party.me], terms=terms, identity=identities[party.me])

    async def server(party: Party) -> Any:
        return await masked_sum.aggregate(party, terms=terms)

    def plain(_: str, result: Any) -> Any:
        if result is None:
            return None
        own = {name: vectors[name] for name in result.contributors}
        return np.array_equal(result.total, masked_sum.reference(own, terms))

    return Case({**dict.fromkeys(clients, client), "server": server}, plain)


def bounded_case() -> Case:
    """Four clients, one of whom breaks a bound and one more may go; right is the sum over the announced set."""
    clients = ("c0", "c1", "c2", "c3")
    bounds = bounded.Bounds(3, 100, 15_000)
    terms = bounded.Terms(Roles(clients, COMPUTING, ("r", "P1")), bounds, min_clients=2, batch=2)
    rows = {name: np.array([10 * i, 50, -i]).view(np.uint64) for i, name in enumerate(clients)}
    rows["c2"][1] = 1 << 32

    async def client(party: Party) -> Any:
        await bounded.upload(party, rows[party.me], terms=terms)

    def plain(_: str, result: Any) -> Any:
        if result is None or result.total is None:
            return None
        own = {name: rows[name] for name in result.contributors}
        total, accepted = bounded.reference(own, bounds)
        return (
            "c2" not in result.contributors
            and accepted == result.contributors
            and np.array_equal(result.total, total)
        )

    programs: dict[str, Any] = dict.fromkeys(COMPUTING, partial(bounded.aggregate, terms=terms))
    programs["r"] = partial(bounded.receive, terms=terms)
    return Case({**dict.fromkeys(clients, client), **programs}, plain)


def encrypted_case() -> Case:
    """Four clients, of whom two may go, under a single RLWE key."""
    clients = ("c0", "c1", "c2", "c3")
    numbers = plan(clip=100.0, frac_bits=0, parties=4)
    terms = Terms(Roles(clients, ("server",), ("holder", "c0"), ("holder",)), numbers, (3,), min_clients=2)
    vectors = {name: np.arange(3.0) * 10**i for i, name in enumerate(("c0", "c1"))}
    vectors |= {"c2": np.array([-7.0, 0.0, 1.0]), "c3": np.array([5.0, -5.0, 50.0])}
    key = SecretKey.generate()

    async def program(party: Party) -> Any:
        return await single_key.take_part(
            party,
            vectors.get(party.me),
            terms=terms,
            scheme_name="rlwe",
            secret_key=key if party.me == "holder" else None,
        )

    def plain(_: str, result: Any) -> Any:
        if result is None:
            return None
        return np.array_equal(result.total, sum(vectors[name] for name in result.contributors))

    return Case(dict.fromkeys((*clients, "server", "holder"), program), plain)


@cache
def cases() -> list[tuple[Case, dict[str, Any], int]]:
    """Return every case with its undisturbed results and its number of messages."""
    some = COLLECTORS.Parameters(min_senders=4, min_total_cents=100)
    listed = [
        sum_case(),
        additive_case(),
        masked_case("semi-honest"),
        masked_case("malicious"),
        bounded_case(),
        encrypted_case(),
        engine_case(),
        bank_case(COLLECTORS, some, ("bank_a", "bank_b", "helper"), 0),
        bank_case(COLLECTORS, some, ("x", "y", "z"), 1),
        bank_case(STRUCTURING, STRUCTURING.Parameters(), ("bank_c", "bank_a", "bank_b"), 3),
    ]
    ready = []
    for case in listed:
        outcome = simulate(case.programs)
        outcome.values()
        ready.append((case, {n: case.plain(n, r) for n, r in outcome.results.items()}, outcome.messages))
    return ready


def disturb(seed: int) -> tuple[str, str]:
    """Run one seed; return how it ended and, if that is wrong, why."""
    chooser = random.Random(seed)
    case, expected, messages = chooser.choice(cases())
    faults = [
        Fault(
            chooser.choice(ACTIONS), chooser.randrange(messages), seconds=chooser.choice([0.01, 5.0, 200.0])
        )
        for _ in range(chooser.choice([1, 1, 2]))
    ]
    outcome: Outcome[Any] = simulate(case.programs, faults=faults, insecure_seed=seed)
    for name, error in outcome.errors.items():
        if not isinstance(error, SecaggError):
            return "wrong", f"{name} raised {type(error).__name__}: {error}"
        if getattr(error, "peer", "") not in case.programs:
            return "wrong", f"{name}'s error names nobody: {error}"
    for name, result in outcome.results.items():
        if case.plain(name, result) != expected[name]:
            return "wrong", f"{name} has a wrong result"
    return ("an error that names a peer" if outcome.errors else "the right result"), ""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="20 runs")
    options = parser.parse_args(argv)
    runs = 20 if options.tiny else options.runs
    began, ends, wrong = time.perf_counter(), Counter[str](), 0
    for seed in range(options.first_seed, options.first_seed + runs):
        end, why = disturb(seed)
        ends[end] += 1
        if why:
            wrong += 1
            print(f"seed {seed}: {why}")
    for end, count in ends.most_common():
        print(f"{count:7,d} of {runs:,d} runs ended with {end}")
    print(f"{time.perf_counter() - began:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
