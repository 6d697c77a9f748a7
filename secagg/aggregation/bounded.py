"""Shares among three aggregators, who find out on them whether every update keeps to its bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

import numpy as np

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
from secagg.protocols.bounded_sum import BoundedSum, Bounds, Roles, Terms, aggregate, contribute, cost, upload
from secagg.ring import RingArray
from secagg.updates.bounded import Quantized
from secagg.updates.coding import Coding, Request

# What a client that cheats shares in place of each of its numbers, before its weight.
_CHEATS: Final[Mapping[str, Callable[[Bounds], int]]] = {
    "large": lambda bounds: 2 * bounds.limit,
    "long": lambda bounds: bounds.limit,
    "wrapping": lambda _: 1 << 32,
}


@dataclass(frozen=True, slots=True)
class Bounded(BearsDropout):
    """Shares among three aggregators, who check every update's bounds (`secagg.protocols.bounded_sum`).

    Every number has to be within its clip. Numbers are written as finely as fits; where there are many of them, or large
    weights, that is coarser than elsewhere. Weights are integers.

    Args:
      norm: largest Euclidean norm of an update, all arrays together, in the updates' own unit and before weights. Clients
        scale longer updates down to it; all numbers of these count as clipped. Without it clips alone are checked.
      max_dropout: largest fraction of clients that vanishes or is refused.
      batch: how many clients are checked at a time.
      simulate_cheating: clients that share something out of bounds in place of their update; names, or how by
        name. "large": all numbers twice the largest. "long": all numbers the largest, so that only the norm is broken.
        "wrapping": all numbers 2^32, whose squares are 0 modulo 2^64.
    """

    name: ClassVar[str] = "bounded"
    supports_dp: ClassVar[bool] = False
    no_dp_because: ClassVar[str] = (
        "noise has no bound, and would be refused as an update that is out of bounds"
    )
    no_compression_because: ClassVar[str] = "shares have 64 bits however few a number takes"

    norm: float | None = None
    max_dropout: float = 1 / 3
    batch: int = 8
    simulate_cheating: Collection[PartyId] | Mapping[PartyId, str] = ()

    @property
    def stages(self) -> Mapping[str, int]:
        return {"seeds": 0, "share": 1}

    @property
    def usual_stage(self) -> str:
        return "seeds"

    def check(self, clients: int) -> None:
        BearsDropout.check(self, clients)
        if self.norm is not None and not (
            isinstance(self.norm, int | float) and math.isfinite(self.norm) and self.norm > 0
        ):
            raise UsageError(f"expected a positive number as the norm, or None, got {self.norm!r:.40}")
        if not isinstance(self.batch, int) or self.batch < 1:
            raise UsageError(f"expected batches of at least 1 client, got {self.batch!r:.40}")
        if isinstance(self.simulate_cheating, str):
            raise UsageError(
                f"expected names of who shall cheat as a collection, got the text {self.simulate_cheating!r:.80}"
            )
        for name, how in self._cheats().items():
            if how not in _CHEATS:
                raise UsageError(f"{name} cannot cheat by {how!r:.80}; there is {', '.join(_CHEATS)}")

    def coding(self, request: Request) -> Coding:
        return Quantized(request, self.norm)

    @property
    def misbehaving(self) -> Collection[PartyId]:
        return self._cheats().keys()

    def _cheats(self) -> dict[PartyId, str]:
        cheating = self.simulate_cheating
        return dict(cheating) if isinstance(cheating, Mapping) else dict.fromkeys(cheating, "large")

    def run(self, job: SumJob) -> SumOutcome:
        clients, coding, cheats = job.clients, job.coding, self._cheats()
        if coding is None or coding.bounds is None:
            raise UsageError("bounded sums are of updates within bounds, as `Bounded.coding` makes them")
        bounds, ring = coding.bounds, coding.bounds.ring
        for name, how in cheats.items():
            if name not in clients:
                raise UsageError(f"{name!r:.80} cannot cheat: it is not among the clients")
            if how == "long" and bounds.length * bounds.limit**2 <= bounds.norm_limit:
                raise UsageError(
                    f"{name} cannot break the norm alone: no update within the clips is longer, or there is no norm"
                )
        first, second, third = free_names([f"aggregator-{i + 1}" for i in range(3)], clients)
        names, min_clients = (first, second, third), self.min_clients(len(clients))
        terms = Terms(
            Roles(clients, names, (first,)), bounds, min_clients, batch=self.batch, timeout_s=DEADLINE_S
        )

        async def client(name: PartyId, party: Party) -> None:
            x, weight = coding.split(job.vectors[name])
            if name in cheats:
                await upload(party, _cheat(cheats[name], bounds, weight), terms=terms)
            else:
                await contribute(party, ring.from_signed(x), terms=terms, weight=weight)

        watch = Watch()
        for name in names:
            watch.add(name, partial(aggregate, terms=terms), gathers=name == first)
        for name in clients:
            watch.add(name, partial(client, name))
        found, outcome = watch.run(first, job, self.stages)
        summed: BoundedSum = found
        if summed.total is None or summed.weight is None:  # cannot be: it is the result party
            raise UsageError("the first aggregator learnt no sum")
        total = ring.to_signed(summed.total)
        missing = dict.fromkeys(summed.dropped, "missing: its upload did not come whole")
        return SumOutcome(
            total=np.append(total, summed.weight) if coding.weighted else total,
            contributors=summed.contributors,
            missed=missing | watch.missed | dict.fromkeys(summed.rejected, "refused: out of bounds"),
            error=0.0,
            parameters=f"3 aggregators, shares of {ring.bits} bits; checked on shares: {coding.checked}",
            learns=f"The first aggregator learns the sum over at least {min_clients} clients. All three learn who keeps "
            "to the bounds. Nobody learns anything else of an update unless two of them work together. Clients may do "
            "anything, and are left out if they break a bound; aggregators keep to the protocol.",
            bits=ring.bits,
            roles={"client": clients, "aggregator": names},
            ledgers=outcome.ledgers,
            setup_s=0.0,
            declared=partial(cost, terms=terms, roster=tuple(watch.programs)),
        )


def _cheat(how: str, bounds: Bounds, weight: int | None) -> RingArray:
    row = np.full(bounds.columns, _CHEATS[how](bounds), bounds.ring.dtype)
    if weight is not None:
        row *= bounds.ring.dtype.type(weight)
        row[0] = weight
    return row
