from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.party import Program
from secagg.protocols.masked_sum import (
    Client,
    Consent,
    Consents,
    GraphParameters,
    Included,
    Keys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    Server,
    Shares,
    SumInSession,
    Terms,
    Unmasking,
    aggregate,
    choose,
    contribute,
)
from secagg.protocols.roles import Roles
from secagg.protocols.threat_model import ThreatModel
from secagg.ring import Ring, RingArray

SESSION = bytes(range(32))
SPARSE = GraphParameters(12, 2, 2, "semi-honest", 6, 4, 10, 0, -10.0, -10.0)
SPARSE_MALICIOUS = GraphParameters(12, 2, 2, "malicious", 8, 6, 10, 8, -10.0, -10.0)


@dataclass
class Play:
    """A round played by hand: every message is kept, so that a test can alter it on its way."""

    terms: Terms
    identities: dict[str, Ed25519PrivateKey]
    xs: dict[str, RingArray]
    where: SumInSession
    clients: dict[str, Client] = field(default_factory=dict)
    server: Server = field(init=False)
    keys: dict[str, Keys] = field(default_factory=dict)
    peer_keys: dict[str, PeerKeys] = field(default_factory=dict)
    shares: dict[str, Shares] = field(default_factory=dict)
    inboxes: dict[str, PeerShares] = field(default_factory=dict)
    inputs: dict[str, MaskedInput] = field(default_factory=dict)
    consents: dict[str, Consent] = field(default_factory=dict)
    answers: dict[str, Unmasking] = field(default_factory=dict)
    request: Included | Consents | None = None

    def __post_init__(self) -> None:
        self.clients = {name: Client(self.where, name, key) for name, key in self.identities.items()}
        self.server = Server(self.where)

    @property
    def names(self) -> tuple[str, ...]:
        return self.terms.roles.clients

    def play_keys(self, without: Iterable[str] = ()) -> Play:
        for name in [n for n in self.names if n not in without]:
            self.keys[name] = self.clients[name].advertise()
            self.server.take_keys(name, self.keys[name])
        self.peer_keys = self.server.close_keys()
        return self

    def play_shares(self, without: Iterable[str] = ()) -> Play:
        for name in [n for n in self.peer_keys if n not in without]:
            self.shares[name] = self.clients[name].share(self.peer_keys[name])
            self.server.take_shares(name, self.shares[name])
        self.inboxes = self.server.close_shares()
        return self

    def play_inputs(self, without: Iterable[str] = ()) -> Play:
        for name in [n for n in self.inboxes if n not in without]:
            self.inputs[name] = self.clients[name].mask(self.xs[name], self.inboxes[name])
            self.server.take_input(name, self.inputs[name])
        self.request = self.server.close_inputs()
        return self

    def play_consents(self, without: Iterable[str] = ()) -> Play:
        if self.terms.malicious:
            assert isinstance(self.request, Included)
            for name in [n for n in self.server.included if n not in without]:
                self.consents[name] = self.clients[name].consent(self.request)
                self.server.take_consent(name, self.consents[name])
            self.request = self.server.close_consents()
        return self

    def play_answers(self, without: Iterable[str] = ()) -> Play:
        assert self.request is not None
        for name in [n for n in self.server.included if n not in without]:
            self.answers[name] = self.clients[name].unmask(self.request)
            self.server.take_answer(name, self.answers[name])
        return self

    def until_inputs(self) -> Play:
        return self.play_keys().play_shares()

    def until_request(self, *, late: Iterable[str] = ()) -> Play:
        return self.until_inputs().play_inputs(late).play_consents()

    def number(self, name: str) -> int:
        return self.where.terms.roles.numbers[name]


def make_terms(
    parameters: GraphParameters, length: int, bits: int
) -> tuple[Terms, dict[str, Ed25519PrivateKey]]:
    names = tuple(f"c{i}" for i in range(parameters.clients))
    identities = {name: Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i, name in enumerate(names)}
    public = tuple(key.public_key().public_bytes_raw() for key in identities.values())
    return Terms(
        Roles(names, ("server",), ("server",)), public, length, Ring(bits), parameters, timeout_s=5.0
    ), identities


def vectors(terms: Terms, seed: int = 1) -> dict[str, RingArray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, terms.ring.modulus - 1, terms.length, np.uint64, endpoint=True).astype(
            terms.ring.dtype
        )
        for name in terms.roles.clients
    }


def programs(
    terms: Terms,
    identities: Mapping[str, Ed25519PrivateKey],
    xs: Mapping[str, RingArray],
) -> dict[str, Program[Any]]:
    def client(name: str) -> Program[Any]:
        return lambda p: contribute(p, xs[name], terms=terms, identity=identities[name])

    made: dict[str, Program[Any]] = {"server": lambda p: aggregate(p, terms=terms)}
    return made | {name: client(name) for name in terms.roles.clients}


@pytest.fixture
def play() -> Callable[..., Play]:
    def make(
        clients: int = 5,
        *,
        threat_model: ThreatModel = "semi-honest",
        parameters: GraphParameters | None = None,
        length: int = 7,
        bits: int = 20,
        number: int = 0,
    ) -> Play:
        chosen = parameters or choose(clients, max_corrupt=0.2, max_dropout=0.2, threat_model=threat_model)
        terms, identities = make_terms(chosen, length, bits)
        return Play(terms, identities, vectors(terms), SumInSession(replace(terms, round=number), SESSION))

    return make


@dataclass
class World:
    """Terms, identities, vectors and programs of a whole run."""

    terms: Terms
    identities: dict[str, Ed25519PrivateKey]
    xs: dict[str, RingArray]
    programs: dict[str, Program[Any]]


@pytest.fixture
def world() -> Callable[..., World]:
    def make(
        clients: int = 5,
        *,
        threat_model: ThreatModel = "semi-honest",
        parameters: GraphParameters | None = None,
        length: int = 7,
        bits: int = 20,
        xs: Mapping[str, RingArray] | None = None,
        seed: int = 1,
    ) -> World:
        chosen = parameters or choose(clients, max_corrupt=0.2, max_dropout=0.2, threat_model=threat_model)
        terms, identities = make_terms(chosen, length, bits)
        used = dict(xs) if xs is not None else vectors(terms, seed)
        return World(terms, identities, used, programs(terms, identities, used))

    return make


@pytest.fixture
def sparse() -> GraphParameters:
    return SPARSE


@pytest.fixture
def sparse_malicious() -> GraphParameters:
    return SPARSE_MALICIOUS


@pytest.fixture(params=["semi-honest", "malicious", "sparse", "sparse malicious"])
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    variants: dict[str, dict[str, Any]] = {
        "semi-honest": {"clients": 5},
        "malicious": {"clients": 5, "threat_model": "malicious"},
        "sparse": {"parameters": SPARSE},
        "sparse malicious": {"parameters": SPARSE_MALICIOUS},
    }
    return variants[request.param]
