"""Encrypted sums to be tested: who takes part, with which arrays and keys, and what has to come out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from safe_primes import P, Q
from secagg import fixed_point
from secagg.errors import PeerMissingError, RemoteProtocolError
from secagg.fixed_point import Plan
from secagg.he.rlwe.decryption_log import DecryptionLog
from secagg.he.rlwe.flooding import ReleasePlan, plan_release
from secagg.he.rlwe.keys import SecretKey as RlweSecretKey
from secagg.network.simulated import Fault, Outcome, simulate
from secagg.party import Party, Program
from secagg.protocols.he_sum import single_key
from secagg.protocols.he_sum.terms import EncryptedSum, Terms
from secagg.protocols.roles import Roles
from secagg.ring import RingArray

UPLOAD_TIMEOUT_S = 5.0  # below what the simulated network bears, on the virtual clock


@dataclass
class Case:
    """One sum: its parties' arrays and programs, in roster order, and what each returns."""

    terms: Terms
    xs: dict[str, NDArray[np.float64]]
    programs: dict[str, Program[Any]]
    exact: bool = True
    parties: dict[str, Party] = field(default_factory=dict)  # of the run before

    def play(
        self, *, faults: tuple[Fault, ...] = (), replaced: Mapping[str, Any] | None = None, **options: Any
    ) -> Outcome[Any]:
        """Simulate the sum, some parties running something else."""

        def keep(name: str, program: Program[Any]) -> Program[Any]:
            def start(party: Party) -> Any:
                self.parties[name] = party
                return program(party)

            return start

        programs = {**self.programs, **(replaced or {})}
        return simulate({n: keep(n, p) for n, p in programs.items()}, faults=faults, **options)

    def encoded(self, contributors: tuple[str, ...]) -> RingArray:
        total = np.zeros(self.terms.shape, self.terms.plan.ring.dtype)
        for name in contributors:
            total += fixed_point.encode(self.xs[name], self.terms.plan).values
        return total

    def check(self, result: Any, contributors: tuple[str, ...] | None = None) -> None:
        """Assert that a result is the sum over those whom it names, who are these, if given."""
        assert isinstance(result, EncryptedSum)
        names = result.contributors if contributors is None else contributors
        assert result.contributors == names
        assert len(names) >= self.terms.min_clients
        assert result.total.shape == self.terms.shape
        assert result.total.dtype == np.float64
        plain = np.sum([self.xs[name] for name in names], axis=0)
        if self.exact:
            assert result.encoded is not None
            assert result.encoded.dtype == self.terms.plan.ring.dtype
            np.testing.assert_array_equal(result.encoded, self.encoded(names))
            if self.terms.plan.frac_bits == 0:
                np.testing.assert_array_equal(result.total, plain)
        else:
            assert result.encoded is None
        assert float(np.max(np.abs(result.total - plain))) <= result.error

    def check_all(self, results: Mapping[str, Any], contributors: tuple[str, ...] | None = None) -> None:
        """Assert that the result parties have the sum and nobody else has anything."""
        for name, result in results.items():
            if name in self.terms.roles.results:
                self.check(result, contributors)
            else:
                assert result is None

    def check_ends(self, out: Outcome[Any]) -> None:
        """Assert that whoever has a result has the right one, and that every error is a peer's doing and names it."""
        self.check_all(out.results)
        for error in out.errors.values():
            assert isinstance(error, RemoteProtocolError | PeerMissingError), repr(error)
            assert error.peer in self.programs or any(name in str(error) for name in self.programs)
            assert str(error)


def make_plan(terms: Mapping[str, Any], clip: float, frac_bits: int, **options: Any) -> Plan:
    return fixed_point.plan(clip=clip, frac_bits=frac_bits, parties=len(terms["clients"]), bits=64, **options)


def make_terms(
    *,
    clients: tuple[str, ...] = ("a", "b", "c"),
    aggregator: str = "agg",
    key_holders: tuple[str, ...] = ("k",),
    results: tuple[str, ...] = ("r",),
    shape: tuple[int, ...] = (5,),
    min_clients: int = 2,
    clip: float = 100.0,
    frac_bits: int = 0,
    round: int = 0,  # noqa: A002  # as in Terms
) -> Terms:
    plan = make_plan({"clients": clients}, clip, frac_bits)
    return Terms(
        Roles(clients, (aggregator,), results, key_holders),
        plan,
        shape,
        min_clients,
        round,
        timeout_s=UPLOAD_TIMEOUT_S,
    )


def make_arrays(terms: Terms, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Numbers within the clip for every client: integers if the plan has no places, else any."""
    rng, clip = np.random.default_rng(seed), terms.plan.clip
    if terms.plan.frac_bits == 0:
        drawn = {n: rng.integers(-int(clip), int(clip) + 1, terms.shape) for n in terms.roles.clients}
        return {name: np.asarray(x, np.float64) for name, x in drawn.items()}
    return {name: np.asarray(rng.uniform(-clip, clip, terms.shape)) for name in terms.roles.clients}


def everybody(terms: Terms) -> tuple[str, ...]:
    names = (*terms.roles.clients, terms.aggregator, *terms.roles.key_holders, *terms.roles.results)
    return tuple(dict.fromkeys(names))


# One key.


def secret_key(scheme_name: str, *, other: bool = False) -> Any:
    """Return a secret key, the same one each time, or `other`; Paillier's is of the smallest length that peers read."""
    return _secret_key(scheme_name, other)


@cache
def _secret_key(scheme_name: str, other: bool) -> Any:
    if scheme_name == "paillier":
        from secagg.he.paillier import SecretKey

        return SecretKey._from_primes(P, Q, x=54321 if other else 12345, smallest_bits=2048)
    if scheme_name == "ckks":
        from secagg.he.ckks import SecretKey as CkksSecretKey

        return CkksSecretKey.generate()
    return RlweSecretKey.generate()


def single(scheme_name: str, *, seed: int = 0, **options: Any) -> Case:
    """Make a sum under one key."""
    if scheme_name == "ckks":
        options = {"results": options.get("key_holders", ("k",))} | options
    terms = make_terms(**options)
    xs, secret = make_arrays(terms, seed), secret_key(scheme_name)

    def program(name: str) -> Program[Any]:
        key = secret if name in terms.roles.key_holders else None
        return lambda p: single_key.take_part(
            p, xs.get(name), terms=terms, scheme_name=scheme_name, secret_key=key
        )

    programs = {name: program(name) for name in everybody(terms)}
    return Case(terms, xs, programs, exact=scheme_name != "ckks")


# Threshold Paillier.

# TEST CONSTANTS: safe primes of 256 bits.
_P = 0xDEAC9D42FDAC932276EB26B9FE166A3AE1EC72A47F660F183DC81BAB76347CB3
_Q = 0xD3A6392FF80281AEA43BFBB74050B132B6F739F8CB5E6A81A1C796D251AFAF8F


def dealt(parties: int = 3, needed: int = 2, *, small: bool = False) -> Any:
    """Return a threshold key and its shares, 2048 bits or, `small`, 512: the same each time for the same numbers."""
    return _dealt(parties, needed, small)


@cache
def _dealt(parties: int, needed: int, small: bool) -> Any:
    from gmpy2 import mpz

    from secagg.he.paillier import threshold
    from secagg.prg import system_stream

    if small:
        made = threshold._deal(mpz(_P), mpz(_Q), parties, needed, 1, None, system_stream(), smallest_bits=0)
    else:
        made = threshold.deal_threshold_key(parties, needed, bits=2048, safe_primes=(P, Q))
    made[0].prepare(window=4)
    return made


def shared_paillier(*, needed: int = 2, small: bool = True, seed: int = 0, **options: Any) -> Case:
    """Make a sum under a Paillier key of several holders."""
    from secagg.protocols.he_sum import threshold_paillier

    terms = make_terms(**{"key_holders": ("h1", "h2", "h3"), **options})
    xs = make_arrays(terms, seed)
    public_key, shares = dealt(len(terms.roles.key_holders), needed, small=small)
    own = dict(zip(terms.roles.key_holders, shares, strict=True))

    def program(name: str) -> Program[Any]:
        return lambda p: threshold_paillier.take_part(
            p, xs.get(name), terms=terms, public_key=public_key, key_share=own.get(name)
        )

    return Case(terms, xs, {name: program(name) for name in everybody(terms)})


# Threshold RLWE.


@dataclass
class Federation:
    """Key holders with a key and records, clients with identities; sums under that key."""

    directory: Path
    terms: Terms
    release_plan: ReleasePlan
    signers: dict[str, Ed25519PrivateKey]
    identities: Any
    records: dict[str, DecryptionLog] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident)

    def open_records(self) -> None:
        """Open each holder's record, as after a start."""
        for name in self.terms.roles.key_holders:
            if name in self.records:
                self.records[name].close()
            self.records[name] = DecryptionLog(self.directory / f"{name}.db", expected_epoch=0)

    async def with_record(self, name: str, start: Callable[[DecryptionLog | None], Any]) -> Any:
        """Run a program with its party's record, which a party in a thread of its own opens itself."""
        if name not in self.terms.roles.key_holders:
            return await start(None)
        if threading.get_ident() == self.thread:
            return await start(self.records[name])
        with DecryptionLog(self.directory / f"{name}.db", expected_epoch=0) as record:
            return await start(record)

    def close(self) -> None:
        for record in self.records.values():
            record.close()

    def key_programs(self, terms: Terms | None = None) -> dict[str, Program[Any]]:
        from secagg.protocols.he_sum import threshold_rlwe

        used = terms or self.terms

        def program(name: str) -> Program[Any]:
            return lambda p: self.with_record(
                name,
                lambda record: threshold_rlwe.agree_key(
                    p,
                    terms=used,
                    release_plan=self.release_plan,
                    identities=self.identities,
                    identity=self.signers[name] if name in used.roles.key_holders else None,
                    log=record,
                ),
            )

        return {name: program(name) for name in everybody(used)}

    def make_key(self, **options: Any) -> Outcome[Any]:
        out = simulate(self.key_programs(), **options)
        self.keys = dict(zip(out.ledgers, out.values(), strict=True))
        return out

    def case(
        self, *, seed: int = 0, xs: dict[str, NDArray[np.float64]] | None = None, **changes: Any
    ) -> Case:
        from secagg.protocols.he_sum import threshold_rlwe

        terms = replace(self.terms, **changes)
        arrays = make_arrays(terms, seed) if xs is None else xs

        def program(name: str) -> Program[Any]:
            signs = name in terms.roles.key_holders or name in terms.roles.clients
            return lambda p: self.with_record(
                name,
                lambda record: threshold_rlwe.take_part(
                    p,
                    arrays.get(name),
                    terms=terms,
                    release_plan=self.release_plan,
                    identities=self.identities,
                    key=self.keys[name],
                    identity=self.signers[name] if signs else None,
                    log=record,
                ),
            )

        return Case(terms, arrays, {name: program(name) for name in everybody(terms)})


def federate(
    directory: Path,
    *,
    releases: int = 1 << 10,
    modulus_bits: int | None = 96,
    max_weight: int = 1,
    with_key: bool = True,
    statistical_bits: int = 25,
    clip: float = 100.0,
    frac_bits: int = 0,
    **options: Any,
) -> Federation:
    """Make a federation with a key of its own; its records are in the directory, and its user closes them."""
    from secagg.protocols.he_sum.threshold_rlwe import Identities

    terms = make_terms(**{"key_holders": ("h1", "h2", "h3"), "clip": clip, "frac_bits": frac_bits, **options})
    plan = make_plan({"clients": terms.roles.clients}, clip, frac_bits, max_weight=max_weight)
    terms = replace(terms, plan=plan)
    release_plan = plan_release(
        plan,
        holders=len(terms.roles.key_holders),
        releases=releases,
        length=terms.length,
        statistical_bits=statistical_bits,
        modulus_bits=modulus_bits,
    )
    signers = {n: Ed25519PrivateKey.generate() for n in everybody(terms)}
    public = {n: key.public_key() for n, key in signers.items()}
    identities = Identities(
        {n: public[n] for n in terms.roles.clients}, {n: public[n] for n in terms.roles.key_holders}
    )
    federation = Federation(directory, terms, release_plan, signers, identities)
    federation.open_records()
    if with_key:
        federation.make_key()
    return federation
