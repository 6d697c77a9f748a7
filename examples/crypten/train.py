"""Three made-up banks train a score for fraud on all their transactions together; no bank sees another's.

    python examples/crypten/train.py

Each bank shares its table with the others over TLS. They take steps of logistic regression in CrypTen, on shares, and open
the model, to all three. A fourth party deals triples, and gets no share of anything. Each party is a process; between
machines each would run `run_one` with everybody's address and certificate.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import secrets
import socket
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.fixed_point import Plan, decode, encode
from secagg.integrations.crypten import World, deal, joined
from secagg.integrations.crypten.library import load
from secagg.mpc import additive
from secagg.network.identity import Identity, create_identity
from secagg.network.tcp import Peer, run_party
from secagg.party import Party
from secagg.wire import Message

BANKS = ("north", "south", "west")
DEALER = "dealer"
ROWS, FEATURES = 40, 3  # of each bank; public
STEPS, RATE = 3, 2.0
# Sixteen fractional bits in 64, as CrypTen has; a sum of the banks' shares is one number.
PLAN = Plan(bits=64, frac_bits=16, clip=1e6, parties=1)


class Seed(Message, frozen=True):
    """A share of a bank's table, as what it expands from."""

    key: bytes


class ModelShare(Message, frozen=True):
    """A bank's share of the model, to be opened to the receiver."""

    share: NDArray[np.uint64]


def table(bank: str) -> NDArray[np.float64]:
    """Return a bank's transactions: features, and in the last column whether it was fraud."""
    rng = np.random.default_rng(BANKS.index(bank))
    features = rng.normal(size=(ROWS, FEATURES))
    fraud = features @ [1.5, -1.0, 0.5] + rng.normal(scale=0.5, size=ROWS) > 0
    return np.column_stack([features, fraud])


def pooled() -> NDArray[np.float64]:
    """Return the model that one bank with all tables would train."""
    rows = np.concatenate([table(bank) for bank in BANKS])
    x, y = rows[:, :-1], rows[:, -1:]
    weights = np.zeros((FEATURES, 1))
    for _ in range(STEPS):
        weights -= RATE / len(x) * x.T @ (1 / (1 + np.exp(-x @ weights)) - y)
    return weights[:, 0]


async def share_tables(party: Party) -> NDArray[Any]:
    """Return this bank's share of all tables, one below the other."""
    shape = (ROWS, FEATURES + 1)
    others = [bank for bank in BANKS if bank != party.me]
    seeds, rest = additive.share(encode(table(party.me), PLAN).values, len(BANKS), PLAN.ring, party.rng)
    for bank, seed in zip(others, seeds, strict=True):
        party.send(bank, Seed(seed.key))
    shares = {party.me: rest}
    for bank, message in (await party.gather(Seed, others)).items():
        shares[bank] = additive.expand(additive.Seed(message.key), shape, PLAN.ring)
    return np.concatenate([shares[bank] for bank in BANKS])


async def open_model(party: Party, share: NDArray[Any]) -> NDArray[np.float64]:
    """Return the model, of which this bank holds a share, and tell the other banks this share."""
    others = [bank for bank in BANKS if bank != party.me]
    for bank in others:
        party.send(bank, ModelShare(share))
    received = await party.gather(ModelShare, others, max_bytes=share.nbytes)
    shares = [share, *(message.share for message in received.values())]
    return decode(additive.reconstruct(shares, share.shape, PLAN.ring), PLAN)[:, 0]


async def train(party: Party, world: World) -> NDArray[np.float64] | None:
    """Run one party's part; return the model at the banks, None at the dealer."""
    if party.me == world.dealer:
        await deal(party, world)
        return None
    rows = await share_tables(party)
    nothing = np.zeros((FEATURES, 1), np.uint64)
    async with joined(party, world) as here:
        table = here.to_crypten(rows, PLAN.frac_bits)
        x, y = table[:, :-1], table[:, -1:]
        weights = here.to_crypten(nothing, PLAN.frac_bits)
        for _ in range(STEPS):
            gradient = x.t().matmul(x.matmul(weights).sigmoid() - y)
            weights = weights - gradient * (RATE / len(rows))
        share, _ = here.from_crypten(weights)
    return await open_model(party, share)


def run_one(
    me: str, peers: list[Peer], identity: Identity, world: World, agreement: bytes, models: Any
) -> None:
    """Run one party, in a process of its own."""
    own = next(peer for peer in peers if peer.name == me)
    model, _ = run_party(
        lambda party: train(party, world),
        me=me,
        identity=identity,
        peers=peers,
        listen=(own.host, own.port),
        agreement=agreement,
    )
    models.put((me, model))


def run() -> dict[str, NDArray[np.float64] | None]:
    """Run all parties on this machine; return the model that each of them is told."""
    load()  # once, for all processes that are forked off this one
    context = multiprocessing.get_context("fork")
    names = (*BANKS, DEALER)
    identities = {name: create_identity(name) for name in names}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        world = World(BANKS, DEALER, f"file://{folder}/meeting", interface="lo", timeout_s=60)
        peers = []
        for name in names:  # a port that is bound, and at which nobody listens yet, is given to nobody else
            port = stack.enter_context(socket.socket())
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port.bind(("127.0.0.1", 0))
            peers.append(Peer(name, *port.getsockname(), identities[name].certificate))
        models: Any = context.Queue()
        agreement = secrets.token_bytes(32)  # between machines: a digest of what all agreed to run
        parties = [
            context.Process(target=run_one, args=(name, peers, identities[name], world, agreement, models))
            for name in names
        ]
        for party in parties:
            party.start()
        for party in parties:
            party.join()
        if any(party.exitcode for party in parties):
            raise SystemExit("a party failed; its own output says why")
        return dict(models.get() for _ in parties)


if __name__ == "__main__":
    told = run()
    for bank in BANKS:
        print(f"{bank} is told the model {told[bank]}")
    print(f"one bank with all tables would train {pooled()}")
