"""The drivers: the same programs go through each of them unchanged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from ports import reserved_ports
from secagg.errors import SecaggError
from secagg.ledger import Ledger
from secagg.network import tcp
from secagg.network.identity import Identity, create_identity
from secagg.network.simulated import simulate
from secagg.network.stepwise import Stepwise
from secagg.party import Program

Results = tuple[dict[str, Any], dict[str, Ledger]]
Drive = Callable[[Mapping[str, Program[Any]]], Results]


def drive_simulated(programs: Mapping[str, Program[Any]]) -> Results:
    out = simulate(programs)
    return dict(zip(programs, out.values(), strict=True)), out.ledgers


def drive_stepwise(programs: Mapping[str, Program[Any]], *, restore: bool = True) -> Results:
    """Carry frames by hand; with `restore`, each party is stored and restored behind each step."""
    parties = {
        name: Stepwise(program, me=name, roster=tuple(programs), session=bytes(32))
        for name, program in programs.items()
    }
    states = {name: party.state() for name, party in parties.items()}
    post: deque[tuple[str, list[tuple[str, bytes]]]] = deque((name, []) for name in programs)
    while post:
        to, incoming = post.popleft()
        if restore:
            parties[to] = Stepwise.restore(programs[to], states[to])
        post.extend((peer, [(to, frame)]) for peer, frame in parties[to].step(incoming))
        states[to] = parties[to].state()
    return {n: parties[n].result() for n in programs}, {n: parties[n].ledger for n in programs}


def end_over_tcp(programs: Mapping[str, Program[Any]]) -> Results:
    """Return what each party returned or raised, and the ledgers of those that ended well."""
    identities = {name: create_identity(name) for name in programs}
    with reserved_ports(len(programs)) as free:
        return _end_over_tcp(programs, identities, dict(zip(programs, free, strict=True)))


def _end_over_tcp(
    programs: Mapping[str, Program[Any]], identities: Mapping[str, Identity], ports: Mapping[str, int]
) -> Results:
    peers = [tcp.Peer(n, "127.0.0.1", ports[n], identities[n].certificate) for n in programs]

    def run(name: str) -> tuple[Any, Ledger | None]:
        try:
            return tcp.run_party(
                programs[name],
                me=name,
                identity=identities[name],
                peers=peers,
                listen=("127.0.0.1", ports[name]),
                agreement=bytes(32),
                timeouts=tcp.Timeouts(connect_s=30.0, silence_s=30.0, message_s=30.0),
                keep_memory=False,
            )
        except SecaggError as error:
            return error, None

    with ThreadPoolExecutor(len(programs)) as pool:
        ended = dict(zip(programs, pool.map(run, programs), strict=True))
    return {n: r for n, (r, _) in ended.items()}, {n: x for n, (_, x) in ended.items() if x is not None}


def drive_tcp(programs: Mapping[str, Program[Any]]) -> Results:
    results, ledgers = end_over_tcp(programs)
    for result in results.values():
        if isinstance(result, SecaggError):
            raise result
    return results, ledgers


@pytest.fixture(scope="session")
def drivers() -> Mapping[str, Drive]:
    """All drivers by name."""
    return {"simulated": drive_simulated, "stepwise": drive_stepwise, "tcp": drive_tcp}


@pytest.fixture(params=["simulated", "stepwise", "tcp"])
def drive(request: pytest.FixtureRequest, drivers: Mapping[str, Drive]) -> Drive:
    return drivers[request.param]


@pytest.fixture(scope="session")
def drive_without_restoring() -> Drive:
    """Step parties that cannot be restored: what they draw does not come from `party.rng` alone."""
    return partial(drive_stepwise, restore=False)


@pytest.fixture(scope="session")
def over_tcp() -> Drive:
    """Run over TCP; results are what parties returned or raised."""
    return end_over_tcp


@pytest.fixture
def one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all parties of many short runs use one object for a Paillier key, and so one table."""
    try:
        from secagg.he import paillier
    except ImportError:
        return
    kept: dict[bytes, Any] = {}
    read = paillier.PublicKey.from_message

    def from_message(message: Any, *, peer: str = "") -> Any:
        if message.h not in kept:
            kept[message.h] = read(message, peer=peer)
            kept[message.h].prepare(window=4)
        return kept[message.h]

    monkeypatch.setattr(paillier.PublicKey, "from_message", from_message)
