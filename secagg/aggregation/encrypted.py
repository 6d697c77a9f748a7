"""Homomorphic encryption: an aggregator adds ciphertexts up, key holders decrypt the sum (`secagg.protocols.he_sum`).

Longer than most modules: three schemes, each with its options, its report and how its sum runs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from secagg.aggregation.protection import (
    DEADLINE_S,
    BearsDropout,
    Protection,
    SumJob,
    SumOutcome,
    Watch,
    free_names,
)
from secagg.cost.operation import Cost
from secagg.errors import PlanError, UsageError
from secagg.fixed_point import Plan
from secagg.party import Party, PartyId
from secagg.protocols.he_sum import single_key
from secagg.protocols.he_sum.terms import EncryptedSum, Terms
from secagg.protocols.roles import Roles
from secagg.updates.coding import Coding, Request, Units

if TYPE_CHECKING:
    from secagg.he import ckks, paillier
    from secagg.he.paillier.threshold import KeyShare
    from secagg.he.rlwe import Parameters

_MODULI: Final = (64, 96, 128)

_Program = Callable[[Party], Coroutine[Any, Any, EncryptedSum | None]]


@dataclass(frozen=True, slots=True)
class _Encrypted(BearsDropout):
    @property
    def stages(self) -> Mapping[str, int]:
        return {"upload": 0}

    @property
    def usual_stage(self) -> str:
        return "upload"


@dataclass(frozen=True, slots=True)
class Paillier(_Encrypted):
    """Paillier's encryption as extended by Damgard and Jurik. Needs the extra `paillier`.

    Args:
      bits: length of n; 3072 stand for 128 bits of security.
      s: plaintexts are modulo n^s; 2 takes three quarters of the bytes of 1.
      randomizer_bits: length of the randomizers' exponents. Less than half of n's needs an assumption more.
      key_holders: how many there are. With several, a dealer who knows the key deals it first.
      threshold: how many of several key holders decrypt; without it more than half.
      max_dropout: largest fraction of clients that vanishes.
      secret_key: of the one key holder, made before; without it a new one.
      key_shares: of several key holders, dealt before; without them new ones.
    """

    name: ClassVar[str] = "paillier"

    bits: int = 3072
    s: int = 2
    randomizer_bits: int | None = None
    key_holders: int = 1
    threshold: int | None = None
    max_dropout: float = 1 / 3
    secret_key: paillier.SecretKey | None = field(default=None, repr=False)
    key_shares: tuple[KeyShare, ...] = field(default=(), repr=False)

    def check(self, clients: int) -> None:
        BearsDropout.check(self, clients)
        import secagg.he.paillier  # noqa: F401  # says what to install

        several = self.key_holders > 1
        if (
            self.key_holders < 1
            or (several and self.secret_key is not None)
            or (self.key_shares and not several)
        ):
            raise UsageError("expected a secret key for one key holder, or key shares for several")
        if self.key_shares and len(self.key_shares) != self.key_holders:
            raise UsageError(f"expected {self.key_holders} key shares, got {len(self.key_shares)}")
        if several and not 2 <= self._threshold <= self.key_holders:
            raise UsageError(f"expected a threshold of 2 to {self.key_holders}, got {self.threshold}")

    @property
    def _threshold(self) -> int:
        return self.key_holders // 2 + 1 if self.threshold is None else self.threshold

    def run(self, job: SumJob) -> SumOutcome:
        if self.key_holders > 1:
            return self._run_threshold(job)
        from secagg.he import paillier

        began = time.perf_counter()
        key = self.secret_key
        if key is None:
            key = paillier.SecretKey.generate(
                self.bits, s=self.s, randomizer_bits=self.randomizer_bits, executor=job.executor
            )
        n = key.public_key.n.bit_length()
        about = f"n of {n} bits, s = {key.public_key.s}"
        return _run_single(self, job, key, about, time.perf_counter() - began)

    def _run_threshold(self, job: SumJob) -> SumOutcome:
        from secagg.he.paillier.threshold import deal_threshold_key
        from secagg.protocols.he_sum import threshold_paillier

        began = time.perf_counter()
        shares = list(self.key_shares)
        if not shares:
            _, shares = deal_threshold_key(
                self.key_holders,
                self._threshold,
                bits=self.bits,
                s=self.s,
                randomizer_bits=self.randomizer_bits,
                executor=job.executor,
            )
        setup_s = time.perf_counter() - began
        public_key = shares[0].public_key
        terms = _terms(self, job, self.key_holders)
        held = dict(zip(terms.roles.key_holders, shares, strict=True))

        def program(name: PartyId) -> _Program:
            return partial(
                threshold_paillier.take_part,
                x=job.vectors.get(name),
                terms=terms,
                public_key=public_key,
                key_share=held.get(name),
                executor=job.executor,
            )

        t = public_key.threshold
        return _run(
            job,
            terms,
            program,
            f"n of {public_key.n.bit_length()} bits, s = {public_key.s}, {t} of {self.key_holders} key holders",
            f"The first key holder learns the sum over at least {terms.min_clients} clients. Nobody learns anything "
            f"else of an update unless {t} key holders work together or the aggregator does not keep to the protocol. The "
            "dealer of the key is trusted to have forgotten it; clients encrypt as agreed.",
            setup_s,
            partial(threshold_paillier.cost, terms=terms, public_key=public_key),
        )


@dataclass(frozen=True, slots=True)
class Ckks(_Encrypted):
    """CKKS through TenSEAL: approximate, for one key holder who keeps the result. Needs the extra `ckks`.

    `precision` does not matter to it: the report says how exact the result is.

    Args:
      context: parameters by name (`secagg.he.ckks.CONTEXTS`).
      max_dropout: largest fraction of clients that vanishes.
      secret_key: made before, in that context; without it a new one.
    """

    name: ClassVar[str] = "ckks"
    supports_dp: ClassVar[bool] = False
    no_dp_because: ClassVar[str] = (
        "the error of a sum that it decrypts depends on the single updates, so that more would be opened than the noisy sum"
    )
    no_compression_because: ClassVar[str] = (
        "its ciphertexts hold real numbers, and are no shorter for few bits"
    )

    context: str = "4096"
    max_dropout: float = 1 / 3
    secret_key: ckks.SecretKey | None = field(default=None, repr=False)

    def check(self, clients: int) -> None:
        BearsDropout.check(self, clients)
        context = self._context()
        if context.symmetric:
            raise UsageError(f"under {context.scheme} clients need the secret key; choose another context")
        if self.secret_key is not None and self.secret_key.public_key.context != context:
            raise UsageError(f"expected a secret key of {context.scheme}, got {self.secret_key!r}")

    def _context(self) -> ckks.Context:
        from secagg.he.ckks.contexts import named

        return named(self.context)

    def coding(self, request: Request) -> Coding:
        self._context().check_plan(Plan(64, 0, 1.0, request.clients))
        return Units(request, scale=1.0, rounded=False)

    def run(self, job: SumJob) -> SumOutcome:
        from secagg.he import ckks

        began = time.perf_counter()
        key = self.secret_key or ckks.SecretKey.generate(self._context())
        about = f"context {key.public_key.context.name}"
        return _run_single(self, job, key, about, time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Rlwe(_Encrypted):
    """Exact encryption under ring learning with errors.

    Clients have to encrypt as agreed. With several key holders, one that does not can open every upload of the sum, together
    with the aggregator and whoever reads the sum (`secagg.he.rlwe.uploads`).

    Args:
      key_holders: how many there are, who make the key together and all have to decrypt; 1 is a single key.
      statistical_bits: several key holders' answers tell more than the sum with probability 2**-statistical_bits at most.
      modulus_bits: 64, 96 or 128; without it the smallest that does.
      max_dropout: largest fraction of clients that vanishes.
    """

    name: ClassVar[str] = "rlwe"

    key_holders: int = 3
    statistical_bits: int = 40
    modulus_bits: int | None = None
    max_dropout: float = 1 / 3

    def check(self, clients: int) -> None:
        BearsDropout.check(self, clients)
        if self.key_holders < 1:
            raise UsageError(f"expected at least 1 key holder, got {self.key_holders}")

    def run(self, job: SumJob) -> SumOutcome:
        if self.key_holders > 1:
            return self._run_threshold(job)
        from secagg.he.rlwe import SecretKey

        chosen = self._parameters(job)
        began = time.perf_counter()
        key = SecretKey.generate(chosen)
        return _run_single(self, job, key, chosen.name, time.perf_counter() - began)

    def _parameters(self, job: SumJob) -> Parameters:
        from secagg.he.rlwe import noise, parameters

        allowed = _MODULI if self.modulus_bits is None else (self.modulus_bits,)
        for bits in allowed:
            chosen = parameters(bits)
            coefficients = chosen.blocks(job.length) * chosen.degree
            try:
                noise.check(job.plan, chosen, coefficients=coefficients)
            except PlanError:
                if bits < allowed[-1]:
                    continue
                larger = [str(other) for other in _MODULI if other > bits]
                ways = f"use Rlwe(modulus_bits={larger[0]}), or" if larger else "use"
                raise PlanError(
                    f"sums of {job.plan.sum_bits} bits leave too little of a modulus of {bits} bits for noise; {ways} a "
                    "larger precision or smaller weights"
                ) from None
            else:
                break
        return chosen

    def _run_threshold(self, job: SumJob) -> SumOutcome:
        from secagg.he.rlwe.decryption_log import DecryptionLog
        from secagg.he.rlwe.flooding import plan_release
        from secagg.protocols.he_sum import threshold_rlwe

        release_plan = plan_release(
            job.plan,
            holders=self.key_holders,
            releases=1,
            length=job.length,
            statistical_bits=self.statistical_bits,
            modulus_bits=self.modulus_bits,
        )
        terms = _terms(self, job, self.key_holders)
        began = time.perf_counter()
        signing = {
            name: Ed25519PrivateKey.generate() for name in (*terms.roles.clients, *terms.roles.key_holders)
        }
        public = {name: key.public_key() for name, key in signing.items()}
        identities = threshold_rlwe.Identities(public, public)
        setup_s = time.perf_counter() - began
        with ExitStack() as stack:
            # The decryption log is for keys that outlive a process; this one does not.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            records = {
                holder: stack.enter_context(DecryptionLog(folder / str(i), expected_epoch=0))
                for i, holder in enumerate(terms.roles.key_holders)
            }

            async def both(name: PartyId, party: Party) -> EncryptedSum | None:
                common: dict[str, Any] = {
                    "terms": terms,
                    "release_plan": release_plan,
                    "identities": identities,
                    "identity": signing.get(name),
                    "log": records.get(name),
                }
                key = await threshold_rlwe.agree_key(party, **common)
                x = job.vectors.get(name)
                return await threshold_rlwe.take_part(party, x, key=key, executor=job.executor, **common)

            def declared(name: PartyId) -> Cost:
                # The sum begins where the last party has the key.
                common: dict[str, Any] = {"terms": terms, "release_plan": release_plan}
                key = {party: threshold_rlwe.key_cost(party, **common) for party in terms.roles.everybody}
                ready = max(cost.rounds for cost in key.values())
                return replace(key[name], rounds=ready).then(threshold_rlwe.cost(name, **common))

            return _run(
                job,
                terms,
                lambda name: partial(both, name),
                str(release_plan),
                f"The first key holder learns the sum over at least {terms.min_clients} clients. Nobody learns anything "
                f"else of an update unless all {self.key_holders} key holders work together, up to a statistical distance "
                f"of 2^{release_plan.log2_distance}. Clients encrypt as agreed: one that does not can open every update of "
                "this sum, together with the aggregator and whoever reads the sum.",
                setup_s,
                declared,
            )


def _terms(protection: Protection, job: SumJob, holders: int) -> Terms:
    clients = job.clients
    aggregator, *keys = free_names(
        ["aggregator", *(f"key-holder-{i + 1}" if holders > 1 else "key-holder" for i in range(holders))],
        clients,
    )
    return Terms(
        Roles(clients, (aggregator,), results=(keys[0],), key_holders=tuple(keys)),
        job.plan,
        (job.length,),
        min_clients=protection.min_clients(len(clients)),
        timeout_s=DEADLINE_S,
    )


def _run_single(
    protection: Protection, job: SumJob, secret_key: Any, about: str, setup_s: float
) -> SumOutcome:
    terms = _terms(protection, job, 1)

    def program(name: PartyId) -> _Program:
        return partial(
            single_key.take_part,
            x=job.vectors.get(name),
            terms=terms,
            scheme_name=protection.name,
            secret_key=secret_key if name in terms.roles.key_holders else None,
            executor=job.executor,
        )

    return _run(
        job,
        terms,
        program,
        about,
        f"The key holder learns the sum over at least {terms.min_clients} clients. Nobody learns anything else of an "
        "update unless aggregator and key holder work together. Both, and the clients, keep to the protocol.",
        setup_s,
        partial(single_key.cost, terms=terms, public_key=secret_key.public_key),
    )


def _run(
    job: SumJob,
    terms: Terms,
    program: Callable[[PartyId], _Program],
    about: str,
    learns: str,
    setup_s: float,
    declared: Callable[[PartyId], Cost],
) -> SumOutcome:
    watch = Watch()
    for name in (terms.aggregator, *terms.roles.key_holders, *terms.roles.clients):
        watch.add(name, program(name), gathers=name == terms.aggregator)
    total: NDArray[Any]
    found, outcome = watch.run(terms.roles.key_holders[0], job, {"upload": 0})
    summed: EncryptedSum = found
    if summed.encoded is None:
        total, error = summed.total, summed.error
    else:
        # There are no fractional bits: the ring's elements are the sums themselves.
        total, error = job.plan.ring.to_signed(summed.encoded), 0.0
    uploads = [outcome.ledgers[name].total().sent.payload_bytes for name in terms.roles.clients]
    return SumOutcome(
        total=total,
        contributors=summed.contributors,
        missed=watch.missed,
        error=error,
        parameters=about,
        learns=learns,
        bits=8 * max(uploads) / job.length,
        roles={
            "client": terms.roles.clients,
            "aggregator": (terms.aggregator,),
            "key holder": terms.roles.key_holders,
        },
        ledgers=outcome.ledgers,
        setup_s=setup_s,
        declared=declared,
    )
