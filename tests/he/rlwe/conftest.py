"""A small federation: key holders with a key, clients with identities, and what they send each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from secagg import fixed_point
from secagg.fixed_point import Plan
from secagg.he.rlwe.ciphertexts import Ciphertext
from secagg.he.rlwe.decryption_log import DecryptionLog
from secagg.he.rlwe.flooding import ReleasePlan, plan_release
from secagg.he.rlwe.key_generation import Confirmation, KeyHolder, Terms
from secagg.he.rlwe.keys import Opening, PublicKey
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.threshold import KeyShare, PartialDecryption
from secagg.he.rlwe.uploads import Collector, Round, Tally, Upload, Vote, sign_upload

T = TypeVar("T")
Open = Callable[..., NDArray[np.unsignedinteger[Any]]]


def public(identities: Mapping[str, Ed25519PrivateKey]) -> dict[str, Ed25519PublicKey]:
    return {name: key.public_key() for name, key in identities.items()}


@dataclass
class Federation:
    """Key holders h0.. and clients c0..; each test changes its own."""

    directory: Path
    release_plan: ReleasePlan
    holders: dict[str, Ed25519PrivateKey]
    clients: dict[str, Ed25519PrivateKey]
    session: bytes = b"s" * 32
    records: dict[str, DecryptionLog] = field(default_factory=dict)
    shares: dict[str, KeyShare] = field(default_factory=dict)
    confirmations: dict[str, Confirmation] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        return self.release_plan.plan

    @property
    def public_key(self) -> PublicKey:
        return self.shares["h0"].public_key

    @property
    def terms(self) -> Terms:
        return Terms(self.session, self.release_plan, public(self.holders))

    def key_holders(self) -> dict[str, KeyHolder]:
        return {name: KeyHolder(name, self.terms, key) for name, key in self.holders.items()}

    def others(self, messages: Mapping[str, T], me: str) -> dict[str, T]:
        return {name: message for name, message in messages.items() if name != me}

    def make_key(self) -> None:
        holders = self.key_holders()
        commitments = {name: h.commit() for name, h in holders.items()}
        openings = {name: h.open(self.others(commitments, name)) for name, h in holders.items()}
        self.confirmations = {name: h.confirm(self.others(openings, name)) for name, h in holders.items()}
        for name, h in holders.items():
            self.records.setdefault(name, DecryptionLog(self.directory / f"{name}.db", expected_epoch=0))
            self.shares[name] = h.finish(self.others(self.confirmations, name), self.records[name])

    def round(self, number: int = 0, *, min_clients: int = 2, shape: tuple[int, ...] | None = None) -> Round:
        return Round(
            self.session,
            number,
            self.public_key,
            self.release_plan,
            shape or (self.release_plan.length,),
            public(self.clients),
            public(self.holders),
            min_clients,
        )

    def upload(self, round_: Round, client: str, values: NDArray[np.float64]) -> Upload:
        ciphertext = round_.public_key.encrypt(values, self.plan)
        assert isinstance(ciphertext, Ciphertext)
        return sign_upload(round_, client, ciphertext, self.clients[client])

    def collect(
        self, round_: Round, values: Mapping[str, NDArray[np.float64]]
    ) -> tuple[Collector, dict[str, Tally]]:
        collector, tallies = Collector(round_), {name: Tally(round_) for name in self.holders}
        for client, numbers in values.items():
            half = collector.add(client, self.upload(round_, client, numbers))
            for tally in tallies.values():
                tally.add(half)
        return collector, tallies

    def votes(self, tallies: Mapping[str, Tally]) -> dict[str, Vote]:
        return {name: tally.vote(self.holders[name], name) for name, tally in tallies.items()}

    def decrypt(self, tallies: Mapping[str, Tally]) -> dict[str, PartialDecryption]:
        votes = self.votes(tallies)
        return {
            name: share.partial_decrypt(tallies[name], votes, self.records[name])
            for name, share in self.shares.items()
        }

    def close(self) -> None:
        for record in self.records.values():
            record.close()

    def numbers(self, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Integers within the clip for every client, in the shape of the release plan."""
        rng, clip = np.random.default_rng(seed), int(self.plan.clip)
        return {
            name: rng.integers(-clip, clip + 1, self.release_plan.length).astype(np.float64)
            for name in self.clients
        }


def _factory(directory: Path, made: list[Federation]) -> Callable[..., Federation]:
    def make(
        *,
        holders: int = 3,
        clients: int = 3,
        length: int = 100,
        releases: int = 2,
        modulus_bits: int = 96,
        clip: float = 100.0,
        max_weight: int = 1,
        with_key: bool = True,
    ) -> Federation:
        plan = fixed_point.plan(clip=clip, frac_bits=0, parties=clients, bits=64, max_weight=max_weight)
        release_plan = plan_release(
            plan,
            holders=holders,
            releases=releases,
            length=length,
            statistical_bits=30,
            modulus_bits=modulus_bits,
        )
        own = directory / str(len(made))
        own.mkdir()
        federation = Federation(
            own,
            release_plan,
            {f"h{i}": Ed25519PrivateKey.generate() for i in range(holders)},
            {f"c{i}": Ed25519PrivateKey.generate() for i in range(clients)},
        )
        made.append(federation)
        if with_key:
            federation.make_key()
        return federation

    return make


@pytest.fixture
def federate(tmp_path: Path) -> Iterator[Callable[..., Federation]]:
    """Make federations; each with a key of its own."""
    made: list[Federation] = []
    yield _factory(tmp_path, made)
    for federation in made:
        federation.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three key holders and six clients with four numbers each, for tests that change nothing."""
    made: list[Federation] = []
    yield _factory(tmp_path_factory.mktemp("shared"), made)(clients=6, length=4)
    for federation in made:
        federation.close()


@pytest.fixture
def federation(federate: Callable[..., Federation]) -> Federation:
    """Three key holders, three clients, 100 numbers, two rounds."""
    return federate()


@pytest.fixture(scope="session")
def open_rounded() -> Open:
    """Return what gives the encoded numbers from c0 plus c1 times the secret, all blocks at once."""

    def opened(x: Polynomials, ciphertext: Ciphertext, **key: int) -> NDArray[np.unsignedinteger[Any]]:
        opening = Opening(ciphertext.header, x.parameters, squares=ciphertext.squares, **key)
        opening.load(0, x.copy())
        return opening.values()

    return opened
