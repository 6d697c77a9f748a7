"""Pairwise masks: one server adds up, and sees nothing but the sum."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.aggregation.protection import DEADLINE_S, Protection, SumJob, SumOutcome, Watch, free_names
from secagg.party import Party, PartyId
from secagg.protocols.masked_sum import (
    GraphParameters,
    MaskedSum,
    Roles,
    Terms,
    aggregate,
    choose,
    contribute,
    cost,
)
from secagg.protocols.roles import SumResult
from secagg.protocols.threat_model import ThreatModel, is_malicious


@dataclass(frozen=True, slots=True)
class Masked(Protection):
    """Masks that cancel in the sum (`secagg.protocols.masked_sum`).

    Args:
      max_corrupt: largest fraction of the clients that work with the server.
      max_dropout: largest fraction that drops out, over all rounds together; by default a third, or as many as the corrupt
        ones leave room for.
      threat_model: "malicious" if the server may do anything; "semi-honest" if it keeps to the protocol.
      security_bits: secrecy fails with probability 2**-security_bits at most, over the graph.
    """

    name: ClassVar[str] = "masked"
    modular: ClassVar[bool] = True
    clients_depend: ClassVar[bool] = True

    max_corrupt: float = 1 / 3
    max_dropout: float | None = None
    threat_model: ThreatModel = "semi-honest"
    security_bits: float = 40.0

    @property
    def stages(self) -> Mapping[str, int]:
        rounds = (
            "keys",
            "shares",
            "input",
            *(("consent",) if is_malicious(self.threat_model) else ()),
            "unmask",
        )
        return {name: i for i, name in enumerate(rounds)}

    @property
    def usual_stage(self) -> str:
        return "input"

    def check(self, clients: int) -> None:
        Protection.check(self, clients)
        self._choose(clients)

    def _choose(self, clients: int) -> GraphParameters:
        return choose(
            clients,
            max_corrupt=self.max_corrupt,
            max_dropout=self.max_dropout,
            threat_model=self.threat_model,
            security_bits=self.security_bits,
        )

    def min_clients(self, clients: int) -> int:
        return self._choose(clients).min_clients

    def colluders(self, clients: int) -> int:
        return self._choose(clients).n_corrupt

    def run(self, job: SumJob) -> SumOutcome:
        clients, parameters = job.clients, self._choose(len(job.clients))
        (server,) = free_names(["server"], clients)
        ring = job.plan.sum_ring(len(clients))
        began = time.perf_counter()
        keys = {name: Ed25519PrivateKey.generate() for name in clients}
        setup_s = time.perf_counter() - began
        identities = tuple(keys[name].public_key().public_bytes_raw() for name in clients)
        terms = Terms(
            Roles(clients, (server,), (server,)),
            identities,
            job.length,
            ring,
            parameters,
            timeout_s=DEADLINE_S,
        )

        async def client(name: PartyId, party: Party) -> SumResult:
            x = ring.from_signed(job.vectors[name])
            return await contribute(party, x, terms=terms, identity=keys[name], executor=job.executor)

        watch = Watch()
        gather = partial(aggregate, terms=terms, executor=job.executor)
        watch.add(server, gather, gathers=True)
        for name in clients:
            watch.add(name, partial(client, name))
        found, outcome = watch.run(server, job, self.stages)
        summed: MaskedSum = found
        suspects = dict.fromkeys(
            summed.suspects, "shares of others' secrets that it sent, or was dealt, did not fit the others"
        )
        return SumOutcome(
            total=ring.to_signed(summed.total),
            contributors=summed.contributors,
            missed=watch.missed | suspects,
            error=0.0,
            parameters=str(parameters),
            learns=_learns(parameters),
            bits=ring.bits,
            roles={"client": clients, "server": (server,)},
            ledgers=outcome.ledgers,
            setup_s=setup_s,
            declared=partial(cost, terms=terms),
        )


def _learns(parameters: GraphParameters) -> str:
    keeps = "whatever it does" if parameters.malicious else "as long as it keeps to the protocol"
    least, corrupt = parameters.min_clients, parameters.n_corrupt
    text = (
        f"The server learns the sum over at least {least} clients and nothing else of their updates, {keeps}."
    )
    if corrupt:
        # Whoever works with the server knows its own update: what is left of the sum is that of the others.
        text += f" With the help of {corrupt} of the clients it learns the sum over the others, at least {least - corrupt}."
    if parameters.log2_insecure > -math.inf:
        text += f" This fails with a probability of 2^{parameters.log2_insecure:.1f}."
    return text
