"""Connections of whoever calls, before they have said who they are: how many may stand where, and who makes room.

Anybody can open connections, so there are places for so many, and the more a caller has shown the better its place:

    CONNECTED   nothing
    SHAKING     bytes that may be the beginning of a TLS handshake
    KNOWN       a certificate that is known here, and its key; a hello turns it into a link

Callers make room for others of their own stage alone: whoever opens connections and sends nothing never displaces one
who has sent something. In a stage the address with the most callers makes room first, and of its callers the oldest. A
caller that is alone at its address is displaced only when every place of its stage is held from a different address. At any
rate it has the time in which all places of its stage are taken anew. That is half a second at 1,000 connections a second,
with the places that processes usually have.
"""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import logging
import resource
import time
from dataclasses import dataclass
from typing import Final

from secagg.party import PartyId

_log = logging.getLogger(__name__)

_MAX_CONNECTED: Final = 512
_MAX_SHAKING: Final = 256
_MAX_KNOWN: Final = (
    4  # connections of one party: one, one of an instance that was killed, and attempts that overlap
)
_AT_ONCE: Final = 64
_LINES: Final = 10  # of a log, a period
_PERIOD_S: Final = 10.0


class Stage(enum.IntEnum):
    """What a caller has shown."""

    CONNECTED = 0
    SHAKING = 1
    KNOWN = 2


@dataclass(slots=True, eq=False)
class Newcomer:
    """A connection that is not a link yet.

    Attributes:
      deadline: when it has to be one.
      dialled: whom this party dialled; None for a caller.
      source: the address or, once known, the name whose callers share places.
      fd, events: what the conversation with it waits for.
      stage: of a caller.
    """

    deadline: float
    dialled: PartyId | None
    source: str = ""
    fd: int = -1
    events: int = 0
    stage: Stage = Stage.CONNECTED


class Callers:
    """The callers by stage and source, in the order in which they came to it.

    Attributes:
      at_once: how many may be accepted before those who are there are looked at again: none has to go unseen.
    """

    def __init__(self) -> None:
        self._places = _places()
        self.at_once = max(1, min(_AT_ONCE, self._places[Stage.CONNECTED] // 2))
        self._counts = dict.fromkeys(Stage, 0)
        self._by_source: dict[Stage, dict[str, dict[Newcomer, None]]] = {stage: {} for stage in Stage}

    def add(self, caller: Newcomer) -> Newcomer | None:
        """Give a caller a place in its stage; return the one that has to go for that."""
        of_stage = self._by_source[caller.stage]
        of_stage.setdefault(caller.source, {})[caller] = None
        self._counts[caller.stage] += 1
        if caller.stage is Stage.KNOWN:
            callers = of_stage[caller.source]
            return next(iter(callers)) if len(callers) > _MAX_KNOWN else None
        if self._counts[caller.stage] <= self._places[caller.stage]:
            return None
        most = max(of_stage, key=lambda source: len(of_stage[source]))
        return next(iter(of_stage[most]))

    def rise(self, caller: Newcomer, stage: Stage, source: str) -> Newcomer | None:
        """Move a caller to a higher stage; return the one that has to go for that."""
        self.remove(caller)
        caller.stage, caller.source = stage, source
        return self.add(caller)

    def remove(self, caller: Newcomer) -> None:
        """Free the place of a caller, if it has one."""
        of_stage = self._by_source[caller.stage]
        callers = of_stage.get(caller.source, {})
        if caller in callers:
            del callers[caller]
            self._counts[caller.stage] -= 1
            if not callers:
                del of_stage[caller.source]

    def idle(self) -> list[Newcomer]:
        """Return all who have shown nothing."""
        return [c for callers in self._by_source[Stage.CONNECTED].values() for c in callers]


def _places() -> dict[Stage, int]:
    """Return how many callers may stand in a stage: a part of the descriptors that the process may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = limit if limit != resource.RLIM_INFINITY else 1 << 20
    return {
        Stage.CONNECTED: max(1, min(_MAX_CONNECTED, most // 2)),
        Stage.SHAKING: max(1, min(_MAX_SHAKING, most // 4)),
    }


def source_of(host: str) -> str:
    """Return what an address shares its places with: of IPv6 its network of 64 bits, which one machine can fill."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.version == 6:
            mapped = address.ipv4_mapped
            return str(mapped or ipaddress.ip_network((address, 64), strict=False))
    return host


class DropLog:
    """Warnings about connections that were dropped: of each stage ten in ten seconds, and the number of the others."""

    def __init__(self, me: PartyId) -> None:
        self._me = me
        self._until = 0.0
        self._count = dict.fromkeys(Stage, 0)

    def dropped(self, stage: Stage, why: str) -> None:
        """Log that a connection was dropped, or count it."""
        self.settle()
        self._count[stage] += 1
        if self._count[stage] <= _LINES:
            _log.warning("%s dropped a connection: %s", self._me, why)

    def settle(self, *, last: bool = False) -> None:
        """Log how many drops were not logged, when a period or everything is over."""
        now = time.monotonic()
        if now < self._until and not last:
            return
        if left_out := sum(max(0, count - _LINES) for count in self._count.values()):
            _log.warning("%s dropped %d more connections", self._me, left_out)
        self._until = now + _PERIOD_S
        self._count = dict.fromkeys(Stage, 0)
