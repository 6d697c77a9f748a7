"""A process between the parties that delays and throttles their bytes, as a network does that this machine does not have.

Each party's line takes the bytes of all its peers, in turns of some milliseconds, at the network's bandwidth, each way. A
byte comes to its receiver's line one latency after it left its sender's. That is the model of `secagg.cost.Network`, for
real sockets. Of TCP, only what happens on the loopback interface is real: a long line's slow start and losses are not
there. The relay tells by how much too late it passed bytes on, for it needs a processor like the parties.
"""

from __future__ import annotations

import contextlib
import heapq
import mmap
import os
import selectors
import signal
import socket
import struct
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from secagg.cost.network import Network
from secagg.network.trace import turn_bytes
from secagg.party import PartyId

_LOOK_UP_S: Final = 1.0
_TOLD: Final = struct.Struct("=dd")  # when a chunk was passed on, and by how much too late
_MOST_TOLD: Final = 1 << 18  # of the latest chunks
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Relay:
    """Where each party reaches each other through the relay, and what the relay says of itself."""

    own: Mapping[PartyId, Address]
    through: Mapping[tuple[PartyId, PartyId], Address]
    _told: mmap.mmap

    def late_s(self, since: float) -> float:
        """Return by how much later than the network would the relay has passed bytes on, in the mean.

        Args:
          since: a time of `time.monotonic`; what passed before is not counted.
        """
        told = np.frombuffer(self._told, np.float64).reshape(-1, 2)
        counted = told[told[:, 0] >= since, 1]
        return float(counted.mean()) if counted.size else 0.0

    def ways(self, me: PartyId) -> dict[PartyId, Address]:
        """Return the addresses at which one party finds all others, and its own."""
        return {name: self.own[me] if name == me else self.through[me, name] for name in self.own}


@contextlib.contextmanager
def relayed(network: Network | None, addresses: Mapping[PartyId, Address]) -> Iterator[Relay | None]:
    """Run a relay for these parties while the context lasts; without a network, none."""
    if network is None:
        yield None
        return
    listeners = {}
    for one in addresses:
        for other in addresses:
            if one != other:
                listeners[one, other] = socket.create_server(("127.0.0.1", 0))
    through = {pair: listener.getsockname()[:2] for pair, listener in listeners.items()}
    told = mmap.mmap(-1, _TOLD.size * _MOST_TOLD)  # shared with the relay's process
    parent, child = os.getpid(), os.fork()
    if not child:
        _be_relay(parent, network, addresses, listeners, told)
    for listener in listeners.values():
        listener.close()
    try:
        yield Relay(dict(addresses), through, told)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _be_relay(
    parent: int,
    network: Network,
    addresses: Mapping[PartyId, Address],
    listeners: Mapping[tuple[PartyId, PartyId], socket.socket],
    told: mmap.mmap,
) -> NoReturn:
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        with contextlib.suppress(
            OSError
        ):  # Linux lets those sleep 50 us longer who do not say how exact they are
            Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")
        _Lines(parent, network, addresses, listeners, told).go()
    except Exception:  # noqa: BLE001  # else the parties would vanish for no reason that is shown
        traceback.print_exc()
    finally:
        os._exit(1)  # also where whoever started it has been ended


class _Way:
    """Bytes from one party to another: what has come out of the line and could not be written yet."""

    __slots__ = ("pending", "receiver", "sender", "sink")

    def __init__(self, sender: PartyId, receiver: PartyId, sink: socket.socket) -> None:
        self.sender, self.receiver, self.sink = sender, receiver, sink
        self.pending = bytearray()


class _Lines:
    def __init__(
        self,
        parent: int,
        network: Network,
        addresses: Mapping[PartyId, Address],
        listeners: Mapping[tuple[PartyId, PartyId], socket.socket],
        told: mmap.mmap,
    ) -> None:
        self.network, self.addresses = network, addresses
        self.parent, self.chunk = parent, turn_bytes(network)
        self.selector = selectors.SelectSelector()  # epoll counts in milliseconds, and a LAN does not
        for pair, listener in listeners.items():
            self.selector.register(listener, selectors.EVENT_READ, pair)
        self.ways: dict[int, _Way] = {}  # by the socket that is read
        self.back: dict[int, _Way] = {}  # by the socket that is written to
        self.ended: set[int] = set()  # sockets from which nothing comes any more
        self.line_out = dict.fromkeys(addresses, 0.0)
        self.line_in = dict.fromkeys(addresses, 0.0)
        self.events: list[tuple[float, int, bool, _Way, bytes]] = []
        self.counter = 0
        self.told, self.chunks = told, 0

    def go(self) -> None:
        while os.getppid() == self.parent:
            now = time.monotonic()
            while self.events and self.events[0][0] <= now:
                when, _, arrived, way, chunk = heapq.heappop(self.events)
                self.step(when, way, chunk, arrived=arrived)
            wait = _LOOK_UP_S if not self.events else max(0.0, self.events[0][0] - time.monotonic())
            for key, events in self.selector.select(wait):
                if isinstance(key.data, tuple):
                    self.accept(key.fileobj, *key.data)  # type: ignore[arg-type]  # a listening socket
                else:
                    self.carry(key.fileobj, events)  # type: ignore[arg-type]

    def at(self, when: float, way: _Way, chunk: bytes, *, arrived: bool) -> None:
        heapq.heappush(self.events, (when, self.counter, arrived, way, chunk))
        self.counter += 1

    def accept(self, listener: socket.socket, caller: PartyId, called: PartyId) -> None:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(self.addresses[called])
        except OSError:  # not there yet: the caller tries again
            near.close()
            return
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
        there, back = _Way(caller, called, far), _Way(called, caller, near)
        self.ways |= {near.fileno(): there, far.fileno(): back}
        self.back |= {near.fileno(): back, far.fileno(): there}
        for sock in (near, far):
            self.selector.register(sock, selectors.EVENT_READ, None)

    def carry(self, source: socket.socket, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self.write(self.back[source.fileno()])
        if not events & selectors.EVENT_READ:
            return
        way = self.ways[source.fileno()]
        try:
            chunk = source.recv(self.chunk)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.ended.add(source.fileno())
            self.listen(source)
        now = time.monotonic()
        begins = max(self.line_out[way.sender], now)
        self.line_out[way.sender] = begins + len(chunk) / self.network.bytes_per_s
        self.at(begins + self.network.latency_s, way, chunk, arrived=False)

    def step(self, when: float, way: _Way, chunk: bytes, *, arrived: bool) -> None:
        if not arrived:
            arrives = max(when, self.line_in[way.receiver]) + len(chunk) / self.network.bytes_per_s
            self.line_in[way.receiver] = arrives
            self.at(arrives, way, chunk, arrived=True)
        elif chunk:
            now = time.monotonic()
            _TOLD.pack_into(self.told, _TOLD.size * (self.chunks % _MOST_TOLD), now, now - when)
            self.chunks += 1
            way.pending += chunk
            self.write(way)
        else:  # the sender has ended its connection
            with contextlib.suppress(OSError):
                way.sink.shutdown(socket.SHUT_WR)

    def write(self, way: _Way) -> None:
        try:
            while way.pending:
                del way.pending[: way.sink.send(way.pending)]
        except BlockingIOError:
            pass
        except OSError:
            way.pending.clear()
        self.listen(way.sink)

    def listen(self, sock: socket.socket) -> None:
        """Wait for what there is to wait for at a socket."""
        number = sock.fileno()
        wanted = selectors.EVENT_WRITE if self.back[number].pending else 0
        wanted |= 0 if number in self.ended else selectors.EVENT_READ
        known = self.selector.get_map().get(sock)
        if known is None and wanted:
            self.selector.register(sock, wanted)
        elif known is not None and not wanted:
            self.selector.unregister(sock)
        elif known is not None and known.events != wanted:
            self.selector.modify(sock, wanted)
