"""Additive shares: several aggregators, each of which sees noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from secagg.aggregation.choice import Choice, Opened, Task, Watch, free_names
from secagg.errors import UsageError
from secagg.party import Party, PartyId
from secagg.protocols.additive_sum import Roles, aggregate
from secagg.protocols.masked import ring_for
from secagg.ring import RingArray


@dataclass(frozen=True, slots=True)
class Additive(Choice):
    """Every vector split among aggregators, as seeds but for one share (`secagg.protocols.additive_sum`).

    Bears no dropouts: a client that vanishes ends the run.

    Args:
      aggregators: how many, at least 2; the first learns the sum.
    """

    name: ClassVar[str] = "additive"

    aggregators: int = 2

    @property
    def stages(self) -> Mapping[str, int]:
        return {"share": 0}

    @property
    def usual_stage(self) -> str:
        return "share"

    def check(self, clients: int) -> None:
        Choice.check(self, clients)
        if self.aggregators < 2:
            raise UsageError(
                f"expected at least 2 aggregators, got {self.aggregators}: one would see all updates"
            )

    def run(self, task: Task) -> Opened:
        clients, ring = task.clients, ring_for(task.plan, len(task.clients))
        names = free_names([f"aggregator {i + 1}" for i in range(self.aggregators)], clients)
        roles = Roles(clients, names, names[:1])

        async def program(name: PartyId, party: Party) -> RingArray | None:
            x = ring.from_signed(task.vectors[name]) if name in task.vectors else None
            return await aggregate(party, x, shape=(task.length,), ring=ring, roles=roles)

        watch = Watch()
        for name in (*names, *clients):
            watch.add(name, partial(program, name), gathers=name == names[0])
        total, outcome = watch.run(names[0], task, self.stages)
        return Opened(
            ring.to_signed(total),
            clients,
            watch.missed,
            0.0,
            f"{self.aggregators} aggregators, shares of {ring.bits} bits",
            f"The first aggregator learns the sum, and nobody learns anything else of an update unless all "
            f"{self.aggregators} aggregators work together; all keep to the protocol.",
            ring.bits,
            {"client": clients, "aggregator": names},
            outcome.ledgers,
            0.0,
        )
