"""Additive shares: several aggregators, each of which sees noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from secagg.aggregation.protection import (
    DEADLINE_S,
    BearsDropout,
    SumJob,
    SumOutcome,
    Watch,
    free_names,
)
from secagg.errors import UsageError
from secagg.party import Party, PartyId
from secagg.protocols.additive_sum import Roles, SumResult, Terms, cost, take_part


@dataclass(frozen=True, slots=True)
class Additive(BearsDropout):
    """Every vector split among aggregators, as seeds but for one share (`secagg.protocols.additive_sum`).

    Args:
      aggregators: how many, at least 2; the first learns the sum.
      max_dropout: largest fraction of clients that vanishes.
    """

    name: ClassVar[str] = "additive"
    modular: ClassVar[bool] = True

    aggregators: int = 2
    max_dropout: float = 1 / 3

    @property
    def stages(self) -> Mapping[str, int]:
        # Of one message to each aggregator; behind the last a client has nothing to do.
        return {"upload": 0} | {f"part {i + 1}": i for i in range(1, self.aggregators)}

    @property
    def usual_stage(self) -> str:
        return "upload"

    def check(self, clients: int) -> None:
        BearsDropout.check(self, clients)
        if not isinstance(self.aggregators, int) or self.aggregators < 2:
            raise UsageError(
                f"expected at least 2 aggregators, got {self.aggregators!r:.40}: one would see all updates"
            )

    def run(self, job: SumJob) -> SumOutcome:
        clients, ring = job.clients, job.plan.sum_ring(len(job.clients))
        names = free_names([f"aggregator-{i + 1}" for i in range(self.aggregators)], clients)
        terms = Terms(
            Roles(clients, names, names[:1]),
            (job.length,),
            ring,
            self.min_clients(len(clients)),
            timeout_s=DEADLINE_S,
        )

        async def program(name: PartyId, party: Party) -> SumResult | None:
            x = ring.from_signed(job.vectors[name]) if name in job.vectors else None
            return await take_part(party, x, terms=terms)

        watch = Watch()
        for name in (*names, *clients):
            watch.add(name, partial(program, name), gathers=name in names)
        summed, outcome = watch.run(names[0], job, self.stages)
        return SumOutcome(
            total=ring.to_signed(summed.total),
            contributors=summed.contributors,
            missed=watch.missed,
            error=0.0,
            parameters=f"{self.aggregators} aggregators, shares of {ring.bits} bits, sums of at least {terms.min_clients} "
            "clients",
            learns=f"The first aggregator learns the sum over at least {terms.min_clients} clients. Nobody learns "
            f"anything else of an update unless all {self.aggregators} aggregators work together. All of them have to "
            "add up rightly.",
            bits=ring.bits,
            roles={"client": clients, "aggregator": names},
            ledgers=outcome.ledgers,
            setup_s=0.0,
            declared=partial(cost, terms=terms),
        )
