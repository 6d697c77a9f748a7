"""Short visits between the parties of a run, over TLS, that lead to no run.

As in a `Meeting`, in each pair the party whose name sorts first listens and the other one dials. Every visit is a generator
that says what it waits for, and one poll serves them all. What is said is up to a subclass.

Threat model: as in `pinning`: whoever has no certificate of the run is dropped. Strangers can use up descriptors,
`_MAX_CALLERS` at most, and delay nobody otherwise.
"""

from __future__ import annotations

import abc
import contextlib
import logging
import select
import socket
import ssl
import time
from collections.abc import Callable, Generator, Sequence
from typing import Final

from secagg.errors import AuthenticationError, SecaggError
from secagg.network.identity import Identity
from secagg.network.link import Link
from secagg.network.pinning import Tls, handshake_fault, verification
from secagg.network.sockets import Address, Waiting, dial, open_listener
from secagg.network.tcp import Peer
from secagg.party import PartyId

__all__ = ["Conversation", "Visits"]

_log = logging.getLogger(__name__)

_ATTEMPT_S: Final = 5.0  # for one connection, from dialling to the answer
_RETRY_S: Final = 0.5
_TURN_S: Final = 0.05
_MAX_CALLERS: Final = 64
_MAX_FRAME_BYTES: Final = 1 << 20

Conversation = Generator[Waiting, None, None]


class Visits(abc.ABC):
    """One party's short visits to all others.

    Args:
      peers: all parties, this one among them.
      listen: where this party listens.

    Attributes:
      done: with whom the conversation came to its end.

    Raises:
      UsageError: this party cannot listen at its address, or two parties have one certificate.
    """

    def __init__(self, me: PartyId, identity: Identity, peers: Sequence[Peer], listen: Address) -> None:
        others = [peer for peer in peers if peer.name != me]
        self.done: set[PartyId] = set()
        self._addresses = {peer.name: (peer.host, peer.port) for peer in others}
        self._tls = Tls(identity, {peer.name: peer.certificate for peer in others})
        self._due = {peer.name: 0.0 for peer in others if peer.name < me}
        # For each conversation: its deadline, whom this party dialled (None: it was called), and what it waits for.
        self._talks: dict[Conversation, tuple[float, PartyId | None, Waiting]] = {}
        self._listener = open_listener(me, listen)

    @abc.abstractmethod
    def converse(self, link: Link) -> Conversation:
        """Say and hear what there is over one connection; what is unsent at the end is sent."""

    def failed(self, peer: PartyId, fault: str, *, refused: bool) -> None:
        """Note that this party dialled a peer and came to no conversation.

        Args:
          refused: whether what failed is a certificate.
        """
        _log.info("%s was not reached%s: %s", peer, ", for a certificate" if refused else "", fault)

    def run(
        self,
        wait_s: float,
        on_done: Callable[[PartyId], None] = lambda _: None,
        *,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Visit until all have been talked to, or the time is over.

        Args:
          on_done: called once for each peer, when the first whole conversation with it is over.
          is_over: whether nobody is to be visited any more; asked again and again.
        """
        until = time.monotonic() + wait_s
        told: set[PartyId] = set()
        while (now := time.monotonic()) < until and (self.done < self._addresses.keys() or self._answering()):
            if is_over():
                break
            self._turn(now)
            for name in sorted(self.done - told):
                told.add(name)
                on_done(name)

    def close(self) -> None:
        """Drop all connections, and stop listening."""
        for talk in list(self._talks):
            talk.close()
        self._listener.close()

    def _answering(self) -> bool:
        return any(dialled is not None for _, dialled, _ in self._talks.values())

    def _turn(self, now: float) -> None:
        dialling = {dialled for _, dialled, _ in self._talks.values()}
        for name, due in self._due.items():
            if now >= due and name not in self.done and name not in dialling:
                self._due[name] = now + _RETRY_S
                self._begin(self._dial(name), name)
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        waiting: dict[int, Conversation] = {}
        for talk, (_, _, (fd, events)) in self._talks.items():
            poller.register(fd, events)
            waiting[fd] = talk
        ready = {fd for fd, _ in poller.poll(1000 * _TURN_S)}
        for fd in ready & waiting.keys():
            self._step(waiting[fd])
        for talk, (deadline, dialled, _) in list(self._talks.items()):
            if now >= deadline:
                self._end(talk, dialled, "nothing came in time")
        if self._listener.fileno() in ready:
            self._accept()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    sock, _ = self._listener.accept()
                except BlockingIOError:
                    raise
                except OSError:
                    return  # hung up again, or no descriptors are left
                if len(self._talks) >= _MAX_CALLERS + len(self._addresses):
                    sock.close()
                    continue
                sock.setblocking(False)
                self._begin(self._talk(sock, None), None)

    def _begin(self, talk: Conversation, dialled: PartyId | None) -> None:
        self._talks[talk] = (time.monotonic() + _ATTEMPT_S, dialled, (-1, 0))
        self._step(talk)

    def _step(self, talk: Conversation) -> None:
        deadline, dialled, _ = self._talks[talk]
        try:
            self._talks[talk] = (deadline, dialled, next(talk))
        except StopIteration:
            self._end(talk, dialled, "")
        except ssl.SSLError as error:
            fault = (
                verification(error)
                if isinstance(error, ssl.SSLCertVerificationError)
                else handshake_fault(error)
            )
            self._end(talk, dialled, fault)
        except AuthenticationError as error:
            self._end(talk, dialled, str(error), refused=True)
        except (OSError, SecaggError) as error:
            self._end(talk, dialled, getattr(error, "strerror", None) or str(error))

    def _end(self, talk: Conversation, dialled: PartyId | None, fault: str, *, refused: bool = False) -> None:
        talk.close()
        del self._talks[talk]
        if dialled is not None and fault and dialled not in self.done:
            self.failed(dialled, fault, refused=refused)

    def _dial(self, name: PartyId) -> Conversation:
        sock = yield from dial(*self._addresses[name])
        yield from self._talk(sock, name)

    def _talk(self, sock: socket.socket, dialled: PartyId | None) -> Conversation:
        if dialled is None:
            try:
                yield sock.fileno(), select.POLLIN
            except BaseException:
                sock.close()
                raise
        secure, peer = yield from self._tls.shake(sock, dialled)
        link = Link(peer, secure, max_frame_bytes=_MAX_FRAME_BYTES)
        try:
            yield from self.converse(link)
            while link.unsent:
                link.flush()
                if link.unsent:
                    yield link.fileno(), select.POLLOUT
            self.done.add(peer)
        finally:
            link.close()
